"""Does the layer compute the same when it is compiled, recomputed, stacked or exported?"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    as_installed,
    described,
    listed,
    map_tensors,
    other_values,
    reseed,
    tensors_in,
)

STEPS = 2


def compiled(layer: Subject) -> None:
    """Under torch.compile, in training, outputs, gradients and buffers are those of the plain layer.

    Two steps in a row, so that state that one step writes is read by the next. By the backend ``aot_eager``,
    which traces and rewrites the program as every backend does, and leaves out the generated code.
    """

    def run(module: nn.Module, inputs: tuple) -> Any:
        return torch.compile(module, backend="aot_eager", dynamic=False)(*inputs)

    with silent_tracing(), as_installed():
        try:
            _require_equal_training(layer, run, "under torch.compile", buffers=True)
        finally:
            torch._dynamo.reset()


def checkpointed(layer: Subject) -> None:
    """Under torch.utils.checkpoint, which calls forward twice, outputs and gradients stay as they are.

    Buffers are not compared: a running mean is updated twice, as that of torch's own batch normalisation.
    """

    def run(module: nn.Module, inputs: tuple) -> Any:
        return checkpoint(module, *inputs, use_reentrant=False)

    _require_equal_training(layer, run, "under torch.utils.checkpoint", buffers=False)


def ensemble(layer: Subject) -> None:
    """Three copies with other weights, stacked and run by torch.func.vmap, give what a loop gives."""
    if not any(x.is_floating_point() for x in tensors_in(layer.module.state_dict())):
        raise NotApplicable("no weights that could differ")
    members = [layer.fresh(dtype=layer.exact) for _ in range(3)]
    for seed, member in enumerate(members[1:]):
        _move_weights(member, seed)
    inputs = layer.arguments(dtype=layer.exact)
    wanted = torch.stack([tensors_in(layer.call(m, inputs))[0] for m in members])
    base = layer.fresh(dtype=layer.exact)

    def member_output(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return tensors_in(functional_call(base, (weights, buffers), inputs))[0]

    reseed()
    try:
        with torch.no_grad(), silent_tracing():
            got = vmap(member_output, randomness="same")(*stack_module_state(members))
    except Exception as error:
        if "Batching rule not implemented" in str(error):
            raise NotApplicable(f"torch has no rule: {described(error)}") from error
        raise Failure(
            f"vmap over stacked weights fails: {described(error)}; let no branch hang on values, "
            "write buffers only in training, and write no results into new tensors in place"
        ) from error
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure("vmap over stacked weights gives another output than a loop over the copies")


def export(layer: Subject) -> None:
    """torch.export captures the whole module, and the program agrees with it on other values and sizes.

    Captured with ``strict=False``: torch then runs the Python code on fake tensors. The strict way has dynamo
    read the bytecode, which it cannot through the run-time type checks that are on under pytest. Left open
    are the number of rows, where all inputs have equally many, and the length or the image sides, where the
    layer takes others; the program is tried on twice as many of each.
    """
    rows = {len(x) if x.ndim > 1 else 0 for x in tensors_in(layer.inputs)}
    sizes = [(0,)] if len(rows) == 1 and min(rows) > 1 else []  # torch takes 0 and 1 for constants
    sizes += _open_axes(layer)
    with silent_tracing(), as_installed():
        program = _exported(layer, [axis for axes in sizes for axis in axes])
        reseed()
        _require_same_program(layer, program, map_tensors(other_values, layer.inputs), "")
        for axes in sizes:
            kind = "another number of rows" if axes == (0,) else f"other sizes along axis {axes}"
            _require_same_program(layer, program, _doubled(layer, axes), kind)


def _require_equal_training(
    layer: Subject, run: Callable[[nn.Module, tuple], Any], where: str, *, buffers: bool
) -> None:
    wanted = _trained(layer, lambda module, inputs: module(*inputs))
    try:
        got = _trained(layer, run)
    except Exception as error:
        raise Failure(f"{where} the layer fails: {described(error)}") from error
    differing = [
        name
        for name, value in wanted.items()
        if (buffers or "buffer" not in name)
        and (got[name].shape != value.shape or layer.differ(got[name], value).any())
    ]
    if differing:
        raise Failure(
            f"{where} the {listed(differing)} of two training steps differ; read the state that a step "
            "writes before it is written, and hold counters and stages in buffers"
        )


def _trained(layer: Subject, run: Callable[[nn.Module, tuple], Any]) -> dict[str, Tensor]:
    """Outputs, gradients and buffers of a few training steps, by name."""
    module, found = layer.fresh(train=True, dtype=layer.exact), {}
    for step in range(STEPS):
        leaves = {n: p for n, p in module.named_parameters() if p.requires_grad}
        inputs = layer.arguments(dtype=layer.exact)
        given = [x.requires_grad_() for x in tensors_in(inputs) if x.is_floating_point()]
        leaves |= {f"input {i}": x for i, x in enumerate(given)}
        inputs = map_tensors(torch.clone, inputs)  # a layer that changes them is reported elsewhere
        reseed()
        outputs = [y for y in tensors_in(run(module, inputs)) if y.is_floating_point()]
        found |= {f"output {i}, step {step}": y.detach() for i, y in enumerate(outputs)}
        outputs = [y for y in outputs if y.requires_grad]
        if outputs and leaves:
            cotangents = [torch.randn(y.shape).to(y) for y in outputs]
            gradients = torch.autograd.grad(
                outputs, list(leaves.values()), cotangents, allow_unused=True, materialize_grads=True
            )
            found |= {f"gradient of {n}, step {step}": g for n, g in zip(leaves, gradients, strict=True)}
        found |= {f"buffer {n}, step {step}": b.clone() for n, b in module.named_buffers()}
    return found


@torch.no_grad()
def _move_weights(module: nn.Module, seed: int) -> None:
    reseed(SEED + 1 + seed)
    for p in module.parameters():
        if p.is_floating_point():
            p.add_(0.05 * torch.randn(p.shape).to(p))


def _open_axes(layer: Subject) -> Iterator[tuple[int, ...]]:
    """Groups of axes along which the layer takes inputs of twice the size: time, or the sides of an image."""
    x = layer.x
    for axes in {3: [(1,), (2,)], 4: [(2, 3), (1, 2)]}.get(0 if x is None else x.ndim, []):
        try:
            with as_installed():
                layer.output(_doubled(layer, axes))
        except Exception:
            continue
        yield axes
        return


def _doubled(layer: Subject, axes: tuple[int, ...]) -> tuple:
    """The inputs at twice the size along some axes, where they have the sizes of the first input there."""

    def double(x: Tensor) -> Tensor:
        for axis in axes:
            if _has(layer, x, axis):
                x = torch.cat([x, x], axis)
        return x

    return map_tensors(double, layer.inputs)


def _has(layer: Subject, x: Tensor, axis: int) -> bool:
    """Whether a tensor has the axis of the first input: all sizes up to it are equal, rows always count."""
    return axis == 0 or x.ndim == layer.x.ndim or x.shape[: axis + 1] == layer.x.shape[: axis + 1]


def _exported(layer: Subject, axes: list[int]) -> nn.Module:
    def opened(tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return {a: torch.export.Dim.AUTO for a in axes if a < tree.ndim and _has(layer, tree, a)}
        if isinstance(tree, dict):
            return {key: opened(value) for key, value in tree.items()}
        if isinstance(tree, tuple | list):
            return type(tree)(opened(value) for value in tree)
        return None

    reseed()
    try:
        return torch.export.export(
            layer.fresh(),
            layer.arguments(),
            strict=False,
            dynamic_shapes=tuple(map(opened, layer.inputs)) if axes else None,
        ).module()
    except Exception as error:
        raise Failure(
            f"torch.export fails: {described(error)}; let no branch hang on values, "
            "and use no .item(), .tolist() or .numpy() in forward"
        ) from error


def _require_same_program(layer: Subject, program: nn.Module, inputs: tuple, kind: str) -> None:
    wanted = layer.output(inputs)
    try:
        got = tensors_in(layer.call(program, inputs))[0]
    except Exception as error:
        raise Failure(
            f"the exported program does not take {kind or 'its inputs'}: {described(error)}; "
            "len(x), int(size), text made of a size, or a loop over it binds it to one size"
        ) from error
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure("the exported program gives another output; compute it in torch, not in Python numbers")


@contextlib.contextmanager
def silent_tracing() -> Iterator[None]:
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
