"""ReLU's Revival: character models whose blocks have no norm, and what their heads attend to."""

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.text import letter_pairs_loss
from course_lib.layers.norm import TransformerBlock, entropic_overload_fraction, headwise_entropy
from course_lib.measure import Sample, at_least, at_most, each, experiment, paper_claim, question
from course_lib.models.transformers import GPT
from course_lib.training.loop import cosine_schedule, fit

SETTING = "character GPT of two blocks, 400 steps"


class LearnedLeakyReLU(nn.Module):
    """A leaky ReLU with one learned negative slope for the layer, at the start 0.25 (the authors': 0.01)."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.25]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


def small_gpt(norm: str, activation: Callable[[], nn.Module]) -> GPT:
    """A character model of English: two blocks with or without norms, and one norm before the read-out."""
    blocks = [TransformerBlock(48, 4, norm=norm, activation=activation, causal=True) for _ in range(2)]
    return GPT(load("english").vocab_size, 48, blocks, max_length=32)


def attention_entropy(model: GPT, tokens: Tensor) -> Tensor:
    """Relative entropy of every head, a row per block."""
    stream, rows = model.embed(tokens), []
    for block in model.blocks:
        inner = block.attention
        _, weights = inner.mixer(inner.norm_in(stream), return_weights=True)
        rows.append(headwise_entropy(weights, causal=True))
        stream = block(stream)
    return torch.stack(rows)


def saved(result: Mapping[str, Sample], norm: str) -> Sample:
    """The share of GELU's perplexity that ReLU saves."""
    return 1 - each(math.exp, result[f"{norm}_relu_loss"] - result[f"{norm}_gelu_loss"])


@experiment(
    paper="relu-revival",
    seeds=5,
    trained={"*_loss": lambda m: at_most(m["pairs"].mean)},
    claims=[
        paper_claim(
            "without layer norm ReLU has a lower perplexity than GELU: share saved (paper: 0.082)",
            where="abstract",
            headline=True,
            of=SETTING,
            scale="two blocks of width 48 on characters, 400 steps; the paper: GPT-2 of 12 blocks on 2.1 "
            "billion tokens of code",
            value=lambda m: saved(m, "none"),
            expect=at_least(0.04),
        ),
        paper_claim(
            "with layer norm it is the other way round: share of the perplexity that ReLU saves (paper: "
            "-0.025)",
            where="table in the authors' README",
            of=SETTING,
            value=lambda m: saved(m, "pre"),
            expect=at_most(0.0),
            verdict="not reproduced",
        ),
        paper_claim(
            "without layer norm GELU overloads heads with entropy: its share of flat heads minus "
            "that of ReLU",
            where="abstract",
            of=SETTING,
            value=lambda m: m["none_gelu_flat"] - m["none_relu_flat"],
            expect=at_least(0.1),
            verdict="inconclusive",
        ),
        question(
            "a learned negative slope falls below half of its start of 0.25: the network chooses ReLU by "
            "itself",
            of=SETTING,
            value=lambda m: m["slope"],
            expect=at_most(0.125),
        ),
    ],
)
def norm_free(seed: int) -> dict[str, float]:
    """Character models after 400 steps of 16 lines of 32: norm ``none`` or ``pre``, then the activation.

    ``..._loss``: nats a character on held-out text; ``..._flat``: share of heads whose entropy exceeds 0.9 of
    the largest; ``slope``: mean size of the learned negative slope; ``pairs``: loss of counting letter pairs.
    """
    text = load("english")
    windows = text.validation.windows(32, limit=256)
    tokens, targets = windows.x, windows.y
    result = {"pairs": letter_pairs_loss(text.train, windows, text.vocab_size)}
    activations = {"gelu": nn.GELU, "relu": nn.ReLU, "leaky": LearnedLeakyReLU}
    for norm, name in (
        ("none", "gelu"),
        ("none", "relu"),
        ("none", "leaky"),
        ("pre", "gelu"),
        ("pre", "relu"),
    ):
        torch.manual_seed(seed)
        model = small_gpt(norm, activations[name])
        batch = partial(text.batch, batch_size=16, length=32)
        fit(model, batch, steps=400, lr=8e-3, clip=1.0, schedule=cosine_schedule(warmup=20), seed=seed)
        with torch.no_grad():
            loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()
            entropy = attention_entropy(model, tokens)
        result[f"{norm}_{name}_loss"] = loss
        result[f"{norm}_{name}_flat"] = entropic_overload_fraction(entropy)
        if name == "leaky":
            slopes = [m.slope.abs().item() for m in model.modules() if isinstance(m, LearnedLeakyReLU)]
            result["slope"] = sum(slopes) / len(slopes)
    return result
