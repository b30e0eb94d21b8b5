"""The hash of code: what changes it, what does not, and that it is the same on every Python."""

import importlib
import itertools
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from course_lib.measure import hashing
from course_lib.measure.hashing import code_hash, reached

_numbers = itertools.count()

LIBRARY = {
    "__init__.py": "",
    "top.py": """
        from .middle import scale as stretch

        FACTOR = 2.0

        def experiment_of_mine(seed: int) -> dict[str, float]:
            \"\"\"What it measures.\"\"\"
            # a comment
            return {"value": stretch(FACTOR * seed)}

        def unrelated():
            return 1
        """,
    "middle.py": """
        import torch
        from math import exp

        from {package} import deep

        def scale(x):
            return deep.shift(exp(x)) if x else torch.nn.functional.gelu(x)
        """,
    "deep/__init__.py": "from .values import OFFSET, shift\n",
    "deep/values.py": """
        OFFSET = 3

        def shift(x):
            if x < 0:
                raise ValueError(f"x is {x}, below 0")
            return x + OFFSET
        """,
}


class Package:
    """A package on disk whose files a test may change."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.name = f"hashed_{next(_numbers)}"
        self.folder = folder / self.name
        self._clock = time.time_ns()
        for file, text in files.items():
            self.write(file, text)
        importlib.invalidate_caches()

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).replace("{package}", self.name))
        self._clock += 10**9  # the clock of a file system may be too coarse to tell two writes apart
        os.utime(path, ns=(self._clock, self._clock))

    def change(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert old in text
        self.write(file, text.replace(old, new))

    def function(self, name: str = "experiment_of_mine", module: str = "top"):
        return getattr(importlib.import_module(f"{self.name}.{module}"), name)

    def reached(self) -> list[str]:
        return [name.removeprefix(f"{self.name}.") for name in reached(self.function())]


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return lambda files=LIBRARY: Package(tmp_path, files)


def test_reaches_through_imports_and_re_exports(make):
    names = [
        "top.experiment_of_mine",
        "middle.scale",
        "top.FACTOR",
        "deep.values.shift",
        "deep.values.OFFSET",
    ]
    assert make().reached() == names


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("top.py", "FACTOR = 2.0", "FACTOR = 2.5"),  # a constant
        ("top.py", "FACTOR * seed", "FACTOR + seed"),  # a formula
        ("top.py", '"value"', '"worth"'),  # a key
        ("middle.py", "if x else", "if x > 1 else"),
        ("middle.py", "functional.gelu", "functional.relu"),  # of another package
        ("middle.py", "from math import exp", "from torch import exp"),  # the same word, another function
        ("deep/values.py", "x + OFFSET", "x - OFFSET"),  # two imports away
        ("deep/values.py", "OFFSET = 3", "OFFSET = 3.0"),
        ("deep/values.py", "x < 0", "x <= 0"),
        ("deep/values.py", "ValueError(", "TypeError("),
        ("deep/values.py", "OFFSET = 3", "OFFSET = 3\nOFFSET += 1"),
    ],
)
def test_changes_with_the_computation(make, file, old, new):
    package = make()
    before = code_hash(package.function())
    package.change(file, old, new)
    assert code_hash(package.function()) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("top.py", "What it measures.", "Something else."),
        ("top.py", '"""What it measures."""', "pass"),
        ("top.py", "# a comment", "# another"),
        ("top.py", "seed: int) -> dict[str, float]", "seed)"),
        ("top.py", "FACTOR = 2.0", "FACTOR: float = 2.00"),
        ("top.py", "def unrelated():\n    return 1", "def unrelated():\n    return 2\n\nOTHER = 5"),
        (
            "top.py",
            '{"value": stretch(FACTOR * seed)}',
            '{\n        "value": (stretch(FACTOR * seed)),\n    }',
        ),
        ("top.py", "def experiment_of_mine", '@experiment(paper="x", seeds=9)\ndef experiment_of_mine'),
        ("top.py", "FACTOR = 2.0", "print('hello')\nFACTOR = 2.0"),
        ("top.py", "import scale as stretch", "import scale as stretch, scale as other"),
        ("middle.py", "from {package} import deep", "import {package}.deep as deep"),
        ("middle.py", "import torch\n", "import torch\nfrom torch.nn.functional import gelu as g\n"),
        ("deep/values.py", "x is {x}, below 0", "negative: {x}"),  # what an error says
        ("deep/__init__.py", "from .values import OFFSET, shift", "from .values import *"),
    ],
)
def test_stays_with_words_and_layout(make, file, old, new):
    package = make()
    before = code_hash(package.function())
    package.change(file, old.replace("{package}", package.name), new)
    if "@experiment" in new:
        package.change(file, "FACTOR = 2.0", "FACTOR = 2.0\nexperiment = lambda **_: lambda f: f")
    assert code_hash(package.function()) == before


def test_the_way_of_importing_does_not_matter(make):
    plain = {
        "__init__.py": "",
        "top.py": "import torch\ndef experiment_of_mine(s): return torch.nn.functional.relu(s)",
    }
    alias = "from torch.nn import functional as F\ndef experiment_of_mine(s): return F.relu(s)"
    inner = "def experiment_of_mine(s):\n    from torch.nn.functional import relu\n    return relu(s)"
    package = make(plain)
    before = code_hash(package.function())
    for text in (alias, inner):
        package.write("top.py", text)
        assert code_hash(package.function()) == before


def test_moving_a_definition_to_another_file_changes_nothing(make):
    package = make()
    before = code_hash(package.function())
    package.write("deep/other.py", (package.folder / "deep/values.py").read_text())
    package.write("deep/__init__.py", "from .other import OFFSET, shift\n")
    assert "deep.other.shift" in package.reached()
    assert code_hash(package.function()) == before


def top(text: str) -> dict[str, str]:
    return {
        "__init__.py": "",
        "other.py": "def helper(x): return x\nclass Base: pass\nLIMIT = 1\n",
        "top.py": text,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # also where a parameter hides a name of the module: too much, never too little
        ("from .other import helper\ndef experiment_of_mine(helper): return helper", ["helper"]),
        ("def experiment_of_mine(helper): return helper", []),
        ("def experiment_of_mine(s):\n    from .other import helper\n    return helper", ["helper"]),
        ("from .other import helper\ndef experiment_of_mine(s): return {helper for helper in helper}",
         ["helper"]),
        ("from .other import helper\ndef experiment_of_mine(s): return [h for h in s], helper", ["helper"]),
        ("from .other import helper\ndef experiment_of_mine(s, f=helper): return f", ["helper"]),
        ("from .other import LIMIT\ndef experiment_of_mine(s):\n    global LIMIT\n    LIMIT = 2", ["LIMIT"]),
        # inside functions, classes and lambdas
        ("from . import other\ndef experiment_of_mine(s): return lambda x: other.helper(x)", ["helper"]),
        ("from . import other as o\nclass A(o.Base): pass\ndef experiment_of_mine(s): return A()", ["Base"]),
        ("import {package}.other\ndef experiment_of_mine(s): return {package}.other.LIMIT", ["LIMIT"]),
        ("from .other import *\ndef experiment_of_mine(s): return helper(s)", ["helper"]),
        ("from .other import helper\n\nclass A:\n    def go(self): return self.run()\n"
         "    def run(self): return helper(1)\ndef experiment_of_mine(s): return A().go()", ["helper"]),
        # only where it computes
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .other import Base\n"
         "def experiment_of_mine(s: 'Base') -> 'Base': return s", []),
        ("from .other import helper\ndef experiment_of_mine(s):\n    raise ValueError(helper(s))", []),
        ("from .other import helper\n\nclass A:\n    def __repr__(self): return helper(self)\n"
         "def experiment_of_mine(s): return A()", []),
        # a module used as a value counts as a whole
        ("from . import other\ndef experiment_of_mine(s): return getattr(other, s)",
         ["*", "helper", "Base", "LIMIT"]),
    ],
)  # fmt: skip
def test_names_are_resolved_as_python_does(make, text, expected):
    names = make(top(text)).reached()
    assert [name.removeprefix("other.") for name in names if name.startswith("other.")] == expected


def test_two_modules_that_import_each_other(make):
    files = {
        "__init__.py": "",
        "top.py": "from . import other\ndef experiment_of_mine(s): return other.back(s)\ndef base(): pass",
        "other.py": "from . import top\ndef back(s): return top.base() + back(s)",
    }
    assert make(files).reached() == ["top.experiment_of_mine", "other.back", "top.base"]


TABLE = {
    "__init__.py": "from .sets import load",
    "sets.py": """
        SETS = {}

        def dataset(name, **card):
            def register(make):
                SETS[name] = make
                return make
            return register

        def load(name):
            return SETS[name]()
        """,
    "flowers.py": """
        from .sets import dataset

        @dataset("iris", licence="free")
        def _iris(): return 150

        @dataset("roses")
        def _roses(): return 7
        """,
    "top.py": "from .sets import load\ndef experiment_of_mine(seed): return load('iris')",
}


def test_what_a_decorator_registers_is_reached_by_its_key(make):
    package = make(TABLE)
    assert "flowers._iris" in package.reached()
    assert "flowers._roses" not in package.reached()
    before = code_hash(package.function())
    package.change("flowers.py", "return 7", "return 8")
    package.change("flowers.py", "free", "CC0")
    assert code_hash(package.function()) == before
    package.change("flowers.py", "return 150", "return 149")
    assert code_hash(package.function()) != before


GROUND = {
    "__init__.py": "",
    "sets.py": "__numerics__ = 1\n" + textwrap.dedent(TABLE["sets.py"]),
    "flowers.py": "__numerics__ = 4\n" + textwrap.dedent(TABLE["flowers.py"]),
    "loop.py": """
        from .steps import step

        __numerics__ = 1

        def fit(x):
            print("steps")
            return step(x)

        def evaluate(x):
            return -x
        """,
    "steps.py": "def step(x): return x + 1\n",
    "plain.py": "def double(x): return 2 * x\n",
    "top.py": """
        from . import loop
        from .plain import double
        from .sets import load

        def experiment_of_mine(seed):
            return loop.fit(double(load("iris")))
        """,
}


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("loop.py", '"steps"', '"updates"', False),
        ("loop.py", "step(x)", "step(x) + 0", False),
        ("loop.py", "-x", "x", False),
        ("steps.py", "x + 1", "x + 2", False),  # behind the number
        ("flowers.py", "return 150", "return 149", False),
        ("flowers.py", "return 7", "return 8", False),
        ("sets.py", "SETS[name]()", "SETS.get(name)()", False),
        ("loop.py", "__numerics__ = 1", "__numerics__ = 2", True),
        ("sets.py", "__numerics__ = 1", "__numerics__ = 2", True),
        ("flowers.py", "__numerics__ = 4", "__numerics__ = 5", True),  # found by its key only
        ("flowers.py", '"iris"', '"lily"', True),
        ("loop.py", "__numerics__ = 1\n", "", True),
        ("top.py", "loop.fit", "loop.evaluate", True),  # another definition of the same module
        ("plain.py", "2 * x", "3 * x", True),  # a module without a number
    ],
)
def test_the_number_of_a_ground_module_stands_for_its_code(make, file, old, new, stale):
    package = make(GROUND)
    before = code_hash(package.function())
    assert "flowers._iris" in package.reached()
    assert not {"steps.step", "flowers._roses"} & {*package.reached()}
    package.change(file, old, new)
    assert (code_hash(package.function()) != before) == stale


@pytest.mark.parametrize("value", ["'1'", "True", "1 + 1", "1\n__numerics__ += 1"])
def test_a_number_that_cannot_be_read_is_refused(make, value):
    package = make({**GROUND, "loop.py": f"__numerics__ = {value}\ndef fit(x): return x\n"})
    with pytest.raises(ValueError, match=r"loop: __numerics__ must be one whole number"):
        code_hash(package.function())


def test_statements_that_fill_a_table_count(make):
    package = make(top("TABLE = {}\ndef experiment_of_mine(s): return TABLE[s]\nTABLE['a'] = 1\n"))
    before = code_hash(package.function())
    package.change("top.py", "TABLE['a'] = 1", "TABLE['a'] = 2")
    changed = code_hash(package.function())
    package.change("top.py", "TABLE['a'] = 2", "TABLE['a'] = 2\nTABLE.update(b=3)")
    assert len({before, changed, code_hash(package.function())}) == 3


def test_fields_of_a_dataclass_count_without_their_types(make):
    text = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    y: int = 1\n"
    text += "def experiment_of_mine(s): return A(s)"
    package = make(top(text))
    before = code_hash(package.function())
    package.change("top.py", "x: int", "x: float")
    assert code_hash(package.function()) == before
    package.change("top.py", "    x: float\n", "    x: float\n    z: float\n")
    assert code_hash(package.function()) != before


def test_a_function_outside_a_module_file_is_refused(make):
    def inner(seed):
        return seed

    with pytest.raises(ValueError, match=r"no definition of '.*inner' at the top level"):
        code_hash(inner)


def test_packages_that_are_not_followed_count_by_name(make):
    package = make()
    assert reached(package.function(), packages=(package.name,))[1] == f"{package.name}.middle.scale"
    text = "from course_lib.registry import papers\ndef experiment_of_mine(s): return papers()"
    package.write("top.py", text)
    assert "course_lib.registry.papers" in package.reached()
    assert reached(package.function(), packages=(package.name,)) == [f"{package.name}.top.experiment_of_mine"]


def test_nothing_is_parsed_twice(make, monkeypatch):
    package = make()
    before = code_hash(package.function())
    parsed = []
    parse = hashing.ast.parse
    monkeypatch.setattr(hashing.ast, "parse", lambda *a, **k: parsed.append(a[1]) or parse(*a, **k))
    assert code_hash(package.function()) == before
    assert parsed == []
    package.change("middle.py", "import torch", "import torch  # once more")
    assert code_hash(package.function()) == before
    assert [Path(file).name for file in parsed] == ["middle.py"]


# -- the same on every Python -------------------------------------------------------------------------------

AWKWARD = '''
"""All syntax whose tree differs between versions, or may."""
from __future__ import annotations
import math as m
WIDTH, NAMES = 12, [*"ab", None, ..., 1j, b"x", "\\N{BULLET}\\ud800"]
def awkward(seed: int, /, *args: float, key: str = "k", **rest: dict[str, int]) -> dict[str, float]:
    """Doc."""
    x: float = seed if seed else -1
    y: int
    text = f"{x!r:>{WIDTH}}" "tail" f"{x = }" f"{x:}" f"{{}}{m.pi:.{seed + 1}f} end" f""
    with open(text) as a, open("b") as b:
        table = {**rest, "a": [i for i in a if i] if False else NAMES[1:][::3]}
    try:
        match table:
            case {"a": [1, *tail], **others} if tail: del others
            case None | True | m.Shape(1, y=2) as flag: pass
    except (ValueError, TypeError) as error:
        raise RuntimeError("x") from error
    else:
        assert (n := len(NAMES)) > 1, f"{n}"
    pairs = (k * v for k, v in zip(args, NAMES))
    return {"value": sum(pairs) if not isinstance(x, str) else (lambda q, *, r=2: q @ r)(x)}
class Kept(dict):
    x: int
    def __repr__(self): return super().__repr__()
    async def value(self): return [await i async for i in self.x]
'''
PINNED = "d4b29fdbc2515ee5"


def interpreters() -> dict[str, str]:
    """Every supported Python on this machine, by its version."""
    found = {}
    for minor in range(10, 15):
        version = f"3.{minor}"
        pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python"))
        for candidate in filter(None, [shutil.which(f"python{version}"), *map(str, pyenv)]):
            if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
                found[version] = candidate
    return found


def hash_with(python: str, folder: Path) -> str:
    """The hash of AWKWARD by another interpreter, which needs nothing installed."""
    package = folder / "course_lib"
    source = Path(hashing.__file__).parent
    shutil.copytree(source, package / "measure/hashing", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "measure/__init__.py").touch()
    (package / "__init__.py").touch()
    (folder / "awkward_module.py").write_text(AWKWARD, "utf-8")
    script = (
        "from course_lib.measure.hashing import code_hash; import awkward_module as a;"
        "print(code_hash(a.awkward), code_hash(a.Kept))"
    )
    run = subprocess.run([python, "-c", script], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_hash_is_the_same_on_every_python_of_this_machine(tmp_path):
    found = interpreters()
    if len(found) < 2:
        pytest.skip(f"needs a second supported Python, found {', '.join(found) or 'none'}")
    hashes = {version: hash_with(python, tmp_path / version) for version, python in found.items()}
    assert len(set(hashes.values())) == 1, hashes


def test_hash_is_the_same_as_on_other_machines(tmp_path):
    """Pinned, for machines with one Python only: all must find this value."""
    assert hash_with(sys.executable, tmp_path).split()[0] == PINNED
