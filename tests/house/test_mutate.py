"""The mutation check changes what it should, one operator at a time."""

from tests.house.mutate import mutants

SOURCE = '''
def f(x: int | None, eps=-1):
    """1 + 1 in words."""
    if x < 0:
        raise ValueError(f"{x + 1} is wrong")
    return (x - 1) / 2

def g(x):
    return x + 1
'''


def test_every_operator_of_the_definition_is_changed_once():
    changes = {change for _, change, _ in mutants(SOURCE, "f")}
    assert changes == {"+1", "x >= 0", "x + 1", "(x - 1) * 2"}


def test_a_mutant_differs_from_the_source_in_that_operator_only():
    for line, change, mutant in mutants(SOURCE, "f"):
        assert change in mutant
        assert "1 + 1 in words" in mutant
        assert "return x + 1" in mutant
        assert SOURCE.splitlines()[line - 1].strip()
