"""The planter of faults changes what it should, one thing at a time."""

import ast
import functools
import os
import subprocess
import time

import pytest

from tests.house import mutate
from tests.house.mutate import Collected, in_child, in_place, mutants, named_tests, passes, swap
from tests.house.tree import ROOT

SOURCE = '''
def f(x: int | None, eps=-1):
    """1 + 1 in words."""
    if x < 0:
        raise ValueError(f"{x + 1} is wrong")
    return (x - 1) / 2

def g(x):
    return x + 1
'''


OTHERS = """
class _Kept:
    def forward(self, x, flag=False):
        x = scale(x, by=2, eps=self.eps) if flag else x
        while not done(x):
            x = x
        return x
"""


def test_every_operator_condition_and_number_is_changed_once():
    changes = [change for _, change, _ in mutants(SOURCE, "f")]
    assert sorted(changes) == sorted(
        [
            "-1 -> +1",
            "1 -> 2",  # three times: the start value, and in the last line
            "1 -> 2",
            "0 -> 1",
            "2 -> 3",
            "x < 0 -> x >= 0",
            "x < 0 -> x <= 0",
            "if x < 0: -> if not x < 0:",
            "x - 1 -> x + 1",
            "(x - 1) / 2 -> (x - 1) * 2",
        ]
    )


def test_keywords_are_dropped_booleans_flipped_and_private_definitions_entered():
    changes = {change for _, change, _ in mutants(OTHERS, "_Kept")}
    assert changes == {
        "False -> True",
        "scale(x, by=2, eps=self.eps) -> scale(x, eps=self.eps)",
        "scale(x, by=2, eps=self.eps) -> scale(x, by=2)",
        "2 -> 3",
        "scale(x, by=2, eps=self.eps) if flag else x -> scale(x, by=2, eps=self.eps) if not flag else x",
        "while not done(x): -> while not not done(x):",
    }


CONSTANTS = """
__numerics__ = 1
LIMITS: dict[str, int] = {"low": 3}

def inside(x, known):
    return 0 <= x < LIMITS["low"] and x in known and x is not None and x // 4 % 5
"""


def test_both_ends_of_a_chain_membership_and_the_constants_of_a_module_are_changed():
    changes = {change for _, change, _ in mutants(CONSTANTS, "inside")}
    shown = {change.partition(" -> ")[2] for change in changes if "<=" in change and "and" not in change}
    assert shown == {
        f"0 {low} x {high} LIMITS['low']"
        for low, high in [(">", "<"), ("<", "<"), ("<=", ">="), ("<=", "<=")]
    }
    assert {"x in known -> x not in known", "x is not None -> x is None"} <= changes
    assert {"x // 4 -> x * 4", "x // 4 % 5 -> x // 4 // 5"} <= changes
    [(line, change, mutant)] = mutants(CONSTANTS, "LIMITS")
    assert (line, change) == (3, "3 -> 4")
    assert "__numerics__ = 1" in ast.unparse(mutant)


def test_tests_that_do_not_end_have_noticed(monkeypatch):
    def run(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("pytest", timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert not passes(["tests/test_main.py"], ROOT)


def test_what_runs_at_import_is_not_changed_in_place():
    found = {change: in_place(SOURCE, tree, "here.py") for _, change, tree in mutants(SOURCE, "f")}
    assert found.pop("-1 -> +1") == {}  # the default
    found.pop("1 -> 2")  # of the default and of the last line
    assert {tuple(places) for places in found.values()} == {(("here.py", 2, "f"),)}
    assert all(not in_place(CONSTANTS, tree, "here.py") for _, _, tree in mutants(CONSTANTS, "LIMITS"))


def test_a_change_in_place_reaches_methods_closures_and_what_a_cache_keeps():
    source = "class C:\n    def at(self):\n        return self.x + 1\n\n\ndef kept():\n    return 2 * 3\n"
    names = {"__name__": "course_lib.here"}
    exec(compile(source, "here.py", "exec"), names)
    kept, one = functools.cache(names["kept"]), names["C"]()
    filled = functools.cache(lambda: [])  # as torch's compiler keeps tables in a cache that it fills itself
    filled.__module__ = "torch.somewhere"
    filled().append(1)
    one.x = 4
    assert (one.at(), kept()) == (5, 6)
    for name, change in [("C", "self.x + 1 -> self.x - 1"), ("kept", "2 * 3 -> 2 / 3")]:
        [tree] = [tree for _, found, tree in mutants(source, name) if found == change]
        swap(in_place(source, tree, "here.py"))
    assert (one.at(), kept(), filled()) == (3, 2 / 3, [1])


def test_a_child_answers_dies_or_is_stopped_and_leaves_its_parent_as_it_was():
    here = []
    assert in_child(lambda: here.append(1) or here, 60) == [1]
    assert in_child(lambda: os._exit(1), 60) is None
    assert in_child(lambda: time.sleep(60), 0.1) is None
    assert here == []


def test_a_change_is_tried_on_the_tests_that_call_its_function_and_pass_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    library, tests = tmp_path / "planted_twice.py", tmp_path / "test_planted_twice.py"
    source = "def twice(x):\n    return x * 2 + 0 * x\n\n\ndef half(x):\n    return x / 2\n"
    library.write_text(source)
    bodies = {
        "at_one": "assert twice(1) == 2",
        "fails": "assert twice(1) == 3",
        "half": "assert half(2) == 1",
    }
    lines = [f"def test_{name}():\n    {body}\n" for name, body in bodies.items()]
    tests.write_text("from planted_twice import half, twice\n" + "\n".join(lines))
    (tmp_path / "pytest.ini").write_text("[pytest]")

    def tried():
        seen = {}

        def work(collected):
            seen["calls"] = {n.split("::")[1]: {p[2] for p in c} for n, c in collected.calls.items()}
            for _, change, tree in mutants(source, "twice"):
                seen[change] = collected.notice(in_place(source, tree, str(library)))

        pytest.main(
            ["-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)], [Collected(work)]
        )
        return seen

    seen = in_child(tried, 300)
    calls = seen.pop("calls")
    assert "fails" not in "".join(calls)
    assert "twice" in calls["test_at_one"]
    assert not {"twice", "half"} & calls["test_half"] ^ {"half"}
    assert seen == {
        "x * 2 + 0 * x -> x * 2 - 0 * x": False,  # it makes no difference
        "x * 2 -> x / 2": True,
        "2 -> 3": True,
        "0 * x -> 0 / x": False,
        "0 -> 1": True,
    }


def test_a_mutant_differs_from_the_source_in_one_place_only():
    for line, _, mutant in mutants(SOURCE, "f"):
        assert (text := ast.unparse(mutant)) != ast.unparse(ast.parse(SOURCE))
        assert "1 + 1 in words" in text
        assert "return x + 1" in text
        assert SOURCE.splitlines()[line - 1].strip()


@pytest.mark.parametrize(
    ("place", "one"),
    [
        ("layers/norm", "tests/layers/test_norm.py"),
        ("layers/norm", "tests/test_defaults.py"),
        ("measure/hashing", "tests/measure/test_hashing.py"),
        ("registry", "tests/test_registry.py"),
        ("classroom", "tests/classroom/test_checks.py"),
        ("compare/table", "tests/compare/test_count.py"),
    ],
)
def test_machinery_has_its_tests_too(place, one):
    assert ROOT / one in named_tests(place)
