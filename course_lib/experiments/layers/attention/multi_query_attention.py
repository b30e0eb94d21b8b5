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
from course_lib.measure import at_least, at_most, experiment, paper_claim, question

PAIRS = 2.3969  # nats of counting which letter follows which, see ``letter_pairs``
SETTING = "character model, 8 heads, 2 blocks, 400 steps"


@experiment(
    paper="multi-query-attention",
    seeds=5,
    trained={arm: at_most(PAIRS) for arm in ("multi_head", "multi_query", "one_head")},
    claims=[
        paper_claim(
            "sharing keys and values costs at most 0.05 nat at equal parameters",
            of=SETTING,
            where="abstract",
            headline=True,
            value=lambda m: m["multi_query"] - m["multi_head"],
            expect=at_most(0.05),
            verdict="inconclusive",
            scale="100 000 parameters, 64 characters; the paper: translation and language models",
        ),
        paper_claim(
            "decoding becomes much faster",
            where="abstract",
            not_tested="the time of one attention step is shown on the page, on whatever machine built it; "
            "no whole model was timed",
        ),
        question(
            "eight queries on one memory beat one head with the same cache (nats)",
            of=SETTING,
            value=lambda m: m["one_head"] - m["multi_query"],
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
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
