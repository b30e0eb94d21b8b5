"""``python -m course_lib.experiments status | run | restamp | verify``."""

import signal
import sys

from course_lib.measure.command import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop the workers too
    sys.exit(main())
