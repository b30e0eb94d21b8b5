"""Normalisation: what it removes, where it stands, and whether it is needed.

One file per paper. Letters in shapes: b batch, t time (query), s time (source), h heads, d width, c channels,
i rows and j columns of an image; ``*b`` stands for any leading axes.
"""

from course_lib.layers.norm.entropy import entropic_overload_fraction, headwise_entropy
from course_lib.layers.norm.evonorm import (
    EvoNormB0,
    EvoNormS0,
    NormActivationGraph,
    random_norm_activation_graph,
    reject_layer,
)
from course_lib.layers.norm.geometry import project_out_ones, scale_to_sqrt_d, unselectable_keys
from course_lib.layers.norm.layer_norm import (
    BatchNorm,
    LayerNorm,
    LayerNormRNNCell,
    RMSNorm,
    batch_norm_naive,
    invariance_table,
    layer_norm,
    layer_norm_naive,
    rms_norm,
    rms_norm_naive,
)
from course_lib.layers.norm.placement import (
    ResidualSublayer,
    TransformerBlock,
    gradient_norm_profile,
    residual_variance_profile,
)
from course_lib.layers.norm.rep_norm import (
    ProgressiveRepBN,
    RepBN,
    SimplifiedLinearAttention,
    fold_rep_bn,
    simplified_linear_attention_naive,
)

__all__ = [
    "layer_norm",
    "layer_norm_naive",
    "LayerNorm",
    "rms_norm",
    "rms_norm_naive",
    "RMSNorm",
    "batch_norm_naive",
    "BatchNorm",
    "LayerNormRNNCell",
    "invariance_table",
    "ResidualSublayer",
    "TransformerBlock",
    "residual_variance_profile",
    "gradient_norm_profile",
    "project_out_ones",
    "scale_to_sqrt_d",
    "unselectable_keys",
    "EvoNormB0",
    "EvoNormS0",
    "NormActivationGraph",
    "random_norm_activation_graph",
    "reject_layer",
    "RepBN",
    "ProgressiveRepBN",
    "fold_rep_bn",
    "SimplifiedLinearAttention",
    "simplified_linear_attention_naive",
    "headwise_entropy",
    "entropic_overload_fraction",
]
