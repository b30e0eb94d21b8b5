"""Trained claims of network-in-network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.layers.conv import (
    NetworkInNetwork,
)
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


class DenseHead(NetworkInNetwork):
    """The same trunk with what stood there before: flatten, a hidden layer of 64, the scores."""

    def __init__(self, in_channels: int, num_classes: int, *, channels: int = 16) -> None:
        super().__init__(in_channels, channels, channels=channels, dropout=0.0)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * channels, 64), nn.ReLU(), nn.Linear(64, num_classes)
        )


HEADS: dict[str, Callable[[], nn.Module]] = {
    "gap": lambda: NetworkInNetwork(1, 10, dropout=0.0, activate_last=False),
    "dense": lambda: DenseHead(1, 10),
}


def shifted(images: Tensor) -> list[Tensor]:
    """The images moved by one pixel in each of four directions; zeros come in."""
    padded = F.pad(images, (1, 1, 1, 1))
    return [padded[..., i : i + 8, j : j + 8] for i, j in ((0, 1), (2, 1), (1, 0), (1, 2))]


@experiment(paper="network-in-network", seeds=3)
def heads(seed: int) -> dict[str, float]:
    """One trunk, two heads, 300 training digits, 300 steps of 50 at a rate of 3e-3.

    Accuracy: ``<head>_train`` of what was seen, ``<head>_test`` of what was not, ``<head>_moved`` of the
    latter moved by a pixel (the mean of four directions).
    """
    return _train_heads(seed, lr=3e-3)


@experiment(paper="network-in-network", seeds=3)
def heads_faster(seed: int) -> dict[str, float]:
    """The same as :func:`heads` at a rate three times as high, 1e-2."""
    return _train_heads(seed, lr=1e-2)


def _train_heads(seed: int, *, lr: float) -> dict[str, float]:
    digits, result = load("digits"), {}
    train = digits.train[:300]
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, train, steps=300, batch_size=50, lr=lr, seed=seed)
        moved = [evaluate(model, (x, digits.test.y)) for x in shifted(digits.test.x)]
        result[f"{name}_train"], result[f"{name}_test"] = evaluate(model, train), evaluate(model, digits.test)
        result[f"{name}_moved"] = sum(moved) / 4
    return result
