"""The tests themselves: each registered object is named by one, and none of them can only pass."""

import ast
import re

import pytest

from course_lib.registry import entries
from tests.house.tree import (
    ROOT,
    assert_none,
    called,
    chapter_ids,
    chapter_tests,
    files,
    inside,
    parse,
    registered,
)

# What makes a test fail: an assert, or a call whose name says that it checks.
CHECKING = re.compile(r"^(assert|check|require|gradcheck|raises|warns|fail|claim)|_check$|^pytest\.fail$")


def unnamed(root) -> list[str]:
    """Registered objects that no test of their chapter imports and uses."""
    used: dict[str, set[str]] = {}
    found = []
    for item in registered(root):
        part, name = item.chapter.split("/")
        if item.chapter not in used:
            is_ground = item.chapter not in chapter_ids(root)
            tests = (
                (root / "tests" / part).glob(f"test_{name}*.py")
                if is_ground
                else chapter_tests(root, item.chapter)
            )
            used[item.chapter] = {use for path in tests for use in used_names(parse(path))}
        if item.name not in used[item.chapter]:
            found.append(f"{inside(item.path, root)}: {item.name} is used in no tests/{part}/test_{name}*.py")
    return found


def used_names(tree: ast.Module) -> set[str]:
    """Names that a test file imports from the library and then uses."""
    imported = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_lib"):
            imported |= {alias.asname or alias.name: alias.name for alias in node.names}
    loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    attributes = {
        n.attr
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") in imported
    }
    return {name for alias, name in imported.items() if alias in loaded} | attributes


def toothless(root) -> list[str]:
    """Test functions in which nothing can fail."""
    found = []
    for path in files(root / "tests", ".py"):
        tree = parse(path)
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        helpers = {f.name for f in functions if not f.name.startswith("test") and _bites(f, set())}
        for function in functions:
            if function.name.startswith("test") and not _bites(function, helpers):
                found.append(f"{inside(path, root)}: {function.name} asserts nothing")
    return found


def _bites(function: ast.FunctionDef, helpers: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call) and (CHECKING.search(called(node)) or called(node) in helpers):
            return True
    return False


def test_every_registered_object_is_used_in_a_test_of_its_chapter():
    assert_none(unnamed(ROOT))


def test_every_test_asserts_something():
    assert_none(toothless(ROOT))


def test_the_source_shows_every_registered_object():
    shown = {item.name: (item.chapter, item.paper_ids) for item in registered(ROOT)}
    assert shown == {name: (entry.chapter, entry.paper_ids) for name, entry in entries().items()}


LIBRARY = "@implements('toy-paper')\nclass Toy: ..."


@pytest.mark.parametrize(
    "test",
    [
        "",
        "from course_lib.layers.toy import Toy",
        "# Toy",
        "from elsewhere import Toy\nToy()",
        "from course_lib.layers.toy import Toy as Car\nToy()",
    ],
)
def test_an_object_that_no_test_uses_is_found(plant, test):
    root = plant({"course_lib/layers/toy.py": LIBRARY, "tests/layers/test_toy.py": test})
    assert unnamed(root) == ["course_lib/layers/toy.py: Toy is used in no tests/layers/test_toy*.py"]


@pytest.mark.parametrize(
    "test",
    [
        "from course_lib.layers.toy import Toy\ndef test_toy():\n    assert Toy()",
        "from course_lib.layers import toy\ndef test_toy():\n    assert toy.Toy()",
        "from course_lib.layers.toy import Toy as Car\n@parametrize('toy', [Car])\ndef test(toy): ...",
    ],
)
def test_an_object_that_a_test_uses_passes(plant, test):
    root = plant({"course_lib/layers/toy/one.py": LIBRARY, "tests/layers/test_toy_one.py": test})
    assert unnamed(root) == []


def test_a_test_of_another_chapter_does_not_count(plant):
    test = "from course_lib.layers.toy import Toy\ndef test_toy():\n    assert Toy()"
    root = plant({"course_lib/layers/toy.py": LIBRARY, "tests/layers/test_toy_two.py": test})
    assert len(unnamed(root)) == 1


@pytest.mark.parametrize(
    "body", ["x == 1", "print(f())", "assert True", "loss.backward()", "for _ in []: pass"]
)
def test_a_test_that_cannot_fail_is_found(plant, body):
    root = plant({"tests/test_x.py": f"def test_x():\n    {body}\n"})
    assert toothless(root) == ["tests/test_x.py: test_x asserts nothing"]


@pytest.mark.parametrize(
    "body",
    [
        "assert f() == 1",
        "with pytest.raises(ValueError): f()",
        "torch.testing.assert_close(a, b)",
        "assert torch.autograd.gradcheck(f, x)",
        "check_layer(Toy)",
        "compare(f, g)",
    ],
)
def test_a_test_that_can_fail_passes(plant, body):
    helper = "def compare(f, g):\n    assert f() == g()\n"
    assert toothless(plant({"tests/test_x.py": f"{helper}def test_x():\n    {body}\n"})) == []
