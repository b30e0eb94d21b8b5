"""Trained claims of maestro."""

import math

import torch
from torch import Tensor

from course_lib.data import load
from course_lib.layers.structured import (
    LowRankLinear,
    OrderedLowRankLinear,
    sample_rank_,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question


def ordered_loss(layer: LowRankLinear, matrix: Tensor, target: Tensor) -> Tensor:
    """What a drawn rank costs on average: the squared error of the first b columns, mean over all b."""
    parts = torch.einsum("nr,or->rno", matrix @ layer.v, layer.u).cumsum(0)
    return (parts - target).square().sum((1, 2)).mean()


def exactly_ordered(matrix: Tensor, target: Tensor, rank: int, seed: int) -> OrderedLowRankLinear:
    """Minimise that mean itself, without a draw, by 500 steps of L-BFGS."""
    torch.manual_seed(seed)
    layer = OrderedLowRankLinear(matrix.shape[1], target.shape[1], rank=rank, bias=False).double()
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=500, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-12, tolerance_change=1e-14,
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = ordered_loss(layer, matrix, target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return layer


def factorise(matrix: Tensor, target: Tensor, *, ordered: bool, seed: int) -> OrderedLowRankLinear:
    """Fit target = matrix W^T by 2000 steps of Adam; with ordered, a new rank is drawn before every step."""
    torch.manual_seed(seed)
    layer = OrderedLowRankLinear(matrix.shape[1], target.shape[1], bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.02, fused=True)
    draws = torch.Generator().manual_seed(seed)
    for step in range(2000):
        if ordered:
            sample_rank_([layer], draws)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 2000)
        loss = (layer(matrix) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.active_rank = None
    return layer


def cut_errors(layer: LowRankLinear, matrix: Tensor, target: Tensor, columns: int) -> list[float]:
    """Error of the first 1, 2, ... columns, divided by that of the best matrix of this rank."""
    best = torch.linalg.svdvals(target.double()).square().flip(0).cumsum(0).flip(0).sqrt()
    kept = [layer.u[:, :b] @ layer.v[:, :b].mT for b in range(1, columns + 1)]
    return [((matrix @ w.mT - target).norm() / best[b]).item() for b, w in enumerate(kept, 1)]


def largest_angle(a: Tensor, b: Tensor) -> float:
    """The largest principal angle between the spans of the columns of two matrices, in degrees."""
    p, q = (torch.linalg.qr(m.detach().double())[0] for m in (a, b))
    return math.degrees(math.acos(min(1.0, torch.linalg.svdvals(p.mT @ q).min().item())))


@experiment(
    paper="maestro",
    seeds=10,
    claims=[
        paper_claim(
            "finds smaller networks that keep the accuracy and can be cut further for weaker devices",
            where="abstract",
            headline=True,
            not_tested="no deep network is trained here: only the theorem on linear maps is tried",
        ),
        paper_claim(
            "ordered training of a linear map finds its SVD: error of the first b columns over that of the "
            "best matrix of rank b, largest for 1 to 10",
            where="abstract",
            of="20 x 20 map, the mean over all ranks minimised",
            value=lambda m: m["exact_largest"],
            expect=at_most(1.01),
        ),
        paper_claim(
            "an ordered linear autoencoder finds the principal components: largest angle of the first b "
            "columns to the first b components, 1 to 5, degrees",
            where="abstract",
            of="digits, 6 columns, the mean over all ranks minimised",
            value=lambda m: m["exact_angle_largest"],
            expect=at_most(1),
        ),
        question(
            "without the order the first 10 columns are at least twice as far as the best ones (ratio)",
            of="20 x 20 map, 2000 steps of Adam",
            value=lambda m: m["plain_10"],
            expect=at_least(2.0),
        ),
        question(
            "one drawn rank a step is enough: the same largest ratio, 1 to 10 columns",
            of="20 x 20 map, 2000 steps of Adam",
            value=lambda m: m["drawn_largest"],
            expect=at_most(1.1),
        ),
        question(
            "and so for the components: the same largest angle, degrees",
            of="digits, 64 columns, 2000 steps of Adam with one drawn rank each",
            value=lambda m: m["drawn_angle_largest"],
            expect=at_most(10),
            verdict="not as expected",
        ),
    ],
)
def ordered_columns(seed: int) -> dict[str, float]:
    """How near ordered training comes to the SVD and to the principal components.

    ``exact_b``, ``drawn_b``, ``plain_b``: error of the first b columns of a fitted linear map, divided by
    that of the best matrix of rank b, after minimising the mean over all ranks, with one drawn rank a step,
    and without an order; ``..._largest``: the largest for 1 to 10. ``exact_angle_b``, ``drawn_angle_b``:
    largest angle, in degrees, between the first b columns of an ordered autoencoder of the digits and the
    first b principal directions; ``..._largest``: for 1 to 5; ``drawn_digits_largest``: its largest error
    ratio.
    """
    # A generator of its own: the global one, seeded alike, would draw the same matrix for the SVD start.
    p, _, q = torch.linalg.svd(torch.randn(20, 20, generator=torch.Generator().manual_seed(1000 + seed)))
    linear = q.mT @ torch.diag(0.8 ** torch.arange(20)) @ p.mT  # the transpose of A, as rows are samples
    eye = torch.eye(20)
    x = load("digits").train.x.flatten(1)
    x = x - x.mean(0)
    # A root of the covariance has the same loss as all the images, at a twentieth of the price.
    _, values, directions = torch.linalg.svd(x / len(x) ** 0.5, full_matrices=False)
    digits = directions.mT @ torch.diag(values) @ directions
    result = {}
    for kind in ("exact", "drawn", "plain"):
        if kind == "exact":
            layer = exactly_ordered(eye.double(), linear.double(), 20, seed).float()
        else:
            layer = factorise(eye, linear, ordered=kind == "drawn", seed=seed)
        errors = cut_errors(layer, eye, linear, 15)
        result |= {f"{kind}_{b}": error for b, error in enumerate(errors, 1)}
        result[f"{kind}_largest"] = max(errors[:10])
    for kind in ("exact", "drawn"):
        if kind == "exact":
            layer = exactly_ordered(digits.double(), digits.double(), 6, seed).float()
        else:
            layer = factorise(digits, digits, ordered=True, seed=seed)
        angles = [largest_angle(layer.u[:, :b], directions[:b].mT) for b in range(1, 6)]
        result |= {f"{kind}_angle_{b}": angle for b, angle in enumerate(angles, 1)}
        result[f"{kind}_angle_largest"] = max(angles)
    result["drawn_digits_largest"] = max(cut_errors(layer, digits, digits, 5))
    return result
