"""All variants of layers/conv in one frame."""

from torch import nn

from course_lib.compare.frames import Variant, compare, image_frame
from course_lib.layers.conv import (
    InceptionDWConv2d,
    InceptionModule,
    LSConv,
    MlpConv2d,
    SICLayer,
    SpartanBlock,
    SpatialBottleneck,
    TopologicalPointwise,
)
from course_lib.measure import experiment

FRAME = image_frame(channels=16)


def _dense() -> nn.Module:
    return nn.Conv2d(16, 16, 3, padding=1)


def _inception() -> nn.Module:
    return InceptionModule(16, out_1x1=4, reduce_3x3=6, out_3x3=6, reduce_5x5=2, out_5x5=2, out_pool=4)


def _sparse_projection(channels: int) -> nn.Module:
    return TopologicalPointwise(channel_grid=(4, channels // 4), kernel_size=(2, 2))


def _topological() -> nn.Module:
    return SICLayer(16, depth=1, mixer_layer=_sparse_projection)


SIDE_BY_SIDE = [
    Variant(
        "dense 3 x 3", _dense, "torch.nn.Conv2d", ("baseline", "local", "mixes channels", "mixes positions")
    ),
    Variant(
        "network in network",
        lambda: MlpConv2d(16, (16, 16, 16), 3),
        "MlpConv2d",
        ("local", "mixes channels", "mixes positions"),
    ),
    Variant("inception", _inception, "InceptionModule", ("local", "mixes channels", "mixes positions")),
    Variant(
        "intra-channel + projection",
        lambda: SICLayer(16, depth=1),
        "SICLayer",
        ("local", "structured", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "intra-channel + topological projection",
        _topological,
        "TopologicalPointwise",
        ("local", "structured", "sparse", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "spatial bottleneck",
        lambda: SpatialBottleneck(16),
        "SpatialBottleneck",
        ("local", "structured", "few parameters", "mixes channels", "mixes positions"),
    ),
    Variant(
        "inception depthwise",
        lambda: InceptionDWConv2d(16),
        "InceptionDWConv2d",
        ("structured", "sparse", "few parameters", "mixes positions"),
    ),
    Variant(
        "large-small convolution",
        lambda: LSConv(16),
        "LSConv",
        ("local", "input dependent", "mixes positions"),
    ),
    Variant(
        "SpaRTAN block",
        lambda: SpartanBlock(16, layer_scale=1.0),
        "SpartanBlock",
        ("input dependent", "mixes channels", "mixes positions"),
    ),
]


@experiment(
    paper=(
        "network-in-network",
        "inception",
        "single-intra-channel-convolution",
        "inceptionnext",
        "lsnet",
        "spartan",
    ),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
