"""Pooling, unpooling and attention over positions: who chooses the weights of a mean?

One file per idea. Letters in shapes: b batch, t time or position, d width, c channels, i rows and j columns
of an image, k classes, n boxes.
"""

from course_lib.layers.pool.attentive import AttentionPool, ClassQueryPool, PatchConvBlock, PatchConvNet
from course_lib.layers.pool.parameter_free import EfficientLayer, MaxPoolMixer, ParameterFreeBottleneck
from course_lib.layers.pool.polarized import PolarizedSelfAttention
from course_lib.layers.pool.power import GeM, GroupGeM, generalized_mean, generalized_mean_naive
from course_lib.layers.pool.pyramid import (
    SpatialPyramidPool,
    adaptive_bins,
    pool_regions,
    project_boxes,
    sliding_bins,
)
from course_lib.layers.pool.soft import (
    PoolingLoss,
    SoftPool2d,
    pooling_information_loss,
    soft_pool2d,
    soft_pool2d_naive,
)
from course_lib.layers.pool.upsampling import (
    LargeContextTransposedConv2d,
    overlap_count,
    spectral_artifact_energy,
    zero_insert,
    zero_insert_then_convolve,
)

__all__ = [
    "generalized_mean",
    "generalized_mean_naive",
    "GeM",
    "GroupGeM",
    "soft_pool2d",
    "soft_pool2d_naive",
    "SoftPool2d",
    "PoolingLoss",
    "pooling_information_loss",
    "MaxPoolMixer",
    "ParameterFreeBottleneck",
    "EfficientLayer",
    "adaptive_bins",
    "sliding_bins",
    "SpatialPyramidPool",
    "project_boxes",
    "pool_regions",
    "AttentionPool",
    "ClassQueryPool",
    "PatchConvBlock",
    "PatchConvNet",
    "PolarizedSelfAttention",
    "zero_insert",
    "zero_insert_then_convolve",
    "overlap_count",
    "spectral_artifact_energy",
    "LargeContextTransposedConv2d",
]
