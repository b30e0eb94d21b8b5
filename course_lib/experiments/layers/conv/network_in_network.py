"""Trained claims of network-in-network."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.moved import moved_each_way
from course_lib.layers.conv import (
    NetworkInNetwork,
)
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


class DenseHead(NetworkInNetwork):
    """The same trunk with what stood there before: flatten, a hidden layer of 64, the scores."""

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 16) -> None:
        super().__init__(in_channels, width, width=width, dropout=0.0)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, num_classes)
        )


HEADS: dict[str, Callable[[], nn.Module]] = {
    "gap": lambda: NetworkInNetwork(1, 10, dropout=0.0, activate_last=False),
    "dense": lambda: DenseHead(1, 10),
}


@experiment(paper="network-in-network", seeds=5)
def heads(seed: int) -> dict[str, float]:
    """300 training digits, one trunk, two heads: accuracy seen, unseen, and unseen but moved by a pixel."""
    digits, result = load("digits"), {}
    train = digits.train[:300]
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, train, steps=300, batch_size=50, lr=3e-3, seed=seed)
        test = evaluate(model, digits.test)
        moved = [evaluate(model, (x, digits.test.y)) for x in moved_each_way(digits.test.x)]
        result[f"{name}_test"], result[f"{name}_gap"] = test, evaluate(model, train) - test
        result[f"{name}_drop"] = test - sum(moved) / 4
    return result


@experiment(paper="network-in-network", seeds=5)
def heads_faster(seed: int) -> dict[str, float]:
    """What both heads lose to a shift by a pixel when the learning rate is three times as high."""
    digits, drops = load("digits"), {}
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, digits.train[:300], steps=300, batch_size=50, lr=1e-2, seed=seed)
        moved = [evaluate(model, (x, digits.test.y)) for x in moved_each_way(digits.test.x)]
        drops[f"{name}_drop"] = evaluate(model, digits.test) - sum(moved) / 4
    return drops
