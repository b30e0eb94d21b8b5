"""Run all tests, and some of the executed notebooks a second time: every printed number must come out again.

One run of pytest on all cores; arguments are passed on, so that ``python tools/run_tests.py -k norm`` works.
The notebooks go round once a week, those that changed come always (``tools/turns.py``). Cells tagged
``volatile`` are run, but their output is not compared.
"""

import os
import subprocess
import sys
from pathlib import Path

from deps import notebooks
from kernel_env import kernel_environment
from turns import changed_files, due, remember_pass, touches

SANITIZE = "tools/nbval_sanitize.cfg"
CELL_TIMEOUT = 600  # seconds
DAYS = 7  # after which every notebook has been run a second time


def second_runs(root: Path) -> list[str]:
    """The notebooks whose turn it is; exercises are left out, since without a solution they must fail."""
    executed = [str(target) for source, target in notebooks(root).items() if source.parts[0] != "exercises"]
    is_touched = touches(changed_files(root))
    return [name for name in executed if is_touched(name) or due(name, DAYS)]


def command(root: Path, arguments: list[str]) -> list[str]:
    """The call of pytest, in the order of its arguments: what changed comes first."""
    options = ["-n", os.environ.get("JOBS", str(os.cpu_count() or 2)), "--dist", "loadfile"]
    options += ["--no-loadscope-reorder"]
    executed = second_runs(root)
    if executed:  # only then is the plugin loaded, which takes seconds in every process
        options += ["-p", "nbval.plugin", "--nbval", f"--nbval-sanitize-with={SANITIZE}"]
        options += [f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    if not sys.stdout.isatty():
        options.append("--color=no")  # nbval colours its reports otherwise
    return [sys.executable, "-m", "pytest", *options, *arguments, "tests", *executed]


def main() -> int:
    # The tests block the network in their own way, and some start a server on this machine.
    environment = {"COURSE_VERIFY_SECONDS": "120", **kernel_environment(), "COURSE_ROTATES": "1"}
    failed = subprocess.run(command(Path.cwd(), sys.argv[1:]), env=environment).returncode
    if not failed and not sys.argv[1:]:
        remember_pass(Path.cwd())
    return failed


if __name__ == "__main__":
    sys.exit(main())
