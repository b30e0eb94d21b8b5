"""What the exercises on convolution ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.conv._chapter import exercises as exercises
from course_lib.exercises.layers.conv import arithmetic as arithmetic
from course_lib.exercises.layers.conv import mechanisms as mechanisms

check, solution = exercises.check, exercises.solution
