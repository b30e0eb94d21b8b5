"""The trained claims of layers/mixing. Each function trains for one seed and returns a few numbers."""

from collections.abc import Callable, Iterable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare.frames import Variant, compare, token_frame
from course_lib.data import load
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.mixing import (
    GridMixer,
    InceptionMixer,
    LIFNeuron,
    MaxPatchEmbed,
    MixShift,
    MixShiftBlock,
    MLPMixer,
    PoolMixer,
    RaftMLPBlock,
    RaftTokenMixer,
    RandomMixer,
    SpikingMixerBlock,
    SpiralFC,
    SpiralMixer,
    TokenMLP,
    frequency_ramp,
    relative_log_amplitude,
)
from course_lib.layers.norm import LayerNorm, ResidualSublayer, TransformerBlock
from course_lib.measure import experiment
from course_lib.models.transformers import VisionTransformer
from course_lib.training.loop import evaluate, fit

__all__ = [
    "far_product",
    "frequency_branches",
    "inductive_bias",
    "mixer_swap",
    "side_by_side",
    "spiking_pools",
]

# -- One frame, many mixers ------------------------------------------------------------------------

GRID, DIM, HIDDEN, DEPTH = (8, 8), 20, 40, 3


class TokenFrame(nn.Module):
    """A 3 x 3 stem, 64 tokens, blocks, the mean over tokens, a read-out; a table of positions or none."""

    def __init__(self, blocks: Iterable[nn.Module], *, dim: int = DIM, positions: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, dim, 3, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(64, dim)) if positions else None
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.out = LayerNorm(dim), nn.Linear(dim, 10)

    def streams(self, images: Tensor) -> list[Tensor]:
        """The tokens that enter the first block, and those that leave every block."""
        x = self.stem(images).flatten(2).mT
        streams = [x if self.position is None else x + self.position]
        for block in self.blocks:
            streams.append(block(streams[-1]))
        return streams

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.norm(self.streams(images)[-1]).mean(1))


def axial_offsets(channels: int, reach: int) -> Tensor:
    """Channels that look up and down and left and right in turn: a cross instead of a spiral."""
    steps = [(d, 0) if c % 2 else (0, d) for c, d in enumerate(range(-reach, reach + 1))]
    return torch.tensor([steps[c % len(steps)] for c in range(channels)])


def in_frame(mixer: nn.Module) -> nn.Module:
    """The frame of every arm: pre-norm, skip, mixer, then pre-norm, skip, channel MLP."""
    return TransformerBlock(DIM, 1, mixer=mixer, hidden_dim=HIDDEN)


def on_grid(mixer: nn.Module) -> nn.Module:
    """An image-shaped mixer in the frame."""
    return in_frame(GridMixer(mixer, GRID))


def without_mlp() -> nn.Module:
    """Attention with norm and skip, and no channel MLP."""
    return ResidualSublayer(MultiHeadAttention(DIM, 2), DIM)


def without_skip() -> nn.Module:
    """Norm, attention, norm, channel MLP: nothing is added to what came in."""
    mlp = nn.Sequential(nn.Linear(DIM, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, DIM))
    return nn.Sequential(LayerNorm(DIM), MultiHeadAttention(DIM, 2), LayerNorm(DIM), mlp)


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "identity": lambda: in_frame(nn.Identity()),
    "random matrix": lambda: in_frame(RandomMixer(64)),
    "average pool": lambda: on_grid(PoolMixer()),
    "max pool": lambda: on_grid(nn.MaxPool2d(3, 1, 1)),
    "token MLP": lambda: in_frame(TokenMLP(64, 32)),
    "raft of 1": lambda: RaftMLPBlock(GRID, DIM, raft=1, hidden_dim=HIDDEN),
    "raft of 2": lambda: RaftMLPBlock(GRID, DIM, raft=2, hidden_dim=HIDDEN),
    "mix and shift": lambda: on_grid(MixShift(DIM)),
    "spiral": lambda: on_grid(SpiralFC(DIM, DIM, reach=3, period=8)),
    "cross": lambda: on_grid(SpiralFC(DIM, DIM, offsets=axial_offsets(DIM, 3))),
    "no offsets": lambda: on_grid(SpiralFC(DIM, DIM, reach=0)),
    "attention": lambda: in_frame(MultiHeadAttention(DIM, 2)),
}
WITH_POSITIONS: dict[str, Callable[[], nn.Module]] = {
    **{
        name: MIXERS[name]
        for name in (
            "identity",
            "random matrix",
            "average pool",
            "max pool",
            "token MLP",
            "spiral",
            "attention",
        )
    },
    "attention, no MLP": without_mlp,
    "attention, no skip": without_skip,
}


