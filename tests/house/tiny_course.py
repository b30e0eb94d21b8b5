"""A course of two pages on which the real Makefile and the real tools run in seconds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.house.tree import ROOT

FRONT_MATTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""

INDEX = (
    FRONT_MATTER
    + "\n# A tiny course\n\nSee [toys](layers/toy).\n\n```{code-cell} ipython3\nprint(6 * 7)\n```\n"
)

CHAPTER = (
    FRONT_MATTER
    + """
# Toys

```{code-cell} ipython3
from course_lib.classroom.claims import identities, show_claims
from course_lib.layers.toy import double
from course_lib.measure import at_least, equal, paper_claim

show_claims(
    paper_claim(
        "doubling makes larger", where="abstract", headline=True, scale="one number",
        paper="toy-paper", value=double(3), expect=at_least(3),
    )
)
identities(None, [("twice three", double(3), equal(6))])
```
"""
)

LIBRARY = {
    "course_lib/__init__.py": '"""A tiny library."""\n',
    "course_lib/classroom/__init__.py": '"""Tools."""\n',
    "course_lib/layers/__init__.py": '"""Layers."""\n',
    "course_lib/layers/toy.py": '''\
"""Toys of one line."""

from course_lib.registry import implements

__all__ = ["double"]


@implements("toy-paper")
def double(x: int) -> int:
    r"""Twice the number.

    .. math:: y = 2x

    Args:
        x: any number.
    """
    return 2 * x
''',
    "course_lib/chapters.toml": """
[[chapter]]
id = "layers/toy"
title = "Toys"
question = "Which toy?"

[[chapter]]
id = "layers/other"
title = "Other things"
question = "Which thing?"
""",
    "course_lib/papers.toml": """
[[paper]]
index = 0
id = "toy-paper"
title = "All about $toys$ | and _more_"
arxiv = "1234.56789"
year = 2012
chapter = "layers/toy"
role = "build"
kind = "layer"
confidence = "high"

[[paper]]
index = 1
id = "other-paper"
title = "Other things"
arxiv = "1234.56780"
year = 2013
chapter = "layers/other"
role = "build"
kind = "layer"
confidence = "high"
""",
    "_toc.yml": """
format: jb-book
root: index
parts:
  - caption: Layers
    chapters:
      - file: layers/toy
  - caption: Look things up
    chapters:
      - file: papers
      - file: catalogue
      - file: claims
      - file: notation
""",
    "book/index.md": INDEX,
    "book/layers/toy.md": CHAPTER,
}
COPIED = [
    "tools",
    "Makefile",
    "requirements.lock",
    "pyproject.toml",
    "_config.yml",
    "course_lib/registry.py",
    "course_lib/cache.py",
    "course_lib/tables.py",
    "course_lib/measure",
    "course_lib/optional.py",
    "course_lib/classroom/claims.py",
    "course_lib/classroom/drawing.py",
    "course_lib/classroom/style.py",
    "book/_static",
]


def plant(root: Path) -> Path:
    """Write the tiny course below ``root``."""
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    for name, text in LIBRARY.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    (root / "ready").touch()
    return root


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make there, with the Python of this test run instead of an environment of its own."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "OFFLINE")}
    environment |= {"PYTHONPATH": str(root), "PYTHONWARNINGS": ""}
    command = ["make", *arguments, f"PY={sys.executable}", "READY=ready", "JOBS=2"]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
