"""Trained claims of parameter-free-layers."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.moved import moved_each_way
from course_lib.layers.pool import (
    MaxPoolMixer,
    ParameterFreeBottleneck,
)
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


def conv_operator(width: int, groups: int) -> nn.Module:
    """A 3 x 3 convolution with batch norm and ReLU, as in the usual bottleneck."""
    conv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


OPERATORS: dict[str, Callable[[int], nn.Module]] = {
    "conv": lambda width: conv_operator(width, 1),
    "depthwise": lambda width: conv_operator(width, width),
    "max": lambda width: MaxPoolMixer(),
    "average": lambda width: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "none": lambda width: nn.Identity(),
}


def operator_network(operator: Callable[[int], nn.Module], stem: int, width: int = 8) -> nn.Module:
    """Three bottlenecks around the operator; with a stem of 1 nothing else sees more than one pixel."""
    blocks = [ParameterFreeBottleneck(4 * width, width, mixer=operator(width)) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(1, 4 * width, stem, padding=stem // 2),
        *blocks,
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


@torch.no_grad()
def shifted_accuracy(model: nn.Module, seed: int = 0) -> float:
    """Test accuracy where every digit is moved by one pixel, up, down, left and right."""
    x, y = load("digits").test
    return sum(evaluate(model, (moved, y)) for moved in moved_each_way(x)) / 4


@experiment(paper="parameter-free-layers", seeds=3)
def spatial_operators(seed: int) -> dict[str, float]:
    """Test accuracy of a bottleneck network with five spatial operations, 250 steps of 32 digits.

    Behind a pointwise stem; and, for three of the operations, behind a 3 x 3 convolution ("_stem").
    """
    digits, result = load("digits"), {}
    arms = [(name, name, 1) for name in OPERATORS]
    arms += [(f"{name}_stem", name, 3) for name in ("depthwise", "max", "none")]
    for name, operator, stem in arms:
        torch.manual_seed(seed)
        model = operator_network(OPERATORS[operator], stem)
        fit(model, digits.train, steps=250, batch_size=32, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        result[f"{name}_shifted"] = shifted_accuracy(model)
    return result
