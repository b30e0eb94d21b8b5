"""Trained claims of network-in-network."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.moved import moved_each_way
from course_lib.experiments.layers.conv.inception import linear_classifier, moved_batch, moved_test
from course_lib.layers.conv import NetworkInNetwork
from course_lib.measure import at_least, experiment, paper_claim
from course_lib.training.loop import cosine_schedule, evaluate, fit


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
    seeds=10,
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


def filters_network(width: int = 22) -> nn.Module:
    """The network in network with one convolution in place of each small network, and as many parameters."""
    layers: list[nn.Module] = []
    for a, b in ((1, width), (width, width), (width, 10)):
        conv = nn.Conv2d(a, b, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers += [conv, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
    return nn.Sequential(*layers[:-2], nn.AdaptiveAvgPool2d(1), nn.Flatten())


FILTERS: dict[str, Callable[[], nn.Module]] = {
    "linear": linear_classifier,
    "nin": lambda: NetworkInNetwork(1, 10, dropout=0.0, activate_last=False),
    "filters": filters_network,
}


@experiment(
    paper="network-in-network",
    seeds=10,
    # Linear pixels reach 0.55. That is no test of a headline: three dense layers pass 0.94 in `economies`.
    # The bound was set after the first look at the numbers.
    trained=dict.fromkeys(("nin", "filters"), at_least(0.9)),
    claims=[
        paper_claim(
            "a small network at every pixel discriminates better than a linear filter with as many "
            "parameters (difference of the accuracies)",
            where="abstract",
            headline=True,
            scale="networks of 6 500 parameters on 8 x 8 digits, 400 steps; the paper: state of the art on "
            "CIFAR-10 and CIFAR-100",
            of="moved digits, 400 steps",
            value=lambda m: m["nin"] - m["filters"],
            expect=at_least(0.0),
            verdict="not tested",
        ),
    ],
)
def small_networks(seed: int) -> dict[str, float]:
    """Test accuracy on moved digits of a network in network, and of one of linear filters; 400 steps of 64.

    Keys: the names in ``FILTERS``.
    """
    test, result = moved_test(), {}
    for name, build in FILTERS.items():
        torch.manual_seed(seed)
        model, schedule = build(), cosine_schedule(warmup=20)

        def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
            return moved_batch(generator, size=64)

        fit(model, batch, steps=400, lr=3e-3, schedule=schedule, seed=seed)
        result[name] = evaluate(model, test)
    return result
