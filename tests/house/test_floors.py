"""The tower of the library: a file imports only from below, and no imports run in a circle.

The rules stand in pyproject.toml (``[tool.importlinter]``); here they are kept, and tried on planted faults.
"""

import ast
import json
import os
import re
import subprocess
import sys

from tests.house.tree import ROOT, assert_none, files, inside, parse, tomllib

# In a process of its own: a tree is read from where Python would import it.
READ = """
import json, sys
import grimp
from importlinter.cli import lint_imports

graph = grimp.build_graph("course_lib", cache_dir=None)
links = [(m, other) for m in graph.modules for other in graph.find_modules_directly_imported_by(m)]
own = sorted(f"{m} -> {other}, in which it lies" for m, other in links if m.startswith(f"{other}."))
print(json.dumps([line for line in own if ".__main__ " not in line]), file=sys.stderr)
sys.exit(lint_imports(no_cache=True))
"""
FAULT = re.compile(r"^(?:[-&] +)(.*)$|^(No cycles .*)$", re.MULTILINE)
# A catalogue names the folder of its chapters, and computes the rest.
NAME = re.compile(r"course_lib(?!\.(experiments|bench|exercises)$)(\.\w+)+")


def upward_imports(root) -> list[str]:
    """Imports that break a contract, imports of a file's own package, modules named in strings."""
    environment = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    broken = list(dict.fromkeys(a or b for a, b in FAULT.findall(done.stdout)))
    assert bool(broken) == bool(done.returncode), done.stdout + done.stderr
    return [*broken, *json.loads(done.stderr), *_modules_in_strings(root)]


def _modules_in_strings(root) -> list[str]:
    """What ``import_module("course_lib.layers.norm")`` would load unseen."""
    return [
        f"{inside(path, root)}:{node.lineno} names {node.value} in a string"
        for path in files(root / "course_lib", ".py")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value)
    ]


def test_every_file_imports_only_from_below():
    assert_none(upward_imports(ROOT))


def test_the_lists_of_the_rooms_name_every_floor():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    lines = contracts["tower"]["layers"]
    tower = re.findall(r"\w+", " ".join(lines[lines.index("compare") + 1 : lines.index("measure")]))
    floors = {f"course_lib.{name}" for name in tower if (ROOT / "course_lib" / name).exists()}
    assert {*contracts["measure"]["source_modules"]} == floors
    assert {*contracts["classroom"]["forbidden_modules"]} == floors
    assert {*contracts["compare"]["forbidden_modules"]} == floors - {
        "course_lib.layers",
        "course_lib.training",
    }


FOLDERS = "layers layers/chain layers/ring models training specimens data measure compare classroom"
GROUND = {
    f"course_lib/{f}/__init__.py": "" for f in [".", *FOLDERS.split(), "bench", "experiments", "exercises"]
}
GROUND |= {
    f"course_lib/{name}.py": ""
    for name in ("__main__", "_lazy", "cache", "contexts", "counting", "optional", "registry", "tables")
}
GROUND |= {"course_lib/models/cars.py": "", "pyproject.toml": (ROOT / "pyproject.toml").read_text("utf-8")}

PLANTED = [  # file, code, what is said of it
    ("layers/a.py", "from course_lib.models.cars import Car", ".a -> course_lib.models.cars (l.1)"),
    ("layers/b.py", "from course_lib.models import cars", ".b -> course_lib.models.cars (l.1)"),
    ("layers/c.py", "import course_lib.models.cars", ".c -> course_lib.models.cars (l.1)"),
    ("layers/d.py", "from ..models.cars import Car", ".d -> course_lib.models.cars (l.1)"),
    ("layers/e.py", "from .. import models", ".e -> course_lib.models (l.1)"),
    ("layers/f.py", "def f():\n    import course_lib.models", ".f -> course_lib.models (l.2)"),
    ("layers/g.py", "import course_lib", ".g -> course_lib, in which it lies"),
    ("layers/h.py", "import_module('course_lib.models')", "/h.py:1 names course_lib.models in a string"),
    ("layers/i.py", "from course_lib.measure import run", ".i -> course_lib.measure (l.1)"),
    ("layers/j.py", "from course_lib.classroom import check", ".j -> course_lib.classroom (l.1)"),
    ("layers/k.py", "from course_lib.experiments import x", ".k -> course_lib.experiments (l.1)"),
    ("registry.py", "from course_lib import layers", ".registry -> course_lib.layers (l.1)"),
    ("classroom/a.py", "import course_lib.training", ".classroom.a -> course_lib.training (l.1)"),
    ("compare/a.py", "import course_lib.models", ".compare.a -> course_lib.models (l.1)"),
    ("measure/a.py", "import course_lib.layers", ".measure.a -> course_lib.layers (l.1)"),
    ("__main__.py", "import course_lib.layers", ".__main__ -> course_lib.layers (l.1)"),
    ("unknown.py", "", "course_lib.unknown"),
    # circles: between two chapters, between the files of one, and of a file with its own package
    ("layers/l.py", "import course_lib.layers.chain", "No cycles are allowed in course_lib.layers."),
    ("layers/chain/deep.py", "import course_lib.layers.l", ""),
    ("layers/ring/one.py", "from .two import a", "No cycles are allowed in course_lib.layers.ring."),
    ("layers/ring/two.py", "from .one import a", ""),
    ("layers/ring/three.py", "from . import a", ".ring.three -> course_lib.layers.ring, in which it lies"),
]


def test_every_kind_of_fault_is_found(plant):
    root = plant({**GROUND, **{f"course_lib/{name}": code for name, code, _ in PLANTED}})
    found = "\n".join(upward_imports(root))
    assert [fault for _, _, fault in PLANTED if fault not in found] == [], found


def test_imports_from_below_and_from_elsewhere_pass(plant):
    root = plant(
        {
            **GROUND,
            "course_lib/layers/toy.py": "import torch\nfrom course_lib.registry import implements",
            "course_lib/models/cars.py": "from course_lib.layers.toy import Toy\nfrom course_lib import data",
            "course_lib/data/__init__.py": "from course_lib.registry import papers",
            "course_lib/classroom/claims.py": "import course_lib.compare.rows, course_lib.measure",
            "course_lib/compare/rows.py": "import course_lib.training, course_lib.measure",
            "course_lib/specimens/one.py": "import course_lib.measure.hashing",
            "course_lib/measure/hashing.py": "",
            "course_lib/experiments/toy.py": "import course_lib.models.cars, course_lib.compare.rows",
            "course_lib/specimens/__main__.py": "import course_lib.specimens",
            # a diamond is no circle
            "course_lib/layers/ring/__init__.py": "from .one import a\nfrom .two import b",
            "course_lib/layers/ring/one.py": "from .base import c",
            "course_lib/layers/ring/two.py": "from .base import c\nfrom .one import a",
            "course_lib/layers/ring/base.py": "",
        }
    )
    assert upward_imports(root) == []
