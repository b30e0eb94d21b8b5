"""Trials of how a layer is built: for a device and a dtype, on meta and filled later, in half precision.

A chapter's tests call :func:`building_faults` for each of its layers and expect an empty list.
"""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.classroom._contract.subject import as_installed
from course_lib.registry import Entry
from tests.layers.arguments import _first, _recorded, _types

COPIES = 30  # of a layer that has random weights, to compare how they are spread


def building_faults(entry: Entry) -> list[str]:
    """What is wrong with how a layer is built; one line a fault, best none.

    - ``dtype=`` and ``device=`` reach every parameter and buffer, also with another choice of one option;
      no parameter is a bare number.
    - Built on meta, given memory full of NaN and reset, children first, it is spread as a fresh one is.
    - Built on meta, ``load_state_dict(assign=True)`` leaves nothing there and gives the same output.
    - Under a default dtype of bfloat16 it is built, and runs.
    """
    cls, good, inputs = _recorded(entry)

    def build(**factory: object) -> nn.Module:
        return cls(*good.args, **{**good.kwargs, **factory})

    def otherwise(build: Callable, inputs: tuple) -> Iterator[str]:
        for option in _options(cls, good):
            try:
                yield from (f"{fault} with {option}" for fault in _as_asked(partial(build, **option), inputs))
            except (TypeError, ValueError):
                continue  # it does not fit the rest of the example

    checks: tuple[Callable, ...] = (_as_asked, otherwise, _as_fresh, _assigned, _in_bfloat16)
    if not {"device", "dtype"} <= set(inspect.signature(cls).parameters):
        checks = () if not list(build().state_dict()) else (_lacking, *checks[-1:])
    with as_installed():
        return [f"{cls.__name__}: {fault}" for check in checks for fault in check(build, inputs)]


def _lacking(build: Callable, inputs: tuple) -> Iterator[str]:
    yield "takes no device= and dtype="


def _options(cls: type[nn.Module], good: inspect.BoundArguments) -> Iterator[dict[str, object]]:
    """One option otherwise than in the example: a choice turned round, a size that may be left out."""
    for name, parameter in inspect.signature(cls).parameters.items():
        value = good.arguments.get(name, parameter.default)
        if isinstance(value, bool):
            yield {name: not value}
        elif value is None and int in _types(parameter.annotation):
            yield {name: 4}


def _as_asked(build: Callable, inputs: tuple) -> Iterator[str]:
    double, meta = build(dtype=torch.float64), build(device="meta")
    for name, tensor in _tensors(double):
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            yield f"{name} ignores dtype="
        if isinstance(tensor, nn.Parameter) and tensor.ndim == 0:
            yield f"{name} is a bare number, which FSDP2 rejects"
    yield from (f"{name} ignores device=" for name, tensor in _tensors(meta) if not tensor.is_meta)


def _as_fresh(build: Callable, inputs: tuple) -> Iterator[str]:
    def filled() -> nn.Module:
        layer = build(device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for _, tensor in _tensors(layer):
                tensor.fill_(math.nan if tensor.is_floating_point() else 77)
        layer.apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None)
        return layer

    def noise(a: Tensor) -> float:
        """By how many deviations two means of so many draws differ by chance."""
        return math.sqrt(2 / a.numel())

    torch.manual_seed(0)
    fresh = [dict(_tensors(build())) for _ in range(COPIES)]
    again = [dict(_tensors(filled())) for _ in range(COPIES)]
    for name in fresh[0]:
        a, b = (torch.stack([t[name].detach().double() for t in each]) for each in (fresh, again))
        if not b.isfinite().all():
            yield f"{name} is not set by reset_parameters"
        elif (a == a[:1]).all():
            if not torch.equal(a, b):
                yield f"{name} is {a[0].flatten()[:3].tolist()}... fresh, else after reset_parameters"
        elif (a.mean() - b.mean()).abs() > (0.2 + 4 * noise(a)) * a.std() or (
            abs(math.log(a.std() / b.std())) > 0.22 + 4 * noise(a)
        ):
            yield f"{name} is spread by {a.std():.3g} fresh, by {b.std():.3g} after reset_parameters"


def _assigned(build: Callable, inputs: tuple) -> Iterator[str]:
    source, target = build().eval(), build(device="meta").eval()
    target.load_state_dict(source.state_dict(), assign=True)
    left = [name for name, tensor in _tensors(target) if tensor.is_meta]
    yield from (f"{name} stays on meta after load_state_dict(assign=True)" for name in left)
    if not left:
        with torch.no_grad():
            if not torch.equal(_first(source(*inputs)), _first(target(*inputs))):
                yield "another output after load_state_dict(assign=True)"


def _in_bfloat16(build: Callable, inputs: tuple) -> Iterator[str]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = build()
        yield from (
            f"{name} is {t.dtype} under a default of bfloat16"
            for name, t in layer.named_parameters()
            if t.dtype != torch.bfloat16
        )
        halves = (x.bfloat16() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs)
        with torch.no_grad():
            if not _first(layer(*halves)).isfinite().all():
                yield "not finite under a default dtype of bfloat16"
    except (RuntimeError, NotImplementedError) as error:
        yield f"under a default dtype of bfloat16: {error}"
    finally:
        torch.set_default_dtype(before)


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from layer.named_parameters()
    yield from layer.named_buffers()
