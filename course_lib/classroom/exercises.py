"""Feedback on exercises: what differs from the right answer, and which usual mistake would explain it."""

import inspect
import linecache
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib.classroom._outcomes import KINDS, Difference, Outcome, Tolerance
from course_lib.classroom._trial import Build, Trial, UnfitError

Inputs = Callable[..., Sequence[Any]] | Sequence[Any] | None


class ExerciseError(AssertionError):
    """The learner's answer is not right yet; a notebook shows the message alone, without a traceback.

    Args:
        message: what differs, for the learner.
        kind: the first word of the finding, for instance ``"unwritten"``, ``"shape"`` or ``"gradient"``.
        hints: the hints of the mistakes that explain the answer.
    """

    def __init__(self, message: str, *, kind: str = "value", hints: Sequence[str] = ()):
        super().__init__(message)
        self.kind, self.hints = kind, tuple(hints)

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


@dataclass(frozen=True)
class CheckCall:
    """One call of :func:`check`, as :func:`recorded_checks` keeps it."""

    name: str
    against: Any
    mistakes: tuple
    options: dict[str, Any]
    error: ExerciseError | None


_records: list[CheckCall] | None = None


def mistake(hint: str) -> Callable[[Any], Any]:
    """Mark a small wrong implementation; whoever makes the same mistake is shown the hint.

    Args:
        hint: one or two sentences that lead to the fault without giving the answer.

    Raises:
        ValueError: for an empty hint.

    >>> @mistake("Which variance does torch.var compute?")
    ... def unbiased(x):
    ...     return x.var(-1)
    >>> unbiased.hint
    'Which variance does torch.var compute?'
    """
    if not isinstance(hint, str) or not hint.strip():
        raise ValueError("a mistake needs a hint: @mistake('Which variance does torch.var compute?')")

    def mark(wrong: Any) -> Any:
        wrong.hint = hint
        return wrong

    return mark


