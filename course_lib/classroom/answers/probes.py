"""Guesses at what is wrong with an answer that equals no listed mistake.

Each probe compares what the answer gave with the right result, changed in one usual way; or it calls the
answer, or the oracle, again with one argument changed. It speaks only when the guess fits every failing case.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from course_lib.classroom.answers.outcomes import (
    Case,
    Outcome,
    Tolerance,
    call,
    compare,
    difference,
    numbers,
    wide,
)

NEAR = Tolerance(rtol=1e-6, atol=1e-9, noise=1e-9)


@dataclass(frozen=True)
class Diagnosis:
    """What is probably wrong: a name for tests, a sentence for the learner."""

    name: str
    hint: str


@dataclass(frozen=True)
class Failure:
    """One run that failed: the input, the right outcome, the answer's."""

    given: Case
    expected: Outcome
    got: Outcome
    right: Callable
    answer: Callable

    def answer_on(self, given: Case) -> Outcome:
        """The answer's outcome with other arguments."""
        return call(self.answer, given, tracked=False)

    def right_on(self, given: Case) -> Outcome:
        """The right outcome with other arguments."""
        return call(self.right, given, tracked=False)

    @property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Expected and got, tensor by tensor."""
        e, g = numbers(self.expected.value), numbers(self.got.value)
        return [(wide(a), wide(b)) for a, b in zip(e, g, strict=False)]


def explain(failures: Sequence[Failure], called: dict[str, str]) -> list[Diagnosis]:
    """The most telling guesses, at most two; ``called`` has the answer's own names of its arguments.

    Args:
        failures: the runs whose values are wrong, the smallest first.
        called: from the names of the right answer's arguments to those of the learner's.
    """
    found: list[Diagnosis] = []
    for probe in (
        _ignored,
        _result_changed,
        _count,
        _argument_changed,
        _axes_of_input,
        _sight,
        _edge,
        _neutral,
    ):
        for diagnosis in probe(failures, called):
            if diagnosis.name not in [d.name for d in found]:
                found.append(diagnosis)
        if found:
            return found[:2]
    return found


def explain_gradient(failures: Sequence[Failure], name: str, called: str) -> list[Diagnosis]:
    """What is wrong with the gradient of one argument whose values are right."""
    pairs = [(f.expected.gradients[name], f.got.gradients.get(name)) for f in failures]
    if all(g is None or not g.any() for _, g in pairs):
        hint = (
            f"No gradient reaches {called}: is it detached, or does the way leave torch (item, numpy, data)?"
        )
        return [Diagnosis("no gradient", hint)]
    if all(_near(-e, g) for e, g in pairs):
        return [Diagnosis("gradient sign", f"The gradient of {called} has the opposite sign.")]
    hint = (
        f"The values are right, but not their derivative by {called}: part of the way is cut (detach, "
        "no_grad, a rounding), or two equal values hide a different formula."
    )
    return [Diagnosis("part of the gradient", hint)]


def explain_shape(failures: Sequence[Failure]) -> list[Diagnosis]:
    """What would turn the shape that came into the one that was expected."""
    shapes = [(tuple(e.shape), tuple(g.shape)) for f in failures for e, g in f.pairs if e.shape != g.shape]
    if not shapes:
        return []
    if all(sorted(e) == sorted(g) for e, g in shapes):
        return [Diagnosis("axes in another order", "The axes are the right ones in another order.")]
    if all(_squeezed(e) == _squeezed(g) for e, g in shapes):
        fewer = all(len(g) < len(e) for e, g in shapes)
        hint = (
            "An axis of length 1 is missing: keepdim=True keeps it."
            if fewer
            else "There is an axis of length 1 too many."
        )
        return [Diagnosis("axis of length 1", hint)]
    if all(len(g) < len(e) and _is_part(g, e) for e, g in shapes):
        return [Diagnosis("axis lost", "One axis too many was summed, averaged or indexed away.")]
    if all(len(g) > len(e) and _is_part(e, g) for e, g in shapes):
        return [Diagnosis("axis left", "One axis is left that must be summed, averaged or indexed away.")]
    if all(len(e) == len(g) for e, g in shapes):
        off = {tuple(b - a for a, b in zip(e, g, strict=True)) for e, g in shapes}
        if len(off) == 1 and sum(map(abs, next(iter(off)))) == 1:
            return [Diagnosis("off by one", "One axis is too long, or too short, by one.")]
    return []


def explain_nan(failures: Sequence[Failure]) -> list[Diagnosis]:
    """Why a number is not finite, judged by the inputs."""
    values = [
        x.abs() for f in failures for x in numbers(list(f.given.items.values())) if x.is_floating_point()
    ]
    if any(x.numel() and x.max() > 80 for x in values):
        hint = (
            "Large numbers overflow on the way (exp): subtract the largest one first, or choose with where."
        )
        return [Diagnosis("overflow", hint)]
    hint = "Something is divided by zero, or the logarithm or root of zero is taken: at which inputs?"
    return [Diagnosis("division by zero", hint)]


# ----------------------------------------------------------------------- what came, against what should


def _near(e: Tensor, g: Tensor | None, tolerance: Tolerance = NEAR) -> bool:
    return g is not None and e.shape == g.shape and compare(e, g, "", tolerance) is None


def _everywhere(failures: Sequence[Failure], change: Callable[[Tensor], Tensor | None]) -> bool:
    """Whether what came equals the right result, changed so, in every failing run (and the change shows)."""
    shows = 0
    for failure in failures:
        for e, g in failure.pairs:
            try:
                changed = change(e)
            except (RuntimeError, IndexError, ValueError):
                return False
            if changed is None or not _near(wide(changed), g):
                return False
            shows += not _near(e, g)
    return shows > 0


def _result_changed(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    changes: list[tuple[str, str, Callable[[Tensor], Tensor | None]]] = [
        ("sign", "Your result has the opposite sign.", lambda e: -e),
        ("squared", "Your result is the square of the right one.", lambda e: e * e),
        ("no square", "Your result is the root of the right one.", lambda e: e.sqrt()),
        ("inverse", "Your result is one divided by the right one.", lambda e: 1 / e),
        ("logarithm", "Your result is the logarithm of the right one.", lambda e: e.log()),
        ("exponential", "Your result is the exponential of the right one.", lambda e: e.exp()),
        ("absolute value", "Your result is the absolute value of the right one.", lambda e: e.abs()),
        ("clamped", "Your result is the right one, cut off below zero.", lambda e: e.clamp(min=0)),
        ("all zero", "Your result is zero everywhere.", torch.zeros_like),
        ("one minus", "Your result is one minus the right one.", lambda e: 1 - e),
    ]
    most = min((e.ndim for f in failures for e, _ in f.pairs), default=0)
    for i, j in combinations(range(-most, 0), 2):
        swap = lambda e, i=i, j=j: e.transpose(i, j)  # noqa: E731
        changes.append(("transposed", f"The axes {i} and {j} of your result are exchanged.", swap))
    for axis in range(-most, 0):
        flip = lambda e, axis=axis: e.flip(axis)  # noqa: E731
        changes.append(("reversed", f"Axis {axis} of your result runs backwards.", flip))
        for step in (1, -1):
            roll = lambda e, axis=axis, step=step: e.roll(step, axis)  # noqa: E731
            changes.append(("shifted", f"Along axis {axis} your result is shifted by one place.", roll))
    for name, hint, change in changes:
        if _everywhere(failures, change):
            yield Diagnosis(name, hint)
            return
    yield from _constant(failures)
    pairs = [pair for failure in failures for pair in failure.pairs]
    if pairs and all(_same_numbers(e, g) for e, g in pairs):
        yield Diagnosis("another order", "The right numbers, but at other places.")


def _constant(failures: Sequence[Failure]) -> Iterator[Diagnosis]:
    flat = [(e.flatten(), g.flatten()) for f in failures for e, g in f.pairs if e.shape == g.shape]
    if not flat or sum(e.numel() for e, _ in flat) < 3 or any(e.is_complex() for e, _ in flat):
        return
    e, g = (torch.cat(parts) for parts in zip(*flat, strict=True))
    big = e != 0
    if big.sum() >= 2:
        factor = (g[big] / e[big]).median()
        if _near(factor * e, g) and factor != 0:
            yield Diagnosis("factor", f"Your result is {_fraction(factor.item())} times the right one.")
            return
    offset = (g - e).median()
    if _near(e + offset, g) and e.unique().numel() > 1:
        yield Diagnosis("offset", f"Your result is the right one plus {offset.item():.4g}.")


def _fraction(x: float) -> str:
    for n in range(1, 13):
        if abs(x * n - round(x * n)) < 1e-6 * n and round(x * n):
            return f"{round(x * n)}/{n}" if n > 1 else f"{round(x * n)}"
    return f"{x:.5g}"


def _count(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """A factor of its own in each run that is made from the length of an axis: sum for mean, n - 1 for n."""
    factors = []
    for failure in failures:
        both = [(e.flatten(), g.flatten()) for e, g in failure.pairs]
        if not both or any(e.shape != g.shape or e.is_complex() for e, g in both):
            return
        e, g = (torch.cat(parts) for parts in zip(*both, strict=True))
        big = e.abs() > 1e-6 * e.abs().max()
        if not big.any():
            continue
        factor = (g[big] / e[big]).median()
        if not _near(factor * e, g):
            return
        factors.append((failure, factor.item()))
    shapes = {
        f"axis {axis} of {called.get(name, name)}": [
            f.given.items[name].shape[axis] if isinstance(f.given.items.get(name), Tensor) else 0
            for f, _ in factors
        ]
        for failure, _ in factors[:1]
        for name, value in failure.given.items.items()
        if isinstance(value, Tensor)
        for axis in range(-value.ndim, 0)
        if all(isinstance(v := f.given.items.get(name), Tensor) and v.ndim >= -axis for f, _ in factors)
    }
    forms: list[tuple[str, str, Callable[[int], float]]] = [
        ("sum for mean", "too large by the length of {}: a sum where a mean is asked", lambda n: n),
        ("mean for sum", "divided by the length of {}: a mean where a sum is asked", lambda n: 1 / n),
        ("unbiased", "computed with n - 1 in the place of n, for {}", lambda n: n / (n - 1)),
        ("unbiased", "computed with n - 1 in the place of n, for {}", lambda n: math.sqrt((n - 1) / n)),
        ("unbiased", "computed with n - 1 in the place of n, for {}", lambda n: (n - 1) / n),
        ("unbiased", "computed with n - 1 in the place of n, for {}", lambda n: math.sqrt(n / (n - 1))),
        ("root of length", "too large by the root of the length of {}", math.sqrt),
        ("root of length", "too small by the root of the length of {}", lambda n: 1 / math.sqrt(n)),
    ]
    for name, hint, form in forms:
        for where, lengths in shapes.items():
            if len(set(lengths)) > 1 and all(
                n > 1 and math.isclose(form(n), factor, rel_tol=1e-6)
                for n, (_, factor) in zip(lengths, factors, strict=True)
            ):
                yield Diagnosis(name, f"Your result is {hint.format(where)}.")
                return
    values = [f for _, f in factors]
    if len(values) > 1 and max(values) - min(values) > 1e-6:
        shown = ", ".join(_fraction(v) for v in values[:3])
        yield Diagnosis(
            "factor of the input",
            f"In each case another constant factor ({shown}): what depends on the input and scales all of the result?",
        )


def _same_numbers(e: Tensor, g: Tensor) -> bool:
    if e.shape != g.shape or e.is_complex() or e.numel() < 3:
        return False
    return _near(e.flatten().sort().values, g.flatten().sort().values) and not _near(e, g)


def _edge(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """All is right but the first, or the last, place of an axis; or the diagonal."""
    wrong = []
    for failure in failures:
        for e, g in failure.pairs:
            if e.shape != g.shape:
                return
            off = (e - g).abs().nan_to_num(nan=torch.inf) > 1e-9 + 1e-6 * e.abs()
            if off.any():
                wrong.append(off)
    wrong = [off for off in wrong if off.numel() > 1]
    if not wrong:
        return
    for axis in range(-min(off.ndim for off in wrong), 0):
        for place, word in ((0, "first"), (-1, "last")):
            rest = [off.movedim(axis, 0)[1:] if place == 0 else off.movedim(axis, 0)[:-1] for off in wrong]
            if all(len(part) and not part.any() for part in rest):
                yield Diagnosis(
                    f"{word} place", f"All is right but the {word} place of axis {axis} of the result."
                )
                return
    square = [off for off in wrong if off.ndim >= 2 and off.shape[-1] == off.shape[-2] > 1]
    if len(square) == len(wrong):
        for name, kept in (
            ("diagonal", lambda off: torch.diag_embed(off.diagonal(dim1=-2, dim2=-1))),
            ("above the diagonal", lambda off: off.triu(1)),
            ("below the diagonal", lambda off: off.tril(-1)),
        ):
            if all(bool((kept(off) == off).all()) for off in wrong):
                yield Diagnosis(
                    name,
                    f"All is right but what stands {'on the' if name == 'diagonal' else ''} {name}.".replace(
                        "  ", " "
                    ),
                )
                return


# ------------------------------------------------------------- the oracle with other arguments


def _argument_changed(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
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


def _axes_of_input(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """As if computed along another axis: the right result for a transposed input, transposed back."""
    for name, value in failures[0].given.items.items():
        if not isinstance(value, Tensor) or value.ndim < 2:
            continue
        for i, j in combinations(range(-value.ndim, 0), 2):
            swap = lambda x, i=i, j=j: x.transpose(i, j)  # noqa: E731
            if _fits(failures, lambda given, name=name, swap=swap: _changed(given, name, swap), swap):
                hint = f"As if the work were done along axis {i} of {called.get(name, name)}, not along {j}, or the other way round."
                yield Diagnosis("wrong axis", hint)
                return


# ------------------------------------------------------------- the answer with other arguments


def _ignored(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """The answer does not depend on an argument on which the right one does."""
    failure = failures[-1]  # in the smallest case, much does not matter
    for name, value in failure.given.items.items():
        for other in _others(value):
            given = failure.given.with_(name, other)
            right = failure.right_on(given)
            if right.error is not None or difference(failure.expected, right, NEAR, values_only=True) is None:
                continue
            mine = failure.answer_on(given)
            if mine.error is None and difference(failure.got, mine, NEAR, values_only=True) is None:
                hint = f"Your result does not depend on {called.get(name, name)}; the right one does."
                yield Diagnosis(f"ignored {name}", hint)
            break


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.25]
    if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return [value * 1.25 + 0.1 * noise * (1 + value.abs())]
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return [~value]
    return []


def _sight(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """Which places of the result depend on which places of the input, against the right answer."""
    failure = failures[0]
    if failure.given.size > 400 or not isinstance(failure.got.value, Tensor):
        return
    for name, value in failure.given.items.items():
        if not (isinstance(value, Tensor) and value.is_floating_point() and value.ndim):
            continue
        own = called.get(name, name)
        for axis in range(-value.ndim, 0):
            count = value.shape[axis]
            if not 1 < count <= 12:
                continue
            right, mine = (
                [_moved(failure, name, axis, i, of_right=which) for i in range(count)]
                for which in (True, False)
            )
            if any(m is None for m in [*right, *mine]):
                continue
            for out in range(-failure.got.value.ndim, 0):
                if failure.got.value.shape[out] != count:
                    continue
                r, m = (torch.stack([_along(x, out) for x in moved]) for moved in (right, mine))
                # r[i, j]: place j of the result depends on place i of the input
                if not r.tril(-1).any() and m.tril(-1).any() and r.triu(1).any():
                    yield Diagnosis(
                        "future",
                        f"Place t of your result (axis {out}) depends on later places of {own}: it sees the future.",
                    )
                    return
                if (
                    not (r & ~torch.eye(count, dtype=torch.bool)).any()
                    and (m & ~torch.eye(count, dtype=torch.bool)).any()
                ):
                    yield Diagnosis(
                        "mixes",
                        f"Places of {own} along axis {axis} are independent in the right answer; yours mixes them.",
                    )
                    return
                if r.triu(1).any() and not (m & ~torch.eye(count, dtype=torch.bool)).any():
                    yield Diagnosis(
                        "does not mix",
                        f"Place t of your result (axis {out}) depends on place t of {own} alone; it must depend on others, too.",
                    )
                    return
                if bool((m <= r).all()) and r.diagonal().all() and not m.diagonal().all() and m.any():
                    yield Diagnosis(
                        "not itself",
                        f"Place t of your result (axis {out}) does not depend on place t of {own} itself.",
                    )
                    return


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


def _neutral(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
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


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _is_part(short: tuple[int, ...], long: tuple[int, ...]) -> bool:
    """Whether ``short`` is ``long`` with some axes left out."""
    rest = iter(long)
    return all(n in rest for n in short)
