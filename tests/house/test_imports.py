"""Importing the library is quick and brings nothing that only the book needs."""

import json
import subprocess
import sys

import pytest

from course_lib.registry import chapters
from tests.house.tree import ROOT, files, library_files, module_name

HEAVY = ("matplotlib", "sklearn", "scipy", "IPython", "networkx", "pandas", "timm", "jupytext")


def measure(code: str) -> dict:
    """Run code in a fresh interpreter, with warnings as errors; it prints one line of JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def heavy_after(code: str) -> list[str]:
    """Which heavy packages are loaded after running some code."""
    return measure(f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")


LOADED = """
import json, sys, torch
before = {*sys.modules}
import course_lib.layers.conv
print(json.dumps(sorted({*sys.modules} - before)))
"""


def test_importing_a_chapter_loads_little_more_than_torch():
    loaded = measure(LOADED)
    packages = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert packages <= {"course_lib", "jaxtyping", "einops", "numpy", "torch", "typing_extensions"}
    parts = {name.split(".")[1] for name in loaded if name.startswith("course_lib.")}
    assert parts <= {"_lazy", "registry", "layers", "contexts", "counting"}
    chapters_loaded = {name.split(".")[2] for name in loaded if name.startswith("course_lib.layers.")}
    assert "conv" in chapters_loaded
    assert not {"activation", "dense", "pool", "structured"} & chapters_loaded


def test_importing_the_package_loads_hardly_anything_of_it():
    code = "import course_lib, json, sys; print(json.dumps([m for m in sys.modules if 'course_lib' in m]))"
    assert {name for name in measure(code) if name[:2] != "__"} <= {"course_lib", "course_lib._lazy"}


def test_importing_the_package_alone_does_not_even_load_torch():
    loaded = measure("import json, sys, course_lib; print(json.dumps('torch' in sys.modules))")
    assert loaded is False


def test_a_chapter_loads_nothing_heavy():
    assert heavy_after("import course_lib.layers.norm") == []


def test_the_whole_library_loads_nothing_that_only_the_book_needs():
    modules = [module_name(path, ROOT) for chapter in chapters() for path in library_files(ROOT, chapter)]
    modules += [module_name(path, ROOT) for path in files(ROOT / "course_lib" / "data", ".py")]
    assert modules
    assert heavy_after(f"import importlib\nfor name in {modules!r}: importlib.import_module(name)") == []


def test_an_unknown_part_of_the_package_is_an_attribute_error():
    import course_lib

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        course_lib.nothing  # noqa: B018
    assert course_lib.layers.__name__ == "course_lib.layers"


def test_a_heavy_import_is_noticed():
    assert heavy_after("import scipy") == ["scipy"]
