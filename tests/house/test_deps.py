"""Which notebooks are executed anew after a change: those whose last run has read what changed."""

import os
import subprocess
import sys

import pytest

from tests.house.tree import ROOT
from tools.deps import EXECUTED_ANEW_WITH, deps_file, notebooks, remove_orphans, rules, seen_now
from tools.execute import source_of
from tools.kernel_env import kernel_environment

TREE = {
    "course_lib/__init__.py": "",
    "course_lib/layers/__init__.py": "",
    "course_lib/layers/norm.py": "from course_lib import results\n",
    "course_lib/layers/conv.py": "",
    "course_lib/layers/conv.json": "{}",
    "course_lib/results/__init__.py": "",
    "course_lib/results/norm.json": "{}",
    "course_lib/results/conv.json": "{}",
    "outside.txt": "",
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small library, with the tools beside it, in which the process stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/in_kernel").symlink_to(ROOT / "tools/in_kernel")
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def reads(tree, code: str) -> set[str]:
    """What is written down when the code runs as in a kernel."""
    log = tree / "reads.log"
    site = tree / "tools/in_kernel"
    environment = {**kernel_environment(log), "PYTHONPATH": f"{site}{os.pathsep}{tree}"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    return {source_of(path) for path in log.read_text().splitlines()} if log.exists() else set()


NORM = {"course_lib/__init__.py", "course_lib/layers/__init__.py", "course_lib/layers/norm.py"}
NORM |= {"course_lib/results/__init__.py"}


@pytest.mark.parametrize("times", [1, 2], ids=["from source", "from the cache"])
def test_modules_are_written_down_however_they_are_loaded(tree, times):
    for _ in range(times):
        assert reads(tree, "import importlib\nimportlib.import_module('course_lib.layers.norm')") == NORM


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("open('course_lib/results/norm.json')", {"course_lib/results/norm.json"}),
        ("try: open('course_lib/gone.json')\nexcept OSError: pass", {"course_lib/gone.json"}),
        ("open('outside.txt'); open('course_lib/made.json', 'w')", set()),
        ("import pathlib; list(pathlib.Path('course_lib/results').glob('*.json'))", {"course_lib/results/"}),
        ("import os; os.listdir('course_lib/results')", {"course_lib/results/"}),
        ("import pkgutil; list(pkgutil.iter_modules(['course_lib/layers']))", {"course_lib/layers/"}),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import course_lib.layers.conv'])",
            {"course_lib/layers/conv.py"},
        ),
        ("import os; os.fork() or open('course_lib/results/norm.json')", {"course_lib/results/norm.json"}),
    ],
    ids=["data", "missed", "elsewhere or written", "glob", "listing", "modules", "child", "fork"],
)
def test_what_is_read_is_written_down(tree, code, extra):
    assert reads(tree, f"import course_lib.layers.norm\n{code}") == NORM | extra


def page(tree, name: str) -> None:
    """Write a notebook with one cell."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("# Page\n\n```{code-cell} ipython3\n1\n```\n")


@pytest.fixture
def executed(tree):
    """A page that has been executed, and what its run has read."""
    page(tree, "book/layers/norm.md")
    product = tree / "build/notebooks/layers/norm.ipynb"
    record = tree / deps_file(product.relative_to(tree))
    for path in (product, record):
        path.parent.mkdir(parents=True)
        path.touch()
    read = [*NORM, "course_lib/layers/", "course_lib/gone.json", "course_lib/results/norm.json"]
    record.write_text(seen_now(read, tree))
    return record


def rule(tree, target: str = "build/notebooks/layers/norm.ipynb") -> list[str]:
    """What a product depends on."""
    (line,) = [line for line in rules(tree).splitlines() if line.startswith(f"{target}:")]
    return line.split(": ")[1].split()


def test_a_notebook_depends_on_what_its_run_has_read_and_on_the_machinery(tree, executed):
    (tree / "requirements.lock").touch()
    needs = {*rule(tree)}
    assert needs == {
        "book/layers/norm.md",
        *NORM,
        "course_lib/results/norm.json",
        "build/deps/layers/norm.txt",
        "requirements.lock",
        *(name for name in EXECUTED_ANEW_WITH if (tree / name).exists()),
    }


def test_nothing_changed_leaves_the_record_alone(tree, executed):
    before = executed.read_text()
    (tree / "course_lib/layers/__pycache__").mkdir()
    rules(tree)
    assert executed.read_text() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "course_lib/layers/pool.py").touch(),  # new in a folder that the page lists
        lambda tree: (tree / "course_lib/layers/conv.py").unlink(),  # gone from it, though never opened
        lambda tree: (tree / "course_lib/layers/norm.py").unlink(),
        lambda tree: (tree / "course_lib/gone.json").touch(),  # looked for in vain, and there now
    ],
    ids=["new in a listed folder", "gone from a listed folder", "removed", "no longer missed"],
)
def test_what_came_or_went_executes_the_page_anew(tree, executed, change):
    before = executed.read_text()
    change(tree)
    needs = rule(tree)
    assert executed.read_text() != before
    assert "build/deps/layers/norm.txt" in needs
    assert all((tree / name).exists() for name in needs if name.startswith("course_lib"))
    again = executed.read_text()
    rules(tree)
    assert executed.read_text() == again


def test_a_product_without_a_record_is_made_anew(tree, executed):
    executed.unlink()
    assert rule(tree) == ["book/layers/norm.md", "tools/in_kernel/sitecustomize.py"]
    assert not (tree / "build/notebooks/layers/norm.ipynb").exists()


def test_exercises_are_converted_and_texts_are_no_notebooks(tree):
    page(tree, "exercises/layers/norm.md")
    (tree / "book").mkdir()
    (tree / "book/text.md").write_text("# No code\n")
    assert rule(tree, "build/notebooks/exercises/layers/norm.ipynb") == [
        "exercises/layers/norm.md",
        "tools/execute.py",
    ]
    assert "\t@$(PY) tools/execute.py --unexecuted exercises/layers/norm.md $@" in rules(tree).splitlines()
    assert len(notebooks(tree)) == 1


def test_products_of_lost_notebooks_are_removed(tree):
    page(tree, "book/a.md")
    products = tree / "build/notebooks"
    products.mkdir(parents=True)
    (products / "a.ipynb").write_text("{}")
    (products / "b.ipynb").write_text("{}")
    remove_orphans(tree)
    assert [p.name for p in products.iterdir()] == ["a.ipynb"]
