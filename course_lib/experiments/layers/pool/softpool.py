"""Trained claims of softpool."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.experiments.layers.pool._shared import linear_accuracy
from course_lib.layers.pool import (
    SoftPool2d,
)
from course_lib.measure import at_least, each, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit


def small_cnn(pool: Callable[[], nn.Module]) -> nn.Module:
    """Two convolutions, each followed by a 2 x 2 pooling, on 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Flatten(),
        nn.Linear(24 * 4, 10),
    )


def structural_similarity(x: Tensor, y: Tensor) -> float:
    """How alike two images (b, c, i, j) with values from 0 to 1 are: windows of 11 x 11, deviation 1.5."""
    line = torch.exp(-torch.arange(-5, 6).double().square() / (2 * 1.5**2))
    line = line / line.sum()

    def local(image: Tensor) -> Tensor:
        rows = F.conv2d(image.double().reshape(-1, 1, *image.shape[-2:]), line[None, None, :, None])
        return F.conv2d(rows, line[None, None, None])

    mean_x, mean_y = local(x), local(y)
    spread = local(x * x) - mean_x.square() + local(y * y) - mean_y.square()
    shared = local(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + 0.01**2) / (mean_x.square() + mean_y.square() + 0.01**2)
    return (light * (2 * shared + 0.03**2) / (spread + 0.03**2)).mean().item()


POOLS: dict[str, Callable[[], nn.Module]] = {
    "average": lambda: nn.AvgPool2d(2),
    "soft": lambda: SoftPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
}


@experiment(
    paper="softpool",
    seeds=10,
    trained={"*_accuracy": lambda m: at_least(m["linear"].mean)},
    claims=[
        paper_claim(
            "SoftPool in the place of other pooling layers increases accuracy: SoftPool minus the better of "
            "average and max-pooling",
            where="abstract",
            headline=True,
            of="small network on digits, 800 steps",
            scale="two convolutions on digits of 8 x 8 pixels; the paper: ResNets, DenseNets and others on "
            "ImageNet1K",
            value=lambda m: m["soft_accuracy"] - each(max, m["average_accuracy"], m["max_accuracy"]),
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        question(
            "SoftPool is better than average pooling: difference in accuracy",
            of="small network on digits, 800 steps",
            value=lambda m: m["soft_accuracy"] - m["average_accuracy"],
            expect=at_least(0.0),
        ),
    ],
)
def pool_swap(seed: int) -> dict[str, float]:
    """Test accuracy of one small network with three poolings, 800 steps of 32 digits; and of a linear map."""
    digits = load("digits")
    result = {"linear": linear_accuracy(tuple(digits.train), tuple(digits.test))}
    for name, pool in POOLS.items():
        torch.manual_seed(seed)
        model = small_cnn(pool)
        fit(model, digits.train, steps=800, batch_size=32, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        result[f"{name}_accuracy"] = evaluate(model, digits.test)
    return result
