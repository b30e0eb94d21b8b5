"""What the exercises on token mixers ask, and the mistakes that learners make."""

# In the order in which learners meet them.
# isort: off
from course_lib.exercises.layers.mixing._chapter import exercises as exercises
from course_lib.exercises.layers.mixing import tokens as tokens
from course_lib.exercises.layers.mixing import neurons as neurons

check, solution = exercises.check, exercises.solution
