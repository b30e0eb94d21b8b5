"""Can the layer be copied, moved and printed?"""

import copy
import pickle
import re

import torch
from torch import Tensor, nn

from course_lib.classroom._contract.subject import (
    Failure,
    Subject,
    described,
    map_tensors,
    tensors_in,
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


def _require_same_output(layer: Subject, wanted: Tensor, module: nn.Module, message: str) -> None:
    got = tensors_in(layer.call(module))[0]
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure(message)
