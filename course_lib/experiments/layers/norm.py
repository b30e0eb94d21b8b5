"""The trained claims of layers/norm. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, image_frame, vector_frame
from course_lib.data import load
from course_lib.layers.norm import (
    BatchNorm,
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    LayerNormRNNCell,
    NormActivationGraph,
    ProgressiveRepBN,
    RepBN,
    RMSNorm,
    TransformerBlock,
    entropic_overload_fraction,
    gradient_norm_profile,
    headwise_entropy,
    project_out_ones,
    random_norm_activation_graph,
    reject_layer,
    residual_variance_profile,
    scale_to_sqrt_d,
)
from course_lib.measure import experiment
from course_lib.models.transformers import GPT, VisionTransformer
from course_lib.training.loop import Run, evaluate, fit

__all__ = [
    "image_norms",
    "majority",
    "norm_free",
    "placements_trained",
    "random_search",
    "recurrent_steps",
    "side_by_side",
    "tiny_batches",
    "token_norms",
]


# -- Layer normalisation ---------------------------------------------------------------------------


def digits_mlp(norm: Callable[[int], nn.Module]) -> nn.Module:
    """64 pixels to 10 classes through two hidden layers of 64, each linear, norm, ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class MicroBatches(nn.Module):
    """Trains on a batch in pieces of ``size`` rows, as devices that see only their own share of it do.

    The update uses the whole batch; only statistics over a batch notice the pieces.
    """

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Tensor:
        return (
            torch.cat([self.model(piece) for piece in x.split(self.size)]) if self.training else self.model(x)
        )


@experiment(paper="layer-normalization", seeds=5)
def tiny_batches(seed: int) -> dict[str, float]:
    """Test accuracy after 200 steps of 64 samples, with statistics over all 64 and over 2 at a time."""
    digits, result = load("digits"), {}
    for name, norm in (("layer", LayerNorm), ("batch", BatchNorm)):
        for size in (64, 2):
            torch.manual_seed(seed)
            model = MicroBatches(digits_mlp(norm), size)
            fit(model, digits.train, steps=200, batch_size=64, lr=1e-3, seed=seed)
            result[f"{name}_{size}"] = evaluate(model, digits.test)
        result[f"{name}_drop"] = result[f"{name}_64"] - result[f"{name}_2"]
    result["extra_drop"] = result["batch_drop"] - result["layer_drop"]
    return result


class RowRNN(nn.Module):
    """Reads a digit row by row, top to bottom, and classifies from the last state."""

    def __init__(self, cell: nn.Module, dim: int) -> None:
        super().__init__()
        self.cell, self.dim, self.out = cell, dim, nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        state = images.new_zeros(len(images), self.dim)
        for row in images.squeeze(1).unbind(1):
            state = self.cell(row, state)
        return self.out(state)


def steps_to_accuracy(model: nn.Module, target: float, *, steps: int, every: int, seed: int) -> int:
    """Training steps on digits until the test accuracy reaches the target; ``steps`` if it never does."""
    digits, reached = load("digits"), []

    def probe(run: Run) -> None:
        if not reached and run.step % every == 0 and evaluate(model, digits.test) >= target:
            reached.append(run.step)

    fit(model, digits.train, steps=steps, batch_size=64, lr=1e-3, seed=seed, hooks=[probe])
    return reached[0] if reached else steps


@experiment(paper="layer-normalization", seeds=5)
def recurrent_steps(seed: int) -> dict[str, float]:
    """Steps until a row-by-row recurrent network reaches 80 % test accuracy, with and without layer norm."""
    result = {}
    for name, make_cell in (
        ("plain", partial(nn.RNNCell, 8, 64)),
        ("layer", partial(LayerNormRNNCell, 8, 64)),
    ):
        torch.manual_seed(seed)
        result[f"{name}_steps"] = steps_to_accuracy(
            RowRNN(make_cell(), 64), 0.8, steps=400, every=5, seed=seed
        )
    result["ratio"] = result["layer_steps"] / result["plain_steps"]
    return result


# -- Placement -------------------------------------------------------------------------------------


