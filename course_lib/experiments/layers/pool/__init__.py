"""The trained claims of layers/pool: one file a paper, results beside it."""

from course_lib.experiments.layers.pool._shared import PAPERS as PAPERS
from course_lib.experiments.layers.pool._shared import TokenMean as TokenMean
from course_lib.experiments.layers.pool._shared import canvases as canvases
from course_lib.experiments.layers.pool._shared import linear_accuracy as linear_accuracy
from course_lib.experiments.layers.pool.attention_pooling import attention_on_clutter as attention_on_clutter
from course_lib.experiments.layers.pool.attention_pooling import mass_in_box as mass_in_box
from course_lib.experiments.layers.pool.group_gem_pooling import PooledViT as PooledViT
from course_lib.experiments.layers.pool.group_gem_pooling import vit_pooling as vit_pooling
from course_lib.experiments.layers.pool.large_context_upsampling import DECODERS as DECODERS
from course_lib.experiments.layers.pool.large_context_upsampling import STEPS_UP as STEPS_UP
from course_lib.experiments.layers.pool.large_context_upsampling import FixedFeatures as FixedFeatures
from course_lib.experiments.layers.pool.large_context_upsampling import attacked as attacked
from course_lib.experiments.layers.pool.large_context_upsampling import (
    fit_by_least_squares as fit_by_least_squares,
)
from course_lib.experiments.layers.pool.large_context_upsampling import grey_pairs as grey_pairs
from course_lib.experiments.layers.pool.large_context_upsampling import interior as interior
from course_lib.experiments.layers.pool.large_context_upsampling import interior_loss as interior_loss
from course_lib.experiments.layers.pool.large_context_upsampling import two_steps_up as two_steps_up
from course_lib.experiments.layers.pool.large_context_upsampling import upsampling as upsampling
from course_lib.experiments.layers.pool.large_context_upsampling import (
    upsampling_network as upsampling_network,
)
from course_lib.experiments.layers.pool.parameter_free_layers import OPERATORS as OPERATORS
from course_lib.experiments.layers.pool.parameter_free_layers import conv_operator as conv_operator
from course_lib.experiments.layers.pool.parameter_free_layers import operator_network as operator_network
from course_lib.experiments.layers.pool.parameter_free_layers import resnet50 as resnet50
from course_lib.experiments.layers.pool.parameter_free_layers import shifted_accuracy as shifted_accuracy
from course_lib.experiments.layers.pool.parameter_free_layers import spatial_operators as spatial_operators
from course_lib.experiments.layers.pool.polarized_self_attention import GATES as GATES
from course_lib.experiments.layers.pool.polarized_self_attention import heatmap_network as heatmap_network
from course_lib.experiments.layers.pool.polarized_self_attention import keypoints as keypoints
from course_lib.experiments.layers.pool.side_by_side import FRAME as FRAME
from course_lib.experiments.layers.pool.side_by_side import GLOBAL as GLOBAL
from course_lib.experiments.layers.pool.side_by_side import LOCAL as LOCAL
from course_lib.experiments.layers.pool.side_by_side import SIDE_BY_SIDE as SIDE_BY_SIDE
from course_lib.experiments.layers.pool.side_by_side import on_tokens as on_tokens
from course_lib.experiments.layers.pool.side_by_side import side_by_side as side_by_side
from course_lib.experiments.layers.pool.softpool import POOLS as POOLS
from course_lib.experiments.layers.pool.softpool import pool_swap as pool_swap
from course_lib.experiments.layers.pool.softpool import small_cnn as small_cnn
from course_lib.experiments.layers.pool.softpool import structural_similarity as structural_similarity
from course_lib.experiments.layers.pool.spatial_pyramid_pooling import pyramid_sizes as pyramid_sizes
from course_lib.experiments.layers.pool.spatial_pyramid_pooling import resized as resized
from course_lib.experiments.layers.pool.spatial_pyramid_pooling import size_free as size_free
from course_lib.experiments.layers.pool.spatial_pyramid_pooling import train_on_sizes as train_on_sizes
