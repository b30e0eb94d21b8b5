"""What is raced: a case of some sizes, and for each size a contest of ours with its peers."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.compare.clock import Median, median_with_interval, peak_bytes, race
from course_lib.contexts import one_thread
from course_lib.training.memory_saving import saved_bytes

__all__ = ["Case", "Contest", "Lap", "copy_parameters", "measure", "require_agreement"]


@dataclass(frozen=True)
class Contest:
    """Functions that compute the same, and what they compute it of.

    Args:
        ours: the object of this library.
        peers: other implementations with equal weights, by their full name.
        inputs: arguments of each; floating-point tensors get gradients.
        backward: False for what has no backward pass.
        tolerance: largest difference between outputs, and between gradients, relative to the largest value.
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
        name: the object, as the library exports it, so that the page can link to it; words may follow it.
        make: a function at the top level of its module, from a size to a :class:`Contest`. Peers that are not
            torch are imported inside it.
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


# torchvision's compiled operators fail to load beside a CPU build of torch if the wheel was built for CUDA.
# Its Python code then finds them missing, and timm cannot be imported, although its layers call none of them.
_TORCHVISION_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a Library takes its operators away again when it is freed


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
        ratio_forward: of our seconds to this one's, median over the rounds with its interval; None for ours.
        ratio_both: the same, forward and backward.
    """

    forward: float
    both: float | None = None
    kept: int | None = None
    peak: int | None = None
    ratio_forward: Median | None = None
    ratio_both: Median | None = None


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Give a module the parameters and buffers of another, in order; integer buffers (counters) stay.

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
            f"{type(source).__name__} has {[tuple(t.shape) for t in ours]}, {type(target).__name__} has "
            f"{[tuple(t.shape) for t in theirs]}: copy them one by one"
        )
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)


def _numbers(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module.state_dict().values() if tensor.is_floating_point()]


def measure(contest: Contest, *, rounds: int = 31, budget: float = 1.5) -> dict[str, Lap]:
    """Compare the outputs, then race: one lap for each contender, ours first.

    Args:
        contest: see :class:`Contest`.
        rounds: how often each is timed.
        budget: seconds of each of the races.

    Raises:
        ValueError: if a peer computes something else.
    """
    with one_thread():
        require_agreement(contest)
        runners = {name: _Runner(run, contest) for name, run in contest.contenders.items()}
        modes = ["forward", "both"] if contest.backward else ["forward"]
        times = {
            mode: race({n: getattr(r, mode) for n, r in runners.items()}, rounds=rounds, budget=budget)
            for mode in modes
        }
        return {name: _lap(name, runner, times) for name, runner in runners.items()}


class _Runner:
    """One contender with inputs of its own."""

    def __init__(self, function: Callable[..., Any], contest: Contest) -> None:
        self.function, self.backward = function, contest.backward
        self.inputs = [_leaf(x, contest.backward) for x in contest.inputs]
        self.leaves = [x for x in self.inputs if isinstance(x, Tensor) and x.requires_grad]
        if contest.backward and isinstance(function, nn.Module):
            self.leaves += [p for p in function.parameters() if p.requires_grad]
        with torch.no_grad():
            y = _tensor(function(*self.inputs))
        # A seed of its own: with the caller's it could be the input, along which many gradients vanish.
        generator = torch.Generator().manual_seed(987654321)
        self.cotangent = torch.randn(y.shape, generator=generator).to(y.dtype)

    def forward(self) -> Any:
        with torch.no_grad():
            return self.function(*self.inputs)

    def both(self) -> Any:
        y = _tensor(self.function(*self.inputs))
        return torch.autograd.grad(y, self.leaves, self.cotangent, allow_unused=True)

    def kept(self) -> int:
        return saved_bytes(lambda: self.function(*self.inputs), ignore=_buffers(self.function))


def _leaf(x: Any, wants_gradient: bool) -> Any:
    if not isinstance(x, Tensor):
        return x
    return x.detach().clone().requires_grad_(wants_gradient and x.is_floating_point())


def _tensor(y: Any) -> Tensor:
    """The output; of several, the first."""
    return torch.as_tensor(y[0] if isinstance(y, (tuple, list)) else y)


def _buffers(function: Any) -> list[Tensor]:
    return list(function.buffers()) if isinstance(function, nn.Module) else []


def require_agreement(contest: Contest) -> None:
    """Stop unless all contenders give equal outputs, and equal gradients of the inputs.

    Args:
        contest: what is to be raced.

    Raises:
        ValueError: naming the peer, what differs, and by how much.
    """
    results = {name: list(_results(run, contest)) for name, run in contest.contenders.items()}
    for name in contest.peers:
        for (what, ours), (_, theirs) in zip(results["ours"], results[name], strict=True):
            if ours.shape != theirs.shape:
                raise ValueError(f"{name}: {what} {tuple(theirs.shape)}, ours {tuple(ours.shape)}")
            scale = max(1e-12, theirs.abs().max().item()) if theirs.numel() else 1.0
            gap = (ours - theirs).abs().max().item() / scale if theirs.numel() else 0.0
            if not gap <= contest.tolerance:
                raise ValueError(
                    f"{name}: the {what} differs from ours by {gap:.2g} of its largest value, more than "
                    f"{contest.tolerance:g}: are all weights copied, and both in the same mode?"
                )


def _results(function: Callable[..., Any], contest: Contest) -> Iterator[tuple[str, Tensor]]:
    runner = _Runner(function, contest)
    with ExitStack() as stack:
        if not contest.backward:
            stack.enter_context(torch.no_grad())
        y = _tensor(function(*runner.inputs))
        yield "output", y.detach()
        inputs = [x for x in runner.inputs if isinstance(x, Tensor) and x.requires_grad]
        if contest.backward and inputs:
            for i, gradient in enumerate(torch.autograd.grad(y, inputs, runner.cotangent)):
                yield f"gradient of input {i}", gradient


def _lap(name: str, runner: _Runner, times: dict[str, dict[str, list[float]]]) -> Lap:
    def ratio(mode: str) -> Median | None:
        if name == "ours" or mode not in times:
            return None
        pairs = zip(times[mode]["ours"], times[mode][name], strict=True)
        return median_with_interval([ours / theirs for ours, theirs in pairs])

    def seconds(mode: str) -> float | None:
        return median_with_interval(times[mode][name]).value if mode in times else None

    with_gradient = runner.backward
    return Lap(
        forward=seconds("forward"),
        both=seconds("both"),
        kept=runner.kept() if with_gradient else None,
        peak=peak_bytes(runner.both if with_gradient else runner.forward),
        ratio_forward=ratio("forward"),
        ratio_both=ratio("both"),
    )
