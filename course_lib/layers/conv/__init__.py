"""Convolution: its arithmetic and its cost, and what can be removed, split or made to depend on the input.

One file per paper or idea. Letters in shapes: b batch, c input and o output channels, i rows and j columns of
an image, t time, n positions, g groups, k classes or the taps of a kernel.
"""

from course_lib.layers.conv.arithmetic import (
    conv2d_im2col,
    conv2d_naive,
    conv_matrix,
    conv_output_size,
    conv_transpose2d_naive,
    receptive_field,
    transposed_output_size,
)
from course_lib.layers.conv.cost import (
    Cost,
    Machine,
    conv_cost,
    fused_cost,
    measure_machine,
    roofline_time,
    traced_costs,
    waterline_analysis,
)
from course_lib.layers.conv.fusion import ConvFirstBlock, block_fused_forward
from course_lib.layers.conv.inception import (
    AuxiliaryClassifier,
    InceptionModule,
    MiniGoogLeNet,
    NaiveInceptionModule,
    googlenet_loss,
)
from course_lib.layers.conv.inceptionnext import (
    InceptionDWConv2d,
    InceptionNeXtBlock,
    merge_to_single_depthwise,
)
from course_lib.layers.conv.intra_channel import SICLayer, SpatialBottleneck, TopologicalPointwise
from course_lib.layers.conv.lsnet import (
    LargeKernelPerception,
    LSBlock,
    LSConv,
    small_kernel_aggregation,
    small_kernel_aggregation_naive,
)
from course_lib.layers.conv.malconv import MalConv, decov_penalty, locate_activation
from course_lib.layers.conv.network_in_network import (
    GlobalAveragePoolingHead,
    MlpConv2d,
    NetworkInNetwork,
)
from course_lib.layers.conv.sepc import (
    PyramidConv,
    ScaleEqualizingPyramidConv,
    deformable_conv2d,
    gaussian_pyramid,
    integrated_batch_norm,
)
from course_lib.layers.conv.spartan import (
    SpartanBlock,
    SpatialMixer,
    WaveChannelMixer,
    rotate_channel_pairs,
)

__all__ = [
    "conv_output_size",
    "transposed_output_size",
    "conv2d_naive",
    "conv2d_im2col",
    "conv_matrix",
    "conv_transpose2d_naive",
    "receptive_field",
    "Cost",
    "Machine",
    "conv_cost",
    "fused_cost",
    "traced_costs",
    "measure_machine",
    "roofline_time",
    "waterline_analysis",
    "MlpConv2d",
    "GlobalAveragePoolingHead",
    "NetworkInNetwork",
    "InceptionModule",
    "NaiveInceptionModule",
    "AuxiliaryClassifier",
    "MiniGoogLeNet",
    "googlenet_loss",
    "SICLayer",
    "TopologicalPointwise",
    "SpatialBottleneck",
    "InceptionDWConv2d",
    "InceptionNeXtBlock",
    "merge_to_single_depthwise",
    "small_kernel_aggregation",
    "small_kernel_aggregation_naive",
    "LargeKernelPerception",
    "LSConv",
    "LSBlock",
    "rotate_channel_pairs",
    "SpatialMixer",
    "WaveChannelMixer",
    "SpartanBlock",
    "MalConv",
    "locate_activation",
    "decov_penalty",
    "gaussian_pyramid",
    "PyramidConv",
    "ScaleEqualizingPyramidConv",
    "deformable_conv2d",
    "integrated_batch_norm",
    "ConvFirstBlock",
    "block_fused_forward",
]
