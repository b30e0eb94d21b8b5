"""What a probe looks at, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from course_lib.classroom.answers.outcomes import Case, Outcome, Tolerance, call, compare, numbers, wide

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


def near(e: Tensor, g: Tensor | None, tolerance: Tolerance = NEAR) -> bool:
    """Whether two tensors agree, in shape and in number."""
    return g is not None and e.shape == g.shape and compare(e, g, "", tolerance) is None
