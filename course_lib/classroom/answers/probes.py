"""Guesses at what is wrong with an answer that equals no listed mistake.

A guess is told only when it fits every failing case.
"""

from collections.abc import Sequence

from course_lib.classroom.answers import calls, results
from course_lib.classroom.answers.failure import Diagnosis, Failure

# The surest first: what an answer does not depend on is measured, the others fit by their numbers.
PROBES = (
    *(calls.ignored, results.result_changed, results.count, calls.argument_changed, calls.axes_of_input),
    *(results.edge, calls.sight, calls.neutral),
)


def explain(failures: Sequence[Failure], called: dict[str, str]) -> list[Diagnosis]:
    """The guesses of the first probe that has any, at most two.

    Args:
        failures: the runs whose values are wrong, the smallest first.
        called: from the names of the right answer's arguments to those of the learner's.
    """
    for probe in PROBES:
        found = {diagnosis.name: diagnosis for diagnosis in probe(failures, called)}
        if found:
            return list(found.values())[:2]
    return []
