"""Trained claims of low-rank-training."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.structured._shared import default_start_
from course_lib.layers.norm import TransformerBlock
from course_lib.layers.structured import (
    LowRankLinear,
    spectral_init_,
)
from course_lib.measure import experiment
from course_lib.models.transformers import GPT
from course_lib.training.loop import cosine_schedule, evaluate, fit


def replace_linear_(module: nn.Module, build: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Put another layer in the place of every linear layer inside."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, build(child))
        else:
            replace_linear_(child, build)
    return module


STARTS: dict[str, Callable[[LowRankLinear], LowRankLinear]] = {
    "default": default_start_,
    "spectral": spectral_init_,
    "ones": partial(spectral_init_, ones=True),
}


@experiment(paper="low-rank-training", seeds=3)
def low_rank_starts(seed: int) -> dict[str, float]:
    """Validation loss of a character GPT with matrices of rank 16, from three starts, best of 3 rates."""
    text, result = load("english"), {}
    windows = text.validation.windows(32, limit=128)
    for name, start in STARTS.items():
        losses = []
        for lr in (1e-3, 3e-3, 1e-2):
            torch.manual_seed(seed)
            blocks = [TransformerBlock(64, 4, norm="pre", causal=True) for _ in range(2)]
            model = GPT(text.vocab_size, 64, blocks, max_length=32)
            replace_linear_(
                model.blocks,
                lambda old, start=start: start(LowRankLinear(old.in_features, old.out_features, 16)),
            )
            batch = partial(text.batch, batch_size=16, length=32)
            fit(model, batch, steps=200, lr=lr, clip=1.0, schedule=cosine_schedule(warmup=20), seed=seed)
            losses.append(evaluate(model, windows, metric="loss"))
        result[name], result[f"{name}_rate"] = min(losses), (1e-3, 3e-3, 1e-2)[losses.index(min(losses))]
    return result
