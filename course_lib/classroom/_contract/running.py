"""What one call returns, changes and refuses."""

import re

import torch
from torch import Tensor

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    as_installed,
    described,
    reseed,
    tensors_in,
)


def output_shape_dtype(layer: Subject) -> None:
    """The first tensor returned has the input's floating dtype, and a second call returns the same shape."""
    floating = [x for x in (*tensors_in(layer.inputs), *layer.module.parameters()) if x.is_floating_point()]
    expected = floating[0].dtype if floating else torch.get_default_dtype()
    for train in (False, True):
        module, mode = layer.fresh(train=train), "training" if train else "evaluation"
        first, second = (tensors_in(layer.call(module)) for _ in range(2))
        if not first or not second:
            raise Failure(f"forward returns no tensor in {mode} mode; return the output")
        if first[0].dtype != expected:
            raise Failure(f"{expected} in, {first[0].dtype} out; create constants with dtype=x.dtype")
        if first[0].shape != second[0].shape:
            raise Failure(
                f"two calls in {mode} mode gave shapes {tuple(first[0].shape)} and {tuple(second[0].shape)}; "
                "hand state that grows in as an argument and out as a result"
            )


def input_unmodified(layer: Subject) -> None:
    """The inputs hold the same values after the call as before."""
    for train in (False, True):
        given = layer.arguments()
        before = [x.clone() for x in tensors_in(given)]
        module = layer.fresh(train=train)
        reseed()
        with torch.no_grad():
            module(*given)
        for i, (old, new) in enumerate(zip(before, tensors_in(given), strict=True)):
            if not torch.equal(old.nan_to_num(), new.nan_to_num()):
                raise Failure(
                    f"input {i} is changed in place; write x + y for x.add_(y) and x = x + y for x += y"
                )


def eval_deterministic(layer: Subject) -> None:
    """Evaluation mode gives one output for all seeds; training mode too, unless stochastic is declared."""
    module = layer.fresh()
    first, second = (tensors_in(layer.call(module, seed=SEED + i))[0] for i in range(2))
    if first.shape == second.shape and layer.differ(first, second).any():
        raise Failure("two calls in evaluation mode differ; draw random numbers only if self.training")
    if layer.house_rules and layer.draws_random and not layer.traits.stochastic:
        raise Failure("two seeds give two outputs in training mode; declare stochastic=True")
    if layer.traits.stochastic and not layer.draws_random:
        raise Failure(
            "stochastic is declared, but 8 seeds give one output in training mode; "
            "drop the declaration, or let the example draw (dropout > 0)"
        )


def output_scale(layer: Subject) -> None:
    """At the start, a standard-normal first input gives a finite output of root mean square 1e-3 to 1e3."""
    reseed()
    x, *rest = layer.inputs
    if isinstance(x, Tensor) and x.is_floating_point():
        x = torch.randn(x.shape).to(x)
    for train in (False, True):
        output = layer.output((x, *rest), train=train)
        if not output.isfinite().all():
            raise Failure("NaN or infinity for a standard-normal input; look for 0/0, log, sqrt or exp")
        rms = output.double().square().mean().sqrt().item()
        if not 1e-3 <= rms <= 1e3:
            raise Failure(
                f"root mean square {rms:.3g} for a standard-normal input; scale the weights with the width"
            )


def wrong_last_dim(layer: Subject) -> None:
    """An input one too wide (last axis; axis 1 of an image) raises a ValueError that names the width seen.

    The first input is meant. Where the layer accepts any width there, the other of the two axes decides, as
    for one that takes ``(b, c, t)``.
    """
    x = layer.x
    if x is None or x.ndim == 0 or not x.is_floating_point():
        raise NotApplicable("the first input is no floating tensor with a width")
    if all(p.numel() == 1 for p in layer.module.parameters()):
        raise NotApplicable("no parameter has a size, so every width is right")
    axes = {1: (-1,), 2: (-1,), 3: (-1, 1)}.get(x.ndim, (1, -1))
    if not any(_refuses(layer, axis) for axis in axes):
        width = x.shape[axes[0]]
        raise Failure(
            f"{width + 1} instead of {width} entries along axis {axes[0]} are accepted; "
            "compare with the layer's own width and raise a ValueError that names both"
        )


def _refuses(layer: Subject, axis: int) -> bool:
    """True for a good ValueError, False for a silent result."""
    shape = list(layer.x.shape)
    shape[axis] += 1
    seen = f"{shape[axis]} instead of {layer.x.shape[axis]} entries along axis {axis}"
    reseed()
    try:
        with as_installed():
            layer.output((torch.randn(shape).to(layer.x), *layer.inputs[1:]))
    except ValueError as error:
        if re.search(rf"\b{shape[axis]}\b", str(error)):
            return True
        raise Failure(f"{seen} raise a {described(error)}; name the width seen, {shape[axis]}") from error
    except Exception as error:
        raise Failure(
            f"{seen} raise a {described(error)}; compare the widths first and raise a ValueError"
        ) from error
    return False
