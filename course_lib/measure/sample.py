"""A number measured under several seeds, what can be reckoned with it, and how it is written down."""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

__all__ = ["Sample", "each", "number", "plus_minus", "t_quantile"]


@dataclass(frozen=True, repr=False)
class Sample:
    """One quantity under several seeds: its values, their mean and how far they spread.

    Samples of the same seeds, and plain numbers, are added, subtracted, multiplied and divided seed by seed;
    :func:`each` applies any other function so. Limits follow where they are known: ``1 - accuracy`` stays
    within 0 and 1, a difference of two accuracies within -1 and 1; a quotient of samples has none.

    Args:
        values: one number per seed; NaN where a run gave none.
        seeds: the seeds, in the order of the values; 0, 1, 2, ... unless given.
        limits: what the quantity cannot leave (a share: 0 and 1); the interval ends there.
        doubt: why nothing may be concluded from it, such as an arm that is not trained; whatever is reckoned
            with it inherits the doubt.

    Raises:
        ValueError: if values and seeds differ in number, or a value lies outside the limits.

    >>> accuracy = Sample((0.5, 0.75, 1.0))
    >>> print(accuracy, "|", float(accuracy))
    0.75 ± 0.25 | 0.75
    >>> accuracy
    Sample(0.75 ± 0.25, seeds 0, 1, 2)
    >>> [round(end, 3) for end in accuracy.interval()]
    [0.129, 1.371]
    """

    values: tuple[float, ...]
    seeds: tuple[int, ...] = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    doubt: str = ""

    def __post_init__(self) -> None:
        values = tuple(float(value) for value in self.values)
        seeds = tuple(self.seeds) or tuple(range(len(values)))
        if len(seeds) != len(values):
            raise ValueError(f"{len(values)} values but {len(seeds)} seeds: give one seed per value")
        low, high = map(float, self.limits)
        outside = [value for value in values if not (math.isnan(value) or low <= value <= high)]
        if outside:
            raise ValueError(f"{outside[0]} lies outside the limits {low} and {high}: check the limits")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "seeds", seeds)
        object.__setattr__(self, "limits", (low, high))

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN if a value is NaN or there is none."""
        if not self.values or not all(map(math.isfinite, self.values)):
            return sum(self.values) if self.values else math.nan  # NaN or infinite, as the values are
        if min(self.values) == max(self.values):
            return self.values[0]  # not off by a rounding: constant samples are compared with ``equal``
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """The sample standard deviation over seeds (n - 1 in the denominator); NaN below two values."""
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return math.nan
        mean = self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.values) / (len(self.values) - 1))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """The interval that holds the mean over all seeds with this confidence, by Student's t.

        A sample without spread gives a single point. One value alone says nothing about other seeds: all
        within the limits stays possible. NaN, or no value, gives (NaN, NaN).
        """
        low, high = self.limits
        if math.isnan(self.mean):
            return math.nan, math.nan
        if math.isnan(self.spread):
            return low, high
        half = t_quantile(confidence, len(self.values) - 1) * self.spread / math.sqrt(len(self.values))
        return max(low, self.mean - half), min(high, self.mean + half)

    def bounded(self, low: float, high: float) -> "Sample":
        """The same sample of a quantity that cannot leave ``[low, high]``, as an accuracy cannot pass 1.

        >>> Sample((1.0, 1.0, 0.97)).interval()[1] > 1, Sample((1.0, 1.0, 0.97)).bounded(0, 1).interval()[1]
        (True, 1.0)
        """
        return replace(self, limits=(low, high))

    def _with(self, other: "Sample | float", operation: Callable[[float, float], float]) -> "Sample":
        """Seed by seed; sums, products and shares of a number have their extremes at corners."""
        other = other if isinstance(other, Sample) else self._constant(other)
        corners = [operation(a, b) for a in self.limits for b in other.limits]
        limits = (-math.inf, math.inf)
        if not any(map(math.isnan, corners)):  # of infinite limits, as in infinity minus infinity
            limits = (min(corners), max(corners))
        return replace(each(operation, self, other), limits=limits)

    def _constant(self, value: float) -> "Sample":
        return Sample((float(value),) * len(self), self.seeds, (value, value))

    __array_ufunc__ = None  # numpy's numbers leave the reckoning to the methods below

    def __add__(self, other: "Sample | float") -> "Sample":
        return self._with(other, operator.add)

    def __sub__(self, other: "Sample | float") -> "Sample":
        return self._with(other, operator.sub)

    def __mul__(self, other: "Sample | float") -> "Sample":
        return self._with(other, operator.mul)

    def __truediv__(self, other: "Sample | float") -> "Sample":
        if isinstance(other, Sample):
            return each(lambda a, b: a / b if b else math.nan, self, other)
        return self._with(other, operator.truediv) if other else each(lambda a: math.nan, self)

    def __rsub__(self, other: float) -> "Sample":
        return self._constant(other) - self

    def __rtruediv__(self, other: float) -> "Sample":
        return self._constant(other) / self

    def __neg__(self) -> "Sample":
        return 0 - self

    __radd__ = __add__
    __rmul__ = __mul__

    def __float__(self) -> float:
        return self.mean

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[float]:
        return iter(self.values)

    def __repr__(self) -> str:
        return f"Sample({self}, seeds {', '.join(map(str, self.seeds))})"

    def __str__(self) -> str:
        return plus_minus(self.mean, self.spread)


def each(function: Callable[..., float], *samples: Sample) -> Sample:
    """A function of one number of each sample, seed by seed: what it gives has no limits.

    Args:
        function: of as many numbers as there are samples.
        samples: all of the same seeds.

    Raises:
        ValueError: for samples of different seeds, or none.

    >>> each(max, Sample((0.1, 0.4)), Sample((0.2, 0.3))).values
    (0.2, 0.4)
    """
    seeds = {sample.seeds for sample in samples}
    if len(seeds) != 1:
        found = " and ".join(map(str, sorted(seeds))) or "no sample"
        raise ValueError(f"samples of different seeds cannot be paired: {found}")
    rows = zip(*(sample.values for sample in samples), strict=True)
    doubts = dict.fromkeys(sample.doubt for sample in samples if sample.doubt)
    return Sample(tuple(function(*row) for row in rows), samples[0].seeds, doubt="; ".join(doubts))


def t_quantile(confidence: float, freedom: int) -> float:
    r"""The t for which Student's distribution has the probability ``confidence`` between -t and t.

    >>> round(t_quantile(0.95, 4), 4)
    2.7764
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(f"need 0 < confidence < 1 and freedom >= 1, got {confidence} and {freedom}")
    from scipy.special import stdtrit  # the quantile of scipy.stats.t, without the second of its import

    return float(stdtrit(freedom, (1 + confidence) / 2))


