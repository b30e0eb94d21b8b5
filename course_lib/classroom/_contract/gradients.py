"""Do gradients arrive, and are they right?"""

import math
from collections.abc import Iterable

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

DRAWS = 4
JITTERED_FROM = 2
MOVES = 5


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
        "use it in forward, without .detach() or .data, delete it, or give an example that reaches it"
    )


def gradcheck(layer: Subject) -> None:
    """In float64, the gradients of inputs and parameters agree with finite differences, away from kinks.

    By ``torch.autograd.gradcheck``; every tensor is moved along one random direction and the output is read
    along two, so that the cost grows with the number of tensors, not of their entries. A stochastic layer is
    differentiated in evaluation mode. Where the differences to the two sides differ, as those of ReLU at 0,
    there is no derivative to compare with: inputs and parameters are moved a little and it is tried again.
    """
    if layer.exact is None:
        raise NotApplicable("the layer does not run in float64, see dtypes")
    wrong: dict[str, tuple[float, float]] = {}
    for moves in range(MOVES):
        value = _Reading(layer, moves)
        if not value.names:
            raise NotApplicable("nothing to differentiate by: no trainable parameter, no floating input")
        if not value.disagrees():
            return
        slopes = {name: value.slopes(name) for name in value.names}
        kinks = {name for name, (_, ahead, behind) in slopes.items() if _apart(ahead, behind)}
        if drowned := [name for name in kinks if not value.is_kink(name)]:
            raise Failure(
                f"finite differences for {listed(drowned)} are drowned by rounding, though inputs and "
                "parameters are float64; look for float32 inside"
            )
        wrong = {
            name: (backward, (ahead + behind) / 2)
            for name, (backward, ahead, behind) in slopes.items()
            if name not in kinks and _apart(backward, (ahead + behind) / 2)
        }
        if wrong or not kinks:
            break
    if kinks and not wrong:
        raise NotApplicable(f"at a kink in {MOVES} places of {MOVES}; choose an example away from them")
    wrong = wrong or {name: (b, (ahead + behind) / 2) for name, (b, ahead, behind) in slopes.items()}
    backward, differences = next(iter(wrong.values()))
    raise Failure(
        f"backward disagrees with finite differences for {listed(list(wrong))} "
        f"(slope {backward:.6g} instead of {differences:.6g}); {value.suspicion()}"
    )


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


class _Reading:
    """Two readings of the output as a function of how far each tensor is moved along its direction.

    Args:
        layer: the layer.
        moves: how often inputs and parameters were moved away from a kink.
    """

    def __init__(self, layer: Subject, moves: int) -> None:
        self.layer, self.train = layer, not (layer.traits.stochastic or layer.draws_random)
        module = layer.fresh(train=self.train, dtype=torch.float64)
        self.arguments = layer.arguments(dtype=torch.float64)
        weights = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        inputs = {f"input {i}": x for i, x in enumerate(tensors_in(self.arguments))}
        reseed(SEED + moves)
        self.start = {
            name: x + 0.01 * moves * torch.randn(x.shape).to(x) if x.is_floating_point() else x
            for name, x in {**inputs, **weights}.items()
        }
        self.directions = {
            name: torch.randn(x.shape).to(x)
            for name, x in self.start.items()
            if x.is_floating_point() and x.numel()
        }
        self.names, self.weights, self.inputs = list(self.directions), [*weights], [*inputs]
        with torch.no_grad():
            y = self.outputs({})
        rms = y.square().mean().sqrt()
        # gradcheck's tolerance is absolute where a slope is small, so the output is brought to size one.
        self.readings = torch.randn(2, len(y)).to(y) / len(y) ** 0.5 / (rms if 0 < rms < math.inf else 1.0)

    def outputs(self, steps: dict[str, Tensor]) -> Tensor:
        """All floating outputs in a row."""

        def moved(name: str) -> Tensor:
            x = self.start[name]
            return x + steps[name] * self.directions[name] if name in steps else x.clone()

        values = iter([moved(name) for name in self.inputs])
        placed = map_tensors(lambda _: next(values), self.arguments)
        fresh = self.layer.fresh(train=self.train, dtype=torch.float64)  # also the buffers start anew
        reseed()
        found = tensors_in(functional_call(fresh, {name: moved(name) for name in self.weights}, placed))
        return torch.cat([y.flatten() for y in found if y.is_floating_point()])

    def __call__(self, steps: dict[str, Tensor]) -> Tensor:
        return self.readings @ self.outputs(steps)

    def disagrees(self) -> bool:
        """What torch's gradcheck says."""
        try:
            compare_with_finite_differences(
                lambda *steps: self(dict(zip(self.names, steps, strict=True))),
                tuple(_step() for _ in self.names),
                check_undefined_grad=False,
            )
        except GradcheckError:
            return True
        return False

    def slopes(self, name: str, size: float = 1e-6) -> tuple[float, float, float]:
        """The slope along one tensor's direction, readings added: by autograd, ahead and behind."""
        at = _step()
        reading = self({name: at}).sum()
        backward = torch.autograd.grad(reading, at)[0].item() if reading.requires_grad else 0.0
        with torch.no_grad():
            ahead, here, behind = (self({name: _step(h)}).sum().item() for h in (size, 0.0, -size))
        return backward, (ahead - here) / size, (here - behind) / size

    def is_kink(self, name: str) -> bool:
        """Whether the slopes to both sides differ from afar too: those of float32 differ from near only."""
        _, ahead, behind = self.slopes(name, 1e-3)
        return not abs(ahead - behind) <= 0.02 * max(abs(ahead), abs(behind))

    def suspicion(self) -> str:
        """The likely cause: a hand-written backward, if the graph has one."""
        y = self({name: _step() for name in self.names})
        seen, queue = set(), [y.grad_fn]
        while queue:
            node = queue.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if isinstance(node, torch.autograd.function.BackwardCFunction):
                return f"look into the backward of {type(node).__name__.removesuffix('Backward')}"
            queue += [parent for parent, _ in node.next_functions]
        return "look for .detach(), .data or torch.no_grad(), rounding, or float32 inside"


def _step(size: float = 0.0) -> Tensor:
    return torch.tensor(size, dtype=torch.float64, requires_grad=True)


def _apart(a: float, b: float) -> bool:
    return not abs(a - b) <= 1e-5 + 1e-3 * abs(b)  # so that NaN is apart from everything
