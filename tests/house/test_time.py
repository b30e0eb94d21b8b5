"""No test reads the clock: on a busy machine it says nothing. Speed belongs in the bench."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.tree import ROOT, assert_none, called, files, inside, parse

CLOCK = re.compile(
    r"^(perf_counter|monotonic|process_time|thread_time|clock)(_ns)?$|^(timeit|default_timer)$"
)
IN_STRING = re.compile(r"\b(perf_counter|monotonic|process_time|thread_time|timeit|default_timer)\(")

ORDERS = ast.Lt | ast.LtE | ast.Gt | ast.GtE
PATIENCE = 120  # seconds: a process that only starts takes ten times as long on a machine with load 10
WAITING = {"run", "communicate", "wait", "check_output", "check_call"}


def clock_readings(root) -> list[str]:
    """Tests that hold a duration against a limit, and processes that are given up too soon."""
    found = []
    for path in files(root / "tests", ".py"):
        tree, place = parse(path), inside(path, root)
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            found += [f"{place}:{line} {function.name} {fault}" for line, fault in _faults(function)]
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if IN_STRING.search(text) and path.name != Path(__file__).name:
                found.append(f"{place}:{node.lineno} runs code that reads the clock")
    return found


def _faults(function: ast.FunctionDef):
    timed = {
        name.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign)
        and node.value
        and _reads(node.value, set())
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and _is_limit(node.test, timed):
            yield node.lineno, "asserts on a duration"
        if isinstance(node, ast.Call) and called(node) in WAITING:
            for keyword in node.keywords:
                limit = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg == "timeout" and isinstance(limit, int | float) and limit < PATIENCE:
                    yield node.lineno, f"gives up after {limit} seconds"


def _is_limit(test: ast.AST, timed: set[str]) -> bool:
    return any(
        isinstance(node, ast.Compare) and isinstance(node.ops[0], ORDERS) and _reads(node, timed)
        for node in ast.walk(test)
    )


def _reads(expression: ast.AST, timed: set[str]) -> bool:
    """Whether the clock is read in an expression, or a number used that comes from it."""
    return any(
        (isinstance(node, ast.Call) and (CLOCK.match(called(node)) or ast.unparse(node.func) == "time.time"))
        or (isinstance(node, ast.Name) and (node.id in timed or node.id in ("seconds", "elapsed")))
        or (isinstance(node, ast.Attribute) and node.attr in ("seconds", "elapsed"))
        for node in ast.walk(expression)
    )


def test_no_test_reads_the_clock():
    assert_none(clock_readings(ROOT))


@pytest.mark.parametrize(
    "body",
    [
        "start = time.perf_counter()\n    f()\n    assert time.perf_counter() - start < 1",
        "start = monotonic()\n    f()\n    took = monotonic() - start\n    assert f() and took <= 1",
        "end = time.time() + 5\n    while not f():\n        assert 3 < end",
        "report = f()\n    assert report.seconds < 0.5",
        "assert f() < 1 or timeit.timeit(f) < 2",
        "seconds = float(output)\n    assert 0 < seconds < 1",
        "code = 'import time; print(time.process_time())'\n    assert f(code)",
        "f = subprocess.run(command, timeout=30)\n    assert f.returncode == 0",
        "out, _ = process.communicate(timeout=60)\n    assert out",
    ],
)
def test_each_reading_of_the_clock_is_found(plant, body):
    (found,) = clock_readings(plant({"tests/test_x.py": f"def test_x():\n    {body}\n"}))
    assert found.startswith("tests/test_x.py:")


@pytest.mark.parametrize(
    "body",
    [
        "calls = count(f)\n    assert calls < 3",
        "while not f():\n        time.sleep(0.02)\n    assert f()",
        "assert 'seconds' in entry and entry.seconds == 1.0",
        "done = subprocess.run(command, timeout=300)\n    assert done.returncode == 0",
        "with socket.create_connection(address, timeout=5) as client:\n        assert client",
        "later = time.time() + 2\n    os.utime(path, (later, later))\n    assert f()",
    ],
)
def test_what_is_counted_passes(plant, body):
    assert clock_readings(plant({"tests/test_x.py": f"def test_x():\n    {body}\n"})) == []
