"""Trained claims of nanophotonic."""

import torch
from torch import Tensor, nn

from course_lib.layers.structured import PhotonicLinear, saturable_absorber
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import cosine_schedule, fit

VOWELS = (
    (730.0, 1090.0, 2440.0, 3400.0),
    (270.0, 2290.0, 3010.0, 3600.0),
    (300.0, 870.0, 2240.0, 3300.0),
    (530.0, 1840.0, 2480.0, 3500.0),
)
NOISES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)


def vowels(per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four formant frequencies of four vowels with 12 % of jitter, scaled by the mean of each."""
    centres, generator = torch.tensor(VOWELS), torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat_interleave(per_class)
    jitter = 1 + 0.12 * torch.randn(4 * per_class, 4, generator=generator)
    return centres[labels] * jitter / centres.mean(0), labels


class TwoLayers(nn.Module):
    """A matrix, an absorber of intensity, a matrix."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(saturable_absorber(self.first(x).square()))


@experiment(
    paper="nanophotonic",
    seeds=10,
    # The nearest centre is about the best that such data allow.
    trained={"*_accuracy": lambda m: at_least(m["nearest_centre"].mean - 0.02)},
    claims=[
        paper_claim(
            "at least 100 times faster and 1000 times less power than electronics",
            where="abstract",
            headline=True,
            not_tested="a property of the hardware; no light is measured here",
        ),
        question(
            "a chip with the trained matrices gives the trained outputs (largest relative difference)",
            of="4 vowels, 2 layers of 4",
            value=lambda m: m["difference"],
            expect=at_most(1e-5),
        ),
        question(
            "an error of 0.1 radians in every angle costs accuracy (loss)",
            of="4 vowels, 2 layers of 4",
            value=lambda m: m["digital_accuracy"] - m["noise_0.1"],
            expect=at_least(0.0),
        ),
    ],
)
def noisy_chip(seed: int) -> dict[str, float]:
    """Test accuracy on vowels of a trained network, programmed into chips whose every angle errs.

    ``digital_accuracy``: the network; ``noise_s``: mean of 10 chips with normal errors of s radians;
    ``difference``: largest of the exact chip, relative; ``nearest_centre``: the class whose training mean is
    nearest.
    """
    torch.manual_seed(seed)
    digital = TwoLayers(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    train = vowels(64, seed)
    fit(digital, train, steps=300, batch_size=64, lr=0.03, schedule=cosine_schedule(), seed=seed)
    x, y = vowels(100, 100 + seed)
    means = torch.stack([train[0][train[1] == label].mean(0) for label in range(4)])
    result = {"nearest_centre": (torch.cdist(x, means).argmin(1) == y).double().mean().item()}
    chips = [PhotonicLinear.from_dense(layer.weight) for layer in (digital.first, digital.second)]
    with torch.no_grad():
        expected = digital(x)
        result["digital_accuracy"] = (expected.argmax(-1) == y).double().mean().item()
        gap = (TwoLayers(*chips)(x.double()) - expected).abs().max() / expected.abs().max()
        result["difference"] = gap.item()
        for noise in NOISES:
            for chip in chips:
                chip.phase_noise = noise
            # Every reading of a weight errs anew.
            first, second = (torch.stack([chip.weight for _ in range(10)]) for chip in chips)
            output = saturable_absorber((x.double() @ first.mT).square()) @ second.mT
            result[f"noise_{noise}"] = (output.argmax(-1) == y).double().mean().item()
    return result
