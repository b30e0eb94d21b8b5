"""What can be reckoned with samples: seed by seed, and limits that follow."""

import math
import operator
import subprocess
import sys

import numpy as np
import pytest

from course_lib.measure import Sample, each

A, B = Sample((3.0, 5.0), (0, 1)), Sample((1.0, 4.0), (0, 1))
SHARE = Sample((0.25, 0.75)).bounded(0, 1)
INF = math.inf


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