def train_frame(build: Callable[[], nn.Module], *, positions: bool, seed: int, steps: int) -> TokenFrame:
    """Three blocks of one kind on digits: 32 images per step, Adam at 4e-3."""
    torch.manual_seed(seed)
    model = TokenFrame([build() for _ in range(DEPTH)], positions=positions)
    fit(model, load("digits").train, steps=steps, batch_size=32, lr=4e-3, seed=seed)
    return model


@torch.no_grad()
def fast_share(model: TokenFrame, images: Tensor) -> list[float]:
    """Relative log amplitude at the highest frequency, before the first block and after each."""
    maps = [rearrange(x, "b (i j) d -> b d i j", i=8) for x in model.streams(images)]
    return [relative_log_amplitude(x)[-1].item() for x in maps]


@experiment(
    paper=("metaformer", "mlp-mixer", "raft-mlp", "ms-mlp", "spiral-mlp"),
    seeds=3,
)
def mixer_swap(seed: int) -> dict[str, float]:
    """Test accuracy of every mixer in one frame after 130 steps, and the fast share of its streams."""
    digits, result = load("digits"), {}
    for positions, arms in ((False, MIXERS), (True, WITH_POSITIONS)):
        for name, build in arms.items():
            model = train_frame(build, positions=positions, seed=seed, steps=130)
            key = f"{name}{', positions' if positions else ''}"
            result[key] = evaluate(model, digits.test)
            for block, share in enumerate(fast_share(model, digits.test.x)):
                result[f"{key}: fast share {block}"] = share
    return result


# -- Inductive bias --------------------------------------------------------------------------------


def small_mixer() -> nn.Module:
    """An MLP-Mixer of 11,338 parameters on 16 patches."""
    return MLPMixer((8, 8, 1), 2, 32, 10, depth=2, token_hidden=32, hidden_dim=64)


def small_vit() -> nn.Module:
    """A vision transformer of about the same size on the same patches."""
    return VisionTransformer((8, 8, 1), 2, 28, 10, [TransformerBlock(28, 2, hidden_dim=32) for _ in range(2)])


def small_cnn() -> nn.Module:
    """A convolutional network of about the same size, with a batch norm behind every convolution."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(24, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@experiment(paper="mlp-mixer", seeds=3)
def inductive_bias(seed: int) -> dict[str, float]:
    """Mixer, ViT and CNN of equal size: all data, 150 images, and pixels in one fixed random order."""
    digits, result = load("digits"), {}
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

    def shuffled(x: Tensor) -> Tensor:
        return x.flatten(1)[:, order].reshape(x.shape)

    few, test = digits.train[:150], digits.test
    runs = {
        "all": ((digits.train.x, digits.train.y), (test.x, test.y)),
        "few": ((few.x, few.y), (test.x, test.y)),
        "shuffled": ((shuffled(digits.train.x), digits.train.y), (shuffled(test.x), test.y)),
    }
    for name, build in (("mixer", small_mixer), ("vit", small_vit), ("cnn", small_cnn)):
        for run, (train, held_out) in runs.items():
            if name == "vit" and run != "all":
                continue
            torch.manual_seed(seed)
            model = build()
            fit(model, train, steps=200, batch_size=32, lr=3e-3, seed=seed)
            result[f"{name}_{run}"] = evaluate(model, held_out)
    return result


# -- Shifts that reach -----------------------------------------------------------------------------


def far_pairs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random signs on 12 x 12 pixels, and the product of each with the one 4 columns to the right."""
    x = 2.0 * torch.randint(2, (16, 1, 12, 12), generator=generator) - 1
    return x, x * x.roll(-4, -1)


