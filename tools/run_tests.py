"""Run all tests, and all executed notebooks a second time: every printed number must come out again.

One run of pytest on all cores; arguments are passed on, so that ``python tools/run_tests.py -k norm`` works.
Cells tagged ``volatile`` are run, but their output is not compared.
"""

import os
import subprocess
import sys
from pathlib import Path

from deps import notebooks
from kernel_env import kernel_environment

SANITIZE = "tools/nbval_sanitize.cfg"
CELL_TIMEOUT = 600  # seconds


def command(root: Path, arguments: list[str]) -> list[str]:
    """The call of pytest; exercises are left out, since without a solution they must fail."""
    executed = [target for source, target in notebooks(root).items() if source.parts[0] != "exercises"]
    options = ["-n", os.environ.get("JOBS", str(os.cpu_count() or 2)), "--dist", "loadfile"]
    nbval = ["--nbval", f"--nbval-sanitize-with={SANITIZE}", f"--nbval-cell-timeout={CELL_TIMEOUT}"]
    if not sys.stdout.isatty():
        options.append("--color=no")  # nbval colours its reports otherwise
    return [sys.executable, "-m", "pytest", *options, *nbval, *arguments, "tests", *map(str, executed)]


def main() -> int:
    environment = kernel_environment()
    # The tests block the network in their own way, and some start a server on this machine.
    return subprocess.run(command(Path.cwd(), sys.argv[1:]), env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