def character_gpt(
    depth: int, dim: int, *, norm: str, length: int, activation: Callable[[], nn.Module] = nn.GELU
) -> GPT:
    """A character model of English whose only variable is the norm's placement (and the activation)."""
    heads = dim // 16
    blocks = [
        TransformerBlock(dim, heads, norm=norm, activation=activation, causal=True) for _ in range(depth)
    ]
    embed_norm = LayerNorm(dim) if norm == "peri" else None
    final_norm = LayerNorm(dim) if norm in ("pre", "peri") else nn.Identity()
    vocab_size = load("english").vocab_size
    return GPT(vocab_size, dim, blocks, max_length=length, embed_norm=embed_norm, final_norm=final_norm)


def torch_init_(model: nn.Module) -> nn.Module:
    """Give every layer torch's own start: embeddings of variance 1, so that growth begins near 1."""
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return model


def stream_profile(model: GPT, tokens: Tensor, targets: Tensor) -> tuple[list[float], list[float]]:
    """RMS of the residual stream after every block, and the gradient norm of every block."""
    stream = model.embed(tokens).detach()
    rms = [v**0.5 for v in residual_variance_profile(model.blocks, stream)]

    def loss(x: Tensor) -> Tensor:
        return F.cross_entropy(model.out(model.final_norm(x)).flatten(0, 1), targets.flatten())

    return rms, gradient_norm_profile(model.blocks, stream, loss)


@experiment(paper="peri-ln", seeds=5)
def placements_trained(seed: int) -> dict[str, float]:
    """16 blocks, four placements, 100 steps at rate 3e-3: the stream before and after, loss, divergence."""
    text, result = load("english"), {}
    tokens, targets = text.batch(torch.Generator().manual_seed(1000 + seed), 8, 32)
    for norm in ("none", "post", "pre", "peri"):
        torch.manual_seed(seed)
        model = torch_init_(character_gpt(16, 32, norm=norm, length=32))
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
        result[f"{norm}_growth"] = (result[f"{norm}_trained_rms_16"] / result[f"{norm}_start_rms_16"]) ** 2
    for key in ("growth", "peak"):
        result[f"{key}_ratio"] = result[f"pre_{key}"] / result[f"peri_{key}"]
    return result


# -- Geometry --------------------------------------------------------------------------------------

GEOMETRY: dict[str, Callable[[Tensor], Tensor]] = {
    "full": lambda x: scale_to_sqrt_d(project_out_ones(x), eps=1e-5),
    "scaling": lambda x: scale_to_sqrt_d(x, eps=1e-5),
    "projection": project_out_ones,
    "none": lambda x: x,
}


class MajorityModel(nn.Module):
    """Norm, one attention head, residual, read-out with the embedding; no positions, no feed-forward."""

    def __init__(self, classes: int, dim: int, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, dim)
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.normalise = normalise

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        n = self.normalise(x)
        attended = F.scaled_dot_product_attention(self.query(n), self.key(n), self.value(n))
        return self.normalise(x + attended) @ self.embedding.weight.T

    @torch.no_grad()
    def angle_to_ones(self) -> float:
        """Mean angle in degrees between W_k^T q, which multiplies the keys, and the ones vector."""
        n = self.normalise(self.embedding.weight)
        directions = F.normalize(self.query(n) @ self.key.weight, dim=-1)
        cosine = directions.sum(-1).abs() / directions.shape[-1] ** 0.5
        return torch.rad2deg(torch.acos(cosine.clamp(max=1))).mean().item()


def majority_batch(
    generator: torch.Generator, *, classes: int = 5, length: int = 30, size: int = 64
) -> tuple[Tensor, Tensor]:
    """Random classes; the target at every position is the most frequent one (ties are drawn again)."""
    while True:
        tokens = torch.randint(classes, (2 * size, length), generator=generator)
        counts = F.one_hot(tokens, classes).sum(1)
        clear = counts.topk(2).values.diff().flatten() < 0
        if clear.sum() >= size:
            tokens, counts = tokens[clear][:size], counts[clear][:size]
            return tokens, counts.argmax(-1, keepdim=True).expand(-1, length)


