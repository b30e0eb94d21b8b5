"""The planter of faults changes what it should, one thing at a time."""

import ast
import subprocess

import pytest

from tests.house.mutate import mutants, named_tests, passes
from tests.house.tree import ROOT, inside

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
    assert "__numerics__ = 1" in mutant


def test_tests_that_do_not_end_have_noticed(monkeypatch):
    def run(*arguments, timeout, **options):
        raise subprocess.TimeoutExpired("pytest", timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert not passes(["tests/test_main.py"], ROOT)


def test_a_mutant_differs_from_the_source_in_one_place_only():
    for line, _, mutant in mutants(SOURCE, "f"):
        assert mutant != ast.unparse(ast.parse(SOURCE))
        assert "1 + 1 in words" in mutant
        assert "return x + 1" in mutant
        assert SOURCE.splitlines()[line - 1].strip()


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("layers/norm", "tests/layers/test_norm.py"),
        ("measure/hashing", "tests/measure/test_hashing.py"),
        ("registry", "tests/test_registry.py"),
        ("classroom", "tests/classroom/answers_for_tests.py"),
        ("compare/table", "tests/compare/conftest.py"),
    ],
)
def test_machinery_has_its_tests_too(place, first):
    assert inside(named_tests(place)[0], ROOT) == first
