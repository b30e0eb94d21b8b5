"""The trained claims of layers/pool. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable
from functools import cache

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, image_frame
from course_lib.data import load
from course_lib.data.canvas import BoxedSplit, box_masks, centre_heatmaps, make_cluttered_digits
from course_lib.layers.norm import BatchNorm, TransformerBlock
from course_lib.layers.pool import (
    AttentionPool,
    EfficientLayer,
    GeM,
    GroupGeM,
    LargeContextTransposedConv2d,
    MaxPoolMixer,
    ParameterFreeBottleneck,
    PatchConvNet,
    PolarizedSelfAttention,
    SoftPool2d,
    SpatialPyramidPool,
    spectral_artifact_energy,
)
from course_lib.layers.pool.attentive import _SqueezeExcite
from course_lib.measure import experiment
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import evaluate, fit

__all__ = [
    "attention_on_clutter",
    "keypoints",
    "pool_swap",
    "pyramid_sizes",
    "side_by_side",
    "spatial_operators",
    "upsampling",
    "vit_pooling",
]


# -- Means of every order ----------------------------------------------------------------------------


def small_cnn(pool: Callable[[], nn.Module]) -> nn.Module:
    """Two convolutions, each followed by a 2 x 2 pooling, on 8 x 8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        pool(),
        nn.Flatten(),
        nn.Linear(24 * 4, 10),
    )


POOLS: dict[str, Callable[[], nn.Module]] = {
    "average": lambda: nn.AvgPool2d(2),
    "soft": lambda: SoftPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
}


@experiment(paper="softpool", seeds=5)
def pool_swap(seed: int) -> dict[str, float]:
    """Test accuracy of one small network with three poolings, 250 steps of 32 digits."""
    digits, result = load("digits"), {}
    for name, pool in POOLS.items():
        torch.manual_seed(seed)
        model = small_cnn(pool)
        fit(model, digits.train, steps=250, batch_size=32, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    return result | {f"soft_over_{name}": result["soft"] - result[name] for name in ("average", "max")}


class TokenMean(nn.Module):
    """The average over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class TokenMax(nn.Module):
    """The maximum over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(1)


class PooledViT(VisionTransformer):
    """Two blocks over the 16 patches of a digit and a pooling of your choice; None reads a class token."""

    def __init__(self, pool: nn.Module | None, dim: int = 32) -> None:
        blocks = [TransformerBlock(dim, 4, hidden_dim=2 * dim) for _ in range(2)]
        super().__init__((8, 8, 1), 2, dim, 10, blocks)
        self.pool = pool
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, dim)) if pool is None else None

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        if self.pool is None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.final_norm(x)
        return self.out(x[:, 0] if self.pool is None else self.pool(x))


