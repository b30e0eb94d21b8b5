"""What the exercises on dense layers ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.dense._chapter import exercises as exercises
from course_lib.exercises.layers.dense import edges as edges
from course_lib.exercises.layers.dense import heads as heads

check, solution = exercises.check, exercises.solution
