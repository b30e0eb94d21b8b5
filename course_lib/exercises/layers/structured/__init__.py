"""What the exercises on structured maps ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.structured._chapter import exercises as exercises
from course_lib.exercises.layers.structured import factors as factors
from course_lib.exercises.layers.structured import tables_and_light as tables_and_light

check, solution = exercises.check, exercises.solution
