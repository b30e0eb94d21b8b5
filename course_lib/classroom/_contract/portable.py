"""Can the layer be saved, copied, cast, moved, exported and printed?"""

import contextlib
import copy
import io
import logging
import pickle
import re
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    Subject,
    as_installed,
    described,
    map_tensors,
    other_values,
    reseed,
    tensors_in,
)

__all__ = ["deepcopy_pickle", "dtypes", "export", "meta_device", "short_repr", "state_dict_round_trip"]


def state_dict_round_trip(layer: Subject) -> None:
    """Loading the state_dict, strictly, into a copy with other weights restores the output.

    Where the layer came as a factory, the other copy is built anew under another seed: that also shows
    what the state_dict forgets, such as random features in a buffer that is not persistent.
    """
    source = layer.fresh()
    target = layer.fresh() if layer.rebuild is None else layer.rebuilt(SEED + 1).eval()
    _perturb(target)
    for module in (source, target):
        layer.call(
            module
        )  # whatever is computed once, at the first call, is now computed from the old weights
    try:
        target.load_state_dict(source.state_dict(), strict=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(f"load_state_dict fails: {reason}; save and load the same keys and shapes") from error
    _require_same_output(
        layer,
        tensors_in(layer.call(source))[0],
        target,
        "loading the state_dict does not restore the output; register what it depends on as a parameter or a "
        "persistent buffer, and keep nothing that is computed from weights",
    )


def deepcopy_pickle(layer: Subject) -> None:
    """copy.deepcopy and pickle each give a module with the same output."""
    wanted = layer.output()
    for verb, duplicate in (("deepcopy", copy.deepcopy), ("pickle", lambda m: pickle.loads(pickle.dumps(m)))):
        try:
            module = duplicate(layer.module).eval()
        except Exception as error:
            raise Failure(
                f"{verb} fails: {described(error)}; hold no lambda, generator or open file, "
                "and define the class at the top level of its file"
            ) from error
        _require_same_output(
            layer,
            wanted,
            module,
            f"{verb} changes the output; hold all state in parameters, buffers and attributes",
        )


def dtypes(layer: Subject) -> None:
    """Cast to float64 and to bfloat16, the layer runs on inputs of that dtype and returns it."""
    for dtype in (torch.float64, torch.bfloat16):
        try:
            got = layer.output(dtype=dtype).dtype
        except Exception as error:
            raise Failure(f"{dtype}: {described(error)}; create constants with dtype=x.dtype") from error
        if got != dtype:
            raise Failure(
                f"{dtype} in, {got} out; create constants with dtype=x.dtype, or return y.to(x.dtype)"
            )


def meta_device(layer: Subject) -> None:
    """On the meta device, which holds no values, the layer returns a meta tensor of the same shape."""
    wanted = layer.output().shape
    on_meta = map_tensors(lambda x: x.to("meta"), layer.arguments())
    try:
        with torch.no_grad():
            got = tensors_in(layer.fresh().to("meta")(*on_meta))[0]
    except Exception as error:
        raise Failure(
            f"on the meta device: {described(error)}; create tensors with device=x.device, hold constants as "
            "buffers, and let no branch hang on values"
        ) from error
    if not got.is_meta or got.shape != wanted:
        raise Failure(
            f"for meta inputs the output is {tuple(got.shape)} on {got.device}, else {tuple(wanted)}; "
            "create tensors with device=x.device"
        )


def export(layer: Subject) -> None:
    """torch.export captures the whole module, and the program agrees with it, also on other values and rows.

    Captured with ``strict=False``: torch then runs the Python code on fake tensors. The strict way has dynamo
    read the bytecode, which it cannot through the run-time type checks that are on under pytest. Where all
    inputs have equally many rows, their number is left open, and the program is tried on twice as many.
    """
    rows = {len(x) if x.ndim > 1 else 0 for x in tensors_in(layer.inputs)}  # a vector alone is one sample
    open_batch = len(rows) == 1 and min(rows) > 1  # torch takes sizes of 0 and 1 for constants
    cases = [layer.inputs, map_tensors(other_values, layer.inputs)]
    cases += [map_tensors(lambda x: torch.cat([x, x]), layer.inputs)] if open_batch else []
    with _silent_tracing(), as_installed():
        reseed()
        try:
            program = torch.export.export(
                layer.fresh(),
                layer.arguments(),
                strict=False,
                dynamic_shapes=tuple(map(_any_rows, layer.inputs)) if open_batch else None,
            ).module()
        except Exception as error:
            raise Failure(
                f"torch.export fails: {described(error)}; let no branch hang on values, "
                "and use no .item(), .tolist() or .numpy() in forward"
            ) from error
        reseed()
        for number, inputs in enumerate(cases):
            wanted = layer.output(inputs)
            try:
                got = tensors_in(layer.call(program, inputs))[0]
            except Exception as error:
                raise Failure(
                    f"the exported program does not take {'other rows' if number == 2 else 'its inputs'}: "
                    f"{described(error)}; len(x), or text made of a size, binds it to one batch size"
                ) from error
            if got.shape != wanted.shape or layer.differ(got, wanted).any():
                raise Failure(
                    "the exported program gives another output; compute it in torch, not in Python numbers"
                )


def _any_rows(tree: Any) -> Any:
    """What tells torch.export that the first axis of every tensor may have any size."""
    if isinstance(tree, Tensor):
        return {0: torch.export.Dim.AUTO}
    if isinstance(tree, dict):
        return {key: _any_rows(value) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(_any_rows(value) for value in tree)
    return None


def short_repr(layer: Subject) -> None:
    """The module's own line has at most 300 characters; a layer with parameters shows one of its sizes."""
    text = repr(layer.module)
    plain = type(layer.module).__repr__ is nn.Module.__repr__
    own = f"{layer.name}({layer.module.extra_repr()})" if plain else text
    if len(own) > 300:
        raise Failure(f"{own[:40]!r}... is {len(own)} characters long; show sizes and options, no values")
    sizes = {size for p in layer.module.parameters() for size in p.shape if size > 1}
    if not sizes:
        return
    sizes |= {value for value in vars(layer.module).values() if type(value) is int and value > 1}
    if not sizes & {int(number) for number in re.findall(r"\d+", text)}:
        raise Failure(f"{own[:60]!r} shows no size; return the sizes from extra_repr")


@contextlib.contextmanager
def _silent_tracing() -> Iterator[None]:
    """No warnings, logs and printed graphs of torch's tracer; a failure is reported by the check."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)


@torch.no_grad()
def _perturb(module: nn.Module) -> None:
    reseed(SEED + 2)
    for x in tensors_in(module.state_dict()):
        if x.is_floating_point():
            x.add_(torch.randn(x.shape).to(x))


def _require_same_output(layer: Subject, wanted: Tensor, module: nn.Module, message: str) -> None:
    got = tensors_in(layer.call(module))[0]
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure(message)
