"""``python -m course_lib.bench status | run [names]``."""

import sys

from course_lib.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
