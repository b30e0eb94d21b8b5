"""Which notebooks are executed anew after a change: all that can depend on it, and not the others."""

import pytest

from tools.deps import EXECUTED_ANEW_WITH, Library, code_of, notebooks, remove_orphans, rules

TREE = {
    "course_lib/__init__.py": '"""L."""\nimport importlib\ndef __getattr__(name): ...\n',
    "course_lib/registry.py": 'def entries(): ...\ndef paper(i): return open("papers.toml")\n',
    "course_lib/papers.toml": "",
    "course_lib/unrelated.toml": "",
    "course_lib/classroom/__init__.py": (
        '_HOMES = {"claims": ("claim", "near"), "explore": ("explore",)}\ndef __getattr__(name): ...\n'
    ),
    "course_lib/classroom/claims.py": "from course_lib.registry import paper\n",
    "course_lib/classroom/explore.py": "",
    "course_lib/layers/__init__.py": "",
    "course_lib/layers/norm/__init__.py": "from course_lib.layers.norm.plain import Norm\n",
    "course_lib/layers/norm/plain.py": "from .. import _shapes\n",
    "course_lib/layers/_shapes.py": "",
    "course_lib/layers/conv.py": "def later():\n    from course_lib.layers import norm\n",
    "course_lib/layers/broken.py": "def (:\n",
    "course_lib/experiments/__init__.py": "",
    "course_lib/experiments/norm.py": "import course_lib.layers.norm\n",
    "course_lib/experiments/norm.json": "{}",
    "course_lib/experiments/conv.json": "{}",
    "course_lib/specimens/__init__.py": "from course_lib.specimens import networks\n",
    "course_lib/specimens/networks.py": '@specimen("char_gpt")\ndef char_gpt(seed): ...\n',
    "course_lib/specimens/weights/char_gpt.safetensors": "",
    "course_lib/specimens/weights/gone.safetensors": "",
}
NORM = {"layers/norm/__init__.py", "layers/norm/plain.py", "layers/_shapes.py", "layers/__init__.py"}


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def reached(tree, code: str) -> set[str]:
    """The files that a cell can read, without the package's own ``__init__``."""
    found = {path.relative_to(tree / "course_lib").as_posix() for path in Library(tree).reach(code)}
    return found - {"__init__.py"}


@pytest.mark.parametrize(
    "code",
    [
        "from course_lib.layers.norm import Norm",
        "from course_lib.layers.norm.plain import Norm",
        "from course_lib.layers import norm",
        "import course_lib.layers.norm as n",
        "import course_lib\ncourse_lib.layers.norm.Norm(3)",
        "import importlib\nimportlib.import_module('course_lib.layers.norm')",
        "papers_table('layers/norm')",
        "def draw():\n    from course_lib.layers.norm import Norm",
    ],
)
def test_every_way_to_import_a_chapter_is_seen(tree, code):
    assert reached(tree, code) == NORM


def test_imports_are_followed_also_into_functions(tree):
    assert reached(tree, "from course_lib.layers.conv import later") == NORM | {"layers/conv.py"}


def test_results_count_and_only_their_own(tree):
    found = reached(tree, "from course_lib.experiments.norm import x")
    assert found == NORM | {"experiments/__init__.py", "experiments/norm.py", "experiments/norm.json"}


def test_a_table_side_by_side_reads_the_experiments_and_the_times_of_its_chapter(tree):
    for name in ("experiments/layers/norm.py", "experiments/layers/norm.json", "bench/layers/norm.json"):
        (tree / "course_lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / "course_lib" / name).write_text("")
    read = {"experiments/layers/norm.py", "experiments/layers/norm.json", "bench/layers/norm.json"}
    assert read <= reached(tree, 'side_by_side_table("layers/norm")')
    assert read & reached(tree, 'papers_table("layers/norm")') == set()
    assert read & reached(tree, 'side_by_side_table("layers/conv")') == set()


def test_data_named_in_the_text_counts(tree):
    found = reached(tree, "from course_lib.registry import paper")
    assert found == {"registry.py", "papers.toml"}


def test_the_weights_of_specimens_count(tree):
    found = reached(tree, "from course_lib.specimens import load\nload('char_gpt')")
    modules = {"specimens/__init__.py", "specimens/networks.py"}
    assert found == modules | {"specimens/weights/char_gpt.safetensors"}


@pytest.mark.parametrize(
    ("name", "home"),
    [("claim", {"claims.py"}), ("near", {"claims.py"}), ("explore", {"explore.py"})],
)
def test_a_lazy_package_loads_only_what_is_asked_for(tree, name, home):
    found = reached(tree, f"from course_lib.classroom import {name}")
    assert {f.removeprefix("classroom/") for f in found if f.startswith("classroom/")} == home | {
        "__init__.py"
    }


@pytest.mark.parametrize(
    "code",
    [
        "from course_lib.registry import entries",
        "from course_lib import registry\nregistry.entries()",
        "this is no python",
    ],
)
def test_what_cannot_be_known_depends_on_everything(tree, code):
    everything = {name.removeprefix("course_lib/") for name in TREE if name.endswith(".py")}
    assert reached(tree, code) >= everything - {"__init__.py"}


def test_a_module_with_an_error_is_still_a_dependency(tree):
    assert "layers/broken.py" in reached(tree, "import course_lib.layers.broken")


def test_code_cells_of_all_forms_are_read():
    text = """\
# Title

```{code-cell} ipython3
:tags: [hide-input]
import a
```

````{code-cell} ipython3
---
tags: [x]
---
text = '''
```
'''
````

```python
import not_run
```

~~~{code-cell}
%matplotlib inline
!ls
import b
~~~
"""
    assert code_of(text) == "import a\ntext = '''\n```\n'''\nimport b"


def page(tree, name: str, code: str) -> None:
    """Write a notebook with one cell."""
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(f"# Page\n\n```{{code-cell}} ipython3\n{code}\n```\n")


def test_the_rules_name_source_modules_and_lock(tree):
    page(tree, "book/layers/norm.md", "import course_lib.layers.norm")
    page(tree, "exercises/layers/norm.md", "import course_lib.layers.norm")
    (tree / "book/text.md").write_text("# No code\n")
    (tree / "requirements.lock").write_text("")
    text = rules(tree)
    (rule,) = [line for line in text.splitlines() if line.startswith("build/notebooks/layers/norm.ipynb:")]
    needs = rule.split(": ")[1].split()
    assert needs[0] == "book/layers/norm.md"
    assert "course_lib/layers/norm/plain.py" in needs
    assert "requirements.lock" in needs
    assert "requirements.lock" in EXECUTED_ANEW_WITH
    assert "text" not in text.splitlines()[2]
    assert "\t@$(PY) tools/execute.py --unexecuted exercises/layers/norm.md $@" in text.splitlines()


def test_a_lost_module_executes_the_page_anew(tree):
    page(tree, "book/a.md", "import course_lib.layers.norm")
    rules(tree)
    listing = tree / "build/deps/a.txt"
    before = listing.read_text()
    rules(tree)
    assert listing.read_text() == before
    (tree / "course_lib/layers/norm/plain.py").unlink()
    rules(tree)
    assert listing.read_text() != before


def test_products_of_lost_notebooks_are_removed(tree):
    page(tree, "book/a.md", "1")
    products = tree / "build/notebooks"
    products.mkdir(parents=True)
    (products / "a.ipynb").write_text("{}")
    (products / "b.ipynb").write_text("{}")
    remove_orphans(tree)
    assert [p.name for p in products.iterdir()] == ["a.ipynb"]
    assert len(notebooks(tree)) == 1
