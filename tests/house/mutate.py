"""Do the tests notice a wrong sign? Change one thing at a time and run them: a planter of faults.

    python -m tests.house.mutate layers/norm              # a sample of all changes
    python -m tests.house.mutate layers/norm --number 20 LayerNorm
    python -m tests.house.mutate measure/store            # machinery: a file, or a folder such as classroom

An operator becomes another, ``<`` becomes ``>=`` and ``<=``, a keyword of a call is dropped, a number grows
by one, a boolean is flipped, a condition negated; in public and private definitions and in the constants of a
module alike. Not part of ``make test``: it runs tests once per change. A change that no test notices is
printed: it is a missing test, or it makes no difference (an eps of 1e-5 taken away, say), which only a reader
can tell. A change that makes the tests run on without end is noticed.

The tests are collected once. A change inside a function is then made in a copy of the running process, and
only those tests are run that call the function, the quickest first: seconds. What they do not notice, and a
change of what runs at import, is tried on a copy of the tree with all tests of the place; ``--quick`` leaves
that out.
"""

import argparse
import ast
import cProfile
import functools
import gc
import inspect
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

from tests.house.tree import (
    ROOT,
    chapter_tests,
    definitions,
    files,
    inside,
    library_files,
    parse,
    registered,
)

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
OF_ALL = "tests/test_layers_in_use.py"  # runs over all layers, by name
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


def mutants(source: str, name: str) -> Iterator[tuple[int, str, ast.Module]]:
    """Line, changed code and the tree of the changed module, once for every change of one name at its top."""
    for number in range(len(changes(_named(ast.parse(source))[name]))):
        yield mutant(source, name, number)


def mutant(source: str, name: str, number: int) -> tuple[int, str, ast.Module]:
    """The change of this number."""
    tree = ast.parse(source)
    node, change = changes(_named(tree)[name])[number]
    before = ast.unparse(node)
    change()
    after = ast.unparse(node)
    return node.lineno, f"{before.splitlines()[0]} -> {after.splitlines()[0]}", tree


