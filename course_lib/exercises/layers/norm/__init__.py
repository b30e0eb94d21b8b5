"""What the exercises on normalization ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.norm._chapter import exercises as exercises
from course_lib.exercises.layers.norm import statistics as statistics
from course_lib.exercises.layers.norm import backwards as backwards
from course_lib.exercises.layers.norm import in_depth as in_depth

check, solution = exercises.check, exercises.solution
