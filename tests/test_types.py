"""What type checkers see in a user's script: real types of all that is public, and the user's mistakes."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import registry
from course_lib.cache import cache_folder

pytestmark = pytest.mark.slow

ROOT = Path(registry.__file__).resolve().parents[1]

# Nothing is a Probe, so each of these lines is an error, unless the name has the type Any.
PROBE = "class Probe: ..."

MISTAKES = [
    'from course_lib.layers.norm import LayerNorm; LayerNorm("six")',
    "from course_lib.layers.norm import LayerNorm; LayerNorm(6, epsilon=1e-5)",
    "from course_lib.layers.norm import layer_norm; layer_norm(3)",
    "from course_lib.layers.attention import KVCache; KVCache().nothing",
    "from course_lib.layers.attention import GroupedQueryAttention; GroupedQueryAttention(8, None, 2)",
    "from course_lib.models.transformers import GPT; GPT(vocabulary=3)",
    'from course_lib.classroom import check_layer; check_layer(None, slow="yes")',
    "from course_lib.classroom import check_layer; check_layer(None).passed",
    "from course_lib.classroom import nothing",
    "from course_lib.layers.nrom import LayerNorm",
    "from course_lib.registry import entries; entries()[0]",
]

# Right calls, in which no checker may find a fault.
RIGHT = """\
from typing import Any
import torch
from course_lib.classroom import check_layer
from course_lib.layers.norm import LayerNorm, layer_norm
from course_lib.registry import entries, show

layer = LayerNorm(6)
y: torch.Tensor = layer_norm(torch.zeros(2, 6), eps=1e-3)
ok: bool = check_layer(layer, torch.zeros(2, 6), slow=True).ok
anything: Any = 0  # so that a probe finds what it is for
probe: Probe = anything
names: list[str] = [entry.name for entry in [*entries().values(), *show("LayerNorm")]]
"""


def pyright(file):
    """The lines with errors, by pyright."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment())
    if not done.stdout.startswith("{"):  # the wrapper fetches the checker itself once
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {f["range"]["start"]["line"] + 1: f["message"] for f in found if f["severity"] == "error"}


def mypy(file):
    """The lines with errors, by mypy --strict."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)]
    command += ["--cache-dir", str(cache_folder() / "mypy"), "--no-pretty"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, env=environment())
    assert done.returncode in (0, 1), done.stderr
    found = re.findall(rf"^{re.escape(file.name)}:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {int(line): message for line, message in found}


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}


@pytest.fixture(params=[pyright, mypy], ids=["pyright", "mypy"])
def errors(request, tmp_path):
    """Line numbers with errors of a text, by one of the two checkers."""
    if not importlib.util.find_spec(request.param.__name__):
        pytest.skip(f"{request.param.__name__} is not installed: pip install '.[test]'")

    def check(text):
        file = tmp_path / "script_of_a_user.py"
        file.write_text(text)
        return request.param(file)

    return check


def test_everything_public_has_a_type_and_mistakes_are_found(errors):
    objects = registry.public()
    assert len({entry.chapter for entry in objects if entry.paper_ids}) >= 9
    probes = [
        f"from {e.module} import {e.name} as n{i}; probe{i}: Probe = n{i}" for i, e in enumerate(objects)
    ]
    found = errors("\n".join([PROBE, *probes, *MISTAKES, RIGHT]))
    untyped = [f"{e.module}.{e.name}" for i, e in enumerate(objects) if i + 2 not in found]
    assert untyped == []
    first = len(probes) + 2
    assert [text for i, text in enumerate(MISTAKES) if first + i not in found] == []
    assert {line: text for line, text in found.items() if line >= first + len(MISTAKES)} == {}
