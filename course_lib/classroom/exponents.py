"""How a cost grows with a size: the exponent of a power law, with its confidence."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from course_lib.measure.sample import t_quantile


@dataclass(frozen=True)
class Growth:
    """An exponent with the ends of its 95 % interval.

    Args:
        exponent: of the power law that fits best.
        low: the lower end of the interval.
        high: the upper end.
    """

    exponent: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.exponent

    def __str__(self) -> str:
        return f"{self.exponent:.2f} ({self.low:.2f} to {self.high:.2f})"


def growth(sizes: Iterable[float], values: Iterable[float]) -> Growth:
    r"""The exponent with which a cost grows: the slope of its logarithm over the logarithm of the size.

    .. math:: \text{value} \approx a \cdot \text{size}^p, \qquad
        \hat p = \frac{\sum_i (u_i - \bar u)(v_i - \bar v)}{\sum_i (u_i - \bar u)^2},
        \quad u_i = \log \text{size}_i, \; v_i = \log \text{value}_i

    The interval is that of a regression: from the distances of the points to the line, by Student's t with
    two degrees of freedom less than points. A bent curve, such as that of a time with a constant part, so
    gets a wide one.

    Args:
        sizes: positive, not all equal.
        values: the positive costs at these sizes, such as seconds or bytes.

    Raises:
        ValueError: for fewer than three points, sizes that are all equal, or numbers that are not positive.

    >>> print(growth([1, 2, 4, 8], [3, 12, 48, 192]))
    2.00 (2.00 to 2.00)
    """
    sizes, values = [float(size) for size in sizes], [float(value) for value in values]
    if len(sizes) != len(values) or len(sizes) < 3 or len(set(sizes)) < 2:
        raise ValueError(
            f"an exponent with its interval needs three points of different sizes, got {sizes} and {values}"
        )
    if not all(x > 0 and math.isfinite(x) for x in [*sizes, *values]):
        raise ValueError(f"only positive numbers have a logarithm, got sizes {sizes} and values {values}")
    u, v = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_u, mean_v = math.fsum(u) / len(u), math.fsum(v) / len(v)
    square = math.fsum((a - mean_u) ** 2 for a in u)
    slope = math.fsum((a - mean_u) * (b - mean_v) for a, b in zip(u, v, strict=True)) / square
    rest = math.fsum((b - mean_v - slope * (a - mean_u)) ** 2 for a, b in zip(u, v, strict=True))
    half = t_quantile(0.95, len(u) - 2) * math.sqrt(rest / (len(u) - 2) / square)
    return Growth(slope, slope - half, slope + half)
