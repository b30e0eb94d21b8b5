"""Trained claims of mlp-mixer."""

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.mixing._shared import LEAST_SQUARES, LEAST_SQUARES_FEW
from course_lib.layers.mixing import MLPMixer
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import evaluate, fit


def small_mixer() -> nn.Module:
    """An MLP-Mixer of 11,338 parameters on 16 patches."""
    return MLPMixer(1, 10, image_size=8, patch=2, dim=32, token_hidden_dim=32, hidden_dim=64)


def small_vit() -> nn.Module:
    """A vision transformer of about the same size on the same patches."""
    blocks = [TransformerBlock(28, 2, hidden_dim=32) for _ in range(2)]
    return VisionTransformer(1, 10, image_size=(8, 8), patch=2, dim=28, blocks=blocks)


def small_cnn() -> nn.Module:
    """A convolutional network of about the same size, with a batch norm behind every convolution."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@experiment(
    paper="mlp-mixer",
    seeds=10,
    trained={
        **dict.fromkeys(("mixer_all", "vit_all", "cnn_all", "mixer_shuffled"), at_least(LEAST_SQUARES)),
        **dict.fromkeys(("mixer_few", "cnn_few"), at_least(LEAST_SQUARES_FEW)),
    },
    claims=[
        paper_claim(
            "trained on large data sets, MLP-Mixer is competitive with the best networks of its time",
            where="abstract",
            headline=True,
            not_tested="1,197 digits are no large data set",
            scale="11,000 parameters on 1,197 digits, 300 steps; the paper: ImageNet, alone and after "
            "pre-training on larger sets",
        ),
        paper_claim(
            "one fixed order of all pixels costs the convolutional network more than the Mixer",
            where="section on input permutations",
            of="11,000 parameters, digits, 300 steps",
            value=lambda m: (m["cnn_all"] - m["cnn_shuffled"]) - (m["mixer_all"] - m["mixer_shuffled"]),
            expect=at_least(0.0),
        ),
        question(
            "the Mixer is at most 3 points behind the convolutional network",
            of="11,000 parameters, digits, 300 steps",
            value=lambda m: m["mixer_all"] - m["cnn_all"],
            expect=at_least(-0.03),
            verdict="open",
        ),
        question(
            "the Mixer is at most 3 points behind the vision transformer",
            of="11,000 parameters, digits, 300 steps",
            value=lambda m: m["mixer_all"] - m["vit_all"],
            expect=at_least(-0.03),
            verdict="open",
        ),
        question(
            "with 150 images the convolutional network is ahead of the Mixer",
            of="11,000 parameters, digits, 300 steps",
            value=lambda m: m["cnn_few"] - m["mixer_few"],
            expect=at_least(0.0),
        ),
    ],
)
def inductive_bias(seed: int) -> dict[str, float]:
    """Mixer, ViT and CNN of equal size, 300 steps of 32 digits: test accuracy.

    ``<network>_all``: trained on all data; ``_few``: on 150 images; ``_shuffled``: all data with the pixels
    in one fixed random order, in training and in the test.
    """
    digits, result = load("digits"), {}
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

    def shuffled(x: Tensor) -> Tensor:
        return x.flatten(1)[:, order].reshape(x.shape)

    few, test = digits.train[:150], digits.test
    runs = {
        "all": ((digits.train.x, digits.train.y), (test.x, test.y)),
        "few": ((few.x, few.y), (test.x, test.y)),
        "shuffled": ((shuffled(digits.train.x), digits.train.y), (shuffled(test.x), test.y)),
    }
    for name, build in (("mixer", small_mixer), ("vit", small_vit), ("cnn", small_cnn)):
        for run, (train, held_out) in runs.items():
            if name == "vit" and run != "all":
                continue
            torch.manual_seed(seed)
            model = build()
            fit(model, train, steps=300, batch_size=32, lr=3e-3, seed=seed)
            result[f"{name}_{run}"] = evaluate(model, held_out)
    return result
