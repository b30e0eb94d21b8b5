"""Trained claims of spatial-pyramid-pooling."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.experiments.layers.pool._shared import linear_accuracy
from course_lib.layers.pool import (
    SpatialPyramidPool,
)
from course_lib.measure import Sample, at_least, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit


def resized(x: Tensor, size: int) -> Tensor:
    """Digits at another size."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def size_free(pool: nn.Module, features: int) -> nn.Module:
    """Three convolutions, a pooling to fixed length, one dense layer."""
    convolutions = [nn.Conv2d(channels, 16, 3, padding=1) for channels in (1, 16, 16)]
    trunk = [layer for conv in convolutions for layer in (conv, nn.ReLU())]
    return nn.Sequential(*trunk, pool, nn.Linear(features, 10))


def train_on_sizes(model: nn.Module, sizes: tuple[int, ...], seed: int) -> None:
    """300 steps of 32 digits, each batch at a random one of the sizes."""
    x, y = load("digits").train

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(x), (32,), generator=generator)
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        return resized(x[rows], size), y[rows]

    fit(model, batch, steps=300, lr=1e-2, schedule=cosine_schedule(), seed=seed)


def at_unseen(m: Mapping[str, Sample], name: str) -> Sample:
    """Accuracy at the two sizes that no network is trained at."""
    return (m[f"{name}_at_10"] + m[f"{name}_at_14"]) / 2


@experiment(
    paper="spatial-pyramid-pooling",
    seeds=10,
    trained={"*_at_12": lambda m: at_least(m["linear"].mean)},
    claims=[
        paper_claim(
            "SPP boosts the accuracy of networks: the pyramid minus its finest level alone, at the size of "
            "training",
            where="abstract",
            headline=True,
            of="three convolutions, digits of 12 x 12",
            scale="three convolutions of 16 channels on digits; the paper: several architectures on "
            "ImageNet 2012",
            value=lambda m: m["pyramid_one_at_12"] - m["grid_one_at_12"],
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        question(
            "training at 8, 12 and 16 pixels helps at the unseen sizes 10 and 14: accuracy minus that of "
            "training at 12",
            of="three convolutions and a pyramid",
            value=lambda m: at_unseen(m, "pyramid_many") - at_unseen(m, "pyramid_one"),
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
def pyramid_sizes(seed: int) -> dict[str, float]:
    """Test accuracy at sizes 8 to 16; trained at 8, 12 and 16 or at 12 only; a pyramid or its finest level.

    And that of a linear map at 8 x 8.
    """
    arms = {
        "pyramid_many": (SpatialPyramidPool(), 21 * 16, (8, 12, 16)),
        "pyramid_one": (SpatialPyramidPool(), 21 * 16, (12,)),
        "grid_one": (SpatialPyramidPool(levels=(4,)), 16 * 16, (12,)),
    }
    x, y = load("digits").test
    result = {"linear": linear_accuracy(tuple(load("digits").train), (x, y))}
    for name, (pool, features, sizes) in arms.items():
        torch.manual_seed(seed)
        model = size_free(pool, features)
        train_on_sizes(model, sizes, seed)
        for size in (8, 10, 12, 14, 16):
            result[f"{name}_at_{size:02d}"] = evaluate(model, (resized(x, size), y))
    return result
