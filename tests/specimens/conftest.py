"""A small specimen in a temporary folder, which the tests change, train, stop and break."""

import importlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from course_lib.specimens import _catalogue, _specimen, find, load
from course_lib.specimens.__main__ import main

_numbers = itertools.count()

RECIPE = '''
import time
import uuid
from pathlib import Path

import torch
from torch import nn

from course_lib.specimens import Check, specimen

FOLDER = Path(__file__).parent
SLOPE = 0.5


def build():
    """A line, at a random start."""
    return nn.Linear(2, 1)


def accept(model):
    """Its slopes add up."""
    return [Check("sum of slopes", model.weight.sum().item(), at_least=0.9)]


@specimen("{name}", build=build, accept=accept)
def recipe(seed):
    """A line that is set, not trained."""
    model = build()
    (FOLDER / "log" / uuid.uuid4().hex).touch()
    while (FOLDER / "hold").exists():
        time.sleep(0.02)
    with torch.no_grad():
        model.weight.fill_(SLOPE)
    return model
'''


class Bench:
    """One specimen whose bias is its random start, and what the tests ask of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"line_{next(_numbers)}"
        self.module = f"{self.name}_recipe"
        self.file = folder / f"{self.module}.py"
        self.cache = folder / "cache"
        (folder / "log").mkdir()
        self.write(RECIPE.replace("{name}", self.name))

    def write(self, text: str) -> None:
        """Write the module, and import it as a new process would."""
        self.file.write_text(text)
        os.utime(self.file, ns=(time.time_ns(), time.time_ns() + next(_numbers) * 10**9))  # clocks are coarse
        sys.modules.pop(self.module, None)
        importlib.invalidate_caches()
        importlib.import_module(self.module)

    def change(self, old: str, new: str) -> None:
        text = self.file.read_text()
        assert old in text
        self.write(text.replace(old, new))

    @property
    def specimen(self):
        return find(self.name)

    @property
    def shipped(self) -> Path:
        return self.folder / "weights" / f"{self.name}.safetensors"

    def cached(self) -> list[Path]:
        """The finished files in the cache."""
        return sorted(self.cache.glob("**/*.safetensors"))

    def load(self, **options):
        return load(self.name, **options)

    def trainings(self) -> int:
        """How often the recipe was followed, by any process."""
        return len(list((self.folder / "log").iterdir()))

    def cli(self, *arguments: str) -> int:
        return main([*arguments, self.name])

    def process(self) -> "Process":
        """Another Python that loads the specimen and prints its bias."""
        return Process(self, f"import {self.module}\nprint(load('{self.name}').bias.item())")

    def hold(self) -> Path:
        """While this file exists, no training ends."""
        (self.folder / "hold").touch()
        return self.folder / "hold"


class Process(subprocess.Popen):
    """Another Python that finds the bench's recipe."""

    def __init__(self, bench: Bench, code: str) -> None:
        self._said = bench.folder / f"said-{next(_numbers)}"
        with self._said.open("w") as stderr:
            super().__init__(
                [sys.executable, "-c", f"from course_lib.specimens import load\n{code}"],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(bench.folder), *sys.path])},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    @property
    def said(self) -> str:
        """What it wrote to stderr so far."""
        return self._said.read_text()

    def printed(self) -> str:
        """What it printed, once it has ended."""
        return self.communicate(timeout=120)[0].strip()


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(_catalogue, "_specimens", dict(_catalogue._specimens))
    monkeypatch.setattr(_specimen, "_unstored", {})
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    made = Bench(tmp_path)
    yield made
    sys.modules.pop(made.module, None)
