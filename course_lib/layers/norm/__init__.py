"""Normalisation: what it removes, where it stands, and whether it is needed.

One file per paper. Letters in shapes: b batch, t time (query), s time (source), h heads, d width, c channels,
i rows and j columns of an image; ``*b`` stands for any leading axes.
"""

from course_lib.layers.norm.entropy import entropic_overload_fraction as entropic_overload_fraction
from course_lib.layers.norm.entropy import headwise_entropy as headwise_entropy
from course_lib.layers.norm.evonorm import EvoNormB0 as EvoNormB0
from course_lib.layers.norm.evonorm import EvoNormS0 as EvoNormS0
from course_lib.layers.norm.evonorm import NormActivationGraph as NormActivationGraph
from course_lib.layers.norm.evonorm import random_norm_activation_graph as random_norm_activation_graph
from course_lib.layers.norm.evonorm import reject_layer as reject_layer
from course_lib.layers.norm.geometry import project_out_ones as project_out_ones
from course_lib.layers.norm.geometry import scale_to_sqrt_d as scale_to_sqrt_d
from course_lib.layers.norm.geometry import unselectable_keys as unselectable_keys
from course_lib.layers.norm.layer_norm import BatchNorm as BatchNorm
from course_lib.layers.norm.layer_norm import LayerNorm as LayerNorm
from course_lib.layers.norm.layer_norm import LayerNormRNNCell as LayerNormRNNCell
from course_lib.layers.norm.layer_norm import RMSNorm as RMSNorm
from course_lib.layers.norm.layer_norm import batch_norm_naive as batch_norm_naive
from course_lib.layers.norm.layer_norm import invariance_table as invariance_table
from course_lib.layers.norm.layer_norm import layer_norm as layer_norm
from course_lib.layers.norm.layer_norm import layer_norm_naive as layer_norm_naive
from course_lib.layers.norm.layer_norm import rms_norm as rms_norm
from course_lib.layers.norm.layer_norm import rms_norm_naive as rms_norm_naive
from course_lib.layers.norm.placement import ResidualSublayer as ResidualSublayer
from course_lib.layers.norm.placement import TransformerBlock as TransformerBlock
from course_lib.layers.norm.placement import gradient_norm_profile as gradient_norm_profile
from course_lib.layers.norm.placement import residual_variance_profile as residual_variance_profile
from course_lib.layers.norm.rep_norm import ProgressiveRepBN as ProgressiveRepBN
from course_lib.layers.norm.rep_norm import RepBN as RepBN
from course_lib.layers.norm.rep_norm import SimplifiedLinearAttention as SimplifiedLinearAttention
from course_lib.layers.norm.rep_norm import advance_rep_bn_ as advance_rep_bn_
from course_lib.layers.norm.rep_norm import fold_rep_bn as fold_rep_bn
from course_lib.layers.norm.rep_norm import (
    simplified_linear_attention_naive as simplified_linear_attention_naive,
)
