"""Docstrings: every part that a reader relies on is there, true to the signature, and its examples run."""

import ast
import doctest
import importlib
import inspect
import re

import pytest
from torch import nn

from course_lib import registry
from course_lib.registry import entries, paper
from tests.house.tree import ROOT, assert_none, definitions, experiments, files, inside, module_name, parse


def documented_arguments(docstring: str) -> list[str] | None:
    """The names under ``Args:``, in order; None without such a part."""
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n?|\n(?=[ ]{4}))*)", docstring, re.MULTILINE)
    if section is None:
        return None
    heads = re.findall(r"^ {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*):", section[1], re.MULTILINE)
    return [name.strip(" *") for head in heads for name in head.split(",")]


def actual_arguments(obj) -> list[str]:
    """The names of the signature; for a class those of its constructor."""
    if getattr(obj, "__init__", None) is nn.Module.__init__:  # (*args, **kwargs), which takes none
        return []
    return list(inspect.signature(obj).parameters)


def general_faults(obj) -> list[str]:
    """What every public object needs: a first sentence, and ``Args`` that are those of the signature."""
    text = inspect.cleandoc(obj.__doc__ or "")
    if not text.split("\n\n")[0].rstrip().endswith("."):
        return ["does not begin with a sentence that stands alone"]
    documented = documented_arguments(text)
    if documented is not None and documented != actual_arguments(obj):
        return [f"documents {documented} where the signature has {actual_arguments(obj)}"]
    return []


def registered_faults(obj, paper_ids, *, is_layer: bool) -> list[str]:
    """What an object that implements a paper needs on top: Args, papers, a shape, an example with output."""
    text = inspect.cleandoc(obj.__doc__ or "")
    faults = general_faults(obj)
    if actual_arguments(obj) and documented_arguments(text) is None:
        faults.append("has arguments but no Args")
    sources = " ".join(text.partition("Paper:")[2].split())
    for row in map(paper, paper_ids):
        if row.title not in sources or row.url not in sources:
            faults.append(f"has no line 'Paper: {row.title} - {row.url}'")
    if is_layer and not re.search(r"^Shape:", text, re.MULTILINE):
        faults.append("is a layer without Shape")
    if not any(example.want for example in doctest.DocTestParser().get_examples(text)):
        faults.append("has no example with a printed value")
    return faults


def examples(path, globs: dict) -> list[doctest.DocTest]:
    """All doctests of a file, found in its text: decorators that check shapes hide functions from doctest."""
    found = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False) or ""
            name = getattr(node, "name", path.stem)
            line = node.body[0].lineno - 1 if node.body else 0
            test = doctest.DocTestParser().get_doctest(text, dict(globs), name, str(path), line)
            found += [test] if test.examples else []
    return found


def failures(tests: list[doctest.DocTest]) -> str:
    """What the doctests print beside what they should; empty if all pass."""
    report: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test, out=report.append)
    return "".join(report)


WITH_EXAMPLES = [p for p in files(ROOT / "course_lib", ".py") if ">>>" in p.read_text("utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: inside(path, ROOT))
def test_the_examples_of_every_module_print_what_they_say(path):
    tests = examples(path, vars(importlib.import_module(module_name(path, ROOT))))
    assert tests
    if report := failures(tests):
        pytest.fail(report, pytrace=False)


def test_every_registered_object_has_every_part_of_a_docstring():
    assert_none(
        [
            f"{entry.module}: {name} {fault}"
            for name, entry in entries().items()
            for fault in registered_faults(entry.obj, entry.paper_ids, is_layer=entry.is_layer)
        ]
    )


def test_every_public_object_has_a_true_docstring():
    found = []
    for path in files(ROOT / "course_lib", ".py"):
        if "exercises" in path.relative_to(ROOT / "course_lib").parts[:1]:
            continue  # right answers and mistakes: what they do stands in the exercise and in the hint
        tree = parse(path)
        public = {d.name for d in definitions(tree)} & {*registry.public_names(module_name(path, ROOT))}
        if {"experiments", "bench"} & {*path.parts} or path.name.startswith("_"):
            public = {*experiments(tree)}
        for name in public:
            obj = getattr(importlib.import_module(module_name(path, ROOT)), name)
            found += [f"{inside(path, ROOT)}: {name} {fault}" for fault in general_faults(obj)]
    assert_none(sorted(found))


def test_every_module_begins_with_a_docstring():
    modules = files(ROOT / "course_lib", ".py")
    assert_none([f"{inside(p, ROOT)} has no docstring" for p in modules if not ast.get_docstring(parse(p))])


def good(dim: int, *, eps: float = 1.0):
    """Do the one thing.

    Args:
        dim: width.
        eps: small,
            over two lines: with a colon.

    Shape: ``(b, d)`` to ``(b, d)``.

    Paper: Layer Normalization -
    https://arxiv.org/abs/1607.06450

    >>> 1 + 1
    2
    """


FAULTY = {
    "a sentence that stands alone": ("Do the one thing.\n\n", "Do the one thing\n\n"),
    "documents ['dim'] where": ("        eps: small,\n            over two lines: with a colon.\n", ""),
    "documents ['width', 'eps'] where": ("dim: width", "width: width"),
    "has arguments but no Args": ("Args:", "Arguments are"),
    "has no line 'Paper: Layer Normalization": ("Layer Normalization -", "Layer Norm -"),
    "https://arxiv.org/abs/1607.06450'": ("1607.06450", "1607.06451"),
    "a layer without Shape": ("Shape:", "From"),
    "no example with a printed value": (">>> 1 + 1\n    2", ">>> x = 2"),
}


def test_a_full_docstring_passes():
    assert registered_faults(good, ["layer-normalization"], is_layer=True) == []


@pytest.mark.parametrize("fault", FAULTY)
def test_each_missing_part_of_a_docstring_is_found(fault):
    def faulty(dim: int, *, eps: float = 1.0): ...

    before, after = FAULTY[fault]
    assert before in good.__doc__
    faulty.__doc__ = good.__doc__.replace(before, after)
    found = registered_faults(faulty, ["layer-normalization"], is_layer=True)
    assert len(found) == 1, found
    assert fault in found[0]


def test_no_docstring_at_all_is_found():
    assert general_faults(lambda: None) != []


def test_arguments_are_read_as_they_are_written():
    text = (
        "Sum up.\n\nArgs:\n    x, y: two numbers.\n    *more: others.\n\nShape: none.\n    not: an argument."
    )
    assert documented_arguments(text) == ["x", "y", "more"]
    assert documented_arguments("Sum up.") is None


def test_a_wrong_example_is_found_also_under_a_decorator(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text('@hide\ndef f():\n    """Add.\n\n    >>> 1 + 1\n    3\n    """\n', "utf-8")
    tests = examples(planted, {})
    assert [test.name for test in tests] == ["f"]
    assert "Expected:\n    3\nGot:\n    2" in failures(tests)


def test_a_warning_in_an_example_is_found(tmp_path):
    planted = tmp_path / "planted.py"
    planted.write_text('"""Warn.\n\n>>> import warnings; warnings.warn("old")\n"""\n', "utf-8")
    assert "UserWarning: old" in failures(examples(planted, {}))
