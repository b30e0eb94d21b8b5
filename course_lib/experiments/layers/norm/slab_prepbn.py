"""SLAB: a vision transformer with four norms."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.norm._shared import linear_digits
from course_lib.layers.norm import (
    BatchNorm,
    LayerNorm,
    ProgressiveRepBN,
    RepBN,
    TransformerBlock,
    advance_rep_bn_,
)
from course_lib.measure import experiment
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import Run, cosine_schedule, evaluate, fit

VIT_STEPS = 400
TOKEN_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": LayerNorm,
    "batch": BatchNorm,
    "rep": RepBN,
    "progressive": partial(ProgressiveRepBN, decay_steps=VIT_STEPS // 2),
}


def digits_vit(norm: Callable[[int], nn.Module]) -> VisionTransformer:
    """16 patches of 2 x 2 pixels, two blocks of width 32; every norm is of the given kind."""
    blocks = [TransformerBlock(32, 2, norm="pre", norm_layer=norm, hidden_dim=64) for _ in range(2)]
    sizes = {"image_size": (8, 8), "patch": 2, "dim": 32}
    return VisionTransformer(1, 10, **sizes, blocks=blocks, final_norm=norm(32))


def advance(run: Run) -> None:
    """A hook: every progressive norm is one step further."""
    advance_rep_bn_(run.model)


@experiment(paper="slab-prepbn", seeds=3)
def token_norms(seed: int) -> dict[str, float]:
    """Test accuracy of a small vision transformer on digits after 400 steps of 64, with each of four norms.

    ``linear``: of a linear classifier.
    """
    digits, result = load("digits"), {"linear": linear_digits(seed)}
    for name, norm in TOKEN_NORMS.items():
        torch.manual_seed(seed)
        model = digits_vit(norm)
        schedule = cosine_schedule(warmup=20)
        fit(model, digits.train, steps=VIT_STEPS, lr=1e-2, schedule=schedule, seed=seed, hooks=[advance])
        result[name] = evaluate(model, digits.test)
    return result
