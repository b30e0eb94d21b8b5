"""Every module says what is public, keeps to its size, and asks for its options by name."""

import ast
import importlib

import pytest

from tests.house.tree import (
    ROOT,
    assert_none,
    definitions,
    experiments,
    files,
    inside,
    module_name,
    parse,
    parts,
)

MAX_LINES = 500
MAX_ARGUMENTS = 8


def public_names(tree: ast.Module) -> list[str] | None:
    """The ``__all__`` of a module, or None; empty where a package with ``__getattr__`` computes it."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            if isinstance(node.value, ast.List | ast.Tuple) or not is_lazy(tree):
                return list(ast.literal_eval(node.value))
            return []
    return None


def is_lazy(tree: ast.Module) -> bool:
    """Whether a module loads its names when they are asked for."""
    return any(d.name == "__getattr__" for d in definitions(tree))


def bound_names(tree: ast.Module) -> set[str]:
    """All names that a module binds at its top, also under ``if`` and ``try``."""
    inner = {id(n) for d in definitions(tree) for n in ast.walk(d) if n is not d}
    found = set()
    for node in ast.walk(tree):
        if id(node) in inner:
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def unclear_publics(root) -> list[str]:
    """Modules whose ``__all__`` is missing, names what is not there, or leaves out a public definition."""
    found = []
    for path in files(root / "course_lib", ".py"):
        tree, place = parse(path), inside(path, root)
        listed = public_names(tree)
        private = any(p.startswith("_") for p in path.relative_to(root / "course_lib").with_suffix("").parts)
        docstring_only = all(isinstance(n, ast.Expr) for n in tree.body)
        _, top, *rest = path.relative_to(root).parts
        marked = experiments(tree) if top == "experiments" else []
        if top == "bench" and len(rest) > 1 and path.name != "__init__.py":
            marked = ["CASES"]  # the functions that make them are named like the layers that they race
        if listed is None:
            if not marked and not docstring_only and (not private or path.name == "__init__.py"):
                found.append(f"{place} has no __all__")
            continue
        public = {*marked} or {d.name for d in definitions(tree) if not d.name.startswith("_")}
        found += [f"{place}: {name} is public but not in __all__" for name in sorted(public - {*listed})]
        found += [
            f"{place}: __all__ names {name} twice" for name in {n for n in listed if listed.count(n) > 1}
        ]
        if not is_lazy(tree):  # those are tried by importing them
            missing = {*listed} - bound_names(tree)
            found += [f"{place}: __all__ names {name}, which is not there" for name in sorted(missing)]
    return found


def repeated_names(root) -> list[str]:
    """Public names that two files of the floors define."""
    home: dict[str, str] = {}
    found = []
    for part in parts(root):
        for path in files(root / "course_lib" / part, ".py"):
            tree = parse(path)
            for name in {d.name for d in definitions(tree)} & {*(public_names(tree) or ())}:
                if name in home:
                    found.append(f"{name} is defined in {home[name]} and in {inside(path, root)}")
                home[name] = inside(path, root)
    return found


def long_files(root) -> list[str]:
    """Files of more than 500 lines."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files(root, ".py")}
    return [
        f"{inside(path, root)} has {n} lines, limit {MAX_LINES}"
        for path, n in lengths.items()
        if n > MAX_LINES
    ]


def crowded_constructors(root) -> list[str]:
    """Public classes of the floors with more than 8 arguments, or with options that are not keyword-only."""
    found = []
    for part in parts(root):
        for path in files(root / "course_lib" / part, ".py"):
            classes = [
                d for d in definitions(parse(path)) if isinstance(d, ast.ClassDef) and d.name[0] != "_"
            ]
            for node in classes:
                for method in definitions(node):
                    if method.name == "__init__":
                        found += [
                            f"{inside(path, root)}: {node.name} {fault}" for fault in _faults(method.args)
                        ]
    return found


def _faults(arguments: ast.arguments) -> list[str]:
    positional = [*arguments.posonlyargs, *arguments.args][1:]  # without self
    number = len(positional) + len(arguments.kwonlyargs)
    faults = [f"takes {number} arguments, limit {MAX_ARGUMENTS}"] if number > MAX_ARGUMENTS else []
    options = (
        [a.arg for a in positional[len(positional) - len(arguments.defaults) :]] if arguments.defaults else []
    )
    return faults + [f"takes the option {name} by position; put * before it" for name in options]


def test_every_module_says_what_is_public():
    assert_none(unclear_publics(ROOT))


def test_every_public_name_can_be_had():
    for path in files(ROOT / "course_lib", ".py"):
        if public_names(parse(path)) is not None:
            module = importlib.import_module(module_name(path, ROOT))
            assert [name for name in module.__all__ if not hasattr(module, name)] == [], path


def test_no_public_name_is_defined_twice():
    assert_none(repeated_names(ROOT))


def test_no_file_is_longer_than_the_limit():
    assert_none(long_files(ROOT))