@experiment(paper="group-gem-pooling", seeds=3)
def vit_pooling(seed: int) -> dict[str, float]:
    """Test accuracy of a tiny vision transformer with five poolings, 300 steps; and the learned orders."""
    digits, result = load("digits"), {}
    pools: dict[str, Callable[[], nn.Module | None]] = {
        "average": TokenMean,
        "max": TokenMax,
        "class_token": lambda: None,
        "gem": GeM,
        "group_gem": lambda: GroupGeM(32, 4),
    }
    for name, pool in pools.items():
        torch.manual_seed(seed)
        model = PooledViT(pool())
        fit(model, digits.train, steps=300, batch_size=32, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        if name == "group_gem":
            orders = model.pool.p.detach().sort().values
            result |= {f"order_{i}": p.item() for i, p in enumerate(orders)}
            result["order_spread"] = (orders[-1] - orders[0]).item()
            result["order_move"] = (orders - 3).abs().max().item()
    return result | {
        f"over_{name}": result["group_gem"] - result[name] for name in ("average", "gem", "class_token")
    }


# -- Pooling as a layer -------------------------------------------------------------------------------


def conv_operator(width: int, groups: int) -> nn.Module:
    """A 3 x 3 convolution with batch norm and ReLU, as in the usual bottleneck."""
    conv = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


OPERATORS: dict[str, Callable[[int], nn.Module]] = {
    "conv": lambda width: conv_operator(width, 1),
    "depthwise": lambda width: conv_operator(width, width),
    "max": lambda width: MaxPoolMixer(),
    "average": lambda width: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "none": lambda width: nn.Identity(),
}


def operator_network(operator: Callable[[int], nn.Module], stem: int, width: int = 8) -> nn.Module:
    """Three bottlenecks around the operator; with a stem of 1 nothing else sees more than one pixel."""
    blocks = [ParameterFreeBottleneck(4 * width, width, spatial=operator(width)) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(1, 4 * width, stem, padding=stem // 2),
        *blocks,
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


@torch.no_grad()
def shifted_accuracy(model: nn.Module, seed: int = 0) -> float:
    """Test accuracy where every digit is moved by one pixel, up, down, left and right."""
    x, y = load("digits").test
    padded = F.pad(x, (1, 1, 1, 1))
    moved = [padded[..., a : a + 8, b : b + 8] for a, b in ((0, 1), (2, 1), (1, 0), (1, 2))]
    return sum(evaluate(model, (m, y)) for m in moved) / 4


@experiment(paper="parameter-free-layers", seeds=3)
def spatial_operators(seed: int) -> dict[str, float]:
    """Test accuracy of a bottleneck network with five spatial operations, 250 steps of 32 digits.

    Behind a pointwise stem; and, for three of the operations, behind a 3 x 3 convolution ("_stem").
    """
    digits, result = load("digits"), {}
    arms = [(name, name, 1) for name in OPERATORS]
    arms += [(f"{name}_stem", name, 3) for name in ("depthwise", "max", "none")]
    for name, operator, stem in arms:
        torch.manual_seed(seed)
        model = operator_network(OPERATORS[operator], stem)
        fit(model, digits.train, steps=250, batch_size=32, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        result[f"{name}_shifted"] = shifted_accuracy(model)
    for name in ("depthwise", "average", "none"):
        result[f"max_over_{name}"] = result["max"] - result[name]
    for name in ("depthwise", "none"):
        for key in ("stem", "stem_shifted"):
            result[f"max_over_{name}_{key}"] = result[f"max_{key}"] - result[f"{name}_{key}"]
    return result


# -- Any size -----------------------------------------------------------------------------------------


def resized(x: Tensor, size: int) -> Tensor:
    """Digits at another size."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def size_free(pool: nn.Module, features: int) -> nn.Module:
    """Three convolutions, a pooling to fixed length, one dense layer."""
    convolutions = [nn.Conv2d(channels, 16, 3, padding=1) for channels in (1, 16, 16)]
    trunk = [layer for conv in convolutions for layer in (conv, nn.ReLU())]
    return nn.Sequential(*trunk, pool, nn.Linear(features, 10))


def train_on_sizes(model: nn.Module, sizes: tuple[int, ...], seed: int) -> None:
    """300 steps of 32 digits, each batch at a random one of the sizes."""
    x, y = load("digits").train

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(x), (32,), generator=generator)
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        return resized(x[rows], size), y[rows]

    fit(model, batch, steps=300, lr=3e-3, seed=seed)


@experiment(paper="spatial-pyramid-pooling", seeds=3)
def pyramid_sizes(seed: int) -> dict[str, float]:
    """Test accuracy at sizes 8 to 16; trained at 8, 12 and 16 or at 12 only; pyramid or global average."""
    arms = {
        "pyramid_many": (SpatialPyramidPool(), 21 * 16, (8, 12, 16)),
        "pyramid_one": (SpatialPyramidPool(), 21 * 16, (12,)),
        "average_many": (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 16, (8, 12, 16)),
    }
    x, y = load("digits").test
    result = {}
    for name, (pool, features, sizes) in arms.items():
        torch.manual_seed(seed)
        model = size_free(pool, features)
        train_on_sizes(model, sizes, seed)
        for size in (8, 10, 12, 14, 16):
            result[f"{name}_{size:02d}"] = evaluate(model, (resized(x, size), y))
        result[f"{name}_unseen"] = (result[f"{name}_10"] + result[f"{name}_14"]) / 2
    for other in ("pyramid_one", "average_many"):
        result[f"over_{other}"] = result["pyramid_many_unseen"] - result[f"{other}_unseen"]
    return result


# -- Learned weights ----------------------------------------------------------------------------------


@cache
def canvases(split: str, n: int, strokes: int) -> BoxedSplit:
    """Cluttered digits; another seed for each split."""
    seed = {"train": 0, "test": 1}[split]
    return make_cluttered_digits(n, split=split, strokes=strokes, seed=seed)


def clean_centred(split: BoxedSplit) -> BoxedSplit:
    """The same digits alone in the middle of their canvas."""
    rows, size = torch.arange(len(split)), split.x.shape[-1]
    inside = torch.arange(8)
    cut = split.x[
        rows[:, None, None],
        0,
        split.boxes[:, 0, None, None] + inside[:, None],
        split.boxes[:, 1, None, None] + inside,
    ]
    return BoxedSplit(F.pad(cut[:, None], [(size - 8) // 2] * 4), split.y, None, split.boxes)


@torch.no_grad()
def mass_in_box(model: PatchConvNet, split: BoxedSplit) -> float:
    """Share of the attention that falls inside the digit's box, each patch spread evenly over its pixels."""
    attention = model.attention_map(split.x)
    side = split.x.shape[-1]
    cells = side // attention.shape[-1]
    pixels = attention.repeat_interleave(cells, 1).repeat_interleave(cells, 2) / cells**2
    return (pixels * box_masks(split.boxes, side)).sum((1, 2)).mean().item()


@experiment(paper="attention-pooling", seeds=3)
def attention_on_clutter(seed: int) -> dict[str, float]:
    """One trunk, attention or average pooling: on cluttered canvases (400 steps), clean ones (250 steps)."""
    result = {}
    for kind, strokes, steps in (("clutter", 3, 400), ("clean", 0, 250)):
        train, test = canvases("train", 4000, strokes), canvases("test", 400, strokes)
        if kind == "clean":
            train, test = clean_centred(train), clean_centred(test)
        for name, pool in (("attention", lambda: AttentionPool(16)), ("average", TokenMean)):
            torch.manual_seed(seed)
            model = PatchConvNet(16, 2, 10, in_channels=1, stem_stages=1, pool=pool(), norm_layer=BatchNorm)
            fit(model, train, steps=steps, batch_size=32, lr=5e-3, seed=seed)
            result[f"{name}_{kind}"] = evaluate(model, test)
            if name == "attention" and kind == "clutter":
                result["mass"] = mass_in_box(model, test)
                result["mass_over_area"] = result["mass"] / (64 / test.x[0].numel())
        result[f"gain_{kind}"] = result[f"attention_{kind}"] - result[f"average_{kind}"]
    return result


GATES: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    # channels, so that all have equally many parameters up to 5 %; and the gate behind each convolution
    "none": (18, lambda channels: nn.Identity()),
    "squeeze_excite": (16, lambda channels: _SqueezeExcite(channels, 17)),
    "parallel": (16, lambda channels: PolarizedSelfAttention(channels)),
    "sequential": (16, lambda channels: PolarizedSelfAttention(channels, layout="sequential")),
    "released": (16, lambda channels: PolarizedSelfAttention(channels, spatial_softmax="product")),
}


def heatmap_network(channels: int, gate: Callable[[int], nn.Module]) -> nn.Module:
    """24 x 24 canvas to a map of the same size, over half the resolution, with two gates on the way."""
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, 2, 1),
        nn.ReLU(),
        gate(channels),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        gate(channels),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, 4, 1),
        nn.PixelShuffle(2),
    )


