"""The rows of the tables "side by side" and of the page "Which layer?": counted, timed and trained."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.compare import times as store
from course_lib.compare.clock import Median, median_with_interval, race
from course_lib.compare.count import Operations, count_operations, count_parameters
from course_lib.compare.frames import Frame, Variant
from course_lib.contexts import one_thread
from course_lib.measure import Sample
from course_lib.measure import store as accuracies

__all__ = ["BATCH", "Row", "baselines", "chapters_side_by_side", "experiments_of", "rows", "time_variants"]

BATCH = 64  # examples in the batch that is timed


@dataclass(frozen=True)
class Row:
    """All that is known of one variant.

    Attributes:
        chapter: id such as ``layers/norm``.
        variant: as the chapter names it.
        kind: of its inputs: vectors, images or tokens.
        baseline: whether the times of its chapter and shape of inputs are relative to it.
        parameters: numbers that training changes.
        operations: for one example.
        forward: its time relative to the baseline's; None if it has not been measured.
        both: the same, forward and backward.
        timed: ``fresh``, ``stale`` or ``missing``.
        accuracy: on the shared task, over seeds; None if it has not been measured.
        trained: ``fresh``, ``stale`` or ``missing``.
    """

    chapter: str
    variant: Variant
    kind: str
    baseline: bool
    parameters: int
    operations: Operations
    forward: Median | None
    both: Median | None
    timed: str
    accuracy: Sample | None
    trained: str


def experiments_of(chapter: str) -> Any | None:
    """The module with a chapter's variants; None where it has none.

    Args:
        chapter: id such as ``layers/norm``.
    """
    name = f"course_lib.experiments.{chapter.replace('/', '.')}"
    if find_spec(name.rpartition(".")[0]) is None or find_spec(name) is None:
        return None
    module = importlib.import_module(name)
    return module if hasattr(module, "SIDE_BY_SIDE") else None


def chapters_side_by_side(chapters: Sequence[str]) -> dict[str, Any]:
    """The modules of those chapters that have variants, by chapter.

    Args:
        chapters: ids in reading order.
    """
    found = {chapter: experiments_of(chapter) for chapter in chapters}
    return {chapter: module for chapter, module in found.items() if module is not None}


def rows(chapter: str, measured: Mapping[str, Sample] | None = None) -> list[Row]:
    """The variants of a chapter in its own order.

    Args:
        chapter: id such as ``layers/norm``.
        measured: accuracies by variant; those stored, however old, if not given.

    Raises:
        ValueError: if the chapter has no variants.
    """
    module = experiments_of(chapter)
    if module is None:
        raise ValueError(
            f"{chapter!r} has no SIDE_BY_SIDE in course_lib/experiments/{chapter}.py; see "
            "course_lib/compare/frames.py"
        )
    trained = "fresh"
    if measured is None:
        trained, measured = _stored_accuracies(module)
    times, timed = _stored_times(chapter, module)
    leaders = baselines(module)
    return [
        Row(
            chapter=chapter,
            variant=variant,
            kind=_frame_of(variant, module).kind,
            baseline=leaders[_place(_frame_of(variant, module))] is variant,
            **_counts(variant, _frame_of(variant, module)),
            forward=_median(times, variant, "forward"),
            both=_median(times, variant, "both"),
            timed=timed if variant.name in times else "missing",
            accuracy=measured.get(variant.name),
            trained=trained if variant.name in measured else "missing",
        )
        for variant in module.SIDE_BY_SIDE
    ]


def _frame_of(variant: Variant, module: Any) -> Frame:
    """The frame in which a variant stands: its own, or its chapter's."""
    return variant.frame or module.FRAME


def baselines(module: Any) -> dict[tuple, Variant]:
    """For each kind and shape of inputs the variant that the others are compared with.

    It is the first that is marked as baseline, else the first; but one that computes something, if there is
    one: everything is hundreds of times slower than nothing.

    Args:
        module: the chapter's experiments.
    """
    found: dict[tuple, Variant] = {}
    for variant in sorted(
        module.SIDE_BY_SIDE, key=lambda v: (_is_idle(v, module), "baseline" not in v.properties)
    ):
        found.setdefault(_place(_frame_of(variant, module)), variant)
    return found


def _is_idle(variant: Variant, module: Any) -> bool:
    return _counts(variant, _frame_of(variant, module))["operations"].total == 0


def _place(frame: Frame) -> tuple:
    return frame.kind, frame.shape


def _counts(variant: Variant, frame: Frame) -> dict[str, Any]:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layer, example = variant.build().eval(), frame.example(1)
        return {"operations": count_operations(layer, example), "parameters": count_parameters(layer)}


def _stored_accuracies(module: Any) -> tuple[str, Mapping[str, Sample]]:
    experiment = getattr(module, "side_by_side", None)
    if experiment is None:
        return "missing", {}
    state = accuracies.state(experiment)
    if state in ("missing", "edited"):
        return "missing", {}
    return ("fresh" if state == "fresh" else "stale"), accuracies.read(experiment).samples


def _stored_times(chapter: str, module: Any) -> tuple[dict[str, Any], str]:
    entry = store.load(chapter).get("side_by_side")
    if not entry:
        return {}, "missing"
    fresh = entry["code"] == store.code_of_variants(module)
    return entry["variants"], "fresh" if fresh else "stale"


def _median(times: Mapping[str, Any], variant: Variant, mode: str) -> Median | None:
    return Median(*times[variant.name][mode]) if variant.name in times else None


def time_variants(module: Any, *, budget: float = 5.0) -> dict[str, dict[str, Median]]:
    """Time all variants of a chapter, forward, and forward and backward, relative to their baseline.

    A batch of 64 goes through the layer alone: without gradient in evaluation mode, and with the gradients of
    input and parameters in training mode.

    Args:
        module: the chapter's experiments.
        budget: seconds of each race.

    Returns:
        By variant and by ``"forward"`` and ``"both"``, the median ratio with its interval.
    """
    found: dict[str, dict[str, Median]] = {}
    for place, leader in baselines(module).items():
        runners = {}
        for variant in module.SIDE_BY_SIDE:
            frame = _frame_of(variant, module)
            if _place(frame) == place:
                torch.manual_seed(0)
                runners[variant.name] = _Layer(variant.build(), frame.example(BATCH))
        with one_thread():
            for mode in ("forward", "both"):
                turns = {name: _in_mode(runner, mode) for name, runner in runners.items()}
                seconds = race(turns, budget=budget)
                for name, mine in seconds.items():
                    pairs = zip(mine, seconds[leader.name], strict=True)
                    found.setdefault(name, {})[mode] = median_with_interval([a / b for a, b in pairs])
    return {variant.name: found[variant.name] for variant in module.SIDE_BY_SIDE}


class _Layer:
    """A layer with an input, ready to run."""

    def __init__(self, layer: nn.Module, x: Tensor) -> None:
        self.layer, self.x = layer, x.requires_grad_()
        self.leaves = [self.x, *(p for p in layer.parameters() if p.requires_grad)]
        with torch.no_grad():
            self.cotangent = torch.randn_like(layer.eval()(x))

    def forward(self) -> Tensor:
        with torch.no_grad():
            return self.layer(self.x)

    def both(self) -> Any:
        return torch.autograd.grad(self.layer(self.x), self.leaves, self.cotangent, allow_unused=True)


def _in_mode(runner: _Layer, mode: str) -> Callable[[], Any]:
    runner.layer.train(mode == "both")
    return getattr(runner, mode)
