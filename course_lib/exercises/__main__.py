"""``python -m course_lib.exercises [chapters]``: which checks you have passed, chapter by chapter."""

import argparse
import sys
from collections.abc import Sequence

from course_lib.classroom import progress


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; the exit status is 2 for an unknown chapter."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.exercises", description="Which checks you have passed, chapter by chapter."
    )
    parser.add_argument("names", nargs="*", help="a part or a chapter (layers/norm); all if none")
    try:
        print(progress.table(parser.parse_args(arguments).names))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
