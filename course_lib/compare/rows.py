"""The rows of the tables "side by side" and of "Which layer?": counted, timed and trained."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from course_lib.compare import times as store
from course_lib.compare.catalogue import experiments_of
from course_lib.compare.clock import Median, race, relative
from course_lib.compare.contest import Runner
from course_lib.compare.count import Operations, count_operations, count_parameters
from course_lib.compare.frames import Frame, Variant, text_name
from course_lib.contexts import isolated, one_thread
from course_lib.measure import Sample
from course_lib.measure import store as accuracies

BATCH = 64  # examples in the batch that is timed


@dataclass(frozen=True)
class Row:
    """All that is known of one variant.

    Attributes:
        chapter: id such as ``layers/norm``.
        variant: as the chapter names it.
        kind: of its inputs: vectors, images, tokens or sequences.
        baseline: whether the times of its chapter and shape of inputs are relative to it.
        parameters: numbers that training changes.
        operations: for one example.
        forward: its time relative to the baseline's; None if it has not been measured.
        both: the same, forward and backward.
        timed: ``fresh``, ``stale`` or ``missing``.
        accuracy: on the shared task, over seeds; None if it has not been measured.
        text: nats per character on unseen text, over seeds; None but for layers of sequences.
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
    text: Sample | None
    trained: str


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
            f"{chapter!r} has no SIDE_BY_SIDE in course_lib/experiments/{chapter}/side_by_side.py; "
            "see course_lib/compare/frames.py"
        )
    trained = "fresh"
    if measured is None:
        trained, measured = _stored_accuracies(module)
    times, timed = _stored_times(chapter, module)
    counts = _counts(module)
    leaders = baselines(module, counts)
    return [
        Row(
            chapter=chapter,
            variant=variant,
            kind=_frame_of(variant, module).kind,
            baseline=leaders[_place(_frame_of(variant, module))] is variant,
            parameters=counts[variant.name][0],
            operations=counts[variant.name][1],
            forward=_median(times, variant, "forward"),
            both=_median(times, variant, "both"),
            timed=timed if variant.name in times else "missing",
            accuracy=measured.get(variant.name),
            text=measured.get(text_name(variant.name)),
            trained=trained if variant.name in measured else "missing",
        )
        for variant in module.SIDE_BY_SIDE
    ]


def _frame_of(variant: Variant, module: ModuleType) -> Frame:
    """The frame in which a variant stands: its own, or its chapter's."""
    return variant.frame or module.FRAME


def baselines(
    module: ModuleType, counts: Mapping[str, tuple[int, Operations]] | None = None
) -> dict[tuple, Variant]:
    """For each kind and shape of inputs the variant that the others are compared with.

    It is the first that is marked as baseline, else the first; but one that computes something, if
    there is one: everything is hundreds of times slower than nothing.

    Args:
        module: the chapter's experiments.
        counts: parameters and operations by variant; counted here if not given.
    """
    counts = counts or _counts(module)

    def rank(variant: Variant) -> tuple[bool, bool]:
        return counts[variant.name][1].total == 0, "baseline" not in variant.properties

    found: dict[tuple, Variant] = {}
    for variant in sorted(module.SIDE_BY_SIDE, key=rank):
        found.setdefault(_place(_frame_of(variant, module)), variant)
    return found


def _place(frame: Frame) -> tuple:
    return frame.kind, frame.shape


def _counts(module: ModuleType) -> dict[str, tuple[int, Operations]]:
    """Parameters and operations for one example, by variant."""
    found = {}
    for variant in module.SIDE_BY_SIDE:
        with isolated():
            layer, example = variant.build().eval(), _frame_of(variant, module).example(1)
            found[variant.name] = count_parameters(layer), count_operations(layer, example)
    return found


def _stored_accuracies(module: ModuleType) -> tuple[str, Mapping[str, Sample]]:
    experiment = getattr(module, "side_by_side", None)
    if experiment is None:
        return "missing", {}
    state = accuracies.state(experiment)
    if state in ("missing", "edited"):
        return "missing", {}
    return ("fresh" if state == "fresh" else "stale"), accuracies.read(experiment).samples


def _stored_times(chapter: str, module: ModuleType) -> tuple[dict[str, Any], str]:
    entry = store.load(chapter).get("side_by_side")
    return (entry or {}).get("variants", {}), store.variants_state(module, entry)


def _median(times: Mapping[str, Any], variant: Variant, mode: str) -> Median | None:
    return Median(*times[variant.name][mode]) if variant.name in times else None


def time_variants(
    module: ModuleType, *, budget: float = 5.0, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[str, Median]]:
    """Time all variants of a chapter, forward, and forward and backward, relative to their baseline.

    A batch of 64 goes through the layer alone: without gradient in evaluation mode, and with the
    gradients of input and parameters in training mode.

    Args:
        module: the chapter's experiments.
        budget: seconds of each race.
        clock: tells the seconds.

    Returns:
        By variant and by ``"forward"`` and ``"both"``, the median ratio with its interval.
    """
    found: dict[str, dict[str, Median]] = {variant.name: {} for variant in module.SIDE_BY_SIDE}
    for place, leader in baselines(module).items():
        layers, runners = {}, {}
        for variant in module.SIDE_BY_SIDE:
            frame = _frame_of(variant, module)
            if _place(frame) == place:
                with isolated():
                    layers[variant.name] = variant.build().eval()
                    runners[variant.name] = Runner(layers[variant.name], (frame.example(BATCH),))
        with one_thread():
            for mode in ("forward", "both"):
                for layer in layers.values():
                    layer.train(mode == "both")
                turns = {name: getattr(runner, mode) for name, runner in runners.items()}
                seconds = race(turns, budget=budget, clock=clock)
                for name, mine in seconds.items():
                    found[name][mode] = relative(mine, seconds[leader.name])
    return found
