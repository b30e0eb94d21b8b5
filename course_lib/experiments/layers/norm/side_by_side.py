"""Every norm in the same frame at equal budget."""

from torch import nn

from course_lib.compare.frames import Variant, compare, image_frame, vector_frame
from course_lib.experiments.layers.norm.slab_prepbn import advance
from course_lib.layers.norm import (
    BatchNorm,
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    ProgressiveRepBN,
    RepBN,
    RMSNorm,
)
from course_lib.measure import experiment

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


@experiment(paper=("layer-normalization", "evonorm", "slab-prepbn"), seeds=3)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every norm in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed, hooks=[advance])
