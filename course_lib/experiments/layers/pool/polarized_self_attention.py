"""Trained claims of polarized-self-attention."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.data.canvas import centre_heatmaps
from course_lib.experiments.layers.pool._shared import canvases
from course_lib.layers._images import SqueezeExcite
from course_lib.layers.pool import (
    PolarizedSelfAttention,
)
from course_lib.measure import at_most, between, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, fit

GATES: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    # channels, so that all have equally many parameters up to 5 %; and the gate behind each convolution
    "none": (18, lambda channels: nn.Identity()),
    "squeeze_excite": (16, lambda channels: SqueezeExcite(channels, 17, activation=nn.GELU)),
    "parallel": (16, lambda channels: PolarizedSelfAttention(channels)),
    "sequential": (16, lambda channels: PolarizedSelfAttention(channels, layout="sequential")),
    "psa_p": (
        16,
        lambda channels: PolarizedSelfAttention(channels, spatial_softmax="product", norm_layer=None),
    ),
    "psa_s": (
        16,
        lambda channels: PolarizedSelfAttention(
            channels, layout="sequential", spatial_softmax="values", hidden_dim=channels // 8
        ),
    ),
}


def heatmap_network(channels: int, gate: Callable[[int], nn.Module]) -> nn.Module:
    """24 x 24 canvas to a map of the same size, over half the resolution, with two gates on the way."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, 2, 1),
        nn.ReLU(),
        gate(channels),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        gate(channels),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 4, 1),
        nn.PixelShuffle(2),
    )


HEATMAPS = "heat maps, equal parameters"


@experiment(
    paper="polarized-self-attention",
    seeds=10,
    trained={"*_error": lambda m: at_most(m["one_map"].mean)},
    claims=[
        paper_claim(
            "PSA boosts standard baselines by 2 to 4 points: error with the parallel layout over that of no "
            "gate",
            where="abstract",
            headline=True,
            of=HEATMAPS,
            scale="three convolutions on canvases of 24 x 24 and squared error; the paper: accuracy "
            "of pose estimation and segmentation on COCO and Cityscapes",
            value=lambda m: m["parallel_error"] / m["none_error"],
            expect=at_most(1.0),
        ),
        paper_claim(
            "only marginal differences between the sequential and the parallel layout: ratio of errors",
            where="abstract",
            of=HEATMAPS,
            value=lambda m: m["sequential_error"] / m["parallel_error"],
            expect=between(0.9, 1.1),
            verdict="inconclusive",
        ),
        question(
            "the parallel layout is better than squeeze-excite: ratio of errors",
            of=HEATMAPS,
            value=lambda m: m["parallel_error"] / m["squeeze_excite_error"],
            expect=at_most(1.0),
        ),
        question(
            "the authors' parallel class does as well as the paper's formula: ratio of errors",
            of=HEATMAPS,
            value=lambda m: m["psa_p_error"] / m["parallel_error"],
            expect=between(0.8, 1.25),
            verdict="open",
        ),
        question(
            "the authors' sequential class is better than no gate: ratio of errors",
            of=HEATMAPS,
            value=lambda m: m["psa_s_error"] / m["none_error"],
            expect=at_most(1.0),
            verdict="not as expected",
        ),
    ],
)
def keypoints(seed: int) -> dict[str, float]:
    """Squared error of a heat map of the digit's centre, six gates at equal parameters, 200 steps of 32.

    And that of one map for all canvases, the mean of the training maps.
    """
    train, test = canvases("train", 4000, 3), canvases("test", 400, 3)
    targets = [centre_heatmaps(split.boxes, 24) for split in (train, test)]
    result = {"one_map": F.mse_loss(targets[0].mean(0).expand_as(targets[1]), targets[1]).item()}
    for name, (channels, gate) in GATES.items():
        torch.manual_seed(seed)
        model = heatmap_network(channels, gate)
        options = {"loss": F.mse_loss, "schedule": cosine_schedule(), "seed": seed}
        fit(model, (train.x, targets[0]), steps=200, batch_size=32, lr=1e-2, **options)
        with torch.no_grad():
            result[f"{name}_error"] = F.mse_loss(model.eval()(test.x), targets[1]).item()
    return result
