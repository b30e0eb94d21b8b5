"""Gates against timm, bases of functions against scipy and numpy."""

import torch
from torch import nn

from course_lib.compare import Case, Contest
from course_lib.layers.activation import BilinearMLP, bspline_basis, chebyshev_basis, uniform_knots

__all__ = ["CASES"]


def bilinear_layer(dim: int) -> Contest:
    """512 vectors, as many hidden products as features."""
    from timm.layers import GluMlp

    ours = BilinearMLP(dim, dim)
    peer = GluMlp(dim, 2 * dim, act_layer=nn.Identity)
    with torch.no_grad():
        peer.fc1.weight.copy_(torch.cat([ours.left.weight, ours.right.weight]))
        peer.fc1.bias.copy_(torch.cat([ours.left.bias, ours.right.bias]))
        peer.fc2.weight.copy_(ours.out.weight)
        peer.fc2.bias.zero_()
    return Contest(ours, {"timm.layers.GluMlp": peer}, (torch.randn(512, dim),))


def splines(points: int) -> Contest:
    """Eleven cubic splines on eight intervals, in double precision as scipy works."""
    from scipy.interpolate import BSpline

    knots = uniform_knots(8).double()
    array = knots.numpy()

    def peer(x):
        return torch.from_numpy(BSpline.design_matrix(x.numpy(), array, 3).toarray())

    x = torch.linspace(-0.999, 0.999, points, dtype=torch.float64)
    return Contest(
        lambda x: bspline_basis(x, knots),
        {"scipy.interpolate.BSpline.design_matrix": peer},
        (x,),
        backward=False,
    )


def polynomials(points: int) -> Contest:
    """Chebyshev polynomials up to degree eleven."""
    from numpy.polynomial.chebyshev import chebvander

    def peer(x):
        return torch.from_numpy(chebvander(x.numpy(), 11))

    x = torch.linspace(-1, 1, points, dtype=torch.float64)
    return Contest(
        lambda x: chebyshev_basis(x, 11),
        {"numpy.polynomial.chebyshev.chebvander": peer},
        (x,),
        backward=False,
    )


CASES = [
    Case(
        "BilinearMLP",
        bilinear_layer,
        sizes=(64, 128, 256),
        axis="features",
        why="timm stacks both matrices into one product; ours keep their own names",
    ),
    Case(
        "bspline_basis",
        splines,
        sizes=(1_000, 4_000, 16_000),
        axis="points",
        why="scipy fills only the four splines that are not zero at a point; the recursion is differentiable",
    ),
    Case(
        "chebyshev_basis",
        polynomials,
        sizes=(1_000, 4_000, 16_000),
        axis="points",
        why="each polynomial is a tensor of its own, for the gradient; numpy fills one array in place",
    ),
]
