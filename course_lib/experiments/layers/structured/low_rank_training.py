"""Trained claims of low-rank-training."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from course_lib.data import load
from course_lib.data.text import letter_pairs_loss
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
    """Validation loss, in nats a character, of a GPT with matrices of rank 16, after 400 steps.

    ``default``, ``spectral``, ``ones``: the starts; ``pairs``: the loss of counting letter pairs.
    """
    text = load("english")
    windows = text.validation.windows(32, limit=128)
    result = {"pairs": letter_pairs_loss(text.train, windows, text.vocab_size)}
    for name, start in STARTS.items():
        torch.manual_seed(seed)
        blocks = [TransformerBlock(64, 4, norm="pre", causal=True) for _ in range(2)]
        model = GPT(text.vocab_size, 64, blocks, max_length=32)
        replace_linear_(
            model.blocks,
            lambda old, start=start: start(LowRankLinear(old.in_features, old.out_features, 16)),
        )
        batch = partial(text.batch, batch_size=16, length=32)
        schedule = cosine_schedule(warmup=20)
        fit(model, batch, steps=400, lr=5e-3, clip=1.0, schedule=schedule, seed=seed)
        result[name] = evaluate(model, windows, metric="loss")
    return result
