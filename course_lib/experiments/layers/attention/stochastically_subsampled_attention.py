"""Trained claims of stochastically-subsampled-attention."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.text import Text
from course_lib.experiments.layers.attention._shared import LENGTH, WIDTH
from course_lib.layers.attention import (
    SubsampledAttention,
    ensemble_members,
)
from course_lib.layers.norm import TransformerBlock
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.models.transformers import GPT
from course_lib.training.hooks import Validation
from course_lib.training.loop import Run, evaluate, fit

TEXT, PATHWAY_STEPS, DENSE_FROM, RATE, LOCALITY = 8000, 400, 340, 4, 8.0


def flat_then_falling(step: int, steps: int) -> float:
    """The full rate until the dense phase begins, then down to zero: dense steps must not come too cold."""
    return min(1.0, (step + 1) / 20, (steps - step) / (steps - DENSE_FROM))


SETTING = "character model, 8 kB of text, 2 blocks, 400 steps"


@experiment(
    paper="stochastically-subsampled-attention",
    seeds=5,
    trained={"*_train": at_most(2.3969)},  # nats of counting which letter follows which
    claims=[
        paper_claim(
            "subsampling regularises: the best validation loss on the way is below dense training's",
            of=SETTING,
            where="abstract",
            headline=True,
            value=lambda m: m["dense_best"] - m["subsampled_best"],
            expect=at_least(0.0),
            scale="100 000 parameters, 8000 characters; the paper: language, images and graphs",
        ),
        question(
            "the same at the end, where dense training has overfitted",
            of=SETTING,
            value=lambda m: m["dense"] - m["subsampled"],
            expect=at_least(0.0),
        ),
        paper_claim(
            "an ensemble of sub-models is better than the dense pass of the same model (nats)",
            of=SETTING,
            where="abstract",
            value=lambda m: m["subsampled"] - m["ensemble"],
            expect=at_least(0.0),
        ),
    ],
)
def random_pathways(seed: int) -> dict[str, float]:
    """8 kB of text: dense training against a quarter of the keys for 85 % of the steps; then ensembles.

    All in nats. ``dense`` and ``subsampled``: validation loss of a dense pass at the end, ``_best`` the least
    of those after every 50 steps, ``_train`` on the training text; ``member``: of one subsampled pass, mean
    of eight; ``ensemble``: of their mean probabilities.
    """
    text, result = Text(load("english").train.tokens[:TEXT]), {}
    windows = load("english").validation.windows(LENGTH, limit=200)

    def densify(run: Run) -> None:
        if run.step == DENSE_FROM:
            set_rate(run.model, 1)

    for name, rate in (("dense", 1), ("subsampled", RATE)):
        torch.manual_seed(seed)
        mixers = [SubsampledAttention(WIDTH, 4, rate, locality=LOCALITY, causal=True) for _ in range(2)]
        blocks = [TransformerBlock(WIDTH, 4, mixer=mixer) for mixer in mixers]
        model = GPT(load("english").vocab_size, WIDTH, blocks, max_length=LENGTH)
        history = fit(
            model,
            partial(text.batch, batch_size=16, length=LENGTH),
            steps=PATHWAY_STEPS,
            lr=6e-3,
            schedule=flat_then_falling,
            clip=1.0,
            seed=seed,
            hooks=[densify, Validation(windows, every=50)],
        )
        losses = [loss for _, loss in history.validation]
        result[name], result[f"{name}_best"] = losses[-1], min(losses)
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
