"""Guesses from what the answer gave: the right result, changed in one usual way."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import torch
from torch import Tensor

from course_lib.classroom.answers.failure import Diagnosis, Failure, near
from course_lib.classroom.answers.outcomes import numbers, wide


def explain_gradient(failures: Sequence[Failure], name: str, called: str) -> list[Diagnosis]:
    """What is wrong with the gradient of one argument whose values are right."""
    if any(f.got.overwritten for f in failures):
        hint = (
            "The backward pass needs numbers that you overwrite (x[...] = ..., +=): read from the original, "
            "write to a copy, or join new tensors (cat, stack, where)."
        )
        return [Diagnosis("overwritten", hint)]
    pairs = [(f.expected.gradients[name], f.got.gradients.get(name)) for f in failures]
    if all(g is None or not g.any() for _, g in pairs):
        hint = (
            f"No gradient reaches {called}: is it detached, or does the way leave torch (item, numpy, data)?"
        )
        return [Diagnosis("no gradient", hint)]
    if all(near(-e, g) for e, g in pairs):
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
    if all(_largest(f) > 80 for f in failures):
        hint = (
            "Large numbers overflow on the way (exp): subtract the largest one first, or choose with where."
        )
        return [Diagnosis("overflow", hint)]
    got = [g for f in failures for _, g in f.pairs if not g.is_complex()]
    if got and not any(g.isnan().any() for g in got):
        hint = (
            "An infinite number is left in your result: a mask of infinity on which nothing acts, "
            "a division by zero, or the logarithm of zero."
        )
        return [Diagnosis("infinite", hint)]
    if any(_lost_row(g) for g in got):
        hint = (
            "Whole rows are nan: the softmax or mean of a row in which everything is hidden, "
            "or infinity times zero (a mask that is multiplied)."
        )
        return [Diagnosis("empty row", hint)]
    hint = (
        "nan comes from 0 / 0, from infinity times zero, from infinity less infinity, or from the "
        "logarithm, root or power of a negative number: at which inputs?"
    )
    return [Diagnosis("division by zero", hint)]


def _largest(failure: Failure) -> float:
    values = [x.abs().max() for x in numbers(list(failure.given.items.values())) if x.numel()]
    return max((x.item() for x in values if x.is_floating_point()), default=0.0)


def _lost_row(got: Tensor) -> bool:
    return got.ndim > 1 and got.shape[-1] > 1 and bool(got.isnan().all(-1).any())


# ----------------------------------------------------------------------- what came, against what should


def _everywhere(failures: Sequence[Failure], change: Callable[[Tensor], Tensor | None]) -> bool:
    """Whether what came equals the right result, changed so, in every failing run (and the change shows)."""
    shows = 0
    for failure in failures:
        for e, g in failure.pairs:
            try:
                changed = change(e)
            except (RuntimeError, IndexError, ValueError):
                return False
            if changed is None or not near(wide(changed), g):
                return False
            shows += not near(e, g)
    return shows > 0


def result_changed(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
    """What came is the right result, changed: negated, squared, transposed, reversed, a constant factor..."""
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
        if near(factor * e, g) and factor != 0:
            yield Diagnosis("factor", f"Your result is {_fraction(factor.item())} times the right one.")
            return
    offset = (g - e).median()
    if near(e + offset, g) and e.unique().numel() > 1:
        sign = "plus" if offset > 0 else "minus"
        yield Diagnosis("offset", f"Your result is the right one {sign} {offset.abs().item():.4g}.")


def _fraction(x: float) -> str:
    for n in range(1, 13):
        if abs(x * n - round(x * n)) < 1e-6 * n and round(x * n):
            return f"{round(x * n)}/{n}" if n > 1 else f"{round(x * n)}"
    return f"{x:.5g}"


def count(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
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
        if not near(factor * e, g):
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
    # Any wrong number is the right one times some factor: only of several numbers does that say something.
    if all(sum(e.numel() for e, _ in failure.pairs) < 2 for failure, _ in factors):
        return
    values = [f for _, f in factors]
    if len(values) > 1 and max(values) - min(values) > 1e-6:
        shown = ", ".join(list(dict.fromkeys(map(_fraction, values)))[:3])
        hint = (
            f"In each case another factor ({shown}): what depends on the input and scales all of the result?"
        )
        yield Diagnosis("factor of the input", hint)


def _same_numbers(e: Tensor, g: Tensor) -> bool:
    if e.shape != g.shape or e.is_complex() or e.numel() < 3:
        return False
    return near(e.flatten().sort().values, g.flatten().sort().values) and not near(e, g)


def edge(failures: Sequence[Failure], called: dict[str, str]) -> Iterator[Diagnosis]:
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
        for name, where, kept in (
            ("diagonal", "on the diagonal", lambda off: torch.diag_embed(off.diagonal(dim1=-2, dim2=-1))),
            ("above the diagonal", "above the diagonal", lambda off: off.triu(1)),
            ("below the diagonal", "below the diagonal", lambda off: off.tril(-1)),
        ):
            if all(bool((kept(off) == off).all()) for off in wrong):
                yield Diagnosis(name, f"All is right but what stands {where}.")
                return


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _is_part(short: tuple[int, ...], long: tuple[int, ...]) -> bool:
    """Whether ``short`` is ``long`` with some axes left out."""
    rest = iter(long)
    return all(n in rest for n in short)
