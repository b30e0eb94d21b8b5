"""Peri-LN: what training does to the residual stream under four placements of the norm."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.experiments.layers.norm._shared import torch_init_
from course_lib.layers.norm import (
    LayerNorm,
    TransformerBlock,
    gradient_norm_profile,
    residual_variance_profile,
)
from course_lib.measure import experiment
from course_lib.models.transformers import GPT
from course_lib.training.loop import fit


def deep_gpt(norm: str) -> GPT:
    """A character model of English, 16 blocks of width 32; the placement of the norm is its only variable."""
    blocks = [TransformerBlock(32, 2, norm=norm, causal=True) for _ in range(16)]
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


@experiment(paper="peri-ln", seeds=3)
def placements_trained(seed: int) -> dict[str, float]:
    """The residual stream of 16 blocks before and after 100 steps at rate 3e-3, for four placements p.

    ``p_start_rms_00`` to ``p_trained_rms_16``: root mean square before the first and after every block;
    ``p_start_gradient_01`` to ``p_trained_gradient_16``: norm of every block's gradient; ``p_loss``: mean
    training loss of the last 20 steps, in nats a character; ``p_diverged``: whether a number stopped being
    finite; ``p_peak``: largest value of the last stream, in multiples of its root mean square. ``letters``:
    loss of guessing by the frequency of the letters alone.
    """
    text, result = load("english"), {}
    tokens, targets = text.batch(torch.Generator().manual_seed(1000 + seed), 8, 32)
    frequency = torch.bincount(text.train.tokens, minlength=text.vocab_size).double()
    result["letters"] = torch.distributions.Categorical(frequency).entropy().item()
    for norm in ("none", "post", "pre", "peri"):
        torch.manual_seed(seed)
        model = deep_gpt(norm)
        for moment in ("start", "trained"):
            if moment == "trained":
                batch = partial(text.batch, batch_size=8, length=32)
                history = fit(model, batch, steps=100, lr=3e-3, seed=seed, on_divergence="stop")
                result[f"{norm}_diverged"] = history.diverged
                result[f"{norm}_loss"] = sum(history.losses[-20:]) / 20
            rms, gradients = stream_profile(model, tokens, targets)
            result |= {f"{norm}_{moment}_rms_{i:02d}": v for i, v in enumerate(rms)}
            result |= {f"{norm}_{moment}_gradient_{i:02d}": v for i, v in enumerate(gradients, start=1)}
        stream = model.embed(tokens)
        for block in model.blocks:
            stream = block(stream)
        result[f"{norm}_peak"] = (stream.abs().max() / stream.square().mean().sqrt()).item()
    return result
