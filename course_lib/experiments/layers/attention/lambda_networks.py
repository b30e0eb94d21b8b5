"""Trained claims of lambda-networks."""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.attention._shared import count
from course_lib.layers.attention import (
    LambdaLayer,
    MultiHeadAttention,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, evaluate, fit

SETTING = "copy the pixel two columns to the left"


class PixelModel(nn.Module):
    """Every pixel a token: embed its value, mix the tokens, predict a value for each."""

    def __init__(self, layer: nn.Module, hidden: int, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.layer = nn.Linear(1, dim), layer
        self.out = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(rearrange(images, "b 1 i j -> b (i j) 1"))
        return rearrange(self.out(x + self.layer(x)), "b (i j) 1 -> b 1 i j", i=8)


class Placed(nn.Module):
    """Sines and cosines of row and column, four wavelengths each, before attention: no parameters more."""

    def __init__(self, layer: nn.Module, dim: int = 32, side: int = 8) -> None:
        super().__init__()
        self.layer = layer
        angles = torch.arange(side)[:, None] * 2.0 ** -torch.arange(dim // 4) * torch.pi / 2
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, dim / 2)
        self.register_buffer(
            "places", torch.cat([waves.repeat_interleave(side, 0), waves.repeat(side, 1)], dim=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.places)


@experiment(
    paper="lambda-networks",
    seeds=10,
    trained={"lambda": at_most(0.9), "placed": at_most(0.9)},  # predicting the mean has 1
    claims=[
        paper_claim(
            "lambda networks beat convolution and attention on ImageNet and COCO at less computation",
            where="abstract",
            headline=True,
            not_tested="no ImageNet or COCO here, and no deep networks",
            scale="6000 parameters on images of 8 by 8; the paper: residual networks on ImageNet",
        ),
        paper_claim(
            "lambdas model content and position: error of the full layer, predicting the mean has 1",
            of=SETTING,
            where="abstract",
            value=lambda m: m["lambda"],
            expect=at_most(0.05),
        ),
        paper_claim(
            "linear attention models content alone: error of the layer without position lambdas",
            of=SETTING,
            where="abstract",
            value=lambda m: m["content"],
            expect=at_least(0.5),
        ),
        question(
            "softmax attention that is told no places cannot do it either",
            of=SETTING,
            value=lambda m: m["attention"],
            expect=at_least(0.5),
        ),
        question(
            "softmax attention with sines of row and column at its input can",
            of=SETTING,
            value=lambda m: m["placed"],
            expect=at_most(0.05),
            verdict="not as expected",
        ),
    ],
)
def shifted_pixels(seed: int) -> dict[str, float]:
    """Test error of the value two columns to the left, relative to predicting the mean; equal parameters.

    ``lambda``: content and position lambdas; ``content``: no positions; ``attention``: softmax attention;
    ``placed``: the same, told where every pixel stands.
    """
    data, result = load("pixel_shift"), {}
    target = data.test.y
    baseline = (target - data.train.y.mean()).square().mean().item()
    layers = {
        "lambda": partial(LambdaLayer, 32, 4, grid=(8, 8), key_dim=8),
        "content": partial(LambdaLayer, 32, 4, grid=(8, 8), key_dim=8, position=False),
        "attention": partial(MultiHeadAttention, 32, 4),
        "placed": lambda: Placed(MultiHeadAttention(32, 4)),
    }
    for name, make_layer in layers.items():
        torch.manual_seed(seed)
        layer = make_layer()
        model = PixelModel(layer, hidden=(6000 - count(layer)) // 34)
        fit(model, data.train, steps=300, batch_size=32, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        result[name] = evaluate(model, data.test, metric="loss") / baseline
        result[f"{name}_parameters"] = count(model)
    return result
