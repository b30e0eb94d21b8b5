"""Trained claims of parameter-free-layers."""

from collections.abc import Callable

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.moved import moved_each_way
from course_lib.experiments.layers.pool._shared import linear_accuracy
from course_lib.layers.pool import (
    MaxPoolMixer,
    ParameterFreeBottleneck,
)
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit


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


def operator_network(operator: Callable[[int], nn.Module], width: int = 8) -> nn.Module:
    """A 3 x 3 convolution, three bottlenecks around the operator, the average over all positions."""
    blocks = [ParameterFreeBottleneck(4 * width, width, mixer=operator(width)) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(1, 4 * width, 3, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def resnet50(max_pool: bool) -> nn.Module:
    """The network of 50 layers for ImageNet, its bottlenecks with a max-pool or a convolution; to count."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for n in range(depth):
            stride = 2 if n == 0 and width > 64 else 1
            conv = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            mixer = None if max_pool else nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())
            layers.append(ParameterFreeBottleneck(channels, width, stride=stride, mixer=mixer))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


@torch.no_grad()
def shifted_accuracy(model: nn.Module, seed: int = 0) -> float:
    """Test accuracy where every digit is moved by one pixel, up, down, left and right."""
    x, y = load("digits").test
    return sum(evaluate(model, (moved, y)) for moved in moved_each_way(x)) / 4


BLOCKS = "three bottlenecks on digits"


@experiment(
    paper="parameter-free-layers",
    seeds=10,
    trained={
        "conv_accuracy": lambda m: at_least(m["linear"].mean),
        "depthwise_accuracy": lambda m: at_least(m["linear"].mean),
    },
    claims=[
        paper_claim(
            "max-pool as the main building block, without sacrificing the accuracy as much: accuracy with "
            "max-pool minus that with 3 x 3 convolutions",
            where="abstract",
            headline=True,
            of=BLOCKS,
            scale="three blocks of width 8 on digits of 8 x 8 pixels; the paper: ResNet-50, ViT and PiT on "
            "ImageNet, where ResNet-50 loses 1.9 points",
            value=lambda m: m["max_accuracy"] - m["conv_accuracy"],
            expect=at_least(-0.02),
            verdict="inconclusive",
        ),
        paper_claim(
            "parameter-free operations can be a favorable alternative to the efficient trainable layers: "
            "accuracy with max-pool minus that with depthwise convolutions",
            where="abstract",
            of=BLOCKS,
            value=lambda m: m["max_accuracy"] - m["depthwise_accuracy"],
            expect=at_least(-0.02),
        ),
        question(
            "the task needs a spatial operation: accuracy with 3 x 3 convolutions minus that with none",
            of=BLOCKS,
            value=lambda m: m["conv_accuracy"] - m["none_accuracy"],
            expect=at_least(0.02),
        ),
        question(
            "max-pool is such an operation: accuracy with max-pool minus that with none",
            of=BLOCKS,
            value=lambda m: m["max_accuracy"] - m["none_accuracy"],
            expect=at_least(0.02),
        ),
        question(
            "max-pool is better than average pooling: difference in accuracy",
            of=BLOCKS,
            value=lambda m: m["max_accuracy"] - m["average_accuracy"],
            expect=at_least(0.0),
            verdict="open",
        ),
        question(
            "on digits moved by a pixel max-pool is as good as convolutions: difference in accuracy",
            of=BLOCKS,
            value=lambda m: m["max_shifted"] - m["conv_shifted"],
            expect=at_least(-0.02),
            verdict="open",
        ),
    ],
)
def spatial_operators(seed: int) -> dict[str, float]:
    """Test accuracy of a bottleneck network with five spatial operations, 300 steps of 32 digits.

    Also on digits that are moved by a pixel; and that of a linear map.
    """
    digits = load("digits")
    result = {"linear": linear_accuracy(tuple(digits.train), tuple(digits.test))}
    for name, operator in OPERATORS.items():
        torch.manual_seed(seed)
        model = operator_network(operator)
        fit(model, digits.train, steps=300, batch_size=32, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        result[f"{name}_accuracy"] = evaluate(model, digits.test)
        result[f"{name}_shifted"] = shifted_accuracy(model)
    return result
