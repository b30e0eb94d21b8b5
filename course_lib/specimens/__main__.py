"""The specimens on the command line: ``python -m course_lib.specimens status | build``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from course_lib.specimens import AcceptanceError, Specimen, find, names
from course_lib.specimens._record import read

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 1 where something failed or is not fresh, 2 for an unknown name."""
    options = _parser().parse_args(arguments)
    try:
        chosen = [find(name) for name in options.names or names()]
        return options.command(chosen, options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m course_lib.specimens", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="status | build")
    status = commands.add_parser(
        "status", help="which weights are fresh, stale, untested, damaged or missing"
    )
    status.set_defaults(command=_status)
    status.add_argument("--check", action="store_true", help="exit with 1 unless all are fresh")
    build = commands.add_parser("build", help="train what is not fresh and store it in the package")
    build.set_defaults(command=_build)
    build.add_argument("--force", action="store_true", help="train anew even what is fresh")
    for command in (status, build):
        command.add_argument("names", nargs="*", help="specimens; all if none")
    return parser


def _status(chosen: list[Specimen], options: argparse.Namespace) -> int:
    states = {each.name: each.state() for each in chosen}
    for each in chosen:
        print(f"{each.name:16} {states[each.name]:8} {_details(each, states[each.name])}")
    gone = [] if options.names else _orphans(chosen)
    for file in gone:
        print(f"{file.stem:16} orphan   {file} belongs to no recipe")
    return int(options.check and (bool(gone) or set(states.values()) != {"fresh"}))


def _build(chosen: list[Specimen], options: argparse.Namespace) -> int:
    failed = 0
    for each in chosen:
        try:
            done = each.ship(anew=options.force)
        except (AcceptanceError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{each.name:16} {'built' if done else 'fresh':8} {_details(each, 'fresh')}")
    return failed


def _details(each: Specimen, state: str) -> str:
    """Size, precision, time and checks of what is shipped."""
    if state in ("missing", "damaged"):
        return str(each.shipped)
    weights = read(each.shipped)
    kilobytes = each.shipped.stat().st_size / 1000
    kinds = "/".join(sorted({str(t.dtype).removeprefix("torch.") for t in weights.tensors.values()}))
    made = f"{kilobytes:.0f} kB {kinds}, {weights.record.seconds:.0f} s, Python {weights.record.python}"
    return "; ".join([made, *map(str, weights.record.checks)])


def _orphans(chosen: list[Specimen]) -> list[Path]:
    """Weights without a recipe."""
    files = {each.shipped for each in chosen}
    return sorted(
        f for folder in {f.parent for f in files} for f in folder.glob("*.safetensors") if f not in files
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