@experiment(paper="ms-mlp", seeds=3)
def far_product(seed: int) -> dict[str, float]:
    """Share of the variance that two MS-MLP blocks explain, with shifts and with all shifts zero."""
    result = {}
    x, y = far_pairs(torch.Generator().manual_seed(10_000 + seed))
    arms = {"shifted": ((-2, -1, 0, 1, 2), (1, 1, 3, 5, 7)), "unshifted": ((0,) * 5, (3,) * 5)}
    for name, (shifts, sizes) in arms.items():
        torch.manual_seed(seed)
        blocks = (MixShiftBlock(20, shifts=shifts, sizes=sizes, hidden_dim=40) for _ in range(2))
        model = nn.Sequential(nn.Conv2d(1, 20, 1), *blocks, nn.Conv2d(20, 1, 1))
        fit(model, far_pairs, steps=300, lr=1e-2, loss=F.mse_loss, seed=seed)
        with torch.no_grad():
            result[name] = 1 - (F.mse_loss(model(x), y) / y.var(correction=0)).item()
    return result


# -- Frequencies -----------------------------------------------------------------------------------

RAMP_DIM, HEAD_DIM = 24, 8


def inception_frame(widths: Iterable[int]) -> TokenFrame:
    """Two blocks with the given numbers of high-frequency channels; positions for all arms."""
    blocks = [
        TransformerBlock(
            RAMP_DIM,
            1,
            mixer=GridMixer(
                InceptionMixer(RAMP_DIM, width, num_heads=max((RAMP_DIM - width) // HEAD_DIM, 1), pool=2),
                GRID,
            ),
            hidden_dim=48,
        )
        for width in widths
    ]
    return TokenFrame(blocks, dim=RAMP_DIM, positions=True)


@torch.no_grad()
def branch_gap(model: TokenFrame, images: Tensor) -> float:
    """How much stronger ring 3 of 4 is in the high branch of the first block than in the low one.

    The last ring is no use: repeating every pixel of a halved map leaves exactly nothing there.
    """
    x = model.blocks[0].attention.norm_in(model.streams(images)[0])
    high, low = model.blocks[0].attention.sublayer.mixer.branches(rearrange(x, "b (i j) d -> b d i j", i=8))
    return (relative_log_amplitude(high)[3] - relative_log_amplitude(low)[3]).item()


@experiment(paper="inception-transformer", seeds=3)
def frequency_branches(seed: int) -> dict[str, float]:
    """Accuracy with a ramp up, a ramp down and attention alone; frequency gap of the branches."""
    digits, result = load("digits"), {}
    arms = {
        "up": frequency_ramp(RAMP_DIM, HEAD_DIM, 2, first=1, last=2),
        "down": frequency_ramp(RAMP_DIM, HEAD_DIM, 2, first=2, last=1),
        "attention": [0, 0],
    }
    for name, widths in arms.items():
        torch.manual_seed(seed)
        model = inception_frame(widths)
        if name == "up":
            result["gap_start"] = branch_gap(model, digits.test.x)
        fit(model, digits.train, steps=130, batch_size=32, lr=4e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
        if name == "up":
            result["gap_trained"] = branch_gap(model, digits.test.x)
    return result


# -- Spikes ----------------------------------------------------------------------------------------


class SpikingFrame(nn.Module):
    """A stem, two mixing blocks around a patch embedding, the mean over time and space, a read-out."""

    def __init__(self, pool: Callable[[], nn.Module], neuron: Callable[[], nn.Module], frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12))
        self.body = nn.Sequential(
            SpikingMixerBlock(12, pool(), neuron=neuron),
            MaxPatchEmbed(12, 24, neuron=neuron),
            SpikingMixerBlock(24, pool(), neuron=neuron),
        )
        self.neuron, self.out = neuron(), nn.Linear(24, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)[:, None].expand(-1, self.frames, -1, -1, -1)
        return self.out(self.neuron(self.body(x)).mean((1, 3, 4)))


POOLS: dict[str, Callable[[], nn.Module]] = {
    "max": lambda: nn.MaxPool2d(3, 1, 1),
    "average": lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}


@experiment(paper="max-former", seeds=3)
def spiking_pools(seed: int) -> dict[str, float]:
    """Accuracy of max and average pooling as mixers, with spiking neurons (4 time steps) and with GELU."""
    digits, result = load("digits"), {}
    for kind, neuron, frames in (("spiking", LIFNeuron, 4), ("gelu", nn.GELU, 1)):
        for name, pool in POOLS.items():
            torch.manual_seed(seed)
            model = SpikingFrame(pool, neuron, frames)
            fit(model, digits.train, steps=150, batch_size=32, lr=4e-3, seed=seed)
            result[f"{kind}_{name}"] = evaluate(model, digits.test)
        result[f"{kind}_gain"] = result[f"{kind}_max"] - result[f"{kind}_average"]
    return result


# -- Side by side ----------------------------------------------------------------------------------

FRAME = token_frame(dim=20, patch=2)


def _grid(mixer: nn.Module) -> nn.Module:
    """An image-shaped mixer for the 4 x 4 tokens of the frame."""
    return GridMixer(mixer, (4, 4))


def _raft() -> nn.Module:
    """Both steps of raft mixing."""
    return nn.Sequential(*(RaftTokenMixer((4, 4), 20, axis=axis) for axis in ("vertical", "horizontal")))


SIDE_BY_SIDE = [
    Variant("none", nn.Identity, symbol="torch.nn.Identity", properties=("baseline", "pointwise")),
    Variant("random matrix", lambda: RandomMixer(16), symbol="RandomMixer", properties=("fixed", "global")),
    Variant("average pool", lambda: _grid(PoolMixer()), symbol="PoolMixer", properties=("fixed", "local")),
    Variant("token MLP", lambda: TokenMLP(16, 16), symbol="TokenMLP", properties=("learned", "global")),
    Variant("raft of 2", _raft, symbol="RaftTokenMixer", properties=("learned", "global", "structured")),
    Variant(
        "mix and shift",
        lambda: _grid(MixShift(20)),
        symbol="MixShift",
        properties=("learned", "local", "any length"),
    ),
    Variant(
        "spiral",
        lambda: _grid(SpiralFC(20, 20, reach=2, period=8)),
        symbol="SpiralFC",
        properties=("learned", "sparse", "mixes channels", "any length"),
    ),
    Variant(
        "spiral, weighed",
        lambda: _grid(SpiralMixer(20, reach=2, period=8)),
        symbol="SpiralMixer",
        properties=("learned", "sparse", "mixes channels", "input dependent"),
    ),
    Variant(
        "inception",
        lambda: _grid(InceptionMixer(20, 10, pool=2)),
        symbol="InceptionMixer",
        properties=("learned", "local", "global", "mixes channels", "input dependent"),
    ),
    Variant(
        "attention",
        lambda: MultiHeadAttention(20, 2),
        symbol="MultiHeadAttention",
        properties=("learned", "global", "mixes channels", "input dependent"),
    ),
]


@experiment(
    paper=("metaformer", "mlp-mixer", "raft-mlp", "ms-mlp", "spiral-mlp", "inception-transformer"), seeds=3
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every mixer alone, without norm and skip, in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
