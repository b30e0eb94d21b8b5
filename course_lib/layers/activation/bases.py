"""Families of functions of one variable: what the edges of a Kolmogorov-Arnold network are made of."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.registry import implements

torch.fx.wrap("bspline_basis")


def uniform_knots(intervals: int, degree: int = 3) -> Float[Tensor, "k"]:
    r"""Equally spaced knots: ``intervals`` pieces of [-1, 1] and ``degree`` more on each side.

    They carry ``intervals + degree`` splines that sum to one on [-1, 1].

    Args:
        intervals: number of pieces of [-1, 1].
        degree: of the splines.

    Raises:
        ValueError: unless there is an interval.

    >>> uniform_knots(2, degree=1)
    tensor([-2., -1.,  0.,  1.,  2.])
    """
    if intervals < 1 or degree < 0:
        raise ValueError(
            f"need at least one interval and a degree of 0 or more, got {intervals} and {degree}"
        )
    steps = torch.arange(-degree, intervals + degree + 1)
    return (2 * steps - intervals).to(torch.get_default_dtype()) / intervals


@implements("s-kan")
def bspline_basis(
    x: Float[Tensor, "*b"], knots: Float[Tensor, "k"], degree: int = 3
) -> Float[Tensor, "*b g"]:
    r"""All B-splines on a sequence of knots, by the recursion of Cox and de Boor.

    .. math:: B_{g,0}(x) = [\, t_g \le x < t_{g+1} \,], \qquad
        B_{g,p}(x) = \frac{x - t_g}{t_{g+p} - t_g} B_{g,p-1}(x)
        + \frac{t_{g+p+1} - x}{t_{g+p+1} - t_{g+1}} B_{g+1,p-1}(x)

    Args:
        x: any tensor.
        knots: in increasing order; g = k - degree - 1 splines stand on k knots.
        degree: 3 for cubic.

    Shape: ``(*b)`` to ``(*b, g)``. Where x lies outside the knots all splines are zero.

    Raises:
        ValueError: for too few knots.

    A quotient between knots that are equal counts as zero, as is usual; where knots decrease all is NaN (a
    look at their values would stop a GPU, and could not be vectorised over models).

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> bspline_basis(torch.tensor([0.5]), uniform_knots(2, degree=1), degree=1)
    tensor([[0.0000, 0.5000, 0.5000]])
    """
    if len(knots) < degree + 2:
        raise ValueError(f"degree {degree} needs at least {degree + 2} knots, got {len(knots)}")
    x = x[..., None]
    basis = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for p in range(1, degree + 1):
        span = knots[p:] - knots[:-p]
        inverse = 1 / torch.where(span == 0, 1.0, span)
        inverse = inverse.masked_fill(span == 0, 0.0).masked_fill(span < 0, math.nan)
        rise = (x - knots[: -p - 1]) * inverse[:-1]
        fall = (knots[p + 1 :] - x) * inverse[1:]
        basis = rise * basis[..., :-1] + fall * basis[..., 1:]
    return basis


@implements("s-kan")
def chebyshev_basis(x: Float[Tensor, "*b"], degree: int) -> Float[Tensor, "*b g"]:
    r"""Chebyshev polynomials of degree 0 to ``degree`` by their three-term recursion.

    .. math:: T_0 = 1, \qquad T_1 = x, \qquad T_{n+1} = 2 x\, T_n - T_{n-1}

    Args:
        x: any tensor; outside [-1, 1] the polynomials grow fast.
        degree: the highest degree.

    Shape: ``(*b)`` to ``(*b, degree + 1)``.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> chebyshev_basis(torch.tensor([0.5]), 3)
    tensor([[ 1.0000,  0.5000, -0.5000, -1.0000]])
    """
    values = [torch.ones_like(x), x]
    while len(values) <= degree:
        values.append(2 * x * values[-1] - values[-2])
    return torch.stack(values[: degree + 1], dim=-1)


@implements("s-kan")
def rbf_basis(x: Float[Tensor, "*b"], centres: Float[Tensor, "g"], width: float) -> Float[Tensor, "*b g"]:
    r"""Gaussian bumps at given centres.

    .. math:: R_g(x) = \exp\bigl(-((x - c_g) / h)^2\bigr)

    Args:
        x: any tensor.
        centres: one per bump.
        width: the h of all bumps.

    Shape: ``(*b)`` to ``(*b, g)``.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> rbf_basis(torch.tensor([0.0]), torch.tensor([0.0, 1.0]), 1.0)
    tensor([[1.0000, 0.3679]])
    """
    return torch.exp(-((x[..., None] - centres) / width).square())


@implements("s-kan")
def wavelet_basis(
    x: Float[Tensor, "*b"], translation: Float[Tensor, "*#b g"], scale: Float[Tensor, "*#b g"]
) -> Float[Tensor, "*b g"]:
    r"""Mexican hats: second derivatives of a Gaussian with the sign turned.

    .. math:: \psi_g(x) = (1 - u^2)\, e^{-u^2 / 2}, \qquad u = (x - t_g) / s_g

    Args:
        x: any tensor.
        translation: the centre t of each hat.
        scale: the width s of each hat.

    Shape: ``(*b)`` to ``(*b, g)``; ``translation`` and ``scale`` may also differ along the last axis of x.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> wavelet_basis(torch.tensor([0.0, 1.0]), torch.tensor([0.0]), torch.tensor([1.0])).T
    tensor([[1., 0.]])
    """
    u = ((x[..., None] - translation) / scale).square()
    return (1 - u) * torch.exp(-u / 2)


def _evenly(x: Tensor, intervals: int, outside: int = 0) -> Tensor:
    """The ends of equal intervals of [-1, 1], and ``outside`` more on each side, where x lives.

    Made when they are needed: a buffer would have to be saved, moved, and built anew after "meta".
    """
    steps = x.new_ones(intervals + 1 + 2 * outside).cumsum(0) - (outside + 1)  # ``arange``, for torch.fx
    return (2 * steps - intervals) / intervals


class _BSpline(nn.Module):
    """Cubic B-splines on ``num_basis - 3`` equal intervals of [-1, 1]."""

    def __init__(self, dim: int, num_basis: int, **factory: Any) -> None:
        super().__init__()
        self.intervals = num_basis - 3

    def forward(self, x: Tensor) -> Tensor:
        return bspline_basis(x, _evenly(x, self.intervals, outside=3))


class _Chebyshev(nn.Module):
    """Polynomials of degree 0 to ``num_basis - 1``."""

    def __init__(self, dim: int, num_basis: int, **factory: Any) -> None:
        super().__init__()
        self.degree = num_basis - 1

    def forward(self, x: Tensor) -> Tensor:
        return chebyshev_basis(x, self.degree)


class _RBF(nn.Module):
    """Bumps with equally spaced centres on [-1, 1], as wide as they are apart."""

    def __init__(self, dim: int, num_basis: int, **factory: Any) -> None:
        super().__init__()
        self.intervals = num_basis - 1

    def forward(self, x: Tensor) -> Tensor:
        return rbf_basis(x, _evenly(x, self.intervals), 2 / self.intervals)


class _Wavelet(nn.Module):
    """Hats with learned centres and widths, one set for each input; they start equally spaced."""

    def __init__(self, dim: int, num_basis: int, **factory: Any) -> None:
        super().__init__()
        self.translation = nn.Parameter(torch.empty(dim, num_basis, **factory))
        self.log_scale = nn.Parameter(torch.empty(dim, num_basis, **factory))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Centres equally spaced on [-1, 1], as wide as they are apart."""
        intervals = self.translation.shape[1] - 1
        self.translation.copy_(_evenly(self.translation, intervals))
        self.log_scale.fill_(math.log(2 / intervals))

    def forward(self, x: Tensor) -> Tensor:
        return wavelet_basis(x, self.translation, self.log_scale.exp())


#: Name to class of a family: called with the number of inputs and of functions, and device and dtype.
KAN_FAMILIES: dict[str, type[nn.Module]] = {
    "bspline": _BSpline,
    "chebyshev": _Chebyshev,
    "rbf": _RBF,
    "wavelet": _Wavelet,
}
