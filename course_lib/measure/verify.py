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

from course_lib.measure.journal import Outcome
from course_lib.measure.sample import Sample
from course_lib.measure.store import Result

__all__ = ["disagreements", "moved", "plan"]

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
    pairs = list(zip(before.outcomes, again.outcomes, strict=True))
    same_place = all(getattr(old, what) == getattr(new, what) for old, new in pairs for what in _PLACE)
    if not same_place and set(before.samples) == set(again.samples):
        return _different_means(before, again)
    found = []
    for old, new in pairs:
        differs = moved(old, new)
        third = repeat(new.seed) if differs else {}
        for key, text in differs.items():
            stable = key not in third or _same(third[key], new.values[key])
            found.append(text if stable else f"{text}, then {third[key]}: it is not repeatable")
    return found


def moved(old: Outcome, new: Outcome) -> dict[str, str]:
    """The numbers of a seed that do not come out again to a relative 1e-6, or an absolute 1e-9, in words."""
    if set(old.values) != set(new.values):
        return {"": f"measures {', '.join(new.values)}; stored are {', '.join(old.values)}"}
    return {
        key: f"{key}, seed {new.seed}: stored {old.values[key]}, now {value}"
        for key, value in new.values.items()
        if not _same(old.values[key], value)
    }


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
