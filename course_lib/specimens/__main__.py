"""The specimens on the command line: ``python -m course_lib.specimens status | build``."""

import argparse
import sys
from collections.abc import Sequence

from course_lib.specimens import names
from course_lib.specimens._specimen import Specimen, find


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 1 where a training failed, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.specimens", description=__doc__)
    parser.add_argument("command", choices=["status", "build"], help="show, or train what is not fresh")
    parser.add_argument("names", nargs="*", help="specimens; all if none")
    parser.add_argument("--force", action="store_true", help="with build: train what is fresh, too")
    options = parser.parse_intermixed_args(arguments)
    try:
        chosen = [find(name) for name in options.names or names()]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = 0
    for each in chosen:
        try:
            if options.command == "build" and (options.force or each.facts()["state"] != "fresh"):
                print(f"{each.name}: training, into {each.train().parent}")
        except (RuntimeError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
        print(_line(each))
    return failed


def _line(each: Specimen) -> str:
    facts = each.facts()
    known = []
    if facts["state"] == "fresh":
        size = facts["file"].stat().st_size / 1000
        known = [f"{size:.0f} kB, trained in {facts['seconds']} s", *facts["checks"]]
    return f"{each.name:16} {facts['state']:8} {'; '.join(known)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
