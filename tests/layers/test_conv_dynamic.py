"""Large-small convolution and SpaRTAN, against loops, grouped convolutions and complex arithmetic."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.conv import (
    LargeKernelPerception,
    LSBlock,
    LSConv,
    LSStaticMixer,
    SpartanBlock,
    SpatialMixer,
    WaveChannelMixer,
    receptive_field,
    rotate_channel_pairs,
    small_kernel_aggregation,
    small_kernel_aggregation_naive,
)


def randomise(module, seed=0):
    """Random parameters and statistics, so that no comparison rests on gain one and shift zero."""
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype) / max(p[0].numel(), 1) ** 0.5
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype) + 0.5)
    return module


@pytest.mark.parametrize(("channels", "kernels", "side"), [(6, 3, 3), (4, 1, 1), (5, 5, 5), (1, 1, 3)])
def test_unfolding_equals_the_loops_in_value_and_gradient(channels, kernels, side):
    x = torch.randn(2, channels, 5, 7).double().requires_grad_()
    weight = torch.randn(2, kernels, side**2, 5, 7).double().requires_grad_()
    a, b = small_kernel_aggregation(x, weight), small_kernel_aggregation_naive(x, weight)
    torch.testing.assert_close(a, b)
    for g, h in zip(*(torch.autograd.grad(y.square().sum(), (x, weight)) for y in (a, b)), strict=True):
        torch.testing.assert_close(g, h)
    assert torch.autograd.gradcheck(small_kernel_aggregation, (x[:1, :, :3, :3], weight[:1, ..., :3, :3]))


@pytest.mark.parametrize("aggregate", [small_kernel_aggregation, small_kernel_aggregation_naive])
def test_equal_kernels_everywhere_are_a_depthwise_convolution(aggregate):
    x, kernels = torch.randn(2, 6, 5, 4).double(), torch.randn(3, 9).double()
    weight = kernels[None, :, :, None, None].expand(2, -1, -1, 5, 4)
    shared = kernels.view(3, 1, 3, 3).repeat(2, 1, 1, 1)  # channel c takes kernel c modulo 3
    torch.testing.assert_close(aggregate(x, weight), F.conv2d(x, shared, padding=1, groups=6))


def test_a_kernel_of_one_tap_scales_every_pixel():
    x = torch.randn(1, 2, 3, 4)
    torch.testing.assert_close(small_kernel_aggregation(x, torch.ones(1, 1, 1, 3, 4)), x)
    gate = torch.rand(1, 1, 1, 3, 4)
    torch.testing.assert_close(small_kernel_aggregation(x, gate), x * gate[:, :, 0])


@pytest.mark.parametrize("aggregate", [small_kernel_aggregation, small_kernel_aggregation_naive])
def test_kernels_that_do_not_fit_are_refused(aggregate):
    x = torch.zeros(1, 4, 3, 3)
    for shape, message in (
        ((1, 2, 4, 3, 3), "odd"),
        ((1, 2, 8, 3, 3), "taps"),
        ((1, 3, 9, 3, 3), "divide"),
        ((1, 2, 9, 3, 2), "agree"),
    ):
        with pytest.raises(ValueError, match=message), as_installed():
            aggregate(x, torch.zeros(shape))


def test_perception_is_its_formula():
    layer = randomise(LargeKernelPerception(8, shared=4, large_kernel_size=5).double()).eval()
    x = torch.randn(2, 8, 6, 7).double()

    def conv_bn(pair, z, **options):
        norm = pair[1]
        z = F.conv2d(z, pair[0].weight, **options)
        return F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    z = conv_bn(layer.look[0], x).relu()
    z = conv_bn(layer.look[2], z, padding=2, groups=4)
    z = conv_bn(layer.look[3], z).relu()
    z = F.conv2d(z, layer.make.weight, layer.make.bias)
    z = F.group_norm(z, 2, layer.norm.weight, layer.norm.bias)
    torch.testing.assert_close(layer(x), z.view(2, 2, 9, 6, 7))


def test_large_small_convolution_adds_the_normalised_aggregate():
    layer = randomise(LSConv(8, shared=4).double()).eval()
    x = torch.randn(2, 8, 9, 9).double()
    mixed = small_kernel_aggregation_naive(x, layer.perception(x))
    norm = layer.norm
    expected = x + F.batch_norm(mixed, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(layer(x), expected)


def test_kernels_are_seen_seven_wide_and_used_three_wide():
    torch.manual_seed(0)  # wide enough that no ReLU hides a pixel
    layer = LargeKernelPerception(64).double().eval()
    layer.norm = nn.Identity()  # its statistics run over the whole image
    assert receptive_field(lambda x: layer(x).flatten(1, 2), 64, (11, 11)).sum() == 49
    x, weight = torch.randn(1, 8, 11, 11).double(), torch.randn(1, 1, 9, 11, 11).double()
    assert receptive_field(lambda x: small_kernel_aggregation(x, weight), 8, (11, 11)).sum() == 9
    moved = small_kernel_aggregation(x.roll(2, 3), weight.roll(2, 4))[..., 3:-1]
    torch.testing.assert_close(moved, small_kernel_aggregation(x, weight).roll(2, 3)[..., 3:-1])


def test_sizes_that_perception_cannot_share_are_refused():
    for options in ({"shared": 3}, {"shared": 0}, {"large_kernel_size": 4}, {"small_kernel_size": 2}):
        with pytest.raises(ValueError, match=r"divide|odd|at least 1"):
            LargeKernelPerception(8, **options)
    with pytest.raises(ValueError, match="LSConv: channels must be even"):
        LSConv(5, shared=5)


def test_a_new_block_is_its_mixer_and_even_blocks_are_static():
    for chosen in (None, LSStaticMixer(8)):
        block = LSBlock(8, mixer=chosen).double().eval()
        x = torch.randn(2, 8, 5, 6).double()
        torch.testing.assert_close(block(x), block.mixer(x))
    assert isinstance(LSBlock(8).mixer, LSConv)
    static = randomise(LSBlock(8, mixer=LSStaticMixer(8)).double()).eval()
    mixer = static.mixer
    summed = mixer.square(x) + mixer.point(x) + x
    gate = mixer.excite.gate(summed.mean((2, 3), keepdim=True))
    torch.testing.assert_close(mixer(x), summed * gate)
    inner = static.channel_network(mixer(x))
    torch.testing.assert_close(static(x), mixer(x) + inner)
    assert inner.abs().max() > 0


# -- SpaRTAN ---------------------------------------------------------------------------------------


def test_pairs_of_channels_turn_as_complex_numbers():
    x, weight = torch.randn(2, 6, 3, 5).double().requires_grad_(), torch.randn(3, 2).double().requires_grad_()
    numbers = torch.view_as_complex(x.unflatten(1, (3, 2)).movedim(2, -1).contiguous())
    product = torch.view_as_real(numbers * torch.view_as_complex(weight)[:, None, None])
    expected = product.movedim(-1, 2).flatten(1, 2)
    ours = rotate_channel_pairs(x, weight)
    torch.testing.assert_close(ours, expected)
    pairs = (torch.autograd.grad(y.square().sum(), (x, weight)) for y in (ours, expected))
    for g, h in zip(*pairs, strict=True):
        torch.testing.assert_close(g, h)
    with pytest.raises(ValueError, match=r"one for every two of 4 channels, got shape \(3, 2\)"):
        rotate_channel_pairs(torch.zeros(1, 4, 2, 2), torch.zeros(3, 2))


def test_a_pair_matrix_rotates_by_the_phase_and_scales_by_the_amplitude():
    weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).double()
    matrix = rotate_channel_pairs(torch.eye(4).double()[:, :, None, None], weight)[:, :, 0, 0].T
    blocks = [torch.tensor([[a, -b], [b, a]]) for a, b in weight.tolist()]
    torch.testing.assert_close(matrix, torch.block_diag(*blocks).double())
    torch.testing.assert_close(matrix.T @ matrix, torch.diag(torch.tensor([25.0, 25, 4, 4]).double()))


def test_the_contrast_moves_between_the_mean_and_the_deviation():
    mixer, u = SpatialMixer(8).double(), torch.randn(2, 4, 5, 6).double()
    mean = u.mean((2, 3), keepdim=True)
    nn.init.constant_(mixer.contrast, -1.0)
    torch.testing.assert_close(mixer.sharpen(u), mean.expand_as(u))
    nn.init.constant_(mixer.contrast, 1e9)
    torch.testing.assert_close(mixer.sharpen(u) / 1e9, u - mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depthwise", [False, True])
def test_branches_see_three_and_nine_pixels(depthwise):
    mixer = SpatialMixer(8, depthwise=depthwise).double().eval()
    assert receptive_field(mixer.high, 4, (13, 13)).nonzero().aminmax().max - 6 == 1
    low = receptive_field(mixer.low, 4, (13, 13)).nonzero()
    assert (low.min(), low.max()) == (6 - 4, 6 + 4)
    assert mixer.high[0].groups == (4 if depthwise else 1)


def test_the_spatial_mixer_is_its_formula():
    mixer = randomise(SpatialMixer(8).double()).eval()
    x = torch.randn(2, 8, 7, 6).double()
    u = F.conv2d(x, mixer.reduce.weight, mixer.reduce.bias)
    u = u + mixer.contrast * (u - u.mean((2, 3), keepdim=True))

    def norm(layer, z):
        state = layer.running_mean, layer.running_var, layer.weight, layer.bias
        return F.gelu(F.batch_norm(z, *state, eps=1e-6))

    def excite(layer, z):
        first, second = layer.gate[0], layer.gate[2]
        means = z.mean((2, 3))
        hidden = F.linear(means, first.weight.flatten(1), first.bias).relu()
        return z * F.linear(hidden, second.weight.flatten(1), second.bias).sigmoid()[:, :, None, None]

    high = norm(mixer.high[1], F.conv2d(u, mixer.high[0].weight, padding=1))
    low = F.conv2d(u, mixer.low[0].weight, padding=2, dilation=2)
    low = norm(mixer.low[2], F.conv2d(low, mixer.low[1].weight, padding=2, dilation=2))
    both = torch.cat([excite(mixer.excite_high, high), excite(mixer.excite_low, low)], 1)
    torch.testing.assert_close(mixer(x), F.conv2d(both, mixer.out.weight, mixer.out.bias))
    with pytest.raises(ValueError, match="multiple of 8"):
        SpatialMixer(12)


def test_the_strongest_input_channel_is_added_to_all():
    mixer = randomise(WaveChannelMixer(3, expansion=2).double()).eval()
    x = torch.randn(2, 3, 4, 5).double()
    a, t = mixer.amplitude(x), F.gelu(mixer.token(x))
    features = a * t
    for b in range(2):
        for i in range(4):
            for j in range(5):
                m = x[b, :, i, j].argmax()
                features[b, :, i, j] = a[b, :, i, j] * t[b, :, i, j] + a[b, m, i, j] * t[b, m, i, j]
    turned = rotate_channel_pairs(features, mixer.rotation)
    torch.testing.assert_close(mixer(x), mixer.out(mixer.excite(mixer.mix(turned))))
    assert mixer.mix[0].groups == 6
    with pytest.raises(ValueError, match="must be even"):
        WaveChannelMixer(3, expansion=1)


def test_a_spartan_block_adds_two_scaled_mixers_to_normalised_inputs():
    block = randomise(SpartanBlock(8, layer_scale=0.3).double()).eval()
    x = torch.randn(2, 8, 5, 6).double()
    first, second = block.space_norm, block.channel_norm
    y = x + block.space_scale.weight[:, None, None] * block.space(
        F.group_norm(x, 1, first.weight, first.bias, eps=1e-6)
    )
    y = y + block.channel_scale.weight[:, None, None] * block.channel(
        F.group_norm(y, 1, second.weight, second.bias, eps=1e-6)
    )
    torch.testing.assert_close(block(x), y)
    assert SpartanBlock(8, layer_scale=0.3).space_scale.weight.unique().item() == pytest.approx(0.3)
