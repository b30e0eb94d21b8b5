"""SLAB: a vision transformer with four norms."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.data.moved import moved_by_a_pixel
from course_lib.layers.norm import (
    BatchNorm,
    LayerNorm,
    ProgressiveRepBN,
    RepBN,
    TransformerBlock,
    advance_rep_bn_,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import Run, cosine_schedule, evaluate, fit

VIT_STEPS = 300
SETTING = "vision transformer of two blocks on moved digits, 300 steps"
TOKEN_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": LayerNorm,
    "batch": BatchNorm,
    "rep": RepBN,
    "progressive": partial(ProgressiveRepBN, decay_steps=VIT_STEPS // 2),
}


def digits_vit(norm: Callable[[int], nn.Module]) -> VisionTransformer:
    """Four patches of 4 x 4 pixels, two blocks of width 32; every norm is of the given kind."""
    blocks = [TransformerBlock(32, 2, norm="pre", norm_layer=norm, hidden_dim=64) for _ in range(2)]
    sizes = {"image_size": (8, 8), "patch": 4, "dim": 32}
    return VisionTransformer(1, 10, **sizes, blocks=blocks, final_norm=norm(32))


def moved_batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """64 digits for training, each moved by up to a pixel."""
    x, y = load("digits").train
    chosen = torch.randint(len(y), (64,), generator=generator)
    return moved_by_a_pixel(x[chosen], generator), y[chosen]


def advance(run: Run) -> None:
    """A hook: every progressive norm is one step further."""
    advance_rep_bn_(run.model)


@experiment(
    paper="slab-prepbn",
    seeds=10,
    trained={name: lambda m: at_least(m["linear"].mean) for name in TOKEN_NORMS},
    claims=[
        paper_claim(
            "layer norm replaced progressively by RepBN performs comparably: accuracy lost against "
            "layer norm",
            where="abstract",
            headline=True,
            of=SETTING,
            scale="two blocks of width 32 on digits, 300 steps; the paper: DeiT, PVT and Swin on ImageNet, "
            "detection and language models, and their latency",
            value=lambda m: m["layer"] - m["progressive"],
            expect=at_most(0.015),
        ),
        paper_claim(
            "batch norm in the place of layer norm often leads to inferior performance: accuracy lost",
            where="abstract",
            of=SETTING,
            value=lambda m: m["layer"] - m["batch"],
            expect=at_least(0.005),
            verdict="not reproduced",
        ),
        paper_claim(
            "SLAB-Swin has 83.6 % top-1 accuracy on ImageNet with 16.2 ms latency, 2.4 ms less than "
            "Flatten-Swin",
            where="abstract",
            not_tested="ImageNet and its latency are out of reach here",
        ),
        question(
            "the way through layer norm gains over RepBN from the start: accuracy",
            of=SETTING,
            value=lambda m: m["progressive"] - m["rep"],
            expect=at_least(0.005),
            verdict="not as expected",
        ),
    ],
)
def token_norms(seed: int) -> dict[str, float]:
    """Test accuracy of a small vision transformer on digits after 300 steps of 64, with each of four norms.

    Every digit, in training and in the test, is moved by up to a pixel. ``linear``: a linear classifier.
    """
    digits = load("digits")
    unseen = moved_by_a_pixel(digits.test.x, torch.Generator().manual_seed(0)), digits.test.y
    schedule, result = cosine_schedule(warmup=20), {}
    arms = {name: partial(digits_vit, norm) for name, norm in TOKEN_NORMS.items()}
    arms["linear"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    for name, build in arms.items():
        torch.manual_seed(seed)
        model = build()
        fit(model, moved_batch, steps=VIT_STEPS, lr=1e-2, schedule=schedule, seed=seed, hooks=[advance])
        result[name] = evaluate(model, unseen)
    return result
