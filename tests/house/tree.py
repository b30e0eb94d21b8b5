"""Reading a tree of the course without importing it: files, chapters, imports, notebook cells.

Every guard of this folder is a function of a root, so that it can be tried on a small planted tree.
"""

import ast
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

import tools.quick_import  # noqa: F401

# isort: split
import jupytext

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]

GENERATED = {"build", "learn", "__pycache__"}  # and whatever starts with a dot


def files(root: Path, *suffixes: str) -> list[Path]:
    """All files below the root with one of these suffixes that somebody wrote."""
    found = []
    for folder, subfolders, names in os.walk(root):
        hidden = [s for s in subfolders if s in GENERATED or s.startswith(".") or s.endswith(".egg-info")]
        subfolders[:] = set(subfolders) - set(hidden)
        found += [Path(folder, name) for name in names if name.endswith(suffixes)]
    return sorted(found)


def assert_none(found: list[str]) -> None:
    """Fail with one line per violation, all of them."""
    if found:
        pytest.fail("\n".join(["", *found]), pytrace=False)


def inside(path: Path, root: Path) -> str:
    """A path as it is printed: relative to the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def unless_changed(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Keep what was read from a file while the file does not change."""
    kept = cache(lambda path, stamp: read(path))
    return lambda path: kept(path, (path.stat().st_mtime_ns, path.stat().st_size))


@unless_changed
def parse(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


@unless_changed
def _table(path: Path) -> dict[str, list[dict]]:
    return tomllib.loads(path.read_text("utf-8"))


def rows(root: Path, table: str) -> list[dict]:
    """The rows of ``papers.toml`` (table "paper") or ``chapters.toml`` (table "chapter")."""
    return _table(root / "course_lib" / f"{table}s.toml")[table]


def chapter_ids(root: Path) -> list[str]:
    """``layers/norm`` and so on, in the order of the course."""
    return [row["id"] for row in rows(root, "chapter")]


def parts(root: Path) -> list[str]:
    """The floors that hold chapters."""
    return list(dict.fromkeys(chapter.split("/")[0] for chapter in chapter_ids(root)))


def pages(root: Path) -> dict[str, Path]:
    """The finished chapters: those that have a page in the book."""
    found = {chapter: root / "book" / f"{chapter}.md" for chapter in chapter_ids(root)}
    return {chapter: page for chapter, page in found.items() if page.exists()}


def library_files(root: Path, chapter: str) -> list[Path]:
    """``course_lib/layers/norm.py``, or all files of the folder ``course_lib/layers/norm``."""
    single = root / "course_lib" / f"{chapter}.py"
    return [single] if single.exists() else files(root / "course_lib" / chapter, ".py")


def chapter_tests(root: Path, chapter: str) -> list[Path]:
    """``test_norm.py`` and ``test_norm_<idea>.py``, but not those of a chapter with a longer name."""
    part, name = chapter.split("/")
    longer = [c.split("/")[1] for c in chapter_ids(root) if c.startswith(f"{chapter}_")]
    return [
        path
        for path in files(root / "tests" / part, ".py")
        if _is_of(path.stem, f"test_{name}") and not any(_is_of(path.stem, f"test_{n}") for n in longer)
    ]


def _is_of(stem: str, name: str) -> bool:
    return stem == name or stem.startswith(f"{name}_")


def module_name(path: Path, root: Path) -> str:
    """``course_lib.layers.norm`` for ``layers/norm.py`` and for ``layers/norm/__init__.py``."""
    names = path.relative_to(root).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


@dataclass(frozen=True)
class Registered:
    """A public object under ``@implements(...)``, as the source shows it."""

    name: str
    chapter: str
    paper_ids: tuple[str, ...]
    path: Path


def registered(root: Path) -> list[Registered]:
    """All registered objects of all chapters and ground files."""
    found = []
    for part in parts(root):
        for path in files(root / "course_lib" / part, ".py"):
            chapter = "/".join(module_name(path, root).split(".")[1:3])
            for node in parse(path).body:
                for decorator in getattr(node, "decorator_list", []):
                    if isinstance(decorator, ast.Call) and called(decorator) == "implements":
                        ids = tuple(a.value for a in decorator.args if isinstance(a, ast.Constant))
                        found.append(Registered(node.name, chapter, ids, path))
    return found


def definitions(tree: ast.Module | ast.ClassDef) -> list[ast.FunctionDef | ast.ClassDef]:
    """The functions and classes at the top of a module or class."""
    return [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


def experiments(tree: ast.Module) -> dict[str, tuple[str, ...]]:
    """The functions under ``@experiment(paper=...)`` and their papers, as far as these are written out."""
    found = {}
    for definition in definitions(tree):
        for call in definition.decorator_list:
            if isinstance(call, ast.Call) and called(call) == "experiment":
                given = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "paper")]
                papers = (n.value for value in given for n in ast.walk(value) if isinstance(n, ast.Constant))
                found[definition.name] = tuple(papers)
    return found


def called(call: ast.Call) -> str:
    """The last name of what is called: ``close`` for ``torch.testing.close(...)``."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


@unless_changed
def _notebook(page: Path) -> list[tuple[str, str]]:
    found = jupytext.reads(page.read_text("utf-8"), fmt="md:myst").cells
    return [(cell.cell_type, cell.source) for cell in found]


def cells(page: Path) -> list[str]:
    """The code cells of a text notebook, without lines of shell or magic commands."""
    code = [text.splitlines() for kind, text in _notebook(page) if kind == "code"]
    return ["\n".join(x for x in lines if not x.lstrip().startswith(("%", "!"))) for lines in code]


def prose(page: Path) -> str:
    """A text notebook without its code cells."""
    return "\n".join(text for kind, text in _notebook(page) if kind != "code")


def notebooks(root: Path) -> list[Path]:
    """All pages, solutions and exercises."""
    return [path for folder in ("book", "solutions", "exercises") for path in files(root / folder, ".md")]
