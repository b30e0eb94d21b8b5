"""The layers of layers/conv against values of their authors' released code."""

import pytest
import torch
from torch import nn

from course_lib.layers.conv import (
    ConvFirstBlock,
    InceptionDWConv2d,
    InceptionNeXtBlock,
    LargeKernelPerception,
    LSBlock,
    LSConv,
    LSStaticMixer,
    MalConv,
    PyramidConv,
    ScaleEqualizingPyramidConv,
    SpartanBlock,
    SpatialMixer,
    WaveChannelMixer,
    block_fused_forward,
    conv2d_im2col,
    conv2d_naive,
    conv_output_size,
    integrated_batch_norm,
    small_kernel_aggregation,
    small_kernel_aggregation_naive,
    transposed_output_size,
)
from tests.vectors import fill, vector


def renamed(pairs):
    """Their name for ours: the longest beginning of ours that stands in ``pairs`` is replaced."""

    def find(name):
        ours = max((key for key in pairs if name == key or name.startswith(f"{key}.")), key=len)
        return pairs[ours] + name[len(ours) :]

    return find


def conv_bn(ours, theirs, conv="c", norm="bn"):
    """A convolution and its batch normalisation, a pair here, named there."""
    return {f"{ours}.0": f"{theirs}.{conv}", f"{ours}.1": f"{theirs}.{norm}"}


# -- convolution arithmetic ------------------------------------------------------------------------

# Input, output, padding, kernel, stride, dilation of the pictures in vdumoulin/conv_arithmetic,
# bin/generate_makefile (af6f818b).
DRAWN = [
    (4, 2, 0, 3, 1, 1),
    (5, 6, 2, 4, 1, 1),
    (5, 5, 1, 3, 1, 1),
    (5, 7, 2, 3, 1, 1),
    (5, 2, 0, 3, 2, 1),
    (5, 3, 1, 3, 2, 1),
    (6, 3, 1, 3, 2, 1),
    (7, 3, 0, 3, 1, 2),
]


