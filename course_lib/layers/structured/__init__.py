"""Structured and cheap linear maps: low rank, Kronecker, Monarch, sparse, hashed, kernelised and made of
light.

Every layer that stands for a matrix has a ``weight``, so that ``F.linear(x, layer.weight, layer.bias)`` is
what it computes. Letters in shapes: i input and o output width, r rank, m features or the width of a square
matrix.
"""

from course_lib.layers.structured.block_tensor_train import (
    BlockTensorTrainLinear,
    MonarchLinear,
    block_tensor_train_naive,
)
from course_lib.layers.structured.kronecker import KroneckerLinear
from course_lib.layers.structured.low_rank import (
    LowRankLinear,
    effective_rank,
    frobenius_decay,
    spectral_init_,
)
from course_lib.layers.structured.maestro import (
    OrderedLowRankLinear,
    hierarchical_group_lasso,
    progressive_shrink_,
    sample_rank_,
    truncate_rank,
)
from course_lib.layers.structured.memory_former import MemoryFormerBlock, MemoryLinear, memory_linear_naive
from course_lib.layers.structured.mixed_td import (
    Decomposition,
    chain_kernel,
    cp_als,
    cp_conv2d,
    cp_tensor,
    mixed_decomposition_search,
    pipelined_latency,
    svd_conv2d,
)
from course_lib.layers.structured.mixer import (
    PermutedKroneckerLinear,
    RandomPermutedMixerBlock,
    commutation_matrix,
    mixing_matrix,
)
from course_lib.layers.structured.photonic import (
    MZIMesh,
    PhotonicLinear,
    clements_decompose,
    mzi,
    saturable_absorber,
)
from course_lib.layers.structured.scaling import (
    structured_init_std,
    structured_lr_multiplier,
    structured_param_groups,
)
from course_lib.layers.structured.snnk import (
    SNNKLinear,
    arccos_features,
    bundle,
    exp_features,
    fit_bundled,
    orthogonal_projections,
    universal_random_features,
)
from course_lib.layers.structured.sparse import (
    SparseDopedLinear,
    SparseFactorizedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    random_mask,
    rigl_update_,
    sparse_ift_size,
)

__all__ = [
    "LowRankLinear",
    "effective_rank",
    "spectral_init_",
    "frobenius_decay",
    "OrderedLowRankLinear",
    "sample_rank_",
    "hierarchical_group_lasso",
    "progressive_shrink_",
    "truncate_rank",
    "KroneckerLinear",
    "BlockTensorTrainLinear",
    "MonarchLinear",
    "block_tensor_train_naive",
    "structured_init_std",
    "structured_lr_multiplier",
    "structured_param_groups",
    "commutation_matrix",
    "mixing_matrix",
    "PermutedKroneckerLinear",
    "RandomPermutedMixerBlock",
    "svd_conv2d",
    "cp_als",
    "cp_tensor",
    "cp_conv2d",
    "chain_kernel",
    "Decomposition",
    "mixed_decomposition_search",
    "pipelined_latency",
    "sparse_ift_size",
    "random_mask",
    "SparseWideLinear",
    "SparseParallelLinear",
    "SparseFactorizedLinear",
    "SparseDopedLinear",
    "rigl_update_",
    "MemoryLinear",
    "memory_linear_naive",
    "MemoryFormerBlock",
    "exp_features",
    "arccos_features",
    "universal_random_features",
    "orthogonal_projections",
    "SNNKLinear",
    "bundle",
    "fit_bundled",
    "mzi",
    "clements_decompose",
    "MZIMesh",
    "PhotonicLinear",
    "saturable_absorber",
]
