"""Trained claims of inception, and of the papers whose layers it is compared with on digits."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.data.moved import moved_by_a_pixel
from course_lib.layers.conv import (
    InceptionModule,
    InceptionNeXtBlock,
    LSConv,
    SICLayer,
    SpartanBlock,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit

WIDTH = 16


class Residual(nn.Module):
    """Add what some layers make of the input to it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


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
    "skipped": (lambda width: Residual(plain_layer(width)), WIDTH, 3),
    "sic": (SICLayer, WIDTH, 3),
    "depthwise7": (depthwise_block, WIDTH, 2),
    "inceptionnext": (partial(InceptionNeXtBlock, layer_scale=1.0), WIDTH, 2),
    "lsconv": (lambda width: InceptionNeXtBlock(width, mixer=LSConv(width), layer_scale=1.0), WIDTH, 2),
    "depthwise7_wider": (depthwise_block, 17, 2),  # as many parameters as the next one, within 5 %
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


def linear_classifier() -> nn.Module:
    """The simple thing to beat: ten linear functions of the pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def moved_batch(generator: torch.Generator, *, size: int = 32) -> tuple[Tensor, Tensor]:
    """Training digits, each moved by up to a pixel in both directions."""
    train = load("digits").train
    chosen = torch.randint(len(train.y), (size,), generator=generator)
    return moved_by_a_pixel(train.x[chosen], generator), train.y[chosen]


def moved_test(copies: int = 3) -> tuple[Tensor, Tensor]:
    """Every test digit some times, each time moved otherwise."""
    test, generator = load("digits").test, torch.Generator().manual_seed(0)
    return torch.cat([moved_by_a_pixel(test.x, generator) for _ in range(copies)]), test.y.repeat(copies)


SETTING = "moved digits, 200 steps"
SCALE = "networks of 3 000 to 9 000 parameters on 8 x 8 digits, 200 steps; the paper: ImageNet"


@experiment(
    paper=(
        "inception",
        "single-intra-channel-convolution",
        "inceptionnext",
        "lsnet",
        "spartan",
    ),
    seeds=10,
    trained=dict.fromkeys(BODIES, lambda m: at_least(m["linear"].mean)),
    claims=[
        paper_claim(
            "inception modules use the same multiply-adds better than dense 3 x 3 convolutions (difference "
            "of the accuracies)",
            where="abstract",
            headline=True,
            scale=SCALE,
            of=SETTING,
            value=lambda m: m["inception"] - m["plain"],
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        paper_claim(
            "intra-channel convolution and projection reach the accuracy of dense 3 x 3 convolutions with 36 "
            "% of the multiply-adds: accuracy lost, both with skips",
            paper="single-intra-channel-convolution",
            where="abstract",
            headline=True,
            scale=SCALE,
            of=SETTING,
            value=lambda m: m["skipped"] - m["sic"],
            expect=at_most(0.01),
            verdict="not reproduced",
        ),
        paper_claim(
            "InceptionNeXt trains 1.6 times as fast as ConvNeXt and is 0.2 points more accurate",
            paper="inceptionnext",
            where="abstract",
            headline=True,
            scale=SCALE,
            not_tested="needs ImageNet and the throughput of a large GPU",
        ),
        paper_claim(
            "inception depthwise convolution stays competitive with a 7 x 7 depthwise one: accuracy lost",
            paper="inceptionnext",
            where="abstract",
            of=SETTING,
            value=lambda m: m["depthwise7"] - m["inceptionnext"],
            expect=at_most(0.015),
        ),
        question(
            "LSConv in place of a 7 x 7 depthwise convolution costs no accuracy: accuracy lost",
            paper="lsnet",
            of=SETTING,
            value=lambda m: m["depthwise7"] - m["lsconv"],
            expect=at_most(0.01),
        ),
        paper_claim(
            "SpaRTAN blocks of expansion 2 are as accurate as ConvNeXt blocks of expansion 4 with as many "
            "parameters: accuracy lost",
            paper="spartan",
            where="abstract",
            headline=True,
            scale=SCALE,
            of=SETTING,
            value=lambda m: m["depthwise7_wider"] - m["spartan"],
            expect=at_most(0.01),
        ),
    ],
)
def economies(seed: int) -> dict[str, float]:
    """Test accuracy on moved digits of small networks that differ in their layers; 200 steps of 32.

    Keys: the names in ``BODIES``, and ``linear`` for a linear classifier of pixels.
    """
    test, result = moved_test(), {}
    for name in ("linear", *BODIES):
        torch.manual_seed(seed)
        model = linear_classifier() if name == "linear" else digits_network(name)
        schedule = cosine_schedule(warmup=20)
        fit(model, moved_batch, steps=200, lr=1e-2, schedule=schedule, seed=seed)
        result[name] = evaluate(model, test)
    return result
