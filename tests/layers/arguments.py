"""Trials of arguments and inputs: a layer refuses what does not fit in words that help, or is right.

A chapter's tests call :func:`argument_faults` and :func:`input_faults` for each of its layers and expect
an empty list. ``python -m tests.layers.arguments`` prints how often each outcome occurs over all layers.
"""

import copy
import inspect
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from course_lib.registry import Entry, entries

BAD = (-1, 0, math.nan, "x", 1.5)


def layers(chapter: str | None = None) -> dict[str, Entry]:
    """The registered layers by name, all or those of a chapter, to parametrise a test over."""
    return {name: e for name, e in entries().items() if e.is_layer and chapter in (None, e.chapter)}


def argument_faults(entry: Entry, *, right: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """What is wrong with how a layer takes its arguments; one line a fault, best none.

    Each argument in turn gets each of ``BAD``, beside the good arguments of the example. What comes out
    must be a ``ValueError`` or ``TypeError`` that names class and argument, or a layer that works: only where
    the annotation lets the value's type in, never for NaN, for -1 as an integer only if named in ``right``.

    Args:
        entry: the layer.
        right: arguments for which -1 as an integer is right: an axis, for instance.
    """
    with as_users_call():
        return [line for outcome, line in _argument_trials(entry, right) if outcome in ("cryptic", "silent")]


def input_faults(entry: Entry, *, right: frozenset[str] | set[str] = frozenset()) -> list[str]:
    """What is wrong with how a layer takes its inputs; one line a fault, best none.

    Every floating-point input comes as float64, int64, complex64 and on "meta"; all inputs together with one
    leading axis less, and one more. What comes out must be a ``ValueError`` or ``TypeError`` that names the
    layer, or right: equal to the layer in double precision, to what it makes of floats, empty of data, and
    to the rows of the batch.

    Args:
        entry: the layer.
        right: trials that are right although they do not compare so ("float64", "missing axis", ...).
    """
    with as_users_call():
        return [line for outcome, line in _input_trials(entry, right) if outcome in ("cryptic", "silent")]


@contextmanager
def as_users_call() -> Iterator[None]:
    """Without the checks of annotations that only the tests switch on: they would refuse in its place."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


# -- Arguments -----------------------------------------------------------------------------------------


def _argument_trials(entry: Entry, right: Any = ()) -> Iterator[tuple[str, str]]:
    cls, good, inputs = _recorded(entry)
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in ("device", "dtype") or parameter.kind is parameter.VAR_KEYWORD:
            continue  # these are torch's own, and torch says what is wrong with them
        value = good.arguments.get(name, parameter.default)
        accepted = _types(parameter.annotation)
        if accepted == {bool}:
            continue  # every Python value is true or false
        inside = (
            isinstance(value, (tuple, list)) and len(value) > 0 and not isinstance(value[0], (tuple, list))
        )
        for bad in BAD:
            below = type(bad) is int and bad < 0 and float not in accepted and name not in right
            fits = _fits(bad, accepted) and not below
            if parameter.kind is not parameter.VAR_POSITIONAL:
                yield _built(cls, good, inputs, name, bad, fits)
            if inside:
                yield _built(cls, good, inputs, name, type(value)((bad, *value[1:])), False)


def _built(
    cls: type[nn.Module],
    good: inspect.BoundArguments,
    inputs: tuple,
    name: str,
    bad: Any,
    fits: bool,
) -> tuple[str, str]:
    arguments = copy.copy(good)
    arguments.arguments = {**good.arguments, name: bad}
    trial = f"{cls.__name__}({name}={bad!r})"
    try:
        layer = cls(*arguments.args, **arguments.kwargs)
    except Exception as error:
        return _judged(error, trial, cls.__name__, name)
    if not fits and not _fits_inside(bad):
        return "silent", f"{trial} is accepted"
    try:
        with torch.no_grad():
            out = layer.eval()(*inputs)
    except Exception as error:  # a value that is right for other inputs
        return _judged(error, f"{trial}.forward", cls.__name__)
    finite = all(leaf.isfinite().all() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
    return ("right", trial) if finite else ("silent", f"{trial} gives values that are not finite")


def _judged(error: Exception, trial: str, *words: str) -> tuple[str, str]:
    """Clear: of the two right types, and each of the words stands in the message."""
    clear = isinstance(error, (ValueError, TypeError)) and all(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", str(error)) for word in words
    )
    said = str(error).splitlines() or [""]
    return ("clear", trial) if clear else ("cryptic", f"{trial}: {type(error).__name__}: {said[0][:160]}")


def _types(annotation: Any) -> set[Any]:
    """The types that an annotation lets in, one level deep."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return {t for part in typing.get_args(annotation) for t in _types(part)}
    return {typing.get_origin(annotation) or annotation}


def _fits(bad: Any, accepted: set[Any]) -> bool:
    if accepted & {Any, inspect.Parameter.empty}:
        return True
    if isinstance(bad, float) and math.isnan(bad):
        return False
    return type(bad) in accepted or (type(bad) is int and float in accepted)


def _fits_inside(bad: Any) -> bool:
    """A list of numbers may hold 0, 1.5 or -1 and be right: then the layer has to work."""
    return isinstance(bad, (tuple, list)) and not isinstance(bad[0], str) and not math.isnan(bad[0])


def _recorded(entry: Entry) -> tuple[type[nn.Module], inspect.BoundArguments, tuple]:
    """The class of the example's module, the arguments it was built with, and the inputs."""
    calls: list[tuple[nn.Module, tuple, dict]] = []
    with _watched(entry.obj, calls):
        torch.manual_seed(0)
        layer, *inputs = entry.example()
    cls = type(layer)
    args, kwargs = next((a, k) for module, a, k in calls if module is layer)
    return cls, inspect.signature(cls).bind(*args, **kwargs), tuple(inputs)


@contextmanager
def _watched(cls: Any, calls: list) -> Iterator[None]:
    """While this lasts, ``cls`` notes each of its new objects with the arguments."""
    init = cls.__init__
    own = "__init__" in vars(cls)

    def noted(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        calls.append((self, args, kwargs))
        init(self, *args, **kwargs)

    cls.__init__ = noted
    try:
        yield
    finally:
        if own:
            cls.__init__ = init
        else:
            del cls.__init__


# -- Inputs --------------------------------------------------------------------------------------------


def _input_trials(entry: Entry, right: Any = ()) -> Iterator[tuple[str, str]]:
    torch.manual_seed(0)
    layer, *inputs = entry.example()
    layer = layer.eval()
    rows = max((x.shape[0] for x in inputs if isinstance(x, Tensor) and x.ndim), default=0)

    def every(change: Callable[[Tensor], Tensor], only: int | None = None) -> list:
        return [
            change(x) if isinstance(x, Tensor) and (only is None or i == only) else x
            for i, x in enumerate(inputs)
        ]

    def batched(change: Callable[[Tensor], Tensor]) -> list:
        return every(lambda x: change(x) if x.ndim and x.shape[0] == rows else x)

    for i, x in enumerate(inputs):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            continue
        whole = every(lambda x: (3 * x).round(), i)
        double = [x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
        trials = {
            "float64": (
                every(Tensor.double, i),
                lambda double=double: copy.deepcopy(layer).double()(*double),
            ),
            "int64": (
                every(lambda x: (3 * x).round().long(), i),
                lambda whole=whole: layer(*whole),
            ),
            "complex64": (every(lambda x: x.to(torch.complex64), i), None),
            "meta": (every(lambda x: x.to("meta"), i), lambda: layer(*inputs)),
        }
        for trial, (given, expected) in trials.items():
            if trial not in right:
                yield _ran(layer, given, expected, f"{trial} input {i}")
    if rows and "missing axis" not in right:
        yield _ran(layer, batched(lambda x: x[0]), lambda: _first(layer(*inputs))[0], "missing axis")
    if rows and "extra axis" not in right:
        yield _ran(layer, batched(lambda x: x[None]), lambda: _first(layer(*inputs))[None], "extra axis")


def _ran(layer: nn.Module, given: list, expected: Callable[[], Any] | None, trial: str) -> tuple[str, str]:
    name = type(layer).__name__
    trial = f"{name}, {trial}"
    with torch.no_grad():
        try:
            out = _first(layer(*given))
        except Exception as error:
            return _judged(error, trial, name)
        if expected is None:
            return "silent", f"{trial} is accepted"
        value = _first(expected())
    if out.is_meta:
        same = "meta" in trial and out.shape == value.shape
    else:
        same = (
            "meta" not in trial
            and out.shape == value.shape
            and out.is_floating_point() == (value.is_floating_point())
            and torch.allclose(out.double(), value.double(), rtol=1e-3, atol=1e-4, equal_nan=True)
        )
    return ("right", trial) if same else ("silent", f"{trial}: another result than it should be")


def _first(out: Any) -> Tensor:
    """The first tensor of whatever a layer returns."""
    return next(leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor))


if __name__ == "__main__":
    for title, trials in (("arguments", _argument_trials), ("inputs", _input_trials)):
        by_chapter: dict[str, Counter] = {}
        for entry in entries().values():
            if entry.is_layer:
                by_chapter.setdefault(entry.chapter, Counter()).update(
                    outcome for outcome, _ in trials(entry)
                )
        print(f"\n{title:28}" + "".join(f"{o:>9}" for o in ("clear", "right", "cryptic", "silent")))
        for chapter, counts in sorted(by_chapter.items()):
            print(
                f"{chapter:28}" + "".join(f"{counts[o]:9}" for o in ("clear", "right", "cryptic", "silent"))
            )
        total = sum(by_chapter.values(), Counter())
        print(f"{'all':28}" + "".join(f"{total[o]:9}" for o in ("clear", "right", "cryptic", "silent")))
