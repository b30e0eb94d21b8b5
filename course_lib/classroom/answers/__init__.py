"""Answers to exercises: what differs from the right one, and which usual mistake would explain it.

>>> import torch
>>> toy = Exercises("layers/toy")
>>> @toy.add(cases=[case("two numbers", torch.tensor([1.0, 3.0]))])
... def my_mean(x):
...     return x.mean()
>>> @my_mean.mistake("A mean divides by how many numbers there are.")
... def summed(x):
...     return x.sum()
>>> toy.judge(lambda values: values.sum(), "my_mean").diagnoses
(Diagnosis(name='summed', hint='A mean divides by how many numbers there are.'),)
"""

from course_lib.classroom.answers.exercise import Exercise as Exercise
from course_lib.classroom.answers.exercise import Verdict as Verdict
from course_lib.classroom.answers.exercises import ExerciseError as ExerciseError
from course_lib.classroom.answers.exercises import Exercises as Exercises
from course_lib.classroom.answers.failure import Diagnosis as Diagnosis
from course_lib.classroom.answers.inputs import awkward_tensors as awkward_tensors
from course_lib.classroom.answers.inputs import normal as normal
from course_lib.classroom.answers.outcomes import case as case
from course_lib.classroom.answers.rules import at_most_calls as at_most_calls
from course_lib.classroom.answers.rules import no_tensor_above as no_tensor_above
from course_lib.classroom.answers.rules import without as without
