"""The clock: medians with intervals, turns, and the bytes that the allocator gave out."""

import itertools
import math
import random
import statistics

import pytest
import torch

from course_lib.compare.clock import median_with_interval, peak_bytes, race, relative


@pytest.mark.parametrize("n", [6, 7, 12, 31])
def test_the_interval_of_a_median_has_the_coverage_of_the_binomial(n):
    """The true median lies between the k-th least and the k-th greatest unless fewer than k lie beyond it."""
    low = median_with_interval([float(i) for i in range(n)]).low
    beyond = 2 * sum(math.comb(n, i) for i in range(int(low) + 1)) / 2**n
    one_more = 2 * sum(math.comb(n, i) for i in range(int(low) + 2)) / 2**n
    assert beyond <= 0.05 < one_more


def test_the_interval_holds_the_median_of_a_skewed_law_as_often_as_it_says():
    draw = random.Random(0)
    held = 0
    for _ in range(1000):
        found = median_with_interval([draw.expovariate(1.0) for _ in range(21)])
        held += found.low <= math.log(2) <= found.high
    assert 0.94 <= held / 1000 <= 1.0


def test_the_median_does_not_depend_on_the_order_and_resists_outliers():
    values = [3.0, 1.0, 2.0, 100.0, 2.5, 1.5, 2.2]
    results = {
        median_with_interval(list(order)) for order in itertools.islice(itertools.permutations(values), 50)
    }
    assert len(results) == 1
    assert results.pop().value == statistics.median(values)


def test_a_single_value_is_its_own_interval():
    assert median_with_interval([2.0]) == (2.0, 2.0, 2.0)


def test_contenders_take_turns_and_each_is_timed_in_every_round(clock):
    calls = []
    contenders = {
        "a": clock.spending(0.25, lambda: calls.append("a")),
        "b": clock.spending(0.5, lambda: calls.append("b")),
    }
    assert race(contenders, rounds=4, clock=clock) == {"a": [0.25] * 4, "b": [0.5] * 4}
    assert "".join(calls[-8:]) == "abbaabba"


def test_a_short_function_is_called_several_times_in_one_timing(clock):
    calls = []
    short = clock.spending(0.25, lambda: calls.append("a"))
    assert race({"short": short}, rounds=3, least=1.0, budget=100, clock=clock) == {"short": [0.25] * 3}
    assert len(calls) == 2 + 3 + 3 * 4  # to warm up, to see how long it takes, in the race


def test_ratios_are_taken_round_by_round_so_that_a_busy_spell_changes_none():
    assert relative([3.0, 24.0, 3.0], [1.0, 8.0, 1.0]) == (3.0, 3.0, 3.0)


def test_a_race_ends_when_its_budget_is_spent_but_not_before_five_rounds(clock):
    slow = {"slow": clock.spending(0.01)}
    assert len(race(slow, rounds=1000, budget=0.02, clock=clock)["slow"]) == 5
    assert len(race(slow, rounds=1000, budget=0.075, clock=clock)["slow"]) == 8


def test_the_peak_counts_what_is_alive_at_once():
    x = torch.zeros(50_000)
    assert 400_000 <= peak_bytes(lambda: (x + 1) + 1) < 402_000

    def freed_on_the_way():
        y = x + 1
        del y
        return x + 2

    assert 200_000 <= peak_bytes(freed_on_the_way) < 202_000
