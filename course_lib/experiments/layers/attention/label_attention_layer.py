"""Trained claims of label-attention-layer."""

from functools import partial

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.synthetic import cue_tokens
from course_lib.experiments.layers.attention._shared import count
from course_lib.layers.attention import (
    LabelAttention,
    MultiHeadAttention,
)
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import fit

LABELS, TOKENS, CUE_WIDTH = 6, 40, 24
SETTING = "6 labels announced by cue tokens, 400 steps"


class LabelClassifier(nn.Module):
    """Label attention, mean over positions, linear read-out from all blocks to all labels.

    Without the residual the read-out sees nothing but what the heads have found.
    """

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.embedding = nn.Embedding(TOKENS, CUE_WIDTH)
        self.attention = LabelAttention(CUE_WIDTH, LABELS, 10, head_dim=6)
        self.out = nn.Linear((10 if residual else 6) * LABELS, LABELS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.out(
            self.attention(x).mean(1) if self.residual else self.attention.contexts(x)[0].flatten(1)
        )

    def weights(self, tokens: Tensor) -> Tensor:
        """Where each head looks, ``(b, h, s)``."""
        return self.attention.contexts(self.embedding(tokens))[1]

    def contributions(self, tokens: Tensor) -> Tensor:
        """What each head's block adds to the score of each label, ``(b, h, l)``."""
        x = self.embedding(tokens)
        found = self.attention(x).mean(1) if self.residual else self.attention.contexts(x)[0].flatten(1)
        blocks = (part.unflatten(-1, (LABELS, -1)) for part in (found, self.out.weight))
        return torch.einsum("bhp,lhp->bhl", *blocks)


class SelfAttentionClassifier(nn.Module):
    """Multi-head self-attention, mean over positions, linear read-out; with or without a residual."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.embedding = nn.Embedding(TOKENS, CUE_WIDTH)
        self.attention = MultiHeadAttention(CUE_WIDTH, LABELS)
        self.out = nn.Linear(CUE_WIDTH, LABELS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return self.out((x * self.residual + self.attention(x)).mean(1))

    def weights(self, tokens: Tensor) -> Tensor:
        """Where each head looks, ``(b, h, s)``: the mean over its queries."""
        return self.attention(self.embedding(tokens), return_weights=True)[1].mean(2)

    def contributions(self, tokens: Tensor) -> Tensor:
        """What each head, and last the residual, adds to the score of each label, ``(b, h + 1, l)``."""
        x = self.embedding(tokens)
        heads, _ = self.attention.attend(*self.attention.project(x, x), mask=None, return_weights=False)
        writers = self.attention.out.weight.unflatten(1, (LABELS, -1))  # (d, h, e)
        added = torch.einsum("bhte,dhe->bhd", heads, writers) / tokens.shape[1]
        added = torch.cat([added, self.residual * x.mean(1, keepdim=True)], dim=1)
        return added @ self.out.weight.T


def matched_mass(weights: Tensor, tokens: Tensor, present: Tensor) -> float:
    """Attention of the head matched to a label on the label's tokens, where the label is present.

    Heads and labels are matched one to one so that the mean over labels is as large as possible.
    """
    of_label = (tokens[:, None, :, None] == cue_tokens(LABELS)[:, None]).any(-1).float()  # (b, l, s)
    return _matched(torch.einsum("bhs,bls,bl->hl", weights, of_label, present) / present.sum(0))


def matched_share(contributions: Tensor, present: Tensor) -> float:
    """How much of what moves a label's score, when the label is present, comes from the head matched to it.

    A head moves the score by the difference between its mean contribution where the label is present and
    where it is not; its share is taken of the sum of these sizes over the heads, and a residual beside them.
    """
    with_label, without = (
        torch.einsum("bhl,bl->hl", contributions, chosen) / chosen.sum(0) for chosen in (present, 1 - present)
    )
    moved = (with_label - without).abs()
    return _matched((moved / moved.sum(0))[:LABELS])


def _matched(of_head: Tensor) -> float:
    """Mean over labels after heads and labels, ``(h, l)``, are matched one to one as well as possible."""
    heads, labels = linear_sum_assignment(of_head.numpy(), maximize=True)
    return of_head[heads, labels].mean().item()


@experiment(
    paper="label-attention-layer",
    seeds=10,
    trained={"*_f1": at_least(0.95)},  # a bag of tokens, read linearly, solves the task
    claims=[
        paper_claim(
            "a parser with it sets a new state of the art in constituency and dependency parsing",
            where="abstract",
            headline=True,
            not_tested="no treebank and no parser here",
            scale="3500 parameters, synthetic; the paper: parsers on the Penn and Chinese Treebanks",
        ),
        paper_claim(
            "a head represents a label: the head matched to it moves at least half of the label's score",
            of=SETTING,
            where="abstract",
            value=lambda m: m["label_share"],
            expect=at_least(0.5),
            scale="synthetic labels instead of syntactic categories",
        ),
        question(
            "the matched head moves more of its label's score than one of self-attention, by 0.2",
            of=SETTING,
            value=lambda m: m["label_share"] - m["self_share"],
            expect=at_least(0.2),
            verdict="open",
        ),
        question(
            "the matched head looks at its label's cues more than one of self-attention, by 0.2",
            of=SETTING,
            value=lambda m: m["label_mass"] - m["self_mass"],
            expect=at_least(0.2),
            verdict="not as expected",
        ),
        question(
            "no residual: the matched head looks more at its label's cues than one of self-attention, by 0.2",
            of=SETTING,
            value=lambda m: m["label_alone_mass"] - m["self_alone_mass"],
            expect=at_least(0.2),
            verdict="open",
        ),
    ],
)
def label_heads(seed: int) -> dict[str, float]:
    """Label attention and self-attention (``label``, ``self``) after 400 steps; ``_alone``: no residual.

    ``_f1``: of the labels, on test data; ``_mass``: attention on the cues of the label that a head is matched
    to, a share; ``_share``: of what moves a label's score, from the head matched to it; ``_parameters``.
    """
    data, result = load("multi_label_cues", seed=seed), {}
    models = {
        "label": partial(LabelClassifier, residual=True),
        "self": partial(SelfAttentionClassifier, residual=True),
        "label_alone": partial(LabelClassifier, residual=False),
        "self_alone": partial(SelfAttentionClassifier, residual=False),
    }
    for name, make_model in models.items():
        torch.manual_seed(seed)
        model = make_model()
        bce = F.binary_cross_entropy_with_logits
        fit(model, data.train, steps=400, batch_size=64, lr=1e-2, loss=bce, seed=seed)
        with torch.no_grad():
            found, present = model(data.test.x) > 0, data.test.y
            hits = (found * present).sum()
            result[f"{name}_f1"] = (2 * hits / (found.sum() + present.sum())).item()
            result[f"{name}_mass"] = matched_mass(model.weights(data.test.x), data.test.x, present)
            result[f"{name}_share"] = matched_share(model.contributions(data.test.x), present)
        result[f"{name}_parameters"] = count(model)
    return result
