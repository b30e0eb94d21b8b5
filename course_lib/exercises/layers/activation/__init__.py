"""What the exercises on activation functions ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.activation._chapter import exercises as exercises
from course_lib.exercises.layers.activation import functions as functions
from course_lib.exercises.layers.activation import layers as layers

check, solution = exercises.check, exercises.solution
