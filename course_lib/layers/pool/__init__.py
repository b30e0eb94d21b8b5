"""Pooling, unpooling and attention over positions: who chooses the weights of a mean?

One file per idea. Letters in shapes: b batch, t time or position, d width, c channels, i rows and j columns
of an image, k classes, n boxes.
"""

from course_lib.layers.pool.attentive import AttentionPool as AttentionPool
from course_lib.layers.pool.attentive import ClassQueryPool as ClassQueryPool
from course_lib.layers.pool.attentive import PatchConvBlock as PatchConvBlock
from course_lib.layers.pool.attentive import PatchConvNet as PatchConvNet
from course_lib.layers.pool.parameter_free import EfficientLayer as EfficientLayer
from course_lib.layers.pool.parameter_free import MaxPoolMixer as MaxPoolMixer
from course_lib.layers.pool.parameter_free import ParameterFreeBottleneck as ParameterFreeBottleneck
from course_lib.layers.pool.polarized import PolarizedSelfAttention as PolarizedSelfAttention
from course_lib.layers.pool.power import GeM as GeM
from course_lib.layers.pool.power import GroupGeM as GroupGeM
from course_lib.layers.pool.power import generalized_mean as generalized_mean
from course_lib.layers.pool.power import generalized_mean_naive as generalized_mean_naive
from course_lib.layers.pool.pyramid import SpatialPyramidPool as SpatialPyramidPool
from course_lib.layers.pool.pyramid import adaptive_bins as adaptive_bins
from course_lib.layers.pool.pyramid import pool_regions as pool_regions
from course_lib.layers.pool.pyramid import project_boxes as project_boxes
from course_lib.layers.pool.pyramid import sliding_bins as sliding_bins
from course_lib.layers.pool.soft import PoolingLoss as PoolingLoss
from course_lib.layers.pool.soft import SoftPool2d as SoftPool2d
from course_lib.layers.pool.soft import pooling_information_loss as pooling_information_loss
from course_lib.layers.pool.soft import soft_pool2d as soft_pool2d
from course_lib.layers.pool.soft import soft_pool2d_naive as soft_pool2d_naive
from course_lib.layers.pool.upsampling import LargeContextTransposedConv2d as LargeContextTransposedConv2d
from course_lib.layers.pool.upsampling import overlap_count as overlap_count
from course_lib.layers.pool.upsampling import spectral_artifact_energy as spectral_artifact_energy
from course_lib.layers.pool.upsampling import zero_insert as zero_insert
from course_lib.layers.pool.upsampling import zero_insert_then_convolve as zero_insert_then_convolve
