"""What the exercises on attention ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.attention._chapter import exercises as exercises
from course_lib.exercises.layers.attention import dot_product as dot_product
from course_lib.exercises.layers.attention import beyond as beyond

check, solution = exercises.check, exercises.solution
