"""Trained claims of max-former."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.layers.mixing import LIFNeuron, MaxPatchEmbed, SpikingMixerBlock
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


class SpikingFrame(nn.Module):
    """A stem, two mixing blocks around a patch embedding, the mean over time and space, a read-out."""

    def __init__(self, pool: Callable[[], nn.Module], neuron: Callable[[], nn.Module], frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12))
        self.body = nn.Sequential(
            SpikingMixerBlock(12, pool(), neuron=neuron),
            MaxPatchEmbed(12, 24, neuron=neuron),
            SpikingMixerBlock(24, pool(), neuron=neuron),
        )
        self.neuron, self.out = neuron(), nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)[:, None].expand(-1, self.frames, -1, -1, -1)
        return self.out(self.neuron(self.body(x)).mean((1, 3, 4)))


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(3, 1, 1),
    "average": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}


@experiment(paper="max-former", seeds=3)
def spiking_pools(seed: int) -> dict[str, float]:
    """Test accuracy on digits with maximum and average as mixers.

    ``spiking_max``, ``spiking_average``: with spiking neurons over 4 time steps; ``gelu_...``: with GELU.
    """
    digits, result = load("digits"), {}
    for kind, neuron, frames in (("spiking", LIFNeuron, 4), ("gelu", nn.GELU, 1)):
        for name, pool in POOLS.items():
            torch.manual_seed(seed)
            model = SpikingFrame(pool, neuron, frames)
            fit(model, digits.train, steps=150, batch_size=32, lr=4e-3, seed=seed)
            result[f"{kind}_{name}"] = evaluate(model, digits.test)
    return result
