"""All variants of layers/structured in one frame."""

from torch import nn

from course_lib.compare.frames import Variant, compare, vector_frame
from course_lib.layers.structured import (
    BlockTensorTrainLinear,
    KroneckerLinear,
    LowRankLinear,
    MemoryLinear,
    MonarchLinear,
    RandomPermutedMixerBlock,
    SNNKLinear,
    SparseDopedLinear,
    SparseWideLinear,
)
from course_lib.measure import experiment

FRAME = vector_frame(width=64)


SIDE_BY_SIDE = [
    Variant("dense", lambda: nn.Linear(64, 64), symbol="torch.nn.Linear", properties=("baseline",)),
    Variant(
        "low rank 8",
        lambda: LowRankLinear(64, 64, 8),
        symbol="LowRankLinear",
        properties=("structured", "low rank", "few parameters"),
    ),
    Variant(
        "Kronecker 8 x 8",
        lambda: KroneckerLinear((8, 8), (8, 8)),
        symbol="KroneckerLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "Monarch 8 x 8",
        lambda: MonarchLinear((8, 8), (8, 8)),
        symbol="MonarchLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "Block Tensor-Train, rank 2",
        lambda: BlockTensorTrainLinear((8, 8), (8, 8), 2),
        symbol="BlockTensorTrainLinear",
        properties=("structured", "few parameters"),
    ),
    Variant(
        "random-permuted mixer 8 x 8",
        lambda: RandomPermutedMixerBlock(8, 8),
        symbol="RandomPermutedMixerBlock",
        properties=("structured", "sparse", "few parameters"),
    ),
    Variant(
        "wide and sparse, 75 %",
        lambda: SparseWideLinear(64, 64, 0.75, widen_in=False),
        symbol="SparseWideLinear",
        properties=("sparse",),
    ),
    Variant(
        "doped, 75 %",
        lambda: SparseDopedLinear(64, 64, 0.75),
        symbol="SparseDopedLinear",
        properties=("sparse", "low rank"),
    ),
    Variant(
        "memory, 8 bits",
        lambda: MemoryLinear(64, 64, bits=8),
        symbol="MemoryLinear",
        properties=("input dependent", "local"),
    ),
    Variant(
        "kernel features, 16",
        lambda: SNNKLinear(64, 64, 16),
        symbol="SNNKLinear",
        properties=("structured", "few parameters"),
    ),
]


@experiment(
    paper=(
        "block-tensor-train",
        "low-rank-training",
        "mixer-as-sparse-mlp",
        "sparse-ift",
        "memoryformer",
        "snnk",
    ),
    seeds=3,
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
