"""``python -m course_lib.exercises``: which checks you have passed, chapter by chapter."""

from course_lib.classroom.answers import progress

if __name__ == "__main__":
    print(progress.table())
