"""Trained claims of maestro."""

import math

import torch
from torch import Tensor

from course_lib.data import load
from course_lib.experiments.layers.structured._shared import default_start_
from course_lib.layers.structured import (
    LowRankLinear,
    OrderedLowRankLinear,
    sample_rank_,
)
from course_lib.measure import experiment


def factorise(
    matrix: Tensor, target: Tensor, *, ordered: bool, start: str, seed: int
) -> OrderedLowRankLinear:
    """Fit target = matrix W^T by 2000 steps of Adam; with ordered, a new rank is drawn before every step."""
    torch.manual_seed(seed)
    layer = OrderedLowRankLinear(matrix.shape[1], target.shape[1], bias=False)  # starts from an SVD
    if start == "random":
        default_start_(layer)
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


@experiment(paper="maestro", seeds=3)
def ordered_columns(seed: int) -> dict[str, float]:
    """How near ordered training comes to the SVD and to the principal components, from two starts s.

    ``ordered_s_b`` and ``plain_s_b``: error of the first b columns of a fitted linear map, divided by that of
    the best matrix of rank b; ``ordered_s_largest``: the largest for 1 to 10 columns. ``angle_s_b``: largest
    angle, in degrees, between the first b columns of an ordered autoencoder of the digits and the first b
    principal directions; ``angle_s_largest``: for 1 to 5; ``digits_s_largest``: its largest error ratio.
    """
    # A generator of its own: the global one, seeded alike, would draw the same matrix for the SVD start.
    p, _, q = torch.linalg.svd(torch.randn(20, 20, generator=torch.Generator().manual_seed(1000 + seed)))
    linear = q.mT @ torch.diag(0.8 ** torch.arange(20)) @ p.mT  # the transpose of A, as rows are samples
    x = load("digits").train.x.flatten(1)
    x = x - x.mean(0)
    # A root of the covariance has the same loss as all the images, at a twentieth of the price.
    _, values, directions = torch.linalg.svd(x / len(x) ** 0.5, full_matrices=False)
    digits = directions.mT @ torch.diag(values) @ directions
    result = {}
    for start in ("SVD", "random"):
        for kind in ("ordered", "plain"):
            layer = factorise(torch.eye(20), linear, ordered=kind == "ordered", start=start, seed=seed)
            errors = cut_errors(layer, torch.eye(20), linear, 15)
            result |= {f"{kind}_{start}_{b}": error for b, error in enumerate(errors, 1)}
            result[f"{kind}_{start}_largest"] = max(errors[:10])
        layer = factorise(digits, digits, ordered=True, start=start, seed=seed)
        angles = [largest_angle(layer.u[:, :b], directions[:b].mT) for b in range(1, 6)]
        result |= {f"angle_{start}_{b}": angle for b, angle in enumerate(angles, 1)}
        result[f"angle_{start}_largest"] = max(angles)
        result[f"digits_{start}_largest"] = max(cut_errors(layer, digits, digits, 5))
    return result
