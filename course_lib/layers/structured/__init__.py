"""Structured and cheap linear maps: low rank, Kronecker, Monarch, sparse, hashed, kernelised and made of
light.

Every layer that stands for a matrix has a ``weight``, so that ``F.linear(x, layer.weight, layer.bias)`` is
what it computes. Letters in shapes: i input and o output width, r rank, m features or the width of a square
matrix.
"""

from course_lib.layers.structured.block_tensor_train import BlockTensorTrainLinear as BlockTensorTrainLinear
from course_lib.layers.structured.block_tensor_train import MonarchLinear as MonarchLinear
from course_lib.layers.structured.block_tensor_train import (
    block_tensor_train_naive as block_tensor_train_naive,
)
from course_lib.layers.structured.kronecker import KroneckerLinear as KroneckerLinear
from course_lib.layers.structured.low_rank import LowRankLinear as LowRankLinear
from course_lib.layers.structured.low_rank import effective_rank as effective_rank
from course_lib.layers.structured.low_rank import frobenius_decay as frobenius_decay
from course_lib.layers.structured.low_rank import spectral_init_ as spectral_init_
from course_lib.layers.structured.maestro import OrderedLowRankLinear as OrderedLowRankLinear
from course_lib.layers.structured.maestro import hierarchical_group_lasso as hierarchical_group_lasso
from course_lib.layers.structured.maestro import progressive_shrink_ as progressive_shrink_
from course_lib.layers.structured.maestro import sample_rank_ as sample_rank_
from course_lib.layers.structured.maestro import truncate_rank as truncate_rank
from course_lib.layers.structured.memory_former import MemoryFormerBlock as MemoryFormerBlock
from course_lib.layers.structured.memory_former import MemoryLinear as MemoryLinear
from course_lib.layers.structured.memory_former import memory_linear_naive as memory_linear_naive
from course_lib.layers.structured.mixed_td import Decomposition as Decomposition
from course_lib.layers.structured.mixed_td import chain_kernel as chain_kernel
from course_lib.layers.structured.mixed_td import cp_als as cp_als
from course_lib.layers.structured.mixed_td import cp_conv2d as cp_conv2d
from course_lib.layers.structured.mixed_td import cp_tensor as cp_tensor
from course_lib.layers.structured.mixed_td import mixed_decomposition_search as mixed_decomposition_search
from course_lib.layers.structured.mixed_td import pipelined_latency as pipelined_latency
from course_lib.layers.structured.mixed_td import svd_conv2d as svd_conv2d
from course_lib.layers.structured.mixer import PermutedKroneckerLinear as PermutedKroneckerLinear
from course_lib.layers.structured.mixer import RandomPermutedMixerBlock as RandomPermutedMixerBlock
from course_lib.layers.structured.mixer import commutation_matrix as commutation_matrix
from course_lib.layers.structured.mixer import mixing_matrix as mixing_matrix
from course_lib.layers.structured.photonic import MZIMesh as MZIMesh
from course_lib.layers.structured.photonic import PhotonicLinear as PhotonicLinear
from course_lib.layers.structured.photonic import clements_decompose as clements_decompose
from course_lib.layers.structured.photonic import mzi as mzi
from course_lib.layers.structured.photonic import saturable_absorber as saturable_absorber
from course_lib.layers.structured.scaling import structured_init_std as structured_init_std
from course_lib.layers.structured.scaling import structured_lr_multiplier as structured_lr_multiplier
from course_lib.layers.structured.scaling import structured_param_groups as structured_param_groups
from course_lib.layers.structured.snnk import SNNKLinear as SNNKLinear
from course_lib.layers.structured.snnk import arccos_features as arccos_features
from course_lib.layers.structured.snnk import bundle as bundle
from course_lib.layers.structured.snnk import exp_features as exp_features
from course_lib.layers.structured.snnk import fit_bundled as fit_bundled
from course_lib.layers.structured.snnk import orthogonal_projections as orthogonal_projections
from course_lib.layers.structured.snnk import universal_random_features as universal_random_features
from course_lib.layers.structured.sparse import SparseDopedLinear as SparseDopedLinear
from course_lib.layers.structured.sparse import SparseFactorizedLinear as SparseFactorizedLinear
from course_lib.layers.structured.sparse import SparseParallelLinear as SparseParallelLinear
from course_lib.layers.structured.sparse import SparseWideLinear as SparseWideLinear
from course_lib.layers.structured.sparse import random_mask as random_mask
from course_lib.layers.structured.sparse import rigl_update_ as rigl_update_
from course_lib.layers.structured.sparse import sparse_ift_size as sparse_ift_size
