"""Resolve pyproject.toml into requirements.lock: one file for Linux and macOS and every supported Python.

Pins already in the lock are kept where they still fit; ``make lock UPGRADE=1`` takes the newest versions.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path("requirements.lock")
OLDEST_PYTHON = "3.10"
# The CPU builds carry the same version numbers, so that one pin serves every index.
PINNED = ("torch==2.13.0", "torchvision==0.28.0")
EXTRA = ("setuptools>=77",)  # builds the package itself, without a download at that moment
# What PyPI's torch asks for on Linux and its CPU build does not need.
CUDA = re.compile(r"^(nvidia|cuda|triton)[-=\w]*")
HEADER = """\
# Written by `make lock` from pyproject.toml. Installed with --no-deps, so that this list is all there is.
# torch and torchvision are the CPU builds: on Linux from https://download.pytorch.org/whl/cpu.
"""


def resolve() -> str:
    """The pins of all extras, with markers where a system or a Python needs another version."""
    with tempfile.TemporaryDirectory() as folder:
        extra, constraints, output = (Path(folder) / name for name in ("extra.in", "pinned.txt", "out.txt"))
        extra.write_text("\n".join(EXTRA))
        constraints.write_text("\n".join(PINNED))
        if LOCK.exists() and not os.environ.get("UPGRADE"):
            output.write_text(LOCK.read_text("utf-8"))  # uv prefers the versions that it finds there
        command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", str(extra), "--all-extras"]
        command += ["--universal", "--python-version", OLDEST_PYTHON, "--constraints", str(constraints)]
        command += ["--no-header", "--no-annotate", "--quiet", "--output-file", str(output)]
        subprocess.run(command, check=True)
        return output.read_text("utf-8")


def main() -> int:
    pins = [line for line in resolve().splitlines() if line.strip() and not CUDA.match(line)]
    LOCK.write_text(HEADER + "\n".join(pins) + "\n", "utf-8")
    print(f"{LOCK}: {len(pins)} pins")
    return 0


if __name__ == "__main__":
    sys.exit(main())
