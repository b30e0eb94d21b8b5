"""All variants of layers/pool in one frame."""

from einops.layers.torch import Rearrange
from torch import nn

from course_lib.compare.frames import Variant, compare, image_frame
from course_lib.experiments.layers.pool._shared import PAPERS
from course_lib.layers.pool import (
    AttentionPool,
    EfficientLayer,
    GroupGeM,
    LargeContextTransposedConv2d,
    MaxPoolMixer,
    PolarizedSelfAttention,
    SoftPool2d,
    SpatialPyramidPool,
)
from course_lib.measure import experiment


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


@experiment(paper=PAPERS, seeds=3)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
