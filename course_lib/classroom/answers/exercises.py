"""The exercises of a chapter, and the check that learners call."""

import difflib
import importlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from course_lib.classroom import progress
from course_lib.classroom.answers.exercise import Cases, Exercise, Verdict
from course_lib.classroom.answers.outcomes import Tolerance
from course_lib.classroom.answers.rules import Rule
from course_lib.classroom.answers.trial import Build


class ExerciseError(AssertionError):
    """The learner's answer is not right yet; a notebook shows the message alone, without a traceback.

    Args:
        verdict: what was found.
        message: it, and what else the learner is to read.
    """

    def __init__(self, verdict: Verdict, message: str):
        super().__init__(message)
        self.verdict = verdict

    def _render_traceback_(self) -> list[str]:
        return str(self).splitlines()


class Exercises:
    """All exercises of a chapter: ``check``, ``solution`` and ``passed`` are what learners use.

    Args:
        chapter: ``part/chapter``.
    """

    def __init__(self, chapter: str):
        self.chapter = chapter
        self.exercises: dict[str, Exercise] = {}
        self.passed: set[str] = set()
        self._tries: Counter[str] = Counter()

    def add(
        self,
        *,
        cases: Cases,
        hints: Sequence[str] = (),
        rules: Sequence[Rule] = (),
        build: Build = None,
        run: Callable | None = None,
        see: Callable | None = None,
        rtol: float = 1e-6,
        atol: float = 1e-9,
    ) -> Callable[[Callable], Exercise]:
        """Make an exercise of its right answer, under the name that learners write.

        Compared in float64: type, shape and values of everything returned, the gradient of every float
        input and parameter, whether an input was modified in place, and the buffers of a module. Both sides
        draw the same random numbers. A module is compared in training and in evaluation mode, with the
        parameters of the right one, slightly perturbed.

        Args:
            cases: the inputs, one for each clause of the statement, each made by :func:`case`: a list, or a
                function that returns or yields them.
            hints: shown one after the other when further tries fail; the last one nearly tells.
            rules: what values cannot show (:func:`without`, :func:`at_most_calls`, :func:`no_tensor_above`).
            build: for classes, the arguments of the constructor: a tuple or a dict.
            run: ``run(answer, *arguments)`` calls the answer, where that is more than ``answer(*arguments)``.
            see: ``see(result)`` is what is compared, where several results are right.
            rtol: largest permitted difference relative to the expected number, for each number.
            atol: largest permitted absolute difference.
        """

        def make(oracle: Callable) -> Exercise:
            options = {"build": build, "run": run, "see": see, "tolerance": Tolerance(rtol, atol)}
            return self._make(oracle, cases, tuple(hints), tuple(rules), options)

        return make

    def accept(self, *, cases: Cases = ((),), hints: Sequence[str] = ()) -> Callable[[Callable], Exercise]:
        """Make an exercise that has many right answers (a counter-example, a prediction) of its judge.

        The judge is called with what the learner's function returned and with the arguments; it returns what
        is wrong with it, in words, or an empty text.

        Args:
            cases: the arguments; by default there are none.
            hints: as in :meth:`add`.
        """
        return lambda judge: self._make(judge, cases, tuple(hints), (), {"accepts": True})

    def _make(
        self,
        oracle: Callable,
        cases: Cases,
        hints: tuple[str, ...],
        rules: tuple[Rule, ...],
        options: Mapping,
    ) -> Exercise:
        name = oracle.__name__
        if name in self.exercises:
            raise ValueError(f"{self.chapter} has two exercises of the name {name}")
        self.exercises[name] = Exercise(name, oracle, cases, hints, rules, **options)
        return self.exercises[name]

    def __getitem__(self, name: str) -> Exercise:
        """An exercise by the name of its function.

        Raises:
            ValueError: naming those that there are.
        """
        if name not in self.exercises:
            near = difflib.get_close_matches(name, self.exercises, 1, 0.5)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.exercises)}"
            raise ValueError(f"{self.chapter} has no exercise {name!r}: {meant}")
        return self.exercises[name]

    def judge(self, answer: Any, name: str | None = None) -> Verdict:
        """What is to be said about an answer; nothing is printed, raised or kept."""
        return self[name or getattr(answer, "__name__", "")].judge(answer)

    def check(self, answer: Any, name: str | None = None) -> None:
        """Compare an answer with the right one; print one line, or say what differs.

        Args:
            answer: the function or class that you wrote.
            name: of the exercise, if your function is called otherwise.

        Raises:
            ExerciseError: if the answer is not right; says what differs, in the smallest case that shows it,
                and what usual mistake would explain it. Each further try adds a hint while there are any.
            ValueError: if there is no such exercise.
        """
        if isinstance(answer, str):
            raise ValueError(f"check takes the function itself, without quotes: check({answer})")
        if name is None and not hasattr(answer, "__name__"):
            raise ValueError(f"check takes the function itself, got {type(answer).__name__}: {answer!r}")
        exercise = self[name or answer.__name__]
        verdict = exercise.judge(answer)
        if verdict.right:
            self.passed.add(exercise.name)
            progress.note(self.chapter, exercise.name)
            print(f"✓ {exercise.name}: {verdict.text}")
            return
        sign = "" if verdict.text.startswith(("is ", "returned None:", "has ", "could ")) else ":"
        lines = [f"✗ {exercise.name}{sign} {verdict.text}"]
        if verdict.kind != "rule":  # there, the finding says it all
            lines += [f"  Hint: {diagnosis.hint}" for diagnosis in verdict.diagnoses]
        if verdict.kind != "unwritten":
            self._tries[exercise.name] += 1
            further = self._tries[exercise.name] - 1
            lines += [f"  Hint {i + 1}: {hint}" for i, hint in enumerate(exercise.hints[:further])]
            if further > len(exercise.hints):
                lines += [f'  solution("{exercise.name}") shows an answer.']
        raise ExerciseError(verdict, "\n".join(lines)) from verdict.cause

    def solution(self, name: Any) -> None:
        """Print an answer to an exercise.

        Args:
            name: of the exercise, or your own function.

        Raises:
            ValueError: if there is no such exercise.
        """
        exercise = self[name if isinstance(name, str) else getattr(name, "__name__", "")]
        print(self.answers()[exercise.name])

    def answers(self) -> dict[str, str]:
        """The source of an answer to each exercise, as the solutions of the course give it."""
        part, _, chapter = self.chapter.rpartition("/")
        folder = resources.files("course_lib.exercises") / part
        return json.loads((folder / f"{chapter}.json").read_text("utf-8"))

    def verify(self) -> None:
        """Verify every exercise; see :meth:`Exercise.verify`."""
        for exercise in self.exercises.values():
            exercise.verify()


def of_chapter(chapter: str) -> Exercises:
    """The exercises of ``part/chapter``.

    Raises:
        ModuleNotFoundError: if it has none.
    """
    return importlib.import_module(f"course_lib.exercises.{chapter.replace('/', '.')}").exercises
