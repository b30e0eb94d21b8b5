"""Where the files of this chapter put their exercises."""

from course_lib.classroom.answers import Exercises

exercises = Exercises("layers/norm")
