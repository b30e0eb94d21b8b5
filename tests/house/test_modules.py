"""Every module says what is public, keeps to its size, and asks for its options by name."""

import ast
import importlib

import pytest

from course_lib import registry
from tests.house.tree import ROOT, assert_none, definitions, files, inside, module_name, parse, parts

MAX_LINES = 500
MAX_ARGUMENTS = 8
OURS = {"device", "dtype"}  # as torch's own layers take them; they count for nothing here
AS_IN_TORCH = {"eps", "momentum"}  # options that torch's layers take by position


def listed_names(tree: ast.Module) -> list[str] | None:
    """The ``__all__`` of a module, where it has one."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
            return (
                list(ast.literal_eval(node.value)) if isinstance(node.value, ast.List | ast.Tuple) else None
            )
    return None


def bound_names(tree: ast.Module) -> set[str]:
    """All names that a module binds at its top, also under ``if`` and ``try``."""
    inner = {id(n) for d in definitions(tree) for n in ast.walk(d) if n is not d}
    found = set()
    for node in (n for n in ast.walk(tree) if id(n) not in inner):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def unclear_publics(root) -> list[str]:
    """Modules whose ``__all__`` names what is not there, or leaves out a definition without an underscore."""
    found = []
    for path in files(root / "course_lib", ".py"):
        tree, place = parse(path), inside(path, root)
        listed = listed_names(tree)
        if listed is None or any(d.name == "__getattr__" for d in definitions(tree)):
            continue  # what has no underscore is public; what is loaded on demand is tried by importing it
        loose = place.startswith(("course_lib/bench/", "course_lib/experiments/"))  # public is what is marked
        public = set() if loose else {d.name for d in definitions(tree)}
        missing, hidden = {*listed} - bound_names(tree), {n for n in public if n[0] != "_"} - {*listed}
        found += [f"{place}: {name} is public but not in __all__" for name in sorted(hidden)]
        found += [f"{place}: __all__ names {n} twice" for n in {n for n in listed if listed.count(n) > 1}]
        found += [f"{place}: __all__ names {name}, which is not there" for name in sorted(missing)]
    return found


def repeated_names(root) -> list[str]:
    """Public classes that two files of the floors define, and functions that two files of one chapter do."""
    home: dict[tuple[str, str], str] = {}
    found = []
    for part in parts(root):
        for path in files(root / "course_lib" / part, ".py"):
            tree, place = parse(path), inside(path, root)
            listed = listed_names(tree)
            shared = path.name.startswith("_") and listed is None  # a private file defines for its neighbours
            for node in [] if shared else definitions(tree):
                if node.name[0] != "_" and (listed is None or node.name in listed):
                    chapter = ".".join(module_name(path, root).split(".")[:3])
                    key = (node.name, "" if isinstance(node, ast.ClassDef) else chapter)
                    if key in home:
                        found.append(f"{node.name} is defined in {home[key]} and in {place}")
                    home[key] = place
    return found


def long_files(root) -> list[str]:
    """Files of more than 500 lines, lists of answers apart."""
    code = [path for path in files(root, ".py") if not inside(path, root).startswith("tests/exercises/")]
    lengths = ((inside(path, root), len(path.read_text("utf-8").splitlines())) for path in code)
    return [f"{place} has {n} lines, limit {MAX_LINES}" for place, n in lengths if n > MAX_LINES]


def crowded_constructors(root) -> list[str]:
    """Public classes of the floors with more than 8 arguments, or with options that are not keyword-only."""
    return [
        f"{inside(path, root)}: {node.name} {fault}"
        for part in parts(root)
        for path in files(root / "course_lib" / part, ".py")
        for node in definitions(parse(path))
        if isinstance(node, ast.ClassDef) and node.name[0] != "_"
        for method in definitions(node)
        if method.name == "__init__"
        for fault in _faults(method.args)
    ]


def _faults(arguments: ast.arguments) -> list[str]:
    positional = [a.arg for a in [*arguments.posonlyargs, *arguments.args][1:]]  # without self
    free = OURS | {"in_channels", "image_size"}  # what the data are, of a whole classifier of images
    number = len({*positional, *(a.arg for a in arguments.kwonlyargs)} - free)
    faults = [f"takes {number} arguments, limit {MAX_ARGUMENTS}"] if number > MAX_ARGUMENTS else []
    options = positional[len(positional) - len(arguments.defaults) :] if arguments.defaults else []
    options = [name for name in options if name not in OURS | AS_IN_TORCH]
    return faults + [f"takes the option {name} by position; put * before it" for name in options]


def test_every_module_says_what_is_public():
    assert_none(unclear_publics(ROOT))


def test_every_public_name_can_be_had():
    for path in files(ROOT / "course_lib", ".py"):
        name = module_name(path, ROOT)
        module = importlib.import_module(name)
        assert [n for n in registry.public_names(name) if not hasattr(module, n)] == [], path


def test_no_public_name_is_defined_twice():
    assert_none(repeated_names(ROOT))


def test_no_file_is_longer_than_the_limit():
    assert_none(long_files(ROOT))


def test_constructors_are_short_and_options_are_keyword_only():
    assert_none(crowded_constructors(ROOT))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
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
        "def f(): ...\nclass F: ...\nX = 1\nfrom ._x import y as y",
        "__all__ = ['f', 'X', 'dumps']\nfrom json import dumps\nX = 1\ndef f(): ...",
        "__all__ = ['late']\nif True:\n    def late(): ...",
        "__all__ = ['anything']\ndef __getattr__(name): ...",
        "__all__ = list(HOMES)\ndef __getattr__(name): ...",
        "__all__ = ['f']\ndef f(): ...\ndef _private(): ...",
    ],
)
def test_modules_that_are_clear_pass(plant, source):
    assert unclear_publics(plant({"course_lib/layers/toy.py": source})) == []


TOY = "class Toy: ...\ndef play(): ..."


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"layers/toy.py": TOY, "models/cars.py": TOY}, ["Toy"]),
        ({"layers/toy/a.py": TOY, "layers/toy/b.py": "def play(): ..."}, ["play"]),
        ({"layers/toy.py": "def play(): ...", "models/cars.py": "def play(): ..."}, []),
        ({"layers/toy.py": "__all__ = []\nclass Toy: ...", "models/cars.py": TOY}, []),
        ({"layers/toy/__init__.py": "from .one import Toy as Toy", "layers/toy/one.py": TOY}, []),
        ({"layers/toy/_shared.py": "def helper(): ...", "layers/toy/one.py": "def helper(): ..."}, []),
    ],
)
def test_a_class_defined_twice_and_a_function_twice_in_a_chapter_are_found(plant, files, found):
    root = plant({f"course_lib/{name}": text for name, text in files.items()})
    assert [line.split()[0] for line in repeated_names(root)] == found


def test_a_file_over_the_limit_is_found_and_one_at_the_limit_is_not(plant):
    long, full = "x = 1\n" * 501, "x = 1\n" * 500
    root = plant({"tools/long.py": long, "tools/full.py": full, "build/long.py": long})
    assert long_files(root) == ["tools/long.py has 501 lines, limit 500"]


@pytest.mark.parametrize(
    ("signature", "faults"),
    [
        ("self, a, b, c, d, e, *, f=1, g=2, h=3, i=4", ["Toy takes 9 arguments, limit 8"]),
        ("self, dim, bias=True", ["Toy takes the option bias by position; put * before it"]),
        ("self, dim, eps=1e-5, *, c=1, d=1, e=1, f=1, g=1, h=1, device=None, dtype=None", []),
    ],
)
def test_a_crowded_constructor_is_found(plant, signature, faults):
    private = "class _Toy:\n    def __init__(self, a=1): ..."
    toy = f"class Toy:\n    def __init__({signature}): ...\n{private}"
    root = plant({"course_lib/layers/toy.py": toy})
    assert crowded_constructors(root) == [f"course_lib/layers/toy.py: {fault}" for fault in faults]
