"""What can be reckoned with samples: seed by seed, and limits that follow."""

import math
import operator
import statistics
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from course_lib.measure import Sample, each
from course_lib.measure.sample import number, plus_minus, t_quantile

A, B = Sample((3.0, 5.0), (0, 1)), Sample((1.0, 4.0), (0, 1))
SHARE = Sample((0.25, 0.75)).bounded(0, 1)
INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (A + B, (4, 9)),
        (A + 1, (4, 6)),
        (1 + A, (4, 6)),
        (sum([A, B, A]) / 3, (7 / 3, 14 / 3)),
        (A - B, (2, 1)),
        (1 - A, (-2, -4)),
        (np.float64(1) - A, (-2, -4)),
        (-A, (-3, -5)),
        (A * B, (3, 20)),
        (2 * A, (6, 10)),
        (A / B, (3, 1.25)),
        (A / 2, (1.5, 2.5)),
        (15 / A, (5, 3)),
        (each(max, A, B, 2 * B), (3, 8)),
        (each(math.log, A), (math.log(3), math.log(5))),
    ],
)
def test_reckoning_goes_seed_by_seed(made, values):
    assert made.values == values
    assert made.seeds == (0, 1)


@pytest.mark.parametrize("made", [A / 0, A / Sample((0.0, 0.0))])
def test_division_by_nothing_gives_no_number(made):
    assert all(map(math.isnan, made))


@pytest.mark.parametrize(
    ("made", "limits"),
    [
        (1 - SHARE, (0, 1)),
        (SHARE - SHARE, (-1, 1)),
        (SHARE + SHARE, (0, 2)),
        (-SHARE, (-1, 0)),
        (100 * SHARE, (0, 100)),
        (SHARE / -2, (-0.5, 0)),
        (SHARE * SHARE, (0, 1)),
        (SHARE + A, (-INF, INF)),
        (SHARE * A, (-INF, INF)),
        (A - A, (-INF, INF)),
        (A.bounded(0, INF) + SHARE, (0, INF)),
        (A.bounded(0, INF) - A.bounded(0, INF), (-INF, INF)),
        (SHARE / SHARE, (-INF, INF)),
        (each(min, SHARE, SHARE), (-INF, INF)),
    ],
)
def test_limits_follow_where_they_are_known(made, limits):
    assert made.limits == limits


@pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_other_seeds_are_not_paired(operation):
    with pytest.raises(ValueError, match=r"different seeds cannot be paired: \(0, 1\) and \(1, 2\)"):
        operation(A, Sample((1.0, 4.0), (1, 2)))


def test_each_needs_a_sample():
    with pytest.raises(ValueError, match="cannot be paired: no sample"):
        each(max)


def test_reading_results_needs_no_scipy():
    """It is asked for an interval only: its import takes longer than a page needs for its numbers."""
    code = "import sys, course_lib.measure; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30, 199, 200])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_quantile_is_scipys(freedom, confidence):
    expected = scipy.stats.t.ppf((1 + confidence) / 2, freedom)
    assert t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_interval_is_scipys():
    values = np.random.default_rng(0).normal(3.0, 2.0, 7)
    sample = Sample(tuple(values))
    expected = scipy.stats.t.interval(0.95, 6, loc=values.mean(), scale=scipy.stats.sem(values))
    assert sample.interval() == pytest.approx(expected, rel=1e-9)
    assert sample.spread == pytest.approx(statistics.stdev(values))


def test_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(1).normal(0.5, 1.0, (4000, 5))
    inside = [low <= 0.5 <= high for low, high in (Sample(tuple(row)).interval() for row in draws)]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)  # four standard errors


def test_constant_sample_is_one_exact_point():
    sample = Sample((0.1,) * 3)
    assert (sample.mean, sample.spread, sample.interval()) == (0.1, 0.0, (0.1, 0.1))


@pytest.mark.parametrize("values", [(), (NAN,), (1.0, NAN), (NAN, 1.0, 1.0)])
def test_no_number_gives_no_mean(values):
    assert math.isnan(Sample(values).mean)
    assert all(map(math.isnan, Sample(values).interval()))


def test_one_value_leaves_everything_possible():
    assert Sample((0.5,)).interval() == (-math.inf, math.inf)
    assert Sample((0.5,)).bounded(0, 1).interval() == (0, 1)


def test_sample_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="2 values but 3 seeds"):
        Sample((1.0, 2.0), (0, 1, 2))
    with pytest.raises(ValueError, match=r"1\.2 lies outside"):
        Sample((0.5, 1.2)).bounded(0, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.0, "0"), (-2.5, "-2.5"), (1e-6, "1e-6"), (1234.56, "1235"), (99999.6, "100000"),
     (3e9, "3e9"), (math.inf, "inf"), (10**12, "1000000000000"), (False, "False")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_mean_and_spread_end_at_the_same_digit():
    assert plus_minus(12.3456, 1.234) == "12.3 ± 1.2"
    assert plus_minus(1234.5, 250.0) == "1234 ± 250"
    assert plus_minus(-0.0001, 0.05) == "0.000 ± 0.050"
    assert plus_minus(3e-7, 2e-8) == "3e-7 ± 2e-8"