def test_constructors_are_short_and_options_are_keyword_only():
    assert_none(crowded_constructors(ROOT))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def f(): ...", "has no __all__"),
        ("X = 1", "has no __all__"),
        ("__all__ = []\ndef f(): ...", "f is public but not in __all__"),
        ("__all__ = []\nclass F: ...", "F is public but not in __all__"),
        ("__all__ = ['g']", "__all__ names g, which is not there"),
        ("__all__ = ['g']\ndef f():\n    g = 1\n__all__ = ['g', 'f']", "__all__ names g, which is not there"),
        ("__all__ = ['f', 'f']\ndef f(): ...", "__all__ names f twice"),
    ],
)
def test_each_fault_of_all_is_found(plant, source, fault):
    root = plant({"course_lib/layers/toy.py": source})
    assert any(fault in found for found in unclear_publics(root)), unclear_publics(root)


@pytest.mark.parametrize(
    "source",
    [
        '"""Only words."""',
        "__all__ = ['f', 'X', 'dumps']\nfrom json import dumps\nX = 1\ndef f(): ...",
        "__all__ = ['late']\nif True:\n    def late(): ...",
        "__all__ = ['anything']\ndef __getattr__(name): ...",
        "__all__ = list(HOMES)\ndef __getattr__(name): ...",
        "__all__ = ['f']\ndef f(): ...\ndef _private(): ...",
    ],
)
def test_modules_that_are_clear_pass(plant, source):
    assert unclear_publics(plant({"course_lib/layers/toy.py": source})) == []


@pytest.mark.parametrize("listed", ["", "__all__ = ['f']\n"])
def test_what_is_public_in_a_file_of_experiments_is_what_is_marked(plant, listed):
    source = listed + "def helper(): ...\n@experiment(paper='toy-paper')\ndef f(seed): ..."
    assert unclear_publics(plant({"course_lib/experiments/layers/toy.py": source})) == []
    assert len(unclear_publics(plant({"course_lib/layers/toy.py": source}))) == 1


def test_a_file_of_experiments_must_hold_one(plant):
    assert len(unclear_publics(plant({"course_lib/experiments/layers/toy.py": "def f(seed): ..."}))) == 1


def test_what_is_public_in_a_file_of_the_bench_are_its_cases(plant):
    source = "def toy(size): ...\nCASES = []\n"
    listed = {"course_lib/bench/layers/toy.py": "__all__ = ['CASES']\n" + source}
    assert unclear_publics(plant(listed)) == []
    (found,) = unclear_publics(plant({"course_lib/bench/layers/toy.py": "__all__ = []\n" + source}))
    assert "CASES is public but not in __all__" in found


def test_a_private_module_needs_no_all(plant):
    assert unclear_publics(plant({"course_lib/layers/_toy.py": "def f(): ..."})) == []
    assert len(unclear_publics(plant({"course_lib/layers/toy/__init__.py": "def f(): ..."}))) == 1


def test_a_name_defined_in_two_chapters_is_found(plant):
    toy = "__all__ = ['Toy']\nclass Toy: ..."
    root = plant({"course_lib/layers/toy.py": toy, "course_lib/models/cars.py": toy})
    assert repeated_names(root) == [
        "Toy is defined in course_lib/layers/toy.py and in course_lib/models/cars.py"
    ]


def test_a_name_that_is_passed_on_by_its_package_is_no_repetition(plant):
    root = plant(
        {
            "course_lib/layers/toy/__init__.py": "from .one import Toy\n__all__ = ['Toy']",
            "course_lib/layers/toy/one.py": "__all__ = ['Toy']\nclass Toy: ...\ndef _helper(): ...",
            "course_lib/layers/toy_two.py": "__all__ = []\ndef _helper(): ...",
        }
    )
    assert repeated_names(root) == []


def test_a_file_over_the_limit_is_found_and_one_at_the_limit_is_not(plant):
    root = plant(
        {"tools/long.py": "x = 1\n" * 501, "tools/full.py": "x = 1\n" * 500, "build/long.py": "\n" * 999}
    )
    assert long_files(root) == ["tools/long.py has 501 lines, limit 500"]


@pytest.mark.parametrize(
    ("signature", "fault"),
    [
        ("self, a, b, c, d, e, *, f=1, g=2, h=3, i=4", "Toy takes 9 arguments, limit 8"),
        ("self, dim, eps=1e-5", "Toy takes the option eps by position; put * before it"),
    ],
)
def test_a_crowded_constructor_is_found(plant, signature, fault):
    root = plant({"course_lib/layers/toy.py": f"class Toy:\n    def __init__({signature}): ..."})
    assert crowded_constructors(root) == [f"course_lib/layers/toy.py: {fault}"]


def test_a_constructor_at_the_limit_and_a_private_class_pass(plant):
    full = "class Toy:\n    def __init__(self, a, b, *, c=1, d=1, e=1, f=1, g=1, h=1): ..."
    private = "class _Toy:\n    def __init__(self, a=1): ..."
    assert crowded_constructors(plant({"course_lib/layers/toy.py": f"{full}\n{private}"})) == []
