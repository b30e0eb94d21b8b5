"""A small package of experiments in a temporary folder, which the tests change, run, stop and break."""

import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from course_lib.measure.command import main

_numbers = itertools.count()

MATHS = '''
GAIN = 2.0


def gain(x):
    """Stretches."""
    return GAIN * x
'''

TOY = '''
import os
import signal
import time
import uuid
from pathlib import Path

import torch

from course_lib.measure import experiment
from {package}.helpers import stretched

LOG = Path(__file__).parents[2] / "log"


def note(what, seed):
    """Leave a trace: the tests count them."""
    (LOG / f"{what}-{seed}-{uuid.uuid4().hex}").touch()


def wait_or_die(seed):
    """What befalls a process, as the tests wish: seed 2 hangs, or takes its worker with it."""
    while seed == 2 and (LOG / "hold").exists():
        time.sleep(0.02)
    if seed == 1 and (LOG / "kill").exists():
        (LOG / "kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)


@experiment(paper="peri-ln", seeds=4)
def noisy(seed):
    """Noise of the global generator, stretched."""
    note("begun", seed)
    wait_or_die(seed)
    value = stretched(torch.randn(3).sum().item())
    note("noisy", seed)
    return {"value": value, "even": seed % 2 == 0, "missing": float("nan")}


@experiment(paper=("peri-ln", "evonorm"), seeds=1)
def constant(seed):
    note("constant", seed)
    return {"answer": 42}
'''


class Lab:
    """A package with two experiments, and what the tests ask of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = f"lab_{next(_numbers)}"
        self.module = f"{self.package}.layers.toy"
        self.root = folder / self.package
        self.json = self.root / "layers" / "toy.json"
        self.log = folder / "log"
        self.log.mkdir()
        (folder / "pyproject.toml").write_text('[project]\nname = "course-lib"')  # a source tree
        for file in ("__init__.py", "layers/__init__.py"):
            self.write(file, "")
        self.write("maths.py", MATHS)
        self.write("helpers.py", "from .maths import gain\ndef stretched(x): return gain(x)\n")
        self.write("layers/toy.py", TOY)
        importlib.invalidate_caches()

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("{package}", self.package))
        os.utime(path, ns=(time.time_ns(), time.time_ns() + next(_numbers) * 10**9))  # clocks may be coarse

    def change(self, file: str, old: str, new: str) -> None:
        """Replace text in a source file, and forget what was imported, as a new process would."""
        text = (self.root / file).read_text()
        assert old in text
        self.write(file, text.replace(old, new))
        self.forget()

    def forget(self) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == self.package]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def function(self, name: str = "noisy"):
        return getattr(importlib.import_module(self.module), name)

    def cli(self, command: str, *arguments: str) -> int:
        """A command in this process, one seed after the other."""
        serial = () if command == "status" else ("--jobs", "1")
        return main([command, *arguments, "--package", self.package, *serial])

    def process(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """A command in a process of its own."""
        words = ("-m", "course_lib.experiments", command, *arguments, "--package", self.package)
        return self.python(*words, **environment)

    def python(self, *words: str, **environment: str) -> subprocess.Popen:
        """A Python that finds the package, in a process group of its own."""
        path = os.pathsep.join([str(self.folder), *sys.path])
        return subprocess.Popen(
            [sys.executable, *words],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that runs the tests in the background lets its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def runs(self, what: str = "noisy") -> dict[int, int]:
        """How often each seed has left this trace."""
        return dict(sorted(Counter(int(f.name.split("-")[1]) for f in self.log.glob(f"{what}-*")).items()))

    def entry(self, name: str = "noisy") -> dict:
        return json.loads(self.json.read_text())[name]

    def values(self) -> list[float]:
        return self.entry()["values"]["value"]["each"]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("COURSE_CACHE", raising=False)
    monkeypatch.delenv("COURSE_RERUN", raising=False)
    made = Lab(tmp_path)
    yield made
    made.forget()
