"""Layers of one type in the same place."""

import torch
from torch import nn

from course_lib.data import load
from course_lib.layers.dense import generate_type_equivalent, io_signature
from course_lib.measure import at_least, at_most, each, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit
from course_lib.training.validation import LINEAR_DIGITS

SEED_LAYER = nn.Conv2d(8, 8, 3, padding=1)
REPLACEMENTS = [
    options
    for options in generate_type_equivalent(io_signature(SEED_LAYER).sizes[0])
    if 1 < options["kernel_size"] < 6
]


def digit_cnn(options: dict[str, int]) -> nn.Module:
    """A small network of digits; only its middle layer has these options."""
    middle = nn.Conv2d(8, 8, **options)
    ends = (
        (nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()),
        (nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    )
    return nn.Sequential(*ends[0], middle, *ends[1])


PLACE = "12 convolutions of one type in one place of a network of digits, 150 steps"


@experiment(
    paper="neuralarts",
    seeds=10,
    trained={"*": at_least(LINEAR_DIGITS)},
    claims=[
        question(
            "they are equally good, within two points of accuracy from the worst to the best",
            of=PLACE,
            value=lambda m: each(max, *m.values()) - each(min, *m.values()),
            expect=at_most(0.02),
            verdict="not as expected",
        ),
        paper_claim(
            "spaces of type-equivalent convolutions serve a search for architectures on CIFAR-10",
            where="experiments with ENAS",
            not_tested="no architecture search is run here",
        ),
    ],
)
def replacements(seed: int) -> dict[str, float]:
    """Each of 12 layers of one type in the same place of a network of digits, 150 steps.

    Returns:
        ``k{kernel_size}_d{dilation}``: test accuracy (a share).
    """
    digits, result = load("digits"), {}
    for options in REPLACEMENTS:
        torch.manual_seed(seed)
        model = digit_cnn(options)
        fit(model, digits.train, steps=150, batch_size=64, lr=1e-2, seed=seed)
        result[f"k{options['kernel_size']}_d{options['dilation']}"] = evaluate(model, digits.test)
    return result
