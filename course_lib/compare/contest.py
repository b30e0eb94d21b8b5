"""What is raced: a case of some sizes, and for each size a contest of ours with its peers."""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.compare.clock import Median, peak_bytes, race, relative
from course_lib.contexts import one_thread
from course_lib.training.memory_saving import saved_bytes


@dataclass(frozen=True)
class Contest:
    """Functions that compute the same, and what they compute it of.

    Args:
        ours: the object of this library.
        peers: other implementations with equal weights, by their full name.
        inputs: arguments of each; floating-point tensors get gradients.
        backward: False for what has no backward pass.
        tolerance: largest difference between outputs, and between gradients, relative to the largest
            value.
    """

    ours: Callable[..., Any]
    peers: Mapping[str, Callable[..., Any]]
    inputs: tuple[Any, ...] = ()
    backward: bool = True
    tolerance: float = 1e-4

    @property
    def contenders(self) -> dict[str, Callable[..., Any]]:
        """All of them, ours first."""
        return {"ours": self.ours, **self.peers}


@dataclass(frozen=True)
class Case:
    """One object against its peers over several sizes.

    Args:
        name: the object, as the library exports it, so that the page can link to it; words may follow.
        make: a function at the top level of its module, from a size to a :class:`Contest`. Peers that
            are not torch are imported inside it.
        sizes: what ``make`` is called with, ascending; from three on a growth exponent is fitted.
        axis: what the size is: "width", "tokens".
        why: where a peer is faster, the reason why it may be; shown in the table.
    """

    name: str
    make: Callable[[int], Contest]
    sizes: tuple[int, ...]
    axis: str = "size"
    why: str = ""

    def contest(self, size: int) -> Contest:
        """What is raced at this size; the peers are imported without their warnings."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self.make(size)
            except RuntimeError as error:
                if "torchvision::" not in str(error):
                    raise
                _declare_torchvision_operators()
                return self.make(size)


# torchvision's compiled operators fail to load beside a CPU build of torch if the wheel was built for
# CUDA. Its Python code then finds them missing, and timm cannot be imported, although its layers call
# none of them.
_TORCHVISION_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a Library that is freed takes its operators away again


def _declare_torchvision_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _TORCHVISION_OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)


@dataclass(frozen=True)
class Lap:
    """What one contender needed at one size.

    Attributes:
        forward: seconds without gradient.
        both: seconds forward and backward; None where there is no backward pass.
        kept: bytes that the forward pass keeps for the backward pass.
        peak: the most bytes given out at once, forward and backward.
        ratio_forward: of our seconds to this one's, median over the rounds with its interval; None for
            ours.
        ratio_both: the same, forward and backward.
    """

    forward: float
    both: float | None = None
    kept: int | None = None
    peak: int | None = None
    ratio_forward: Median | None = None
    ratio_both: Median | None = None


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Give a module the parameters and buffers of another, in order; integer buffers stay.

    Args:
        source: the module to copy from.
        target: the module to change; its tensors need the same shapes.

    Raises:
        ValueError: if number or shapes differ.

    >>> a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> copy_parameters(a, b)
    >>> torch.equal(a.weight, b.weight)
    True
    """
    theirs, ours = _numbers(target), _numbers(source)
    if [t.shape for t in theirs] != [t.shape for t in ours]:
        raise ValueError(
            f"{type(source).__name__} has {[tuple(t.shape) for t in ours]}, "
            f"{type(target).__name__} has {[tuple(t.shape) for t in theirs]}: copy them one by one"
        )
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)


def _numbers(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]


def measure(
    contest: Contest,
    *,
    rounds: int = 31,
    budget: float = 1.5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Lap]:
    """Compare the outputs, then race: one lap for each contender, ours first.

    Args:
        contest: see :class:`Contest`.
        rounds: how often each is timed.
        budget: seconds of each of the races.
        clock: tells the seconds.

    Raises:
        ValueError: if a peer computes something else.
    """
    with one_thread():
        require_agreement(contest)
        runners = _runners(contest)
        seconds = {}
        for mode in ("forward", "both") if contest.backward else ("forward",):
            turns = {name: getattr(runner, mode) for name, runner in runners.items()}
            seconds[mode] = race(turns, rounds=rounds, budget=budget, clock=clock)
        return {name: _lap(name, runner, seconds) for name, runner in runners.items()}


