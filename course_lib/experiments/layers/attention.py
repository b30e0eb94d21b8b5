"""The trained claims of layers/attention. Each function trains for one seed and returns a few numbers."""

from functools import partial

import torch
from einops import rearrange
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, token_frame
from course_lib.data import load
from course_lib.data.synthetic import cue_tokens
from course_lib.data.text import Text
from course_lib.layers.attention import (
    AllAttention,
    DualAttention,
    GroupedQueryAttention,
    Hopfield,
    HopfieldLookup,
    LabelAttention,
    LambdaLayer,
    MultiHeadAttention,
    MultiQueryAttention,
    SubsampledAttention,
    ensemble_members,
)
from course_lib.layers.norm import ResidualSublayer, TransformerBlock
from course_lib.measure import experiment
from course_lib.models.transformers import GPT
from course_lib.training.loop import Run, cosine_schedule, evaluate, fit

__all__ = [
    "label_heads",
    "persistent_memory",
    "random_pathways",
    "same_or_different",
    "shared_keys",
    "shifted_pixels",
    "side_by_side",
]


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def widened_block(mixer: nn.Module, dim: int, budget: int) -> TransformerBlock:
    """A block around the mixer whose feed-forward layer is as wide as the parameters allow."""
    fixed = count(TransformerBlock(dim, 1, mixer=mixer, hidden_dim=1)) - (2 * dim + 1)
    return TransformerBlock(dim, 1, mixer=mixer, hidden_dim=(budget - fixed) // (2 * dim + 1))


# -- Character models ------------------------------------------------------------------------------

WIDTH, LENGTH = 64, 64


def train_gpt(blocks: list[nn.Module], text: Text, *, steps: int, seed: int) -> GPT:
    """A character model around the blocks, trained on windows of 64 characters, 16 at a time."""
    model = GPT(load("english").vocab_size, WIDTH, blocks, max_length=LENGTH)
    fit(
        model,
        partial(text.batch, batch_size=16, length=LENGTH),
        steps=steps,
        lr=6e-3,
        schedule=cosine_schedule(warmup=20),
        clip=1.0,
        seed=seed,
    )
    return model


def validation_loss(model: GPT) -> float:
    """Nats per character on 200 fixed windows."""
    return evaluate(model, load("english").validation.windows(LENGTH, limit=200), metric="loss")


@experiment(paper="multi-query-attention", seeds=5)
def shared_keys(seed: int) -> dict[str, float]:
    """Validation loss with 8 heads, with 8 heads on one key-value head, with one head; equal parameters."""
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
    result["multi_query_cost"] = result["multi_query"] - result["multi_head"]
    result["one_head_cost"] = result["one_head"] - result["multi_head"]
    result["multi_query_gain"] = result["one_head"] - result["multi_query"]
    return result


@experiment(paper="all-attention-persistent-memory", seeds=5)
def persistent_memory(seed: int) -> dict[str, float]:
    """Validation loss of blocks with feed-forward layers, with slots, and of attention alone but deeper."""

    def attention(mixer: nn.Module) -> nn.Module:
        return ResidualSublayer(mixer, WIDTH, norm="pre")

    arms = {
        "standard": lambda: [TransformerBlock(WIDTH, 4, causal=True) for _ in range(2)],
        "slots": lambda: [attention(AllAttention(WIDTH, 4, 260, causal=True)) for _ in range(2)],
        "attention": lambda: [attention(MultiHeadAttention(WIDTH, 4, causal=True)) for _ in range(6)],
    }
    text, result = load("english").train, {}
    for name, make_blocks in arms.items():
        torch.manual_seed(seed)
        blocks = make_blocks()
        result[f"{name}_parameters"] = sum(map(count, blocks))
        result[name] = validation_loss(train_gpt(blocks, text, steps=400, seed=seed))
    result["slots_cost"] = result["slots"] - result["standard"]
    result["slots_gain"] = result["attention"] - result["slots"]
    return result


# -- Label attention -------------------------------------------------------------------------------

LABELS, TOKENS, CUE_WIDTH = 6, 40, 24


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


def matched_mass(weights: Tensor, tokens: Tensor, present: Tensor) -> float:
    """Attention of the head matched to a label on the label's tokens, where the label is present.

    Heads and labels are matched one to one so that the mean over labels is as large as possible.
    """
    of_label = (tokens[:, None, :, None] == cue_tokens(LABELS)[:, None]).any(-1).float()  # (b, l, s)
    mass = torch.einsum("bhs,bls,bl->hl", weights, of_label, present) / present.sum(0)
    heads, labels = linear_sum_assignment(mass.numpy(), maximize=True)
    return mass[heads, labels].mean().item()


@experiment(paper="label-attention-layer", seeds=10)
def label_heads(seed: int) -> dict[str, float]:
    """F1, and attention on the matched label's cues, after 400 steps; with and without a residual."""
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
        result[f"{name}_parameters"] = count(model)
    result["margin"] = result["label_mass"] - result["self_mass"]
    result["margin_alone"] = result["label_alone_mass"] - result["self_alone_mass"]
    return result


# -- Relations -------------------------------------------------------------------------------------


class ObjectClassifier(nn.Module):
    """Three objects, learned positions, one block, a linear read-out of all three places."""

    def __init__(self, block: nn.Module, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(16, dim)
        self.position = nn.Parameter(0.02 * torch.randn(3, dim))
        self.block = block
        self.out = nn.Linear(3 * dim, 5)

    def forward(self, objects: Tensor) -> Tensor:
        return self.out(self.block(self.embed(objects) + self.position).flatten(1))


@experiment(paper="dual-attention-transformer", seeds=8)
def same_or_different(seed: int) -> dict[str, float]:
    """Test accuracy on AAA, AAB, ABA, ABB, ABC with objects never seen, from 100, 300 and 1000 examples."""
    mixers = {
        "sensory": partial(MultiHeadAttention, 32, 4),
        "dual": partial(DualAttention, 32, 2, 2),
        "symmetric": partial(DualAttention, 32, 2, 2, symmetric=True),
    }
    budget, result = count(TransformerBlock(32, 4, mixer=mixers["dual"]())), {}
    for n in (100, 300, 1000):
        data = load("object_patterns", n=n, seed=seed)
        for name, mixer in mixers.items():
            torch.manual_seed(seed)
            model = ObjectClassifier(widened_block(mixer(), 32, budget))
            fit(model, data.train, steps=500, batch_size=50, lr=3e-3, seed=seed)
            result[f"{name}_{n}"] = evaluate(model, data.test)
            result[f"{name}_parameters"] = count(model)
        for name in ("dual", "symmetric"):
            result[f"{name}_gain_{n}"] = result[f"{name}_{n}"] - result[f"sensory_{n}"]
    return result


# -- Lambda layers ---------------------------------------------------------------------------------


class PixelModel(nn.Module):
    """Every pixel a token: embed its value, mix the tokens, predict a value for each."""

    def __init__(self, layer: nn.Module, hidden: int, dim: int = 32) -> None:
        super().__init__()
        self.embed, self.layer = nn.Linear(1, dim), layer
        self.out = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(rearrange(images, "b 1 i j -> b (i j) 1"))
        return rearrange(self.out(x + self.layer(x)), "b (i j) 1 -> b 1 i j", i=8)


@experiment(paper="lambda-networks", seeds=3)
def shifted_pixels(seed: int) -> dict[str, float]:
    """Test error of the value two columns to the left, relative to predicting the mean; equal parameters."""
    data, result = load("pixel_shift"), {}
    target = data.test.y
    baseline = (target - data.train.y.mean()).square().mean().item()
    layers = {
        "lambda": partial(LambdaLayer, 32, 4, grid=(8, 8), key_dim=8),
        "content": partial(LambdaLayer, 32, 4, grid=(8, 8), key_dim=8, position=False),
        "attention": partial(MultiHeadAttention, 32, 4),
    }
    for name, make_layer in layers.items():
        torch.manual_seed(seed)
        layer = make_layer()
        model = PixelModel(layer, hidden=(6000 - count(layer)) // 34)
        fit(model, data.train, steps=300, batch_size=32, lr=1e-2, schedule=cosine_schedule(), seed=seed)
        result[name] = evaluate(model, data.test, metric="loss") / baseline
        result[f"{name}_parameters"] = count(model)
    return result


# -- Subsampled attention --------------------------------------------------------------------------

PATHWAY_STEPS, DENSE_FROM, RATE, LOCALITY = 400, 340, 4, 8.0


def flat_then_falling(step: int, steps: int) -> float:
    """The full rate until the dense phase begins, then down to zero: dense steps must not come too cold."""
    return min(1.0, (step + 1) / 20, (steps - step) / (steps - DENSE_FROM))


@experiment(paper="stochastically-subsampled-attention", seeds=3)
def random_pathways(seed: int) -> dict[str, float]:
    """40 kB of text: dense training against a quarter of the keys for 85 % of the steps; then ensembles."""
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
    result["cost"] = result["subsampled"] - result["dense"]
    result["jensen"] = result["member"] - result["ensemble"]
    result["ensemble_gain"] = result["subsampled"] - result["ensemble"]
    return result


def set_rate(model: nn.Module, rate: int) -> None:
    """Let every subsampled layer of the model keep one token in ``rate``."""
    for module in model.modules():
        if isinstance(module, SubsampledAttention):
            module.rate = rate


def log_loss(probabilities: Tensor, targets: Tensor) -> float:
    """Mean of -log p of the right character."""
    return F.nll_loss(probabilities.log().flatten(0, -2), targets.flatten()).item()


# -- Side by side ------------------------------------------------------------------------------------

FRAME = token_frame(dim=32)
GLOBAL = ("learned", "global", "input dependent")
SIDE_BY_SIDE = [
    Variant("multi-head", lambda: MultiHeadAttention(32, 4), "MultiHeadAttention", ("baseline", *GLOBAL)),
    Variant("grouped-query", lambda: GroupedQueryAttention(32, 4, 2), "GroupedQueryAttention", GLOBAL),
    Variant("multi-query", lambda: MultiQueryAttention(32, 4), "MultiQueryAttention", GLOBAL),
    Variant("Hopfield", lambda: Hopfield(32, 4), "Hopfield", GLOBAL),
    Variant(
        "Hopfield lookup",
        lambda: HopfieldLookup(32, 4, 16),
        "HopfieldLookup",
        ("learned", "pointwise"),
    ),
    Variant("all-attention", lambda: AllAttention(32, 4, 16), "AllAttention", GLOBAL),
    Variant("label attention", lambda: LabelAttention(32, 10, 8), "LabelAttention", GLOBAL),
    Variant("dual attention", lambda: DualAttention(32, 2, 2), "DualAttention", GLOBAL),
    Variant("lambda layer", lambda: LambdaLayer(32, 4, grid=(4, 4), key_dim=8), "LambdaLayer", GLOBAL),
    Variant(
        "subsampled", lambda: SubsampledAttention(32, 4, 2), "SubsampledAttention", (*GLOBAL, "stochastic")
    ),
]


@experiment(
    paper=(
        "multi-query-attention",
        "modern-hopfield",
        "all-attention-persistent-memory",
        "label-attention-layer",
        "dual-attention-transformer",
        "lambda-networks",
        "stochastically-subsampled-attention",
    ),
    seeds=5,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every kind of attention, as token mixer in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
