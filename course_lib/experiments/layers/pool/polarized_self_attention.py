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
from course_lib.measure import experiment
from course_lib.training.loop import fit

GATES: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    # channels, so that all have equally many parameters up to 5 %; and the gate behind each convolution
    "none": (18, lambda channels: nn.Identity()),
    "squeeze_excite": (16, lambda channels: SqueezeExcite(channels, 17, activation=nn.GELU)),
    "parallel": (16, lambda channels: PolarizedSelfAttention(channels)),
    "sequential": (16, lambda channels: PolarizedSelfAttention(channels, layout="sequential")),
    "released": (16, lambda channels: PolarizedSelfAttention(channels, spatial_softmax="product")),
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


@experiment(paper="polarized-self-attention", seeds=3)
def keypoints(seed: int) -> dict[str, float]:
    """Squared error of a heat map of the digit's centre, five gates at equal parameters, 200 steps of 32."""
    train, test = canvases("train", 4000, 3), canvases("test", 400, 3)
    targets = [centre_heatmaps(split.boxes, 24) for split in (train, test)]
    result = {}
    for name, (channels, gate) in GATES.items():
        torch.manual_seed(seed)
        model = heatmap_network(channels, gate)
        fit(model, (train.x, targets[0]), steps=200, batch_size=32, lr=3e-3, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            result[name] = F.mse_loss(model.eval()(test.x), targets[1]).item()
    return result