def awkward_tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Float64 tensors that find faults: of each shape one normal, one far from zero, one tiny, one constant.

    Args:
        shapes: one or more shapes; sizes of 1 and primes are a good choice.
        seed: of the random numbers.

    >>> [round(x.mean().item()) for x in awkward_tensors((200, 3))]
    [0, 1000, 0, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for shape in shapes:
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        tensors += [normal, 1000 + normal.flip(-1), 1e-4 * normal.roll(1, -1), torch.full_like(normal, 2.0)]
    return tensors


def check(
    learner: Any,
    *,
    against: Any,
    mistakes: Sequence[Any] = (),
    inputs: Inputs = None,
    name: str | None = None,
    build: Build = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> None:
    """Compare the learner's answer with the right one on many inputs; print one line, or say what differs.

    Compared in float64: type, shape, dtype and values of everything returned, the gradient of every float
    input and parameter, whether an input was modified in place, and the buffers of a module. Both sides draw
    the same random numbers. Modules are compared in training and in evaluation mode and with the same
    parameters: those of ``against``, slightly perturbed, are loaded into the learner's, so names and shapes
    must agree.

    Args:
        learner: the learner's function, ``nn.Module`` class or module.
        against: the right one, of the same sort. Where it raises a ``ValueError``, so must the learner's.
        mistakes: wrong versions, each marked by :func:`mistake`; where the answer equals one of them on every
            input on which that differs from the right one, its hint is shown.
        inputs: the cases: a list, or a function of a seed that returns one. A case is a tuple of arguments, a
            dict of keyword arguments or a single argument. Default, for functions of one tensor:
            ``awkward_tensors((1, 7), (5, 3), (2, 3, 5))``.
        name: what to call the answer in messages.
        build: for classes, the arguments of the constructor: a tuple or a dict.
        rtol: largest permitted difference, relative to the largest expected number of a tensor.
        atol: largest permitted absolute difference.

    Raises:
        ExerciseError: if the answer is not right; says what differs, where, and a hint if there is one.
        ValueError: if the exercise itself is wrong, for instance a mistake without hint.

    >>> def my_softmax(x):
    ...     return x.exp() / x.exp().sum(-1, keepdim=True)
    >>> check(my_softmax, against=lambda x: x.softmax(-1), inputs=[torch.randn(2, 3), torch.randn(5, 1)])
    ✓ my_softmax: 2 cases, values and gradients agree
    """
    options = {"inputs": inputs, "build": build, "rtol": rtol, "atol": atol}
    name = name or getattr(learner, "__name__", type(learner).__name__)
    hints = [_hint_of(wrong) for wrong in mistakes]
    error = None
    try:
        trial = _trial(against, inputs, build, rtol, atol)
        answer = _answer(trial, learner, name)
        found = trial.differences(answer)
        if any(found):
            raise _error(name, found, trial, [hints[i] for i in trial.matching(answer, mistakes)], answer)
        what = "values and gradients agree" if trial.has_gradients else "values agree"
        print(f"✓ {name}: {trial.count} cases, {what}")
    except ExerciseError as wrong:
        error = wrong
        raise
    finally:
        if _records is not None:
            _records.append(CheckCall(name, against, tuple(mistakes), options, error))


def check_mistakes(
    against: Any,
    mistakes: Sequence[Any],
    *,
    inputs: Inputs = None,
    build: Build = None,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> None:
    """Make sure that the inputs of an exercise tell its mistakes from the right answer and from each other.

    Args:
        against: the right answer.
        mistakes: wrong versions, each marked by :func:`mistake`.
        inputs: as in :func:`check`.
        build: as in :func:`check`.
        rtol: as in :func:`check`.
        atol: as in :func:`check`.

    Raises:
        ValueError: if a mistake passes as right, or gets the hint of another one.

    >>> @mistake("The largest entry must not be subtracted twice.")
    ... def no_mistake(x):
    ...     return (x - x.amax()).softmax(-1)
    >>> check_mistakes(lambda x: x.softmax(-1), [no_mistake])
    Traceback (most recent call last):
    ...
    ValueError: the mistake no_mistake passes as right on all 12 cases: add an input that shows it
    """
    trial = _trial(against, inputs, build, rtol, atol)
    for i, wrong in enumerate(mistakes):
        _hint_of(wrong)
        outcomes = trial.outcomes_of(wrong)
        if not any(trial.differences(outcomes)):
            where = f"on all {trial.count} cases: add an input that shows it"
            raise ValueError(f"the mistake {wrong.__name__} passes as right {where}")
        shown = trial.matching(outcomes, mistakes)
        if shown != [i]:
            others = ", ".join(mistakes[j].__name__ for j in shown if j != i)
            raise ValueError(
                f"the mistake {wrong.__name__} cannot be told from {others}: add an input that can"
            )


@contextmanager
def recorded_checks() -> Iterator[list[CheckCall]]:
    """Keep every call of :func:`check` inside the block in a list, passed or not.

    >>> with recorded_checks() as calls:
    ...     check(torch.tanh, against=torch.tanh, name="tanh")
    ✓ tanh: 12 cases, values and gradients agree
    >>> calls[0].name, calls[0].error
    ('tanh', None)
    """
    global _records
    previous, _records = _records, []
    try:
        yield _records
    finally:
        _records = previous


def _trial(against: Any, inputs: Inputs, build: Build, rtol: float, atol: float) -> Trial:
    if inputs is None:
        cases: Sequence[Any] = awkward_tensors((1, 7), (5, 3), (2, 3, 5))
    elif callable(inputs):
        cases = inputs(0) if inspect.signature(inputs).parameters else inputs()
    else:
        cases = inputs
    return Trial(against, cases, build, Tolerance(float(rtol), float(atol)))


def _answer(trial: Trial, learner: Any, name: str) -> list[Outcome]:
    try:
        return trial.outcomes_of(learner)
    except UnfitError as error:
        raise ExerciseError(f"✗ {name} {error}", kind=error.kind) from error.__cause__


def _hint_of(wrong: Any) -> str:
    hint = getattr(wrong, "hint", None)
    if not isinstance(hint, str):
        raise ValueError(f"{wrong!r} has no hint: mark it with @mistake('...')")
    return hint


def _error(
    name: str, found: list[Difference | None], trial: Trial, hints: list[str], answer: list[Outcome]
) -> ExerciseError:
    order = [(KINDS.index(d.kind), i) for i, d in enumerate(found) if d is not None]
    _, first = min(order)
    worst = found[first]
    kind = worst.kind
    if kind == "unwritten":
        if all(outcome.value is None for outcome in answer):
            return ExerciseError(f"✗ {name} {worst.text}: write its body first", kind=kind)
        kind = "type"  # only some of the cases end without a result
    case, training = trial.runs[first]
    mode = {None: "", True: " in training mode", False: " in evaluation mode"}[training]
    lines = [f"✗ {name}: {worst.text}"]
    if (error := answer[first].error) is not None:
        lines += _where(error)
    number = first * trial.count // len(trial.runs) + 1
    lines += [f"  in case {number} of {trial.count}{mode} ({len(order)} of {len(found)} differ), with"]
    lines += [f"    {argument}" for argument in case.describe()]
    lines += [f"  Hint: {hint}" for hint in hints]
    exercise_error = ExerciseError("\n".join(lines), kind=kind, hints=hints)
    exercise_error.__cause__ = error
    return exercise_error


def _where(error: Exception) -> list[str]:
    """The learner's line that raised: the last frame outside of this library and of installed packages."""
    foreign = ("site-packages", "course_lib")
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if not any(x in f.filename for x in foreign)
    ]
    if not frames:
        return []
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    return [f"  raised by: {line}"] if line else []