@experiment(paper="layernorm-expressivity", seeds=10)
def majority(seed: int) -> dict[str, float]:
    """Majority of five classes, four norms: steps to 90 % accuracy, final accuracy, angle of the queries."""
    result = {}
    tokens, targets = majority_batch(torch.Generator().manual_seed(999), size=512)
    for name, normalise in GEOMETRY.items():
        torch.manual_seed(seed)
        model, curve = MajorityModel(5, 8, normalise), []

        def probe(run: Run, curve: list = curve) -> None:
            if run.step % 10 == 0:
                with torch.no_grad():
                    curve.append((run.step, (run.model(tokens).argmax(-1) == targets).float().mean().item()))

        fit(model, majority_batch, steps=400, lr=3e-2, seed=seed, hooks=[probe])
        result[f"{name}_steps"] = next((step for step, accuracy in curve if accuracy >= 0.9), 400)
        result[f"{name}_accuracy"] = curve[-1][1]
        result[f"{name}_angle"] = model.angle_to_ones()
    result["projection_gain"] = result["scaling_steps"] - result["full_steps"]
    result["angle_gain"] = result["scaling_angle"] - result["full_angle"]
    return result


# -- EvoNorm ---------------------------------------------------------------------------------------

IMAGE_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "bn_relu": lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.ReLU()),
    "gn_relu": lambda c: nn.Sequential(nn.GroupNorm(c // 8, c), nn.ReLU()),
    "evonorm_b0": EvoNormB0,
    "evonorm_s0": EvoNormS0,
}


class ResidualCNN(nn.Module):
    """A stem and three residual steps, each one norm-activation layer and one 3 x 3 convolution."""

    def __init__(self, norm: Callable[[int], nn.Module], channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.steps = nn.ModuleList(
            nn.Sequential(norm(channels), nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(3)
        )
        self.norm = norm(channels)
        self.out = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step in self.steps:
            x = x + step(x)
        return self.out(self.norm(x).mean((2, 3)))


@experiment(paper="evonorm", seeds=5)
def image_norms(seed: int) -> dict[str, float]:
    """Test accuracy after 400 steps of 32 samples, with statistics over all 32 and over 2 at a time."""
    digits, result = load("digits"), {}
    for name, norm in IMAGE_NORMS.items():
        for size in (32, 2):
            torch.manual_seed(seed)
            model = MicroBatches(ResidualCNN(norm), size)
            fit(model, digits.train, steps=400, batch_size=32, lr=1e-2, seed=seed)
            result[f"{name}_{size}"] = evaluate(model, digits.test)
        result[f"{name}_drop"] = result[f"{name}_32"] - result[f"{name}_2"]
    at_32 = [result[f"{name}_32"] for name in IMAGE_NORMS]
    result["range_32"] = max(at_32) - min(at_32)
    return result


@experiment(paper="evonorm", seeds=3)
def random_search(seed: int) -> dict[str, float]:
    """Share of 300 random graphs that the quality and the stability test throw out."""
    digits = load("digits")
    x, y = digits.train.x[:64], digits.train.y[:64]
    generator = torch.Generator().manual_seed(seed)
    verdicts = []

    def score(model: nn.Module) -> float:
        torch.manual_seed(seed)
        history = fit(model, digits.train, steps=20, batch_size=64, lr=1e-2, seed=seed, on_divergence="stop")
        return 0.0 if history.diverged else evaluate(model, digits.validation)

    for _ in range(300):
        nodes = random_norm_activation_graph(generator=generator)
        verdicts.append(
            reject_layer(
                partial(NormActivationGraph, nodes=nodes),
                anchors=[partial(ResidualCNN, channels=8)],
                score=score,
                loss=lambda model: F.cross_entropy(model(x), y),
                min_score=0.3,
            )
        )
    return {
        "rejected": sum(v is not None for v in verdicts) / 300,
        "quality": verdicts.count("quality") / 300,
        "stability": verdicts.count("stability") / 300,
    }


# -- Progressive re-parameterised batch norm -------------------------------------------------------

VIT_STEPS = 600
TOKEN_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": LayerNorm,
    "batch": BatchNorm,
    "rep": RepBN,
    "progressive": partial(ProgressiveRepBN, decay_steps=VIT_STEPS // 2),
}


def digits_vit(norm: Callable[[int], nn.Module]) -> VisionTransformer:
    """16 patches of 2 x 2 pixels, two blocks of width 32; every norm is of the given kind."""
    blocks = [TransformerBlock(32, 2, norm="pre", norm_layer=norm, hidden_dim=64) for _ in range(2)]
    return VisionTransformer((8, 8, 1), 2, 32, 10, blocks, final_norm=norm(32))


@experiment(paper="slab-prepbn", seeds=5)
def token_norms(seed: int) -> dict[str, float]:
    """Test accuracy of a small vision transformer on digits with four norms, equal steps."""
    digits, result = load("digits"), {}
    for name, norm in TOKEN_NORMS.items():
        torch.manual_seed(seed)
        model = digits_vit(norm)
        fit(model, digits.train, steps=VIT_STEPS, batch_size=64, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    for name in ("batch", "rep", "progressive"):
        result[f"{name}_gap"] = result["layer"] - result[name]
    return result


# -- Without a norm --------------------------------------------------------------------------------


class LearnedLeakyReLU(nn.Module):
    """A leaky ReLU with one learned negative slope for the layer, 0.25 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.25))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, self.slope * x)


def attention_entropy(model: GPT, tokens: Tensor) -> Tensor:
    """Relative entropy of every head, a row per block."""
    stream, rows = model.embed(tokens), []
    for block in model.blocks:
        inner = block.attention
        _, weights = inner.mixer(inner.norm_in(stream), return_weights=True)
        rows.append(headwise_entropy(weights, causal=True))
        stream = block(stream)
    return torch.stack(rows)


@experiment(paper="relu-revival", seeds=5)
def norm_free(seed: int) -> dict[str, float]:
    """Character GPTs with and without norm, with GELU, ReLU and a learned slope: loss and flat heads."""
    text, result = load("english"), {}
    windows = text.validation.windows(64, limit=128)
    tokens, targets = windows.x, windows.y
    for norm in ("none", "pre"):
        for name, activation in (("gelu", nn.GELU), ("relu", nn.ReLU), ("leaky", LearnedLeakyReLU)):
            if (norm, name) == ("pre", "leaky"):
                continue
            torch.manual_seed(seed)
            model = character_gpt(4, 64, norm=norm, length=64, activation=activation)
            batch = partial(text.batch, batch_size=8, length=64)
            fit(model, batch, steps=500, lr=2e-3, clip=1.0, seed=seed)
            with torch.no_grad():
                loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()
                entropy = attention_entropy(model, tokens)
            result[f"{norm}_{name}_loss"] = loss
            result[f"{norm}_{name}_flat"] = entropic_overload_fraction(entropy[:2])
            if name == "leaky":
                slopes = [m.slope.abs().item() for m in model.modules() if isinstance(m, LearnedLeakyReLU)]
                result["slope"] = sum(slopes) / len(slopes)
    result["relu_gain"] = result["none_gelu_loss"] - result["none_relu_loss"]
    result["relu_gain_with_norm"] = result["pre_gelu_loss"] - result["pre_relu_loss"]
    result["flat_gap"] = result["none_gelu_flat"] - result["none_relu_flat"]
    return result


# -- Side by side ------------------------------------------------------------------------------------

FRAME, IMAGES = vector_frame(width=64), image_frame(channels=16)
SIDE_BY_SIDE = [
    Variant("layer norm", lambda: LayerNorm(64), "LayerNorm", ("baseline", "per sample")),
    Variant("RMS norm", lambda: RMSNorm(64), "RMSNorm", ("per sample",)),
    Variant("batch norm", lambda: BatchNorm(64), "BatchNorm", ("mixes the batch",)),
    Variant("RepBN", lambda: RepBN(64), "RepBN", ("mixes the batch",)),
    Variant(
        "layer norm, then RepBN",
        lambda: ProgressiveRepBN(64, decay_steps=200),
        "ProgressiveRepBN",
        ("mixes the batch",),
    ),
    Variant("no norm", nn.Identity, "torch.nn.Identity", ("fixed",)),
    Variant(
        "batch norm of images",
        lambda: nn.BatchNorm2d(16),
        "torch.nn.BatchNorm2d",
        ("baseline", "mixes the batch"),
        IMAGES,
    ),
    Variant("group norm", lambda: nn.GroupNorm(2, 16), "torch.nn.GroupNorm", ("per sample",), IMAGES),
    Variant("EvoNorm-B0", lambda: EvoNormB0(16), "EvoNormB0", ("mixes the batch",), IMAGES),
    Variant("EvoNorm-S0", lambda: EvoNormS0(16), "EvoNormS0", ("per sample",), IMAGES),
]


@experiment(paper=("layer-normalization", "evonorm", "slab-prepbn"), seeds=5)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every norm in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
