"""Trained claims of network-in-network."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.moved import moved_each_way
from course_lib.layers.conv import NetworkInNetwork
from course_lib.measure import at_least, experiment, paper_claim
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


SETTING = "300 digits, one trunk, two heads, 300 steps"


@experiment(
    paper="network-in-network",
    seeds=5,
    trained={"*_train": at_least(0.99)},  # who overfits can be asked of those that fit what they have seen
    claims=[
        paper_claim(
            "a dense head overfits more than the mean of class maps: train minus test accuracy of the one, "
            "minus that of the other",
            where="abstract",
            of=SETTING,
            value=lambda m: (m["dense_train"] - m["dense_test"]) - (m["gap_train"] - m["gap_test"]),
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        paper_claim(
            "the mean of class maps tolerates translations better: accuracy that a dense head loses when the "
            "digits move by a pixel, minus what the mean loses",
            where="Section 3.2",
            of=SETTING,
            value=lambda m: (m["dense_test"] - m["dense_moved"]) - (m["gap_test"] - m["gap_moved"]),
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
    ],
)
def heads(seed: int) -> dict[str, float]:
    """One trunk, two heads, 300 training digits, 300 steps of 50 at a rate of 3e-3.

    Accuracy: ``<head>_train`` of what was seen, ``<head>_test`` of what was not, ``<head>_moved`` of the
    latter moved by a pixel (the mean of four directions).
    """
    digits, result = load("digits"), {}
    train = digits.train[:300]
    for name, build in HEADS.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, train, steps=300, batch_size=50, lr=3e-3, seed=seed)
        moved = [evaluate(model, (x, digits.test.y)) for x in moved_each_way(digits.test.x)]
        result[f"{name}_train"], result[f"{name}_test"] = evaluate(model, train), evaluate(model, digits.test)
        result[f"{name}_moved"] = sum(moved) / 4
    return result
