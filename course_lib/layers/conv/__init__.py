"""Convolution: its arithmetic and its cost, and what can be removed, split or made to depend on the input.

One file per paper or idea. Letters in shapes: b batch, c input and o output channels, i rows and j columns of
an image, t time, n positions, g groups, k classes or the taps of a kernel.
"""

from course_lib.layers.conv.arithmetic import conv2d_im2col as conv2d_im2col
from course_lib.layers.conv.arithmetic import conv2d_naive as conv2d_naive
from course_lib.layers.conv.arithmetic import conv_matrix as conv_matrix
from course_lib.layers.conv.arithmetic import conv_output_size as conv_output_size
from course_lib.layers.conv.arithmetic import conv_transpose2d_naive as conv_transpose2d_naive
from course_lib.layers.conv.arithmetic import receptive_field as receptive_field
from course_lib.layers.conv.arithmetic import transposed_output_size as transposed_output_size
from course_lib.layers.conv.cost import Cost as Cost
from course_lib.layers.conv.cost import Machine as Machine
from course_lib.layers.conv.cost import conv_cost as conv_cost
from course_lib.layers.conv.cost import fused_cost as fused_cost
from course_lib.layers.conv.cost import measure_machine as measure_machine
from course_lib.layers.conv.cost import roofline_time as roofline_time
from course_lib.layers.conv.cost import traced_costs as traced_costs
from course_lib.layers.conv.cost import waterline_analysis as waterline_analysis
from course_lib.layers.conv.fusion import ConvFirstBlock as ConvFirstBlock
from course_lib.layers.conv.fusion import block_fused_forward as block_fused_forward
from course_lib.layers.conv.inception import AuxiliaryClassifier as AuxiliaryClassifier
from course_lib.layers.conv.inception import InceptionModule as InceptionModule
from course_lib.layers.conv.inception import MiniGoogLeNet as MiniGoogLeNet
from course_lib.layers.conv.inception import NaiveInceptionModule as NaiveInceptionModule
from course_lib.layers.conv.inception import googlenet_loss as googlenet_loss
from course_lib.layers.conv.inceptionnext import InceptionDWConv2d as InceptionDWConv2d
from course_lib.layers.conv.inceptionnext import InceptionNeXtBlock as InceptionNeXtBlock
from course_lib.layers.conv.inceptionnext import merge_to_single_depthwise as merge_to_single_depthwise
from course_lib.layers.conv.intra_channel import SICLayer as SICLayer
from course_lib.layers.conv.intra_channel import SpatialBottleneck as SpatialBottleneck
from course_lib.layers.conv.intra_channel import TopologicalPointwise as TopologicalPointwise
from course_lib.layers.conv.lsnet import LargeKernelPerception as LargeKernelPerception
from course_lib.layers.conv.lsnet import LSBlock as LSBlock
from course_lib.layers.conv.lsnet import LSConv as LSConv
from course_lib.layers.conv.lsnet import LSStaticMixer as LSStaticMixer
from course_lib.layers.conv.lsnet import small_kernel_aggregation as small_kernel_aggregation
from course_lib.layers.conv.lsnet import small_kernel_aggregation_naive as small_kernel_aggregation_naive
from course_lib.layers.conv.malconv import MalConv as MalConv
from course_lib.layers.conv.malconv import decov_penalty as decov_penalty
from course_lib.layers.conv.malconv import locate_activation as locate_activation
from course_lib.layers.conv.network_in_network import GlobalAveragePoolingHead as GlobalAveragePoolingHead
from course_lib.layers.conv.network_in_network import MlpConv2d as MlpConv2d
from course_lib.layers.conv.network_in_network import NetworkInNetwork as NetworkInNetwork
from course_lib.layers.conv.sepc import PyramidConv as PyramidConv
from course_lib.layers.conv.sepc import ScaleEqualizingPyramidConv as ScaleEqualizingPyramidConv
from course_lib.layers.conv.sepc import deformable_conv2d as deformable_conv2d
from course_lib.layers.conv.sepc import gaussian_pyramid as gaussian_pyramid
from course_lib.layers.conv.sepc import integrated_batch_norm as integrated_batch_norm
from course_lib.layers.conv.spartan import SpartanBlock as SpartanBlock
from course_lib.layers.conv.spartan import SpatialMixer as SpatialMixer
from course_lib.layers.conv.spartan import WaveChannelMixer as WaveChannelMixer
from course_lib.layers.conv.spartan import rotate_channel_pairs as rotate_channel_pairs
