"""Trained claims of stochastically-subsampled-attention."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.text import Text
from course_lib.experiments.layers.attention._shared import LENGTH, WIDTH, validation_loss
from course_lib.layers.attention import (
    SubsampledAttention,
    ensemble_members,
)
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import experiment
from course_lib.models.transformers import GPT
from course_lib.training.loop import Run, evaluate, fit

PATHWAY_STEPS, DENSE_FROM, RATE, LOCALITY = 400, 340, 4, 8.0


def flat_then_falling(step: int, steps: int) -> float:
    """The full rate until the dense phase begins, then down to zero: dense steps must not come too cold."""
    return min(1.0, (step + 1) / 20, (steps - step) / (steps - DENSE_FROM))


@experiment(paper="stochastically-subsampled-attention", seeds=3)
def random_pathways(seed: int) -> dict[str, float]:
    """40 kB of text: dense training against a quarter of the keys for 85 % of the steps; then ensembles.

    All in nats. ``dense`` and ``subsampled``: validation loss of a dense pass, ``_train`` on training text;
    ``member``: of one subsampled pass, mean of eight; ``ensemble``: of their mean probabilities.
    """
    text, result = Text(load("english").train.tokens[:40_000]), {}
    windows = load("english").validation.windows(LENGTH, limit=200)

    def densify(run: Run) -> None:
        if run.step == DENSE_FROM:
            set_rate(run.model, 1)

    for name, rate in (("dense", 1), ("subsampled", RATE)):
        torch.manual_seed(seed)
        mixers = [SubsampledAttention(WIDTH, 4, rate, locality=LOCALITY, causal=True) for _ in range(3)]
        blocks = [TransformerBlock(WIDTH, 4, mixer=mixer) for mixer in mixers]
        model = GPT(load("english").vocab_size, WIDTH, blocks, max_length=LENGTH)
        fit(
            model,
            partial(text.batch, batch_size=16, length=LENGTH),
            steps=PATHWAY_STEPS,
            lr=6e-3,
            schedule=flat_then_falling,
            clip=1.0,
            seed=seed,
            hooks=[densify],
        )
        result[name] = validation_loss(model)
        result[f"{name}_train"] = evaluate(model, text.windows(LENGTH, limit=200), metric="loss")
    set_rate(model, RATE)
    members = ensemble_members(model, windows.x, members=8)  # (m, b, t, v)
    per_member = [log_loss(p, windows.y) for p in members]
    result["member"] = sum(per_member) / len(per_member)
    result["ensemble"] = log_loss(members.mean(0), windows.y)
    return result


def set_rate(model: nn.Module, rate: int) -> None:
    """Let every subsampled layer of the model keep one token in ``rate``."""
    for module in model.modules():
        if isinstance(module, SubsampledAttention):
            module.rate = rate


def log_loss(probabilities: Tensor, targets: Tensor) -> float:
    """Mean of -log p of the right character."""
    return F.nll_loss(probabilities.log().flatten(0, -2), targets.flatten()).item()
