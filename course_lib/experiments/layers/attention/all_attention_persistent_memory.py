"""Trained claims of all-attention-persistent-memory."""

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.attention._shared import WIDTH, count, train_gpt, validation_loss
from course_lib.layers.attention import (
    AllAttention,
    MultiHeadAttention,
)
from course_lib.layers.norm import ResidualSublayer
from course_lib.measure import experiment


@experiment(paper="all-attention-persistent-memory", seeds=3)
def persistent_memory(seed: int) -> dict[str, float]:
    """Validation loss in nats after 400 steps; equal parameters, also reported.

    ``slots``: attention with persistent vectors; ``attention``: attention alone, three times as deep. The
    standard block beside them is the arm ``multi_head`` of ``shared_keys``.
    """

    def attention(mixer: nn.Module) -> nn.Module:
        return ResidualSublayer(mixer, WIDTH, norm="pre")

    arms = {
        "slots": lambda: [attention(AllAttention(WIDTH, 8, 260, causal=True)) for _ in range(2)],
        "attention": lambda: [attention(MultiHeadAttention(WIDTH, 8, causal=True)) for _ in range(6)],
    }
    text, result = load("english").train, {}
    for name, make_blocks in arms.items():
        torch.manual_seed(seed)
        blocks = make_blocks()
        result[f"{name}_parameters"] = sum(map(count, blocks))
        result[name] = validation_loss(train_gpt(blocks, text, steps=400, seed=seed))
    return result
