"""Convolutions as an engineer uses them: bad arguments and inputs, half precision, tracing, late filling."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers import conv

# -- Half precision --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("rows", "columns"), [(3, 300), (700, 3)])
def test_a_deformable_convolution_of_halves_finds_its_pixels(dtype, rows, columns):
    x, weight = torch.randn(1, 1, rows, columns), torch.randn(1, 1, 3, 3)
    offset = torch.zeros(1, 18, rows - 2, columns - 2)
    expected = F.conv2d(x, weight)
    y = conv.deformable_conv2d(x.to(dtype), offset.to(dtype), weight.to(dtype))
    assert y.dtype == dtype
    assert (y.float() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("how", ["half", "autocast"])
def test_the_wave_mixer_squares_large_inputs_within_half_precision(how, train):
    mixer = conv.WaveChannelMixer(6).train(train)
    x = 100 * torch.randn(3, 6, 5, 4)
    expected = copy.deepcopy(mixer).double()(x.double())
    if how == "half":
        mixer = mixer.half()
        y = mixer(x.half())
        y.sum().backward()
        assert y.dtype == torch.float16
        assert all(p.grad is not None for p in mixer.parameters())
        assert mixer.mix[1].num_batches_tracked == int(train)
    else:
        with torch.autocast("cpu", dtype=torch.float16):
            y = mixer(x)
    assert (y.double() - expected).norm() < 0.01 * expected.norm()


def test_the_wave_mixer_of_halves_keeps_running_statistics():
    mixer, x = conv.WaveChannelMixer(6), torch.randn(3, 6, 5, 4)
    half = copy.deepcopy(mixer).half()
    mixer(x), half(x.half())
    for name in ("running_mean", "running_var"):
        ours, theirs = getattr(half.mix[1], name), getattr(mixer.mix[1], name)
        assert not torch.equal(theirs, getattr(conv.WaveChannelMixer(6).mix[1], name))
        torch.testing.assert_close(ours.float(), theirs, rtol=1e-2, atol=1e-2)


# -- Bytes -----------------------------------------------------------------------------------------


def test_bytes_of_every_integer_type_are_read():
    model, x = conv.MalConv(2, channels=4, kernel_size=3), torch.randint(256, (2, 12))
    expected = model(x)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        torch.testing.assert_close(model(x.to(dtype)), expected)


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(12, dtype=torch.int64), ValueError, r"bytes \(b, t\), got shape \(12,\)"),
        (torch.zeros(1, 2, 12, dtype=torch.int64), ValueError, r"bytes \(b, t\), got shape \(1, 2, 12\)"),
        (torch.zeros(1, 2, dtype=torch.int64), ValueError, "file of 2 bytes is shorter than the window"),
        (torch.zeros(1, 12), TypeError, "tensor of integers, got torch.float32"),
        (torch.zeros(1, 12, dtype=torch.bool), TypeError, "tensor of integers, got torch.bool"),
        ([1, 2, 3], TypeError, "tensor of integers, got list"),
        (torch.zeros(1, 12, dtype=torch.int64, device="meta"), ValueError, "the bytes are on meta"),
    ],
)
def test_what_are_no_bytes_is_refused(x, error, words):
    model = conv.MalConv(2, channels=4, kernel_size=3)
    with as_installed(), pytest.raises(error, match=rf"^MalConv\(2, kernel_size=3.*{words}"):
        model(x)


# -- The rest of what is promised to be raised -----------------------------------------------------

IMAGE, BYTES = torch.ones(1, 2, 6, 6), torch.ones(1, 6, dtype=torch.int64)


def classifier():
    return conv.MalConv(2, channels=2, kernel_size=3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: conv.conv_output_size(5, 1.5), TypeError, "kernel_size must be"),
        (lambda: conv.transposed_output_size(5, 3, stride="2"), TypeError, "stride must be"),
        (lambda: conv.transposed_output_size(5, 3, padding=-1), ValueError, "padding must be"),
        (lambda: conv.block_fused_forward(conv.ConvFirstBlock(8), IMAGE), ValueError, r"ConvFirstBlock\(8\)"),
        (lambda: conv.MlpConv2d(3, (4, 4), 3), ValueError, "dims must have 3 entries"),
        (
            lambda: conv.AuxiliaryClassifier(2, 3, image_size=(4, 6)),
            ValueError,
            "must be 5 or more",
        ),
        (lambda: conv.AuxiliaryClassifier(2, 3, image_size=5, dropout=2), ValueError, "dropout must be"),
        (
            lambda: conv.AuxiliaryClassifier(2, 3, image_size=5)(IMAGE),
            ValueError,
            r"expects x \(b, 2, 5, 5\)",
        ),
        (lambda: conv.MiniGoogLeNet(2, 3, image_size=5)(IMAGE), ValueError, r"\(b, 2, 5, 5\)"),
        (
            lambda: conv.MiniGoogLeNet(2, 3, image_size=5, channels=12),
            ValueError,
            "a multiple of 8",
        ),
        (lambda: conv.InceptionDWConv2d(7), ValueError, "channels=7; each needs"),
        (lambda: conv.InceptionDWConv2d(8, band_kernel_size=4), ValueError, "band_kernel_size must be odd"),
        (lambda: conv.InceptionNeXtBlock(4), ValueError, "channels must be 8 or more"),
        (lambda: conv.InceptionNeXtBlock(8, mixer=nn.Identity), TypeError, "mixer must be a torch.nn.Module"),
        (
            lambda: conv.TopologicalPointwise(channel_grid=(2, 3), kernel_size=(3, 1)),
            ValueError,
            "kernel_size must fit",
        ),
        (
            lambda: conv.TopologicalPointwise(channel_grid=(), kernel_size=()),
            ValueError,
            "kernel_size must fit",
        ),
        (lambda: conv.SICLayer(4, mixer_layer=3), TypeError, "mixer_layer must be callable"),
        (lambda: conv.LSBlock(5), ValueError, "LSBlock: shared=8 does not divide channels=5"),
        (lambda: conv.LSBlock(8, mixer="static"), TypeError, "mixer must be a torch.nn.Module"),
        (
            lambda: conv.small_kernel_aggregation(IMAGE, torch.ones(1, 1, 9, 6)),
            ValueError,
            r"weight \(b, g, k, i, j\), got shape",
        ),
        (lambda: conv.small_kernel_aggregation(IMAGE.long(), torch.ones(1, 1, 9, 6, 6)), TypeError, "real"),
        (
            lambda: conv.locate_activation(
                conv.MalConv(2, channels=2, kernel_size=3), torch.ones(1, 6).long(), 2
            ),
            ValueError,
            "target must be a class from 0 to 1, got 2",
        ),
        (
            lambda: conv.locate_activation(classifier(), BYTES, 0.5),
            TypeError,
            "target must be",
        ),
        (lambda: conv.gaussian_pyramid(IMAGE, 1.5), TypeError, "levels must be"),
        (lambda: conv.gaussian_pyramid(IMAGE[0], 1), ValueError, "gaussian_pyramid expects image"),
        (lambda: conv.PyramidConv(2, 3)([]), ValueError, "at least one level"),
        (lambda: conv.PyramidConv(2, 3)(IMAGE), TypeError, "a list of images, got Tensor"),
        (lambda: conv.PyramidConv(2, 3)([IMAGE, IMAGE]), ValueError, r"level 1 of \(3, 3\) pixels"),
        (lambda: conv.PyramidConv(2, 3)([IMAGE[:, :1]]), ValueError, r"level 0 \(b, 2, i, j\)"),
        (
            lambda: conv.deformable_conv2d(IMAGE, torch.zeros(1, 18, 4, 4), torch.ones(1, 3, 3, 3)),
            ValueError,
            r"expects x \(b, 3, i, j\)",
        ),
        (
            lambda: conv.deformable_conv2d(IMAGE, torch.zeros(1, 18, 4, 4), torch.ones(1, 2, 3, 1)),
            ValueError,
            r"weight \(o, c, k, k\)",
        ),
        (
            lambda: conv.deformable_conv2d(IMAGE, torch.zeros(2, 18, 4, 4), torch.ones(1, 2, 3, 3)),
            ValueError,
            r"expects offset \(1, 18, 4, 4\)",
        ),
        (
            lambda: conv.deformable_conv2d(
                IMAGE, torch.zeros(1, 18, 4, 4), torch.ones(1, 2, 3, 3), stride=0.5
            ),
            TypeError,
            "stride must be",
        ),
        (lambda: conv.rotate_channel_pairs(IMAGE.long(), torch.ones(1, 2)), TypeError, "of real numbers"),
        (
            lambda: conv.rotate_channel_pairs(IMAGE, torch.ones(2)),
            ValueError,
            "for every two of 2 channels",
        ),
        (lambda: conv.SpatialMixer(12), ValueError, "channels must be a multiple of 8"),
        (lambda: conv.WaveChannelMixer(3, expansion=1), ValueError, "channels turn in pairs"),
        (lambda: conv.SpartanBlock(8, layer_scale=float("nan")), ValueError, "layer_scale must be"),
    ],
)
def test_what_is_promised_to_be_raised_is_raised(call, error, words):
    with as_installed(), pytest.raises(error, match=words):
        call()


def test_options_act():
    assert conv.SICLayer(4, depth=3, kernel_size=5).stages[2].spatial.kernel_size == (5, 5)
    assert conv.SpatialBottleneck(4, stride=3).up.stride == (3, 3)
    assert conv.ConvFirstBlock(8, kernel_size=5, expansion=3).expand.weight.shape == (24, 8, 1, 1)
    assert conv.LargeKernelPerception(4, shared=2, large_kernel_size=5).look[2][0].kernel_size == (5, 5)
    assert conv.LargeKernelPerception(4, shared=2, small_kernel_size=5).make.out_channels == 50
    assert (
        conv.LSConv(4, shared=1, large_kernel_size=5, small_kernel_size=5).perception.make.out_channels == 100
    )
    assert conv.LSBlock(4, shared=4, expansion=3).mixer.perception.kernels == 1
    assert conv.LSBlock(4, shared=4, expansion=3).channel_network[0][0].out_channels == 12
    assert conv.InceptionDWConv2d(9, branch_ratio=0.25).sizes == (3, 2, 2, 2)
    late, early = conv.SpartanBlock(8, depthwise=True), conv.SpartanBlock(8, expansion=3)
    assert (late.space.high[0].groups, late.channel.mix[0].groups) == (4, 8)
    assert (early.space.high[0].groups, early.channel.mix[0].groups) == (1, 24)
    assert early.channel.token.out_channels == 24
    model = conv.MalConv(2, channels=3, kernel_size=4, stride=2, hidden_dim=5, embedding_dim=6)
    assert (model.value.stride, model.hidden.out_features, model.embedding.embedding_dim) == ((2,), 5, 6)
    assert model.features(torch.zeros(1, 10).long()).shape == (1, 3, 4)
    network = conv.NetworkInNetwork(1, 3, channels=4, kernel_size=5, dropout=0.25, activate_last=False)
    assert (network.trunk[0][0].kernel_size, network.trunk[1][1].p) == ((5, 5), 0.25)
    assert isinstance(network.last[5], nn.Identity)
    small = conv.MiniGoogLeNet(1, 3, image_size=(5, 7), channels=8, dropout=0.25)
    assert (small.out[1].p, small.auxiliary.image_size, small.auxiliary.layers[5].p) == (0.25, (5, 7), 0.7)
    assert (
        conv.AuxiliaryClassifier(1, 2, image_size=5, channels=3, hidden_dim=4, dropout=0.1).layers[5].p == 0.1
    )
    mixed = conv.InceptionNeXtBlock(8, mixer=nn.Identity(), expansion=2)
    assert mixed.mlp[0].out_channels == 16