class Runner:
    """One contender with inputs and a cotangent of its own.

    Args:
        function: a module or a function.
        inputs: its arguments; where there is a backward pass, floating-point tensors get gradients.
        backward: whether there is one.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any], backward: bool = True) -> None:
        self.function, self.backward = function, backward
        self.inputs = [_leaf(x, backward) for x in inputs]
        self.leaves = [x for x in self.inputs if isinstance(x, Tensor) and x.requires_grad]
        if backward and isinstance(function, nn.Module):
            self.leaves += [p for p in function.parameters() if p.requires_grad]
        with torch.no_grad():
            y = _tensor(function(*self.inputs))
        # A seed of its own: with the caller's it could be the input, where many gradients vanish.
        generator = torch.Generator().manual_seed(987654321)
        self.cotangent = torch.randn(y.shape, generator=generator).to(y.dtype)

    def forward(self) -> Any:
        """The forward pass, without gradient."""
        with torch.no_grad():
            return self.function(*self.inputs)

    def both(self) -> Any:
        """The forward and the backward pass: the gradients of inputs and parameters."""
        y = _tensor(self.function(*self.inputs))
        return torch.autograd.grad(y, self.leaves, self.cotangent, allow_unused=True)

    def kept(self) -> int:
        """Bytes that the forward pass keeps for the backward pass."""
        buffers = self.function.buffers() if isinstance(self.function, nn.Module) else ()
        return saved_bytes(lambda: self.function(*self.inputs), ignore=buffers)


def _runners(contest: Contest) -> dict[str, Runner]:
    return {
        name: Runner(function, contest.inputs, contest.backward)
        for name, function in contest.contenders.items()
    }


def _leaf(x: Any, wants_gradient: bool) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.detach().clone().requires_grad_(wants_gradient and x.is_floating_point())


def _tensor(y: Any) -> Tensor:
    """The output; of several, the first."""
    return torch.as_tensor(y[0] if isinstance(y, (tuple, list)) else y)


def require_agreement(contest: Contest) -> None:
    """Stop unless all contenders give equal outputs, and equal gradients of the inputs.

    Args:
        contest: what is to be raced.

    Raises:
        ValueError: naming the peer, what differs, and by how much.
    """
    results = {name: _results(runner) for name, runner in _runners(contest).items()}
    for name in contest.peers:
        for what, theirs in results[name].items():
            ours = results["ours"][what]
            if ours.shape != theirs.shape:
                raise ValueError(f"{name}: {what} {tuple(theirs.shape)}, ours {tuple(ours.shape)}")
            scale = max(1e-12, theirs.abs().max().item()) if theirs.numel() else 1.0
            gap = (ours - theirs).abs().max().item() / scale if theirs.numel() else 0.0
            if not gap <= contest.tolerance:
                raise ValueError(
                    f"{name}: the {what} differs from ours by {gap:.2g} of its largest value, more "
                    f"than {contest.tolerance:g}: are all weights copied, and both in the same mode?"
                )


def _results(runner: Runner) -> dict[str, Tensor]:
    with torch.set_grad_enabled(runner.backward):
        y = _tensor(runner.function(*runner.inputs))
    found = {"output": y.detach()}
    inputs = [x for x in runner.inputs if isinstance(x, Tensor) and x.requires_grad]
    if inputs:
        for i, gradient in enumerate(torch.autograd.grad(y, inputs, runner.cotangent)):
            found[f"gradient of input {i}"] = gradient
    return found


def _lap(name: str, runner: Runner, seconds: dict[str, dict[str, list[float]]]) -> Lap:
    times = {mode: statistics.median(found[name]) for mode, found in seconds.items()}
    ratios = {}
    if name != "ours":
        ratios = {f"ratio_{m}": relative(found["ours"], found[name]) for m, found in seconds.items()}
    return Lap(
        **times,
        **ratios,
        kept=runner.kept() if runner.backward else None,
        peak=peak_bytes(runner.both if runner.backward else runner.forward),
    )
