"""Trained claims of softpool."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.pool._shared import linear_accuracy
from course_lib.layers.pool import (
    SoftPool2d,
)
from course_lib.measure import experiment
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


POOLS: dict[str, Callable[[], nn.Module]] = {
    "average": lambda: nn.AvgPool2d(2),
    "soft": lambda: SoftPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
}


@experiment(paper="softpool", seeds=3)
def pool_swap(seed: int) -> dict[str, float]:
    """Test accuracy of one small network with three poolings, 400 steps of 32 digits; and of a linear map."""
    digits = load("digits")
    result = {"linear": linear_accuracy(tuple(digits.train), tuple(digits.test))}
    for name, pool in POOLS.items():
        torch.manual_seed(seed)
        model = small_cnn(pool)
        fit(model, digits.train, steps=400, batch_size=32, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        result[f"{name}_accuracy"] = evaluate(model, digits.test)
    return result
