"""Run all tests, and some of the executed notebooks a second time: every printed number must come out again.

One run of pytest on all cores; other arguments are passed on, as in ``python tools/run_tests.py -k norm``.
The notebooks go round once a week, those that changed come always (``tools/turns.py``). Cells tagged
``volatile`` are run, but their output is not compared.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from deps import notebooks
from kernel_env import kernel_environment
from turns import changed_files, due, remember_pass, touches

SANITIZE = "tools/nbval_sanitize.cfg"
CELL_TIMEOUT = 600  # seconds
DAYS = 7  # after which every notebook has been run a second time


def shards(root: Path) -> list[str]:
    """The pieces into which the tests can be cut: the ground, each part of the course, the browser."""
    chapters = (root / "course_lib/chapters.toml").read_text("utf-8")
    parts = dict.fromkeys(re.findall(r'^id = "(\w+)/', chapters, re.MULTILINE))
    return ["ground", *(part for part in parts if (root / "tests" / part).is_dir()), "browser"]


def tests_of(part: str, root: Path) -> list[str]:
    """What pytest is given for one piece; all of it for no piece."""
    if not part:
        return ["tests"]
    others = [name for name in shards(root) if name != "ground"]
    return (
        ["tests", *(f"--ignore=tests/{name}" for name in others)] if part == "ground" else [f"tests/{part}"]
    )


def second_runs(root: Path, part: str = "") -> list[str]:
    """The notebooks whose turn it is; exercises are left out, since without a solution they must fail."""
    found = {
        str(target): source for source, target in notebooks(root).items() if source.parts[0] != "exercises"
    }
    if part:
        pieces = {name: source.parts[1] if len(source.parts) > 2 else "" for name, source in found.items()}
        known = shards(root)
        found = {n: s for n, s in found.items() if (pieces[n] if pieces[n] in known else "ground") == part}
    is_touched = touches(changed_files(root))
    return [name for name in found if is_touched(name) or due(name, DAYS)]


def command(root: Path, part: str, arguments: list[str], *, again: bool = True) -> list[str]:
    """The call of pytest, in the order of its arguments: what changed comes first."""
    options = ["-n", os.environ.get("JOBS", str(os.cpu_count() or 2)), "--dist", "loadfile"]
    options += ["--no-loadscope-reorder"]
    executed = second_runs(root, part) if again else []
    if executed:  # only then is the plugin loaded, which takes seconds in every process
        options += ["-p", "nbval.plugin", "--nbval", f"--nbval-sanitize-with={SANITIZE}"]
        options += [f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    if not sys.stdout.isatty():
        options.append("--color=no")  # nbval colours its reports otherwise
    return [sys.executable, "-m", "pytest", *options, *arguments, *tests_of(part, root), *executed]


def main() -> int:
    root = Path.cwd()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--part", default="", choices=["", *shards(root)], help="only one piece of the tests")
    parser.add_argument("--shards", action="store_true", help="print the pieces as JSON, and run nothing")
    parser.add_argument("--no-notebooks", action="store_true", help="no second run of notebooks")
    options, arguments = parser.parse_known_args()
    if options.shards:
        print(json.dumps(shards(root)))
        return 0
    # The tests block the network in their own way, and some start a server on this machine.
    environment = {"COURSE_VERIFY_SECONDS": "120", **kernel_environment(), "COURSE_ROTATES": "1"}
    call = command(root, options.part, arguments, again=not options.no_notebooks)
    failed = subprocess.run(call, env=environment).returncode
    if not failed and not options.part and not arguments:
        remember_pass(root)
    return failed


if __name__ == "__main__":
    sys.exit(main())
