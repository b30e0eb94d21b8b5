"""Do the tests notice a wrong sign? Change one thing at a time and run them: a planter of faults.

    python -m tests.house.mutate layers/norm              # two changes per definition, on a copy of the tree
    python -m tests.house.mutate layers/norm --each 10 LayerNorm
    python -m tests.house.mutate measure/store            # machinery: a file, or a folder such as classroom

An operator becomes another, ``<`` becomes ``>=`` and ``<=``, a keyword of a call is dropped, a number grows
by one, a boolean is flipped, a condition negated; in public and private definitions and in the constants of a
module alike. Not part of ``make test``: it runs the tests once per change. A change that no test notices is
printed: it is a missing test, or it makes no difference (an eps of 1e-5 taken away, say), which only a reader
can tell. A change that makes the tests run on without end is noticed.
"""

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.house.tree import ROOT, chapter_tests, definitions, files, inside, library_files, parse

SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Add,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
ENDS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}  # whether the end belongs to it
HANGS = 1200  # seconds after which the tests of one place are taken to run on for ever


def changes(definition: ast.AST) -> list[tuple[ast.AST, Callable[[], object]]]:
    """Every change of a definition, as the node and what changes it; not of messages, types and examples."""
    found: list[tuple[ast.AST, Callable[[], object]]] = []
    pending = [definition]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr | ast.Raise) or getattr(node, "arg", None) == "example":
            continue
        found += [(node, change) for change in _changes_of(node)]
        annotations = {id(getattr(node, name, None)) for name in ("annotation", "returns")}
        pending += [child for child in ast.iter_child_nodes(node) if id(child) not in annotations]
    return sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset))


def _changes_of(node: ast.AST) -> Iterator[Callable[[], object]]:
    operator = getattr(node, "op", None)
    if isinstance(node, ast.Compare):
        for place, comparison in enumerate(node.ops):
            for table in (SWAPS, ENDS):
                if type(comparison) in table:
                    yield partial(node.ops.__setitem__, place, table[type(comparison)]())
    elif type(operator) in SWAPS:
        yield partial(setattr, node, "op", SWAPS[type(operator)]())
    elif isinstance(operator, ast.USub):
        yield partial(setattr, node, "op", ast.UAdd())
    if isinstance(node, ast.Call):
        yield from (partial(node.keywords.remove, keyword) for keyword in node.keywords)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield partial(setattr, node, "value", not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield partial(setattr, node, "value", node.value + 1)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield partial(setattr, node, "test", ast.UnaryOp(ast.Not(), node.test))


def mutants(source: str, name: str) -> Iterator[tuple[int, str, str]]:
    """Line, changed code and changed module, once for every change of one name at the top of a module."""
    for number in range(len(changes(_definition(ast.parse(source), name)))):
        tree = ast.parse(source)
        node, change = changes(_definition(tree, name))[number]
        before = ast.unparse(node)
        change()
        after = ast.unparse(node)
        yield node.lineno, f"{before.splitlines()[0]} -> {after.splitlines()[0]}", ast.unparse(tree)


def _named(tree: ast.Module) -> dict[str, ast.AST]:
    """The functions, classes and constants at the top of a module."""
    found = {node.name: node for node in definitions(tree)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and not target.id.startswith("__"):
                found.setdefault(target.id, node)
    return found


def _definition(tree: ast.Module, name: str) -> ast.AST:
    return _named(tree)[name]


def chosen(place: str, names: list[str], each: int, draw: random.Random) -> Iterator[tuple]:
    """File, definition, line, change and mutant for a few random changes of each definition of a place."""
    for path in library_files(ROOT, place):
        source = path.read_text("utf-8")
        for name in _named(parse(path)):
            if name in (names or [name]):
                possible = list(mutants(source, name))
                for change in draw.sample(possible, min(each, len(possible))):
                    yield path, name, *change


def named_tests(place: str) -> list[Path]:
    """The tests of a chapter; of machinery those of the same name, else all of its folder."""
    folder, _, name = place.rpartition("/")
    own = chapter_tests(ROOT, place) if folder else sorted((ROOT / "tests").glob(f"test_{place}*.py"))
    if own and folder:
        return [*own, ROOT / "tests/test_defaults.py"]
    return own or files(ROOT / "tests" / (folder or name), ".py")


def passes(tests: list[str], tree: Path) -> bool:
    """Whether these tests pass in a copy of the tree, and end at all."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, timeout=HANGS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    """Print every change that the tests do not notice."""
    parser = argparse.ArgumentParser(prog="python -m tests.house.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("place", help="a chapter such as layers/norm, or machinery such as measure/store")
    parser.add_argument("names", nargs="*", help="only these definitions; default all")
    parser.add_argument("--each", type=int, default=2, help="changes per definition, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    tests = [inside(path, ROOT) for path in named_tests(options.place)]
    tried = survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("course_lib", "tests", "tools", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / name)
        if not tests or not passes(tests, tree):  # else every change would seem to be noticed
            parser.error(f"{options.place} has no tests, or they fail without any change")
        draw = random.Random(options.seed)
        for path, name, line, change, mutant in chosen(options.place, options.names, options.each, draw):
            copy = tree / inside(path, ROOT)
            copy.write_text(mutant, "utf-8")
            tried += 1
            if passes(tests, tree):
                survived += 1
                print(f"{inside(path, ROOT)}:{line} {name}: no test notices {change}", flush=True)
            shutil.copy(path, copy)
    print(f"{tried} changes, {survived} unnoticed")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
