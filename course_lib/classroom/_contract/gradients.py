"""Do gradients arrive, and are they right?"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError
from torch.autograd.gradcheck import gradcheck as compare_with_finite_differences
from torch.func import functional_call

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    listed,
    map_tensors,
    other_values,
    reseed,
    tensors_in,
)

__all__ = ["gradcheck", "gradients"]

DRAWS = 4
JITTERED_FROM = 2


def gradients(layer: Subject) -> None:
    """Every parameter gets a finite gradient in training mode, and a non-zero one in one of a few draws.

    The draws are successive training steps on other inputs. In the later ones the parameters are jittered, so
    that a gradient that is zero only at the start (LoRA, ReZero) is no defect. Zero means: below rounding, in
    float64.
    """
    module = layer.fresh(train=True, dtype=layer.exact)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad and p.numel()}
    if not parameters:
        raise NotApplicable("no trainable parameters")
    largest = dict.fromkeys(parameters, 0.0)
    dead = list(parameters)
    for draw in range(DRAWS):
        if draw >= JITTERED_FROM:
            _jitter(parameters.values(), draw)
        for name, size in _gradient_sizes(layer, module, parameters, draw).items():
            if math.isfinite(size):
                largest[name] = max(largest[name], size)
            elif draw < JITTERED_FROM:  # jitter may leave the domain of a parameter, the start may not
                raise Failure(f"the gradient of {name} is not finite; look for 0/0, log(0) or sqrt(0)")
        rounding = 1e-12 * max(largest.values()) if layer.exact else 0.0
        dead = [name for name, size in largest.items() if size <= rounding]
        if not dead:
            return
    raise Failure(
        f"zero gradient for {listed(dead)} in {DRAWS} random draws; "
        "use it in forward, without .detach() or .data, or delete it"
    )


def gradcheck(layer: Subject) -> None:
    """In float64, the gradients of inputs and parameters agree with finite differences.

    By ``torch.autograd.gradcheck``; every tensor is moved along one random direction and the output is read
    along two, so that the cost grows with the number of tensors, not of their entries. A stochastic layer is
    differentiated in evaluation mode.
    """
    if layer.exact is None:
        raise NotApplicable("the layer does not run in float64, see dtypes")
    names, value = _along_directions(layer, train=not (layer.traits.stochastic or layer.draws_random))
    if not names:
        raise NotApplicable("nothing to differentiate by: no trainable parameter, no floating input")
    try:
        compare_with_finite_differences(
            lambda *steps: value(dict(zip(names, steps, strict=True))),
            tuple(_step() for _ in names),
            check_undefined_grad=False,
        )
    except GradcheckError as error:
        slopes = {name: _slopes(value, name) for name in names}
        wrong = [name for name, (a, b) in slopes.items() if abs(a - b) > 1e-5 + 1e-3 * abs(b)] or names
        backward, differences = slopes[wrong[0]]
        raise Failure(
            f"backward disagrees with finite differences for {listed(wrong)} "
            f"(slope {backward:.6g} instead of {differences:.6g}); "
            "look for a wrong hand-written backward, .detach(), or float32 inside"
        ) from error


def _gradient_sizes(
    layer: Subject, module: nn.Module, parameters: dict[str, Tensor], draw: int
) -> dict[str, float]:
    """Largest entry of each parameter's gradient, for one input and one random cotangent."""
    reseed(SEED + draw)
    inputs = map_tensors(other_values, layer.inputs) if draw else layer.inputs
    outputs = [y for y in tensors_in(module(*layer.arguments(inputs, dtype=layer.exact))) if y.requires_grad]
    if not outputs:
        return dict.fromkeys(parameters, 0.0)
    cotangents = [torch.randn(y.shape).to(y) for y in outputs]
    found = torch.autograd.grad(
        outputs, list(parameters.values()), cotangents, allow_unused=True, materialize_grads=True
    )
    return {name: g.abs().max().item() for name, g in zip(parameters, found, strict=True)}


@torch.no_grad()
def _jitter(parameters: Iterable[Tensor], seed: int) -> None:
    reseed(SEED + seed)
    for p in parameters:
        p.add_(0.05 * torch.randn(p.shape).to(p))


def _along_directions(
    layer: Subject, *, train: bool
) -> tuple[list[str], Callable[[dict[str, Tensor]], Tensor]]:
    """Names of all tensors, and two readings of the output as a function of how far each tensor is moved."""
    arguments = layer.arguments(dtype=torch.float64)
    inputs = {f"input {i}": x for i, x in enumerate(tensors_in(arguments))}
    module = layer.fresh(train=train, dtype=torch.float64)
    weights = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    reseed()
    directions = {
        name: torch.randn(x.shape).to(x)
        for name, x in {**inputs, **weights}.items()
        if x.is_floating_point() and x.numel()
    }

    def outputs(steps: dict[str, Tensor]) -> Tensor:
        def moved(name: str, x: Tensor) -> Tensor:
            return x + steps[name] * directions[name] if name in steps else x.clone()

        values = iter([moved(name, x) for name, x in inputs.items()])
        placed = map_tensors(lambda _: next(values), arguments)
        fresh = layer.fresh(train=train, dtype=torch.float64)  # also the buffers start anew
        reseed()
        found = tensors_in(
            functional_call(fresh, {name: moved(name, p) for name, p in weights.items()}, placed)
        )
        return torch.cat([y.flatten() for y in found if y.is_floating_point()])

    with torch.no_grad():
        start = outputs({})
    rms = start.square().mean().sqrt()
    # gradcheck's tolerance is absolute where a slope is small, so the output is brought to size one.
    readings = torch.randn(2, len(start)).to(start) / len(start) ** 0.5 / (rms if 0 < rms < math.inf else 1.0)
    return list(directions), lambda steps: readings @ outputs(steps)


def _step(size: float = 0.0) -> Tensor:
    return torch.tensor(size, dtype=torch.float64, requires_grad=True)


def _slopes(value: Callable[[dict[str, Tensor]], Tensor], name: str) -> tuple[float, float]:
    """The slope along one tensor's direction, by autograd and by central difference; both readings added."""
    at = _step()
    reading = value({name: at}).sum()
    backward = torch.autograd.grad(reading, at)[0].item() if reading.requires_grad else 0.0
    with torch.no_grad():
        ahead, behind = (value({name: _step(size)}).sum().item() for size in (1e-6, -1e-6))
    return backward, (ahead - behind) / 2e-6
