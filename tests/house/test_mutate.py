"""The planter of faults changes what it should, one thing at a time."""

import ast

import pytest

from tests.house.mutate import mutants, named_tests
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
        ("classroom", "tests/classroom/faulty_layers.py"),
        ("compare/table", "tests/compare/conftest.py"),
    ],
)
def test_machinery_has_its_tests_too(place, first):
    assert inside(named_tests(place)[0], ROOT) == first