def _named(tree: ast.Module) -> dict[str, ast.AST]:
    """The functions, classes and constants at the top of a module."""
    found = {node.name: node for node in definitions(tree)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and not target.id.startswith("__"):
                found.setdefault(target.id, node)
    return found


def chosen(place: str, names: list[str], number: int, draw: random.Random) -> list[tuple[Path, str, int]]:
    """File, definition and number of some random changes of a place."""
    possible = [
        (path, name, which)
        for path in library_files(ROOT, place)
        for name, definition in _named(parse(path)).items()
        if name in (names or [name])
        for which in range(len(changes(definition)))
    ]
    return draw.sample(possible, min(number, len(possible)))


def layers_of(place: str) -> list[str]:
    """The registered objects of a chapter."""
    return [entry.name for entry in registered(ROOT) if entry.chapter == place]


def named_tests(place: str) -> list[Path]:
    """The tests of a chapter; of machinery those of the same name, else all of its folder."""
    folder, _, name = place.rpartition("/")
    own = chapter_tests(ROOT, place) if folder else sorted((ROOT / "tests").glob(f"test_{place}*.py"))
    if own and folder:
        return [ROOT / "tests/test_defaults.py", *own, *([ROOT / OF_ALL] if layers_of(place) else [])]
    return own or files(ROOT / "tests" / (folder or name), ".py")


def passes(tests: list[str], tree: Path) -> bool:
    """Whether these tests pass in a copy of the tree, and end at all."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        return subprocess.run(command, cwd=tree, capture_output=True, timeout=HANGS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def passes_afresh(path: Path, mutant: ast.Module, tests: list[str]) -> bool:
    """The same with one file changed, from the first import on."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("course_lib", "tests", "tools", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder) / name)
        (Path(folder) / inside(path, ROOT)).write_text(ast.unparse(mutant), "utf-8")
        return passes(tests, Path(folder))


Place = tuple[str, int, str]  # of a function: file, first line, name


def place_of(code: CodeType) -> Place:
    """Where the source of some code stands."""
    return code.co_filename, code.co_firstlineno, code.co_name


def codes(tree: ast.Module, path: str) -> dict[Place, CodeType]:
    """The code of a module and of every class, function and lambda in it."""
    pending, found = [compile(tree, path, "exec")], {}
    while pending:
        code = pending.pop()
        found[place_of(code)] = code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def in_place(source: str, mutant: ast.Module, path: str) -> dict[Place, CodeType]:
    """The changed code of functions, or none if what runs at import is changed: a default, a constant."""
    before, after = codes(ast.parse(source), path), codes(ast.fix_missing_locations(mutant), path)
    changed = {place: code for place, code in after.items() if code != before[place]}
    functions = {place: code for place, code in changed.items() if code.co_flags & inspect.CO_OPTIMIZED}
    others = changed.keys() - functions.keys()
    return {} if any(_own(before[place]) != _own(after[place]) for place in others) else functions


def _own(code: CodeType) -> tuple:
    return code.co_code, code.co_names, [c for c in code.co_consts if not isinstance(c, CodeType)]


def swap(changed: dict[Place, CodeType]) -> None:
    """Give every living function of these places its changed code, and forget what our caches keep."""
    for living in gc.get_objects():
        if type(living) is functools._lru_cache_wrapper:  # isinstance would wake proxies
            if str(living.__module__).startswith("course_lib"):  # torch fills some of its own itself
                living.cache_clear()
        elif type(living) is FunctionType and (code := changed.get(place_of(living.__code__))):
            living.__code__ = code


def in_child(work: Callable[[], Any], seconds: float) -> Any:
    """What some work gives in a copy of this process; None if the copy dies or takes longer."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def answer() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # the dots of the tests
        theirs.send(work())
        os._exit(0)

    child = context.Process(target=answer)
    child.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(seconds) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


class Collected:
    """A plugin of pytest that collects the tests once and hands them to some work instead of running them."""

    def __init__(self, work: Callable[["Collected"], None], layers: Collection[str] = ()) -> None:
        self.work, self.layers, self.failed = work, layers, False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Of what runs over all layers, leave those that are asked for."""
        items[:] = [
            item
            for item in items
            if not item.nodeid.startswith(OF_ALL)
            or item.nodeid.endswith(tuple(f"[{n}]" for n in self.layers))
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a failure."""
        self.failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Find out what each test calls, then do the work."""
        self.tests = {item.nodeid: item for item in session.items}
        self.seconds, self.calls = in_child(self._survey, HANGS) or ({}, {})
        self.work(self)
        return True

    def passes(self, name: str) -> bool:
        """Whether one test does, here and now."""
        self.failed, test = False, self.tests[name]
        test.config.hook.pytest_runtest_protocol(item=test, nextitem=None)
        return not self.failed

    def _survey(self) -> tuple[dict[str, float], dict[str, set[Place]]]:
        seconds, calls = {}, {}
        for name in self.tests:
            profile, start = cProfile.Profile(builtins=False), time.perf_counter()
            with profile:
                passed = self.passes(name)
            if passed:
                seconds[name] = time.perf_counter() - start
                called = [entry.code for entry in profile.getstats() if isinstance(entry.code, CodeType)]
                calls[name] = {place_of(c) for c in called if c.co_filename.startswith(str(ROOT))}
        return seconds, calls

    def notice(self, changed: dict[Place, CodeType]) -> bool:
        """Whether a test that calls a changed function fails or runs on without end."""
        callers = [name for name, called in self.calls.items() if not called.isdisjoint(changed)]
        callers.sort(key=self.seconds.__getitem__)

        def unchanged() -> bool:
            swap(changed)
            return all(map(self.passes, callers))

        return not in_child(unchanged, 30 + 5 * sum(map(self.seconds.__getitem__, callers)))


def main() -> int:
    """Print every change that the tests do not notice."""
    parser = argparse.ArgumentParser(prog="python -m tests.house.mutate", description=__doc__.splitlines()[0])
    parser.add_argument("place", help="a chapter such as layers/norm, or machinery such as measure/store")
    parser.add_argument("names", nargs="*", help="only these definitions; default all")
    parser.add_argument("--number", type=int, default=25, help="of changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--quick", action="store_true", help="only what can be changed in a running process")
    options = parser.parse_args()
    tests = [inside(path, ROOT) for path in named_tests(options.place)]
    results = []

    def work(collected: Collected) -> None:
        for name in collected.tests.keys() - collected.seconds.keys():
            print(f"left out, for it fails without any change: {name}")
        draw = random.Random(options.seed)
        for path, name, number in chosen(options.place, options.names, options.number, draw):
            source = path.read_text("utf-8")
            line, change, tree = mutant(source, name, number)
            changed = in_place(source, tree, str(path))
            if options.quick and not changed:
                continue
            noticed = bool(changed) and collected.notice(changed)
            if not noticed and not options.quick:
                noticed = not passes_afresh(path, tree, [*collected.seconds])
            results.append(noticed)
            if not noticed:
                print(f"{inside(path, ROOT)}:{line} {name}: no test notices {change}", flush=True)

    quietly = ["-q", "-s", "--no-header", "-p", "no:cacheprovider"]
    early = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what this file has imported
    pytest.main([*quietly, *early, *tests], plugins=[Collected(work, layers_of(options.place))])
    print(f"{len(results)} changes, {results.count(False)} unnoticed")
    return int(not all(results) or not results)


if __name__ == "__main__":
    sys.exit(main())
