"""Peri-LN: what training does to the residual stream under four placements of the norm."""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.text import letter_pairs_loss
from course_lib.experiments.layers.norm._shared import torch_init_
from course_lib.layers.norm import (
    LayerNorm,
    TransformerBlock,
    gradient_norm_profile,
    residual_variance_profile,
)
from course_lib.measure import Sample, at_least, at_most, experiment, paper_claim
from course_lib.models.transformers import GPT
from course_lib.training.loop import cosine_schedule, fit

DEPTH = 8
SETTING = "character GPT of 8 blocks, 400 steps"


def grown(stream: Mapping[str, Sample], norm: str) -> Sample:
    """The factor by which training multiplies the mean square of the last stream."""
    ratio = stream[f"{norm}_trained_rms_{DEPTH}"] / stream[f"{norm}_start_rms_{DEPTH}"]
    return ratio * ratio


def reaches(stream: Mapping[str, Sample], norm: str) -> Sample:
    """How much of the last block's gradient the first one gets, after training."""
    return stream[f"{norm}_trained_gradient_1"] / stream[f"{norm}_trained_gradient_{DEPTH}"]


def deep_gpt(norm: str) -> GPT:
    """A character model of English, 8 blocks of width 32; the placement of the norm is its only variable."""
    blocks = [TransformerBlock(32, 2, norm=norm, causal=True) for _ in range(DEPTH)]
    embed_norm = LayerNorm(32) if norm == "peri" else None
    final_norm = LayerNorm(32) if norm in ("pre", "peri") else nn.Identity()
    vocab_size = load("english").vocab_size
    model = GPT(vocab_size, 32, blocks, max_length=32, embed_norm=embed_norm, final_norm=final_norm)
    return torch_init_(model)


def stream_profile(model: GPT, tokens: Tensor, targets: Tensor) -> tuple[list[float], list[float]]:
    """RMS of the residual stream after every block, and the gradient norm of every block."""
    stream = model.embed(tokens).detach()
    rms = [v**0.5 for v in residual_variance_profile(model.blocks, stream)]

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(model.out(model.final_norm(x)).flatten(0, 1), targets.flatten())

    return rms, gradient_norm_profile(model.blocks, stream, loss)


@experiment(
    paper="peri-ln",
    seeds=5,
    trained={"*_loss": lambda m: at_most(m["pairs"].mean)},
    claims=[
        paper_claim(
            "Peri-LN balances the growth of variance: factor by which training multiplies the last variance, "
            "Pre-LN over Peri-LN",
            where="abstract",
            headline=True,
            of=SETTING,
            scale="8 blocks of width 32 on characters, 400 steps; the paper: up to 3.2 billion parameters",
            value=lambda m: grown(m, "pre") / grown(m, "peri"),
            expect=at_least(1.5),
        ),
        paper_claim(
            "Pre-LN is prone to massive activations: largest value of the last stream over its RMS, after "
            "training, Pre-LN over Peri-LN",
            where="abstract",
            of=SETTING,
            value=lambda m: m["pre_peak"] / m["peri_peak"],
            expect=at_least(1.1),
            verdict="inconclusive",
        ),
        paper_claim(
            "Post-LN is prone to vanishing gradients: gradient norm of the first block over the last, "
            "after training, Post-LN over Peri-LN",
            where="abstract",
            of=SETTING,
            value=lambda m: reaches(m, "post") / reaches(m, "peri"),
            expect=at_most(0.5),
            verdict="not tested",
        ),
    ],
)
def placements_trained(seed: int) -> dict[str, float]:
    """The residual stream of 8 blocks before and after 400 steps of 16 lines of 32, for four placements p.

    ``p_start_rms_0`` to ``p_trained_rms_8``: root mean square before the first and after every block;
    ``p_start_gradient_1`` to ``p_trained_gradient_8``: norm of every block's gradient; ``p_loss``: mean
    training loss of the last 20 steps, in nats a character; ``p_diverged``: whether a number stopped being
    finite; ``p_peak``: largest value of the last stream, in multiples of its root mean square. ``pairs``:
    loss of counting letter pairs.
    """
    text, result = load("english"), {}
    result["pairs"] = letter_pairs_loss(text.train, text.validation.windows(32, limit=256), text.vocab_size)
    tokens, targets = text.batch(torch.Generator().manual_seed(1000 + seed), 8, 32)
    for norm in ("none", "post", "pre", "peri"):
        torch.manual_seed(seed)
        model = deep_gpt(norm)
        for moment in ("start", "trained"):
            if moment == "trained":
                batch = partial(text.batch, batch_size=16, length=32)
                schedule = cosine_schedule(warmup=20)
                run = {"clip": 1.0, "schedule": schedule, "seed": seed, "on_divergence": "stop"}
                history = fit(model, batch, steps=400, lr=8e-3, **run)
                result[f"{norm}_diverged"] = history.diverged
                result[f"{norm}_loss"] = sum(history.losses[-20:]) / 20
            rms, gradients = stream_profile(model, tokens, targets)
            result |= {f"{norm}_{moment}_rms_{i}": v for i, v in enumerate(rms)}
            result |= {f"{norm}_{moment}_gradient_{i}": v for i, v in enumerate(gradients, start=1)}
        stream = model.embed(tokens)
        for block in model.blocks:
            stream = block(stream)
        result[f"{norm}_peak"] = (stream.abs().max() / stream.square().mean().sqrt()).item()
    return result
