"""Trained claims of metaformer, and of the papers whose mixers it is compared with in one frame."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.mixing._shared import (
    DEPTH,
    DIM,
    GRID,
    HIDDEN,
    LEAST_SQUARES,
    TokenFrame,
)
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.mixing import (
    GridMixer,
    MixShift,
    PoolMixer,
    RaftMLPBlock,
    RandomMixer,
    SpiralFC,
    TokenMLP,
    relative_log_amplitude,
)
from course_lib.layers.norm import LayerNorm, ResidualSublayer, TransformerBlock
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit


def axial_offsets(channels: int, reach: int) -> Tensor:
    """Channels that look up and down and left and right in turn: a cross instead of a spiral."""
    steps = [(d, 0) if c % 2 else (0, d) for c, d in enumerate(range(-reach, reach + 1))]
    return torch.tensor([steps[c % len(steps)] for c in range(channels)])


def in_frame(mixer: nn.Module) -> nn.Module:
    """The frame of every arm: pre-norm, skip, mixer, then pre-norm, skip, channel MLP."""
    return TransformerBlock(DIM, 1, mixer=mixer, hidden_dim=HIDDEN)


def on_grid(mixer: nn.Module) -> nn.Module:
    """An image-shaped mixer in the frame."""
    return in_frame(GridMixer(mixer, grid=GRID))


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
    "raft of 1": lambda: RaftMLPBlock(DIM, grid=GRID, raft=1, hidden_dim=HIDDEN),
    "raft of 2": lambda: RaftMLPBlock(DIM, grid=GRID, raft=2, hidden_dim=HIDDEN),
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
    seeds=5,
    trained={
        arm: at_least(LEAST_SQUARES)
        for arm in (
            "average pool, positions",
            "attention, positions",
            "token MLP",
            "raft of 1",
            "raft of 2",
            "spiral",
            "cross",
        )
    },
    claims=[
        paper_claim(
            "average pooling in the place of attention is at most 3 points behind it",
            where="abstract",
            headline=True,
            of="three blocks with positions, digits, 130 steps",
            value=lambda m: m["average pool, positions"] - m["attention, positions"],
            expect=at_least(-0.03),
            verdict="not tested",
            scale="three blocks of width 20 on 8 x 8 digits, 130 steps; the paper: PoolFormer on ImageNet, "
            "82.1 %, 0.3 points above DeiT-B",
        ),
        paper_claim(
            "with the identity as mixer the frame still works, far above chance (10 %)",
            where="ablations",
            of="three blocks with positions, digits, 130 steps",
            value=lambda m: m["identity, positions"],
            expect=at_least(0.3),
        ),
        question(
            "without its skips attention stays below 50 %",
            of="three blocks with positions, digits, 130 steps",
            value=lambda m: m["attention, no skip, positions"],
            expect=at_most(0.5),
        ),
        question(
            "without its channel MLPs attention stays below 50 %",
            of="three blocks with positions, digits, 130 steps",
            value=lambda m: m["attention, no MLP, positions"],
            expect=at_most(0.5),
            verdict="not as expected",
        ),
        paper_claim(
            "rafts of 2 channels are more accurate than the token MLP of MLP-Mixer, with half of its weights",
            where="abstract",
            paper="raft-mlp",
            headline=True,
            of="three blocks, digits, 130 steps",
            value=lambda m: m["raft of 2"] - m["token MLP"],
            expect=at_least(0.0),
            verdict="inconclusive",
            scale="three blocks of width 20 on 8 x 8 tokens of digits, 130 steps; the paper: a pyramid on "
            "ImageNet",
        ),
        question(
            "a raft of 2 channels is not behind one channel alone",
            paper="raft-mlp",
            of="three blocks, digits, 130 steps",
            value=lambda m: m["raft of 2"] - m["raft of 1"],
            expect=at_least(0.0),
            verdict="open",
        ),
        paper_claim(
            "SpiralMLP is as accurate as the best transformers, convolutional networks and MLPs",
            where="abstract",
            paper="spiral-mlp",
            headline=True,
            not_tested="ImageNet, COCO and ADE20K are out of reach here",
            scale="blocks of 20 channels on 8 x 8 digits; the paper: ImageNet, COCO and ADE20K",
        ),
        question(
            "the spiral is at most 1 point behind a cross of offsets",
            paper="spiral-mlp",
            of="three blocks, digits, 130 steps",
            value=lambda m: m["spiral"] - m["cross"],
            expect=at_least(-0.01),
            verdict="open",
        ),
    ],
)
def mixer_swap(seed: int) -> dict[str, float]:
    """Every mixer in one frame of three blocks on digits, 130 steps, without and with learned positions.

    ``<mixer>`` and ``<mixer>, positions``: test accuracy. ``<...>: fast share <n>``: relative log amplitude
    (natural logarithm) of the stream at the highest frequency, before the first block (0) and after each.
    """
    digits, result = load("digits"), {}
    for positions, arms in ((False, MIXERS), (True, WITH_POSITIONS)):
        for name, build in arms.items():
            model = train_frame(build, positions=positions, seed=seed, steps=130)
            key = f"{name}{', positions' if positions else ''}"
            result[key] = evaluate(model, digits.test)
            for block, share in enumerate(fast_share(model, digits.test.x)):
                result[f"{key}: fast share {block}"] = share
    return result
