"""Exponents against an independent regression."""

import numpy as np
import pytest
from scipy import stats

from course_lib.classroom import growth


@pytest.mark.parametrize(
    ("sizes", "power"), [([1, 2, 4], 1.0), ([3, 5, 11, 13], 2.5), ([8, 4, 2, 1, 16], -0.5)]
)
def test_a_power_law_has_its_exponent_without_doubt(sizes, power):
    found = growth(sizes, [7.0 * size**power for size in sizes])
    assert float(found) == pytest.approx(power)
    assert found.low == pytest.approx(found.high)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_slope_and_interval_are_those_of_scipy(n):
    draw = np.random.default_rng(n)
    sizes = 2.0 ** np.arange(n)
    values = sizes**1.7 * np.exp(0.3 * draw.normal(size=n))
    expected = stats.linregress(np.log(sizes), np.log(values))
    half = stats.t.ppf(0.975, n - 2) * expected.stderr
    found = growth(sizes, values)
    assert found.exponent == pytest.approx(expected.slope)
    assert (found.low, found.high) == pytest.approx((expected.slope - half, expected.slope + half))


def test_a_constant_part_makes_the_exponent_smaller_and_the_interval_wide():
    sizes = [1, 10, 100, 1000]
    pure, with_start = growth(sizes, sizes), growth(sizes, [50 + size for size in sizes])
    assert with_start.exponent < pure.exponent
    assert with_start.high - with_start.low > 0.5


@pytest.mark.parametrize(
    ("sizes", "values", "words"),
    [
        ([1, 2], [1, 2], "three points"),
        ([1, 2, 3], [1, 2], "three points"),
        ([2, 2, 2], [1, 2, 3], "different sizes"),
        ([1, 2, 3], [0, 1, 2], "only positive"),
        ([1, 2, 3], [1, float("nan"), 2], "only positive"),
    ],
)
def test_what_has_no_exponent_is_refused(sizes, values, words):
    with pytest.raises(ValueError, match=words):
        growth(sizes, values)
