"""Trained claims of inception, and of the papers whose layers it is compared with on digits."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from course_lib.data import load
from course_lib.layers.conv import (
    InceptionModule,
    InceptionNeXtBlock,
    LSConv,
    SICLayer,
    SpartanBlock,
)
from course_lib.measure import experiment
from course_lib.training.loop import cosine_schedule, evaluate, fit

WIDTH = 16


def plain_layer(width: int) -> nn.Module:
    """A dense 3 x 3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def inception_layer(width: int) -> nn.Module:
    """An inception module, normalised, that costs what a dense 3 x 3 convolution of 16 channels costs."""
    module = InceptionModule(
        width,
        out_1x1=width // 4,
        reduce_3x3=9,
        out_3x3=12,
        reduce_5x5=3,
        out_5x5=8,
        out_pool=width // 4,
    )
    return nn.Sequential(
        module, nn.BatchNorm2d(module.out_channels), nn.Conv2d(module.out_channels, width, 1)
    )


def depthwise_block(width: int) -> nn.Module:
    """The block of ConvNeXt in small: depthwise 7 x 7, then a channel network of expansion 4."""
    return InceptionNeXtBlock(
        width, mixer=nn.Conv2d(width, width, 7, padding=3, groups=width), layer_scale=1.0
    )


# name to (builder of a layer, its width, how many of them)
BODIES: dict[str, tuple[Callable[[int], nn.Module], int, int]] = {
    "plain": (plain_layer, WIDTH, 3),
    "inception": (inception_layer, WIDTH, 3),
    "sic": (SICLayer, WIDTH, 3),
    "depthwise7": (depthwise_block, WIDTH, 2),
    "inceptionnext": (partial(InceptionNeXtBlock, layer_scale=1.0), WIDTH, 2),
    "lsconv": (lambda width: InceptionNeXtBlock(width, mixer=LSConv(width), layer_scale=1.0), WIDTH, 2),
    "depthwise7_wider": (depthwise_block, 18, 2),  # as many parameters as the next one, within 5 %
    "spartan": (partial(SpartanBlock, depthwise=True, layer_scale=1.0), WIDTH, 2),
}


def digits_network(name: str) -> nn.Module:
    """A stem of one 3 x 3 convolution, some layers of one kind, the mean over space, ten outputs."""
    layer, width, depth = BODIES[name]
    stem = nn.Conv2d(1, width, 3, padding=1)
    body = [layer(width) for _ in range(depth)]
    return nn.Sequential(
        stem, *body, nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)
    )


@experiment(
    paper=("inception", "single-intra-channel-convolution", "inceptionnext", "lsnet", "spartan"), seeds=3
)
def economies(seed: int) -> dict[str, float]:
    """Test accuracy on digits of eight small networks that differ in their layers; 200 steps of 32.

    Keys: the names in ``BODIES``.
    """
    digits, result = load("digits"), {}
    for name in BODIES:
        torch.manual_seed(seed)
        model = digits_network(name)
        schedule = cosine_schedule(warmup=20)
        fit(model, digits.train, steps=200, batch_size=32, lr=1e-2, schedule=schedule, seed=seed)
        result[name] = evaluate(model, digits.test)
    return result