def number(value: float) -> str:
    """A number in few significant digits, whole numbers in full.

    >>> [number(x) for x in (0.97222, 2.38e-07, 12345.6, 3, True, float("nan"))]
    ['0.9722', '2.4e-7', '12346', '3', 'True', 'NaN']
    """
    if isinstance(value, (bool, int)):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if value == 0 or math.isinf(value):
        return f"{value:g}".replace("-0", "0")
    size = abs(value)
    if 1e4 <= size < 1e7:
        return f"{value:.0f}"
    text = f"{value:.4g}" if 1e-4 <= size < 1e4 else f"{value:.2g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def plus_minus(mean: float, spread: float) -> str:
    """A mean and its spread, both written to the second digit of the spread.

    >>> plus_minus(0.97222, 0.00834), plus_minus(3.0, 0.0), plus_minus(2.0, float("nan"))
    ('0.9722 ± 0.0083', '3 ± 0', '2')
    """
    if math.isnan(spread):
        return number(mean)
    if not 1e-5 <= spread < 1e4 or not abs(mean) < 1e7:
        return f"{number(mean)} ± {number(spread)}"
    digits = max(0, 1 - math.floor(math.log10(spread)))
    return f"{round(mean, digits) + 0.0:.{digits}f} ± {spread:.{digits}f}"
