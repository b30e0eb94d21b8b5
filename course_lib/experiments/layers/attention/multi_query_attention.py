"""Trained claims of multi-query-attention."""

from functools import partial

import torch

from course_lib.data import load
from course_lib.experiments.layers.attention._shared import (
    WIDTH,
    count,
    train_gpt,
    validation_loss,
    widened_block,
)
from course_lib.layers.attention import (
    MultiHeadAttention,
    MultiQueryAttention,
)
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import experiment


@experiment(paper="multi-query-attention", seeds=3)
def shared_keys(seed: int) -> dict[str, float]:
    """Validation loss in nats after 400 steps; equal parameters, also reported.

    ``multi_head``: 8 heads; ``multi_query``: 8 heads on one key-value head; ``one_head``: one of width 8.
    """
    mixers = {
        "multi_head": partial(MultiHeadAttention, WIDTH, 8),
        "multi_query": partial(MultiQueryAttention, WIDTH, 8),
        "one_head": partial(MultiHeadAttention, WIDTH, 1, head_dim=8),  # the cache of multi-query attention
    }
    text, result = load("english").train, {}
    budget = count(TransformerBlock(WIDTH, 8))
    for name, mixer in mixers.items():
        torch.manual_seed(seed)
        blocks = [widened_block(mixer(causal=True), WIDTH, budget) for _ in range(2)]
        result[f"{name}_parameters"] = sum(map(count, blocks))
        result[name] = validation_loss(train_gpt(blocks, text, steps=400, seed=seed))
    return result
