"""Answers that learners write to the exercises of a chapter, each with what must be said about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Corpus:
    """Right and wrong answers by the name of their exercise.

    Args:
        chapter: ``part/chapter``.
    """

    chapter: str
    right_answers: list[tuple[str, Callable]] = field(default_factory=list)
    wrong_answers: list[tuple[str, Callable, tuple[str, ...]]] = field(default_factory=list)

    def right(self, exercise: str) -> Callable[[Any], Any]:
        """An answer that must pass."""

        def keep(answer: Any) -> Any:
            self.right_answers.append((exercise, answer))
            return answer

        return keep

    def wrong(self, exercise: str, *diagnoses: str) -> Callable[[Any], Any]:
        """An answer that must fail, with one of these among its diagnoses: the name of a mistake or of a
        probe, or the kind of the finding where that says it all ("shape", "exception", ...)."""

        def keep(answer: Any) -> Any:
            self.wrong_answers.append((exercise, answer, diagnoses))
            return answer

        return keep
