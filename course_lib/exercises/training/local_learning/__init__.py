"""What the exercises on learning without a global backward pass ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.training.local_learning._chapter import exercises as exercises
from course_lib.exercises.training.local_learning import maps as maps
from course_lib.exercises.training.local_learning import energies as energies
from course_lib.exercises.training.local_learning import steps as steps

check, solution = exercises.check, exercises.solution