@experiment(paper="polarized-self-attention", seeds=3)
def keypoints(seed: int) -> dict[str, float]:
    """Squared error of a heat map of the digit's centre, five gates at equal parameters, 200 steps of 32."""
    train, test = canvases("train", 4000, 3), canvases("test", 400, 3)
    targets = [centre_heatmaps(split.boxes, 24) for split in (train, test)]
    result = {}
    for name, (channels, gate) in GATES.items():
        torch.manual_seed(seed)
        model = heatmap_network(channels, gate)
        fit(model, (train.x, targets[0]), steps=200, batch_size=32, lr=3e-3, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            result[name] = F.mse_loss(model.eval()(test.x), targets[1]).item()
    best_rival = min(result["none"], result["squeeze_excite"])
    return result | {
        "polarized_over_rivals": min(result["parallel"], result["sequential"]) / best_rival,
        "parallel_over_none": result["parallel"] / result["none"],
        "layouts": result["sequential"] / result["parallel"],
        "released_over_parallel": result["released"] / result["parallel"],
    }


# -- The way back -------------------------------------------------------------------------------------


class FixedFeatures(nn.Module):
    """The image itself beside random features that are not trained, so that only the decoder learns."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("weight", torch.randn(channels - 1, 1, 3, 3, generator=generator) / 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, F.conv2d(x - 0.5, self.weight, padding=1).relu()], dim=1)


DECODERS: dict[str, tuple[int, Callable[[int], nn.Module]]] = {
    # channels of the features, and the one layer whose weights are fitted
    "2x2": (16, lambda c: nn.ConvTranspose2d(c, 1, 2, 2, bias=False)),
    "3x3": (16, lambda c: nn.ConvTranspose2d(c, 1, 3, 2, 1, output_padding=1, bias=False)),
    "3x3_wide": (103, lambda c: nn.ConvTranspose2d(c, 1, 3, 2, 1, output_padding=1, bias=False)),
    "7x7+3x3": (16, lambda c: LargeContextTransposedConv2d(c, 1, bias=False)),
}


def grey_pairs(split: str) -> tuple[Tensor, Tensor]:
    """Grey photo patches of 32 x 32 pixels and their halves: (16 x 16, 32 x 32)."""
    high = load("photos").splits[split].x.mean(1, keepdim=True)
    return F.avg_pool2d(high, 2), high


def interior(x: Tensor) -> Tensor:
    """Without a border of four pixels, where the decoders see zeros."""
    return x[..., 4:-4, 4:-4]


def interior_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of the interior."""
    return F.mse_loss(interior(output), interior(target))


@torch.no_grad()
def fit_by_least_squares(decoder: nn.Module, features: Tensor, target: Tensor) -> None:
    """The best weights of a transposed convolution of stride 2: a linear problem for each of four phases.

    Output row 2 i + a reads tap u from feature row i + (a + padding - u) / 2, where that is whole. A small
    branch beside a large one adds nothing to what can be expressed and stays zero.
    """
    if isinstance(decoder, LargeContextTransposedConv2d):
        decoder.small.weight.zero_()
        decoder = decoder.large
    padding, taps = decoder.padding[0], range(decoder.kernel_size[0])
    reach = range(2, features.shape[-1] - 2)  # the rows behind the interior of the target
    rows = torch.tensor(reach)
    for a in (0, 1):
        for b in (0, 1):
            used = [
                (u, v) for u in taps for v in taps if not ((a + padding - u) % 2 or (b + padding - v) % 2)
            ]
            columns = [
                features[:, :, rows + (a + padding - u) // 2][..., rows + (b + padding - v) // 2]
                for u, v in used
            ]
            x = torch.stack(columns, 1).permute(0, 3, 4, 1, 2).flatten(3).flatten(0, 2).double()
            y = target[:, 0, a::2, b::2][:, rows][:, :, rows].flatten().double()
            gram = x.mT @ x
            gram.diagonal().add_(1e-6 * gram.diagonal().mean())
            weights = torch.linalg.solve(gram, x.mT @ y).reshape(len(used), -1).to(features)
            for (u, v), weight in zip(used, weights, strict=True):
                decoder.weight[:, 0, u, v] = weight


@experiment(paper="large-context-upsampling", seeds=3)
def upsampling(seed: int) -> dict[str, float]:
    """Photos of half size brought back by one layer, solved exactly or trained for 400 steps of 16 patches.

    Squared error, energy at the copies of the spectrum beyond that of the photos, harm of a one-step attack.
    """
    (train_low, train_high), (low, high) = grey_pairs("train"), grey_pairs("test")
    true_energy = spectral_artifact_energy(interior(high)).mean()
    bilinear = F.interpolate(low, scale_factor=2, mode="bilinear")
    result = {"bilinear": interior_loss(bilinear, high).item()}
    for name, (channels, make_decoder) in DECODERS.items():
        for how in ("solved", "trained"):
            torch.manual_seed(seed)
            model = nn.Sequential(FixedFeatures(channels, seed), make_decoder(channels))
            if how == "solved":
                fit_by_least_squares(model[1], model[0](train_low), train_high)
            else:
                train = (train_low, train_high)
                fit(model, train, steps=400, batch_size=16, lr=3e-3, loss=interior_loss, seed=seed)
            x = low.clone().requires_grad_()
            error = interior_loss(model(x), high)
            (gradient,) = torch.autograd.grad(error, x)
            with torch.no_grad():
                perturbed = interior_loss(model(low + 4 / 255 * gradient.sign()), high)
                energy = spectral_artifact_energy(interior(model(low))).mean()
            result[f"{name}_{how}"] = error.item()
            result[f"{name}_{how}_extra"] = (energy - true_energy).item()
            result[f"{name}_{how}_harm"] = (perturbed - error).item()
    for rival in ("2x2", "3x3", "3x3_wide"):
        for key in ("solved", "trained", "trained_harm"):
            result[f"large_over_{rival}_{key}"] = result[f"7x7+3x3_{key}"] / result[f"{rival}_{key}"]
    result["3x3_over_2x2_trained"] = result["3x3_trained"] / result["2x2_trained"]
    return result


# -- Side by side -------------------------------------------------------------------------------------


def on_tokens(layer: nn.Module, *, back: bool = False) -> nn.Module:
    """A layer for tokens on an image of 8 x 8 pixels."""
    there = Rearrange("b c i j -> b (i j) c")
    return nn.Sequential(there, layer, *([Rearrange("b (i j) c -> b c i j", i=8)] if back else []))


FRAME = image_frame(channels=16)
LOCAL, GLOBAL = ("local", "mixes positions"), ("global", "mixes positions")
SIDE_BY_SIDE = [
    Variant("conv 3x3", lambda: nn.Conv2d(16, 16, 3, padding=1), symbol="torch.nn.Conv2d",
            properties=("baseline", "learned", "mixes channels", *LOCAL)),
    Variant("average 2x2", lambda: nn.AvgPool2d(2), symbol="torch.nn.AvgPool2d",
            properties=("fixed", *LOCAL)),
    Variant("SoftPool 2x2", lambda: SoftPool2d(2), symbol="SoftPool2d",
            properties=("fixed", "input dependent", *LOCAL)),
    Variant("max-pool mixer 3x3", MaxPoolMixer, symbol="MaxPoolMixer", properties=("fixed", *LOCAL)),
    Variant("efficient layer", lambda: on_tokens(EfficientLayer(16, grid=(8, 8)), back=True),
            symbol="EfficientLayer", properties=("learned", "mixes channels", *LOCAL)),
    Variant("group GeM", lambda: on_tokens(GroupGeM(16, 4)), symbol="GroupGeM",
            properties=("few parameters", "any length", *GLOBAL)),
    Variant("spatial pyramid", SpatialPyramidPool, symbol="SpatialPyramidPool",
            properties=("fixed", "any length", *GLOBAL)),
    Variant("attention pool", lambda: on_tokens(AttentionPool(16)), symbol="AttentionPool",
            properties=("learned", "input dependent", "any length", *GLOBAL)),
    Variant("polarized, parallel", lambda: PolarizedSelfAttention(16), symbol="PolarizedSelfAttention",
            properties=("learned", "input dependent", "mixes channels", *GLOBAL)),
    Variant("upsampling 7x7 + 3x3", lambda: LargeContextTransposedConv2d(16, 16),
            symbol="LargeContextTransposedConv2d", properties=("learned", "mixes channels", *LOCAL)),
]  # fmt: skip


PAPERS = ("softpool", "parameter-free-layers", "group-gem-pooling", "spatial-pyramid-pooling")
PAPERS += ("attention-pooling", "polarized-self-attention", "large-context-upsampling")


@experiment(paper=PAPERS, seeds=3)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
