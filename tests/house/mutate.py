"""Do the tests of a chapter notice a wrong sign? Change one operator at a time and run them.

    python -m tests.house.mutate layers/norm              # two changes per object, on a copy of the tree
    python -m tests.house.mutate layers/norm --each 10 LayerNorm

Not part of ``make test``: it runs the tests once per change. A change that no test notices is printed: it is
a missing test, or it makes no difference (an eps of 1e-5 taken away, say), which only a reader can tell.
"""

import argparse
import ast
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.house.tree import ROOT, chapter_tests, inside, library_files, parse

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
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def places(definition: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    """Every operator of a definition with the node that holds it; messages and annotations are left alone."""
    found = []
    pending = [definition]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr | ast.Raise):
            continue
        operator = node.ops[0] if isinstance(node, ast.Compare) else getattr(node, "op", None)
        if type(operator) in SWAPS or isinstance(operator, ast.USub):
            found.append((node, operator))
        annotations = {id(getattr(node, name, None)) for name in ("annotation", "returns")}
        pending += [child for child in ast.iter_child_nodes(node) if id(child) not in annotations]
    return sorted(found, key=lambda pair: (pair[0].lineno, pair[0].col_offset))


def mutants(source: str, name: str) -> Iterator[tuple[int, str, str]]:
    """Line, changed expression and changed module, once for every operator of one top-level definition."""
    for number in range(len(places(_definition(ast.parse(source), name)))):
        tree = ast.parse(source)
        node, operator = places(_definition(tree, name))[number]
        if isinstance(operator, ast.USub):
            node.op = ast.UAdd()
        elif isinstance(node, ast.Compare):
            node.ops[0] = SWAPS[type(operator)]()
        else:
            node.op = SWAPS[type(operator)]()
        yield node.lineno, ast.unparse(node), ast.unparse(tree)


def _definition(tree: ast.Module, name: str) -> ast.AST:
    return next(node for node in tree.body if getattr(node, "name", "") == name)


def chosen(chapter: str, names: list[str], each: int, draw: random.Random) -> Iterator[tuple]:
    """File, object, line, change and mutant for a few random changes of each public object of a chapter."""
    for path in library_files(ROOT, chapter):
        source = path.read_text("utf-8")
        for node in parse(path).body:
            name = getattr(node, "name", "_")
            if not name.startswith("_") and name in (names or [name]):
                changes = list(mutants(source, name))
                for change in draw.sample(changes, min(each, len(changes))):
                    yield path, name, *change


def passes(tests: list[str], tree: Path) -> bool:
    """Whether these tests pass in a copy of the tree."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(command, cwd=tree, capture_output=True).returncode == 0


def main() -> int:
    """Print every change that the tests of the chapter do not notice."""
    parser = argparse.ArgumentParser(prog="python -m tests.house.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("chapter", help="such as layers/norm")
    parser.add_argument("names", nargs="*", help="only these objects; default all public ones")
    parser.add_argument("--each", type=int, default=2, help="changes per object, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    options = parser.parse_args()
    tests = [inside(path, ROOT) for path in chapter_tests(ROOT, options.chapter)]
    tried = survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("course_lib", "tests", "tools", "pyproject.toml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, tree / name)
        if not tests or not passes(tests, tree):  # else every change would seem to be noticed
            parser.error(f"{options.chapter} has no tests, or they fail without any change")
        draw = random.Random(options.seed)
        for path, name, line, change, mutant in chosen(options.chapter, options.names, options.each, draw):
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
