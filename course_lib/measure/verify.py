"""Runs committed experiments again, and says whether the stored numbers still come out.

Where torch, Python and the kind of machine are those of the stored result, the arithmetic is the
same, so each number must come out again, to a relative 1e-6. One seed is enough there. Elsewhere
the last digits differ, and training magnifies them: a single seed proves nothing. Then all seeds
are run, and for each quantity the 99.9 % intervals of the two means must overlap (99.9 and not 95,
since hundreds of quantities are compared and a false alarm stops everybody). Quantities without
spread may differ by a relative 1e-3, or by 1e-5, where rounding errors live.
"""

import math
from collections.abc import Callable

from course_lib.measure.sample import Sample
from course_lib.measure.store import Result

__all__ = ["disagreements", "plan"]

_PLACE = ("torch", "python", "machine")


def plan(
    stored: dict[str, Result], here: dict[str, str], *, seconds: float, day: int
) -> dict[str, tuple[int, ...]]:
    """What to run on a day: for each chosen experiment the seeds, for about this many seconds in all.

    All experiments lie in one row, each as long as it takes; every day a window of ``seconds`` moves on by
    its own length, so that all have their turn, however long the row is.
    """
    seeds = {name: _seeds(result, here, day) for name, result in stored.items()}
    cost = {name: stored[name].select(seeds[name]).seconds for name in sorted(stored)}
    total = sum(cost.values())
    if total <= seconds:
        return {name: seeds[name] for name in cost}
    start = (day * seconds) % total
    chosen, position = {}, 0.0
    for name in [*cost, *cost]:  # twice: the window may reach over the end of the row
        if position < start + seconds and position + cost[name] > start:
            chosen[name] = seeds[name]
        position += cost[name]
    return chosen


def _seeds(result: Result, here: dict[str, str], day: int) -> tuple[int, ...]:
    same = all(result.place(what) == here[what] for what in _PLACE)
    return (result.seeds[day % len(result.seeds)],) if same else result.seeds


def disagreements(stored: Result, again: Result, repeat: Callable[[int], dict[str, float]]) -> list[str]:
    """What differs between a stored result and a second run of some of its seeds, in words; empty if nothing.

    Args:
        stored: the committed result.
        again: the same code, run again.
        repeat: runs a seed once more; asked only to tell an experiment that is not repeatable at all.
    """
    before = stored.select(again.seeds)
    if set(before.samples) != set(again.samples):
        return [f"measures {', '.join(again.samples)}; stored are {', '.join(before.samples)}"]
    found = []
    for old, new in zip(before.outcomes, again.outcomes, strict=True):
        if any(getattr(old, what) != getattr(new, what) for what in _PLACE):
            return _different_means(before, again)
        keys = [key for key, value in new.values.items() if not _same(old.values[key], value)]
        if not keys:
            continue
        third = repeat(new.seed)
        for key in keys:
            unstable = (
                "" if _same(third[key], new.values[key]) else f", then {third[key]}: it is not repeatable"
            )
            found.append(f"{key}, seed {new.seed}: stored {old.values[key]}, now {new.values[key]}{unstable}")
    return found


def _different_means(before: Result, again: Result) -> list[str]:
    return [
        f"{key}: stored {sample}, now {again.samples[key]} ({len(sample)} seeds, another machine or version)"
        for key, sample in before.samples.items()
        if not _overlap(sample, again.samples[key])
    ]


def _same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _overlap(a: Sample, b: Sample) -> bool:
    if math.isnan(a.mean) or math.isnan(b.mean):
        return math.isnan(a.mean) and math.isnan(b.mean)
    slack = max(1e-5, 1e-3 * abs(a.mean))
    (low_a, high_a), (low_b, high_b) = a.interval(0.999), b.interval(0.999)
    return low_a - slack <= high_b and low_b - slack <= high_a
