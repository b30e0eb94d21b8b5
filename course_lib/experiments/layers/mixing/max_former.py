"""Trained claims of max-former."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.layers.mixing import LIFNeuron, MaxPatchEmbed, PerFrame, SpikingMixerBlock
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import Run, evaluate, fit
from course_lib.training.validation import linear_accuracy

STEPS, EARLY = 600, 150


class SpikingFrame(nn.Module):
    """A stem, two mixing blocks around a patch embedding, the mean over time and space, a read-out."""

    def __init__(self, mixer: Callable[[], nn.Module], neuron: Callable[[], nn.Module], frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12))
        self.body = nn.Sequential(
            SpikingMixerBlock(12, mixer(), hidden_dim=24, neuron=neuron),
            MaxPatchEmbed(12, 24, neuron=neuron),
            SpikingMixerBlock(24, mixer(), hidden_dim=24, neuron=neuron),
        )
        self.neuron, self.out = neuron(), nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)[:, None].expand(-1, self.frames, -1, -1, -1)
        return self.out(self.neuron(self.body(x)).mean((1, 3, 4)))


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: PerFrame(nn.MaxPool2d(3, 1, 1)),
    "average": lambda: PerFrame(nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
}
ARMS = ("spiking_max", "spiking_average", "gelu_max", "gelu_average")


@experiment(
    paper="max-former",
    seeds=5,
    trained={arm: lambda m: at_least(m["least_squares"].mean) for arm in ARMS},
    claims=[
        paper_claim(
            "the maximum as mixer of tokens is more accurate than the average",
            where="abstract",
            headline=True,
            of="spiking network, digits, 600 steps",
            value=lambda m: m["spiking_max"] - m["spiking_average"],
            expect=at_least(0.0),
            verdict="not tested",
            scale="two blocks of 12 and 24 channels on 8 x 8 digits, 600 steps; the paper: a spiking "
            "transformer on CIFAR-100, 76.7 % with the average and 79.1 % with the maximum",
        ),
        paper_claim(
            "Max-Former is more accurate than Spikformer by 7.58 points",
            where="abstract",
            not_tested="ImageNet and its 64 million parameters are out of reach here",
        ),
        question(
            "the maximum gains more with spiking neurons than with GELU",
            of="digits, 600 steps",
            value=lambda m: (m["spiking_max"] - m["spiking_average"]) - (m["gelu_max"] - m["gelu_average"]),
            expect=at_least(0.0),
            verdict="open",
        ),
        question(
            "the gain of the maximum is larger after 150 steps than after 600",
            of="spiking network, digits",
            value=lambda m: (
                (m["spiking_max_early"] - m["spiking_average_early"])
                - (m["spiking_max"] - m["spiking_average"])
            ),
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
def spiking_pools(seed: int) -> dict[str, float]:
    """Test accuracy on digits with maximum and average as mixers, after 600 steps.

    ``spiking_max``, ``spiking_average``: with spiking neurons over 4 time steps; ``gelu_...``: with GELU;
    ``..._early``: after 150 of the steps. ``least_squares``: a linear map of the pixels.
    """
    digits = load("digits")
    result = {"least_squares": linear_accuracy(tuple(digits.train), tuple(digits.test))}
    for kind, neuron, frames in (("spiking", LIFNeuron, 4), ("gelu", nn.GELU, 1)):
        for name, pool in POOLS.items():
            arm = f"{kind}_{name}"

            def early(run: Run, arm: str = arm) -> None:
                if run.step == EARLY:
                    result[f"{arm}_early"] = evaluate(run.model, digits.test)

            torch.manual_seed(seed)
            model = SpikingFrame(pool, neuron, frames)
            fit(model, digits.train, steps=STEPS, batch_size=32, lr=4e-3, seed=seed, hooks=[early])
            result[arm] = evaluate(model, digits.test)
    return result
