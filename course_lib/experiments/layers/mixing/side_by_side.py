"""All mixers of layers/mixing alone in one frame."""

from torch import nn

from course_lib.compare.frames import Variant, compare, token_frame
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.mixing import (
    GridMixer,
    InceptionMixer,
    MixShift,
    PoolMixer,
    RaftTokenMixer,
    RandomMixer,
    SpiralFC,
    SpiralMixer,
    TokenMLP,
)
from course_lib.measure import experiment

FRAME = token_frame(dim=20, patch=2)


def _grid(mixer: nn.Module) -> nn.Module:
    """An image-shaped mixer for the 4 x 4 tokens of the frame."""
    return GridMixer(mixer, grid=(4, 4))


def _raft() -> nn.Module:
    """Both steps of raft mixing."""
    return nn.Sequential(*(RaftTokenMixer(20, grid=(4, 4), axis=axis) for axis in ("vertical", "horizontal")))


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
        lambda: _grid(InceptionMixer(20, 1, high_channels=10, kernel_size=2)),
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
