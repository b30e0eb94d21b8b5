"""Trained claims of all-attention-persistent-memory."""

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.attention._shared import (
    LENGTH,
    WIDTH,
    count,
    letter_pairs,
    train_gpt,
    validation_loss,
)
from course_lib.layers.attention import AllAttentionBlock
from course_lib.layers.norm import ResidualSublayer
from course_lib.measure import at_least, at_most, experiment, paper_claim, question

SETTING = "character model, 2 layers, 300 steps"


@experiment(
    paper="all-attention-persistent-memory",
    seeds=3,
    # A tenth of a nat off the plateau of counted letter pairs, where no attention is needed.
    trained={arm: lambda m: at_most(m["letters"].mean - 0.1) for arm in ("standard", "slots")},
    claims=[
        paper_claim(
            "persistent vectors in place of the feed-forward layer cost at most 0.05 nat at equal parameters",
            of=SETTING,
            where="abstract",
            headline=True,
            value=lambda m: m["slots"] - m["standard"],
            expect=at_most(0.05),
            verdict="not tested",
            scale="100 000 parameters, 64 characters of context; the paper: character and word models with "
            "long contexts, trained for days",
        ),
        question(
            "without feed-forward layer and without persistent vectors it is worse by 0.1 nat",
            of=SETTING,
            value=lambda m: m["bare"] - m["slots"],
            expect=at_least(0.1),
            verdict="open",
        ),
    ],
)
def persistent_memory(seed: int) -> dict[str, float]:
    """Validation loss in nats of two layers after 300 steps; ``_parameters`` of the layers.

    The authors' block: the norm behind the sum, no biases, one table of distances for all layers.
    ``standard``: attention, then a feed-forward sublayer of width 256; ``slots``: attention with 260
    persistent vectors a head; ``bare``: attention alone. ``letters``: of counting pairs of letters.
    """

    def attention(slots: int) -> nn.Module:
        return AllAttentionBlock(WIDTH, 8, slots, num_positions=LENGTH, causal=True)

    def feed_forward() -> nn.Module:
        layers = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
        return ResidualSublayer(layers, WIDTH, norm="post")

    arms = {
        "standard": lambda: [attention(0), feed_forward(), attention(0), feed_forward()],
        "slots": lambda: [attention(260), attention(260)],
        "bare": lambda: [attention(0), attention(0)],
    }
    text, result = load("english").train, {"letters": letter_pairs()}
    for name, make_blocks in arms.items():
        torch.manual_seed(seed)
        blocks = make_blocks()
        layers = [block.attention for block in blocks if isinstance(block, AllAttentionBlock)]
        for layer in layers:
            layer.positions = layers[0].positions
        result[f"{name}_parameters"] = count(nn.ModuleList(blocks))
        result[name] = validation_loss(train_gpt(blocks, text, steps=300, seed=seed))
    return result
