"""Guesses from calling again: the oracle, or the answer, with one argument changed in a usual way."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from course_lib.classroom.answers.failure import NEAR, Diagnosis, Failure
from course_lib.classroom.answers.outcomes import Case, compare, difference, numbers, wide

# ------------------------------------------------------------- the oracle with other arguments


def argument_changed(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """What came equals the right result for other arguments: exchanged, inverted, negated, off by one."""
    items = failures[0].given.items
    for a, b in combinations(items, 2):
        if _fits(failures, lambda given, a=a, b=b: _exchanged(given, a, b)):
            names = f"{called.get(a, a)} and {called.get(b, b)}"
            yield Diagnosis(f"exchanged {a} and {b}", f"As if {names} were exchanged.")
            return
    for name, value in items.items():
        own = called.get(name, name)
        for label, words, change in _changes(value):
            if _fits(failures, lambda given, name=name, change=change: _changed(given, name, change)):
                yield Diagnosis(f"{label} {name}", f"As if {own} were {words.format(own)}.")
                return


def _changes(value: Any) -> list[tuple[str, str, Callable[[Any], Any]]]:
    if isinstance(value, bool):
        return [("negated", "not {}", lambda x: not x)]
    if isinstance(value, int):
        return [
            ("one more", "{} + 1", lambda x: x + 1),
            ("one less", "{} - 1", lambda x: x - 1),
            ("doubled", "2 {}", lambda x: 2 * x),
            ("halved", "{} / 2", lambda x: x // 2),
        ]
    if isinstance(value, float):
        return [
            ("inverse", "1 / {}", lambda x: 1 / x),
            ("negated", "-{}", lambda x: -x),
            ("squared", "{} squared", lambda x: x * x),
            ("root of", "the root of {}", lambda x: math.sqrt(x)),
            ("one minus", "1 - {}", lambda x: 1 - x),
            ("doubled", "2 {}", lambda x: 2 * x),
            ("halved", "{} / 2", lambda x: x / 2),
            ("zero for", "0", lambda x: 0.0),
            ("one for", "1", lambda x: 1.0),
        ]
    if isinstance(value, Tensor) and value.is_floating_point():
        return [
            ("negated", "-{}", lambda x: -x),
            ("transposed", "{} transposed", lambda x: x.mT if x.shape[-1] == x.shape[-2] else _no()),
            *(
                (
                    f"reversed axis {axis} of",
                    f"{{}} with its axis {axis} backwards",
                    lambda x, axis=axis: x.flip(axis),
                )
                for axis in range(-value.ndim, 0)
            ),
            ("zeros for", "all zeros", torch.zeros_like),
            ("ones for", "all ones", torch.ones_like),
            ("squared", "{} squared", lambda x: x * x),
            ("absolute", "the absolute value of {}", lambda x: x.abs()),
            ("exponential of", "exp({})", lambda x: x.exp()),
            ("halved", "{} / 2", lambda x: x / 2),
            ("doubled", "2 {}", lambda x: 2 * x),
            ("root of", "the root of {}", lambda x: x.sqrt() if bool((x >= 0).all()) else _no()),
        ]
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return [("negated", "not {}", lambda x: ~x)]
    if isinstance(value, Tensor):
        return [("one more", "{} + 1", lambda x: x + 1), ("one less", "{} - 1", lambda x: x - 1)]
    return []


def _no() -> Any:
    raise ValueError


def _changed(given: Case, name: str, change: Callable[[Any], Any]) -> Case:
    return given.with_(name, change(given.items[name]))


def _exchanged(given: Case, a: str, b: str) -> Case:
    one, two = given.items[a], given.items[b]
    if type(one) is not type(two) or getattr(one, "shape", 0) != getattr(two, "shape", 0):
        raise ValueError
    return given.with_(a, two).with_(b, one)


def _fits(
    failures: Sequence[Failure],
    change: Callable[[Case], Case],
    undo: Callable[[Tensor], Tensor] = lambda y: y,
) -> bool:
    """Whether the oracle on the changed arguments gives what came, in every failing run."""
    for failure in failures:
        try:
            outcome = failure.right_on(change(failure.given))
            value = tree_map(lambda y: undo(y) if isinstance(y, Tensor) else y, outcome.value)
        except Exception:
            return False
        if outcome.error is not None or value is None:
            return False
        if compare(value, failure.got.value, "", NEAR) is not None:
            return False
    return True


def axes_of_input(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """As if computed along another axis: the right result for a transposed input, transposed back."""
    for name, value in failures[0].given.items.items():
        if not isinstance(value, Tensor) or value.ndim < 2:
            continue
        for i, j in combinations(range(-value.ndim, 0), 2):
            swap = lambda x, i=i, j=j: x.transpose(i, j)  # noqa: E731
            if _fits(failures, lambda given, name=name, swap=swap: _changed(given, name, swap), swap):
                own = called.get(name, name)
                hint = (
                    f"As if the axes {i} and {j} of {own} were exchanged: along which one is the work done?"
                )
                yield Diagnosis("wrong axis", hint)
                return


# --------------------------------------------------------------- the answer with other arguments


def ignored(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """The answer does not depend on an argument on which the right one does."""
    for name in failures[-1].given.items:
        # In the smallest case much does not matter; and where a softmax is saturated, nearly nothing does.
        used = [use for failure in failures for use in _uses(failure, name)]
        if used and not any(used):
            hint = f"Your result does not depend on {called.get(name, name)}; the right one does."
            yield Diagnosis(f"ignored {name}", hint)


def _uses(failure: Failure, name: str) -> Iterator[bool]:
    """Whether the answer moves with an argument, for each change of it that moves the right one."""
    for other in _others(failure.given.items.get(name)):
        given = failure.given.with_(name, other)
        right = failure.right_on(given)
        if right.error is not None or difference(failure.expected, right, NEAR, values_only=True) is None:
            continue
        mine = failure.answer_on(given)
        yield mine.error is not None or difference(failure.got, mine, NEAR, values_only=True) is not None


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value + 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.25, value / 8 + 0.01]
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return [value * 1.25 + 0.1 * noise * (1 + value.abs()), -value]
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return [~value]
    return []


def sight(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """Which places of the result depend on which places of the input, against the right answer."""
    small = [f for f in failures if f.given.size <= 400 and isinstance(f.got.value, Tensor)]
    for failure in small[-1:]:
        for name, value in failure.given.items.items():
            if not (isinstance(value, Tensor) and value.is_floating_point()):
                continue
            for axis in range(-value.ndim, 0):
                count = value.shape[axis]
                moved = [
                    [_moved(failure, name, axis, i, of_right=which) for i in range(count)]
                    for which in (True, False)
                ]
                if not 1 < count <= 12 or any(m is None for m in [*moved[0], *moved[1]]):
                    continue
                for out in range(-failure.got.value.ndim, 0):
                    if failure.got.value.shape[out] == count:
                        seen = [torch.stack([_along(x, out) for x in m]) for m in moved]
                        if diagnosis := _seen(*seen, called.get(name, name), out):
                            yield diagnosis
                            return


def _seen(right: Tensor, mine: Tensor, own: str, out: int) -> Diagnosis | None:
    """What is wrong with a pattern in which ``[i, j]`` says: place j of the result depends on place i."""
    others = ~torch.eye(len(right), dtype=torch.bool)
    place = f"Place t of your result (axis {out})"
    upper = torch.ones_like(right).triu()
    if bool((right == upper).all()) and mine.tril(-1).any() and len(right) > 1:
        return Diagnosis("future", f"{place} depends on later places of {own}: it sees the future.")
    if not (right & others).any() and (mine & others).any():
        return Diagnosis("mixes", f"{place} must depend on place t of {own} alone; yours depends on others.")
    if right.triu(1).any() and not (mine & others).any():
        return Diagnosis(
            "does not mix", f"{place} depends on place t of {own} alone; it must see others, too."
        )
    only_itself = bool(((mine & others) == (right & others)).all()) and mine.any()
    if only_itself and right.diagonal().all() and not mine.diagonal().any():
        return Diagnosis("not itself", f"{place} does not depend on place t of {own} itself.")
    return None


def _moved(failure: Failure, name: str, axis: int, place: int, *, of_right: bool) -> Tensor | None:
    """Where the result moves when one place of an argument does."""
    value = failure.given.items[name].clone().to(torch.float64)
    row = value.select(axis, place)
    noise = torch.randn(row.shape, generator=torch.Generator().manual_seed(place), dtype=torch.float64)
    row += 0.37 * noise * (1 + row.abs())
    given = failure.given.with_(name, value)
    outcome = failure.right_on(given) if of_right else failure.answer_on(given)
    before = (failure.expected if of_right else failure.got).value
    if (
        outcome.error is not None
        or not isinstance(outcome.value, Tensor)
        or outcome.value.shape != before.shape
    ):
        return None
    return (outcome.value - before).abs() > 1e-12 * (1 + before.abs())


def _along(moved: Tensor, axis: int) -> Tensor:
    return moved.movedim(axis, 0).flatten(1).any(1) if moved.ndim > 1 else moved


def neutral(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """The answer is right where an argument is 0 or 1: the fault lies in how that argument enters."""
    failure = failures[0]
    for name, value in failure.given.items.items():
        for words, neutral in _neutrals(value):
            given = failure.given.with_(name, neutral)
            right = failure.right_on(given)
            if right.error is not None or not all(_varied(x) for x in numbers(right.value)):
                continue
            if difference(failure.expected, right, NEAR, values_only=True) is None:
                continue
            mine = failure.answer_on(given)
            if difference(right, mine, NEAR, values_only=True) is None:
                own = called.get(name, name)
                hint = f"Your result is right where {own} is {words}: look at how {own} enters."
                yield Diagnosis(f"how {name} enters", hint)
                break


def _neutrals(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, bool):
        return []
    if isinstance(value, float):
        return [("1", 1.0), ("0", 0.0)]
    if isinstance(value, int):
        return [("1", 1)]
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        return [("all ones", torch.ones_like(value)), ("all zeros", torch.zeros_like(value))]
    return []


def _varied(x: Tensor) -> bool:
    return bool(torch.isfinite(wide(x).abs()).all()) and x.numel() > 0 and bool(x.any())