@pytest.mark.parametrize(("size", "out", "padding", "kernel_size", "stride", "dilation"), DRAWN)
def test_sizes_are_those_of_the_guides_pictures(size, out, padding, kernel_size, stride, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    assert conv_output_size(size, kernel_size, **options) == out
    rest = (size + 2 * padding - dilation * (kernel_size - 1) - 1) % stride
    assert transposed_output_size(out, kernel_size, output_padding=rest, **options) == size


@pytest.mark.parametrize("convolve", [conv2d_naive, conv2d_im2col])
@pytest.mark.parametrize(
    ("name", "options"), [("no padding, no strides", {}), ("padding, strides", {"padding": 1, "stride": 2})]
)
def test_convolutions_are_those_of_the_guides_pictures(convolve, name, options):
    stored = vector("convolution-arithmetic", name)
    image, kernel = ((10 * x).round()[None, None] for x in stored.given())
    stored.check(convolve(image, kernel, **options)[0, 0])


# -- InceptionNeXt ---------------------------------------------------------------------------------

BRANCHES = {"square": "dwconv_hw", "row": "dwconv_w", "column": "dwconv_h"}
NEXT = {f"mixer.{ours}": f"token_mixer.{theirs}" for ours, theirs in BRANCHES.items()} | {
    "norm": "norm",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
    "scale.weight": "gamma",
}


def test_inception_depthwise_is_the_authors():
    stored, layer = vector("inceptionnext", "InceptionDWConv2d"), InceptionDWConv2d(11)
    fill(layer, stored.weights(), renamed(BRANCHES))
    stored.check(layer(*stored.given()))


def test_inceptionnext_block_is_the_authors():
    stored, block = vector("inceptionnext", "block eval"), InceptionNeXtBlock(8)
    fill(block, stored.weights(), renamed(NEXT))
    stored.check(block.eval()(*stored.given()))


def test_inceptionnext_block_learns_as_the_authors_and_not_the_biases_of_its_mixer():
    stored, block = vector("inceptionnext", "block train"), InceptionNeXtBlock(8)
    fill(block, stored.weights(), renamed(NEXT))
    y, mixer = block.train()(*stored.given()), block.mixer
    learned = [mixer.square.bias, mixer.row.bias, mixer.square.weight]
    square, row, kernel = torch.autograd.grad(y.square().sum(), learned)
    stored.check(y, torch.cat([square, row]), kernel)
    assert stored.output["bias_gradients"].abs().max() < 1e-12 < kernel.abs().max()


# -- LSNet -----------------------------------------------------------------------------------------

LOOK = conv_bn("look.0", "cv1") | conv_bn("look.2", "cv2") | conv_bn("look.3", "cv3")
PERCEPTION = {**LOOK, "make": "cv4", "norm": "norm"}
LARGE_SMALL = {f"perception.{ours}": f"lkp.{theirs}" for ours, theirs in PERCEPTION.items()} | {"norm": "bn"}
NETWORK = conv_bn("channel_network.0", "ffn.m.pw1") | conv_bn("channel_network.2", "ffn.m.pw2")
STATIC = (
    conv_bn("mixer.square", "mixer.conv")
    | conv_bn("mixer.point", "mixer.conv1")
    | {"mixer.excite.gate.0": "se.fc1", "mixer.excite.gate.2": "se.fc2"}
)


@pytest.mark.parametrize("aggregate", [small_kernel_aggregation, small_kernel_aggregation_naive])
def test_aggregation_is_the_authors_in_value_and_gradient(aggregate):
    stored = vector("lsnet", "SKA")
    x, weight = (given.requires_grad_() for given in stored.given())
    y = aggregate(x, weight)
    stored.check(y, *torch.autograd.grad(y.square().sum(), (x, weight)))


def test_perception_is_the_authors():
    stored, layer = vector("lsnet", "LKP"), LargeKernelPerception(8, shared=4)
    fill(layer, stored.weights(), renamed(PERCEPTION))
    stored.check(layer.eval()(*stored.given()))


def test_large_small_convolution_is_the_authors():
    stored, layer = vector("lsnet", "LSConv"), LSConv(16)
    fill(layer, stored.weights(), renamed(LARGE_SMALL))
    stored.check(layer.eval()(*stored.given()))


def test_large_small_convolution_learns_as_the_authors_and_not_a_shift_before_a_normalised_projection():
    stored, layer = vector("lsnet", "LSConv train"), LSConv(16)
    fill(layer, stored.weights(), renamed(LARGE_SMALL))
    y, norm = layer.train()(*stored.given()), layer.perception.look[2][1]
    shift, gain = torch.autograd.grad(y.square().sum(), [norm.bias, norm.weight])
    stored.check(y, shift, gain)
    assert stored.output["cv2.bn.bias gradient"].abs().max() < 1e-9 < gain.abs().max()


def test_dynamic_block_is_the_authors():
    stored, block = vector("lsnet", "Block dynamic"), LSBlock(16)
    names = {f"mixer.{ours}": f"mixer.{theirs}" for ours, theirs in LARGE_SMALL.items()} | NETWORK
    fill(block, stored.weights(), renamed(names))
    stored.check(block.eval()(*stored.given()))


def test_static_block_is_the_authors():
    stored, block = vector("lsnet", "Block static"), LSBlock(32, mixer=LSStaticMixer(32))
    fill(block, stored.weights(), renamed(STATIC | NETWORK))
    stored.check(block.eval()(*stored.given()))


# -- SpaRTAN ---------------------------------------------------------------------------------------


def excite(ours, theirs):
    return {f"{ours}.gate.0": f"{theirs}.squeeze", f"{ours}.gate.2": f"{theirs}.expand"}


SPACE = {
    "contrast": "gamma",
    "reduce": "proj_in",
    "high.0": "h_conv.conv",
    "high.1": "h_conv.norm",
    "low.0": "l_conv.0.conv",
    "low.1": "l_conv.1.conv",
    "low.2": "l_conv.1.norm",
    "out": "proj_out",
    **excite("excite_high", "h_attn"),
    **excite("excite_low", "l_attn"),
}
CHANNEL = {
    "token": "theta",
    "amplitude": "proj",
    "rotation": "complex",
    "mix.0": "conv.conv",
    "mix.1": "conv.norm",
    "out": "proj_out",
    **excite("excite", "attn"),
}


@pytest.mark.parametrize("stage", ["early", "late"])
def test_spatial_mixer_is_the_authors(stage):
    stored, layer = vector("spartan", f"SMixer {stage}"), SpatialMixer(8, depthwise=stage == "late")
    fill(layer, stored.weights(), renamed(SPACE))
    stored.check(layer.eval()(*stored.given()))


@pytest.mark.parametrize("stage", ["early", "late"])
def test_channel_mixer_is_the_authors(stage):
    stored = vector("spartan", f"CMixer {stage}")
    layer = WaveChannelMixer(8, expansion=4, depthwise=stage == "early")
    fill(layer, stored.weights(), renamed(CHANNEL))
    stored.check(layer.eval()(*stored.given()))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_spartan_block_is_the_authors(mode):
    stored, block = vector("spartan", f"Block {mode}"), SpartanBlock(8, depthwise=True)
    names = {"space_scale.weight": "scale_1", "channel_scale.weight": "scale_2"}
    names |= {"space_norm": "norm_1", "channel_norm": "norm_2"}
    names |= {f"space.{ours}": f"smixer.{theirs}" for ours, theirs in SPACE.items()}
    names |= {f"channel.{ours}": f"cmixer.{theirs}" for ours, theirs in CHANNEL.items()}
    fill(block, stored.weights(), renamed(names))
    stored.check(block.train(mode == "train")(*stored.given()))


def test_late_channel_mixers_of_the_authors_have_small_groups_and_narrow_gates():
    """Sixteen channels, expansion 4: 16 groups of 4 channels, and a quarter of 16, not of 64, in the gate."""
    late = WaveChannelMixer(16, expansion=4, depthwise=False)
    assert late.mix[0].weight.numel() == 2304
    assert late.excite.gate[0].out_channels == 4


# -- MalConv ---------------------------------------------------------------------------------------


def test_malconv_is_the_authors_later_code():
    stored = vector("malconv", "MalConv")
    symbols = (128 + 127 * stored.given()[0]).round().long()  # there 0 is padding, and a byte is one less
    assert symbols.min() > 0
    assert symbols.max() <= 256
    weights = stored.weights()
    weights["embd.weight"] = torch.cat([weights["embd.weight"][1:], torch.zeros(1, 4).double()])
    model = MalConv(3, channels=6, kernel_size=8, hidden_dim=6, embedding_dim=4)
    names = {"embedding": "embd", "value": "conv_1", "gate": "conv_2", "hidden": "fc_1", "out": "fc_2"}
    fill(model, weights, renamed(names))
    pooled = model.features(symbols - 1).amax(2)
    stored.check(model(symbols - 1), model.hidden(pooled).relu(), pooled)


# -- SEPC ------------------------------------------------------------------------------------------

KERNELS = {"coarser": "Pconv.0", "same": "Pconv.1", "finer": "Pconv.2"}


def test_pyramid_convolution_is_the_authors():
    stored, layer = vector("sepc", "PConvModule"), PyramidConv(3, 4)
    fill(layer, stored.weights(), renamed(KERNELS))
    stored.check(*(y.relu() for y in layer(stored.given())))


def test_integrated_batch_norm_is_the_authors():
    stored, layer, norm = vector("sepc", "PConvModule iBN train"), PyramidConv(3, 4), nn.BatchNorm1d(4)
    fill(layer, stored.weights(), renamed(KERNELS))
    fill(norm, stored.weights(), lambda name: f"bn.{name}")
    stored.check(*(y.relu() for y in integrated_batch_norm(layer(stored.given()), norm)))


def test_deforming_pyramid_convolution_is_the_authors():
    stored, layer = vector("sepc", "PConvModule deform"), ScaleEqualizingPyramidConv(3, 4)
    offsets = {f"offsets.{ours}": f"{theirs}.conv_offset" for ours, theirs in KERNELS.items()}
    fill(layer, stored.weights(), renamed(KERNELS | offsets))
    stored.check(*(y.relu() for y in layer(stored.given())))


# -- On the efficiency of convnets -----------------------------------------------------------------


def folded(weight, norm, weights):
    """Weight and bias of a convolution into which the batch normalisation behind it is folded."""
    gain, shift, mean, variance = (
        weights[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
    )
    gain = gain / (variance + 1e-5).sqrt()
    return weights[weight] * gain[:, None, None, None], shift - mean * gain


def test_conv_first_block_is_the_authors_with_its_normalisations_folded():
    stored, block = (
        vector("efficiency-of-convnets", "ConvFirst"),
        ConvFirstBlock(8, group_width=4, expansion=3),
    )
    weights, numbers = stored.weights(), {}
    for ours, theirs in (("spatial", 0), ("expand", 2), ("project", 5)):
        weight, bias = folded(f"layers.{theirs}.weight", f"layers.{theirs + 1}", weights)
        numbers |= {f"{ours}.weight": weight, f"{ours}.bias": bias}
    fill(block, numbers, lambda name: name)
    (x,) = stored.given()
    stored.check(block(x))
    for rows in (1, 3, 4):
        stored.check(block_fused_forward(block, x, rows=rows)[0])
