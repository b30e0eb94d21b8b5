"""What the exercises on pooling ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.pool._chapter import exercises as exercises
from course_lib.exercises.layers.pool import windows as windows
from course_lib.exercises.layers.pool import sequences as sequences

check, solution = exercises.check, exercises.solution
