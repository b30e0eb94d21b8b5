"""Shifts, spirals, frequencies and spikes, against torch, snntorch, closed forms and brute force."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.mixing import (
    HighFrequencyMixer,
    InceptionMixer,
    LIFNeuron,
    LowFrequencyMixer,
    MaxPatchEmbed,
    MixShift,
    MixShiftBlock,
    PerFrame,
    PoolMixer,
    SpikingDepthwise,
    SpikingMixerBlock,
    SpiralFC,
    SpiralMixer,
    frequency_ramp,
    frequency_response,
    lif_frequency_response,
    lif_naive,
    reach_map,
    relative_log_amplitude,
    shift_groups,
    spiral_offsets,
    spiral_shift,
    spiral_shift_naive,
)
from tests.oracles import values_and_gradients

# -- MS-MLP ----------------------------------------------------------------------------------------


def test_a_positive_shift_lets_every_position_see_what_lies_before_it():
    x = torch.randn(2, 6, 3, 5)
    left, still, right = shift_groups(x, (-1, 0, 2), -1)
    assert torch.equal(still, x[:, 2:4])
    for j in range(5):
        assert torch.equal(right[..., j], x[:, 4:, :, (j - 2) % 5])
        assert torch.equal(left[..., j], x[:, :2, :, (j + 1) % 5])
    assert torch.equal(shift_groups(x, (1, 1), -2)[0], x[:, :3].roll(1, 2))
    with pytest.raises(ValueError, match="5 groups"):
        shift_groups(x[:, :4], range(5), -1)


@pytest.mark.parametrize("shift", [-2, 0, 1, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_shift_then_convolution_is_one_convolution_whose_kernel_is_moved(shift, size):
    mixer = MixShift(2, shifts=(shift,), kernel_size=(size,), padding_mode="circular").double()
    nn.init.zeros_(mixer.down[0].weight)
    nn.init.zeros_(mixer.down[0].bias)
    x, kernel = torch.randn(1, 2, 11, 13, dtype=torch.float64), mixer.across[0]
    half, reach = size // 2, size // 2 + abs(shift)
    merged = torch.zeros(2, 1, size, 2 * reach + 1, dtype=torch.float64)
    start = reach - shift - half  # what was in the middle now stands ``shift`` columns earlier
    merged[..., start : start + size] = kernel.weight.detach()
    padded = F.pad(x, (reach, reach, half, half), mode="circular")
    expected = F.conv2d(padded, merged, kernel.bias.detach(), groups=2)
    torch.testing.assert_close(mixer(x).detach(), expected)


def test_reach_of_the_released_pairing_is_lopsided_and_of_the_other_pairing_even():
    x = torch.randn(1, 10, 21, 21, dtype=torch.float64)

    def seen_along_the_row(windows):
        mixer = MixShift(10, kernel_size=windows).double()
        for kernel in mixer.down:  # the path along the width alone
            nn.init.zeros_(kernel.weight)
        columns = (reach_map(mixer, x) > 0).any(0).nonzero().flatten() - 10
        return columns.min().item(), columns.max().item()

    assert seen_along_the_row((1, 1, 3, 5, 7)) == (-5, 2)
    assert seen_along_the_row((5, 3, 1, 3, 5)) == (-4, 4)


def test_without_shifts_and_windows_a_mix_shift_block_is_an_mlp_of_every_pixel():
    block = MixShiftBlock(3, shifts=(0,), kernel_size=(1,)).double()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x)[..., 2:3, 1:2], block(x[..., 2:3, 1:2]))


def test_a_mix_shift_block_adds_its_branch_and_has_right_gradients():
    x = torch.randn(1, 5, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(MixShiftBlock(5, layer_scale=0.0).double()(x), x)
    block = MixShiftBlock(5, hidden_dim=3).double()
    mix, norm, first, gelu, second, scale = block.residual.mixer
    tokens = F.layer_norm(mix(x).movedim(1, -1), (5,), norm.weight, norm.bias).movedim(-1, 1)
    torch.testing.assert_close(block(x), x + scale.weight[:, None, None] * second(gelu(first(tokens))))
    assert torch.autograd.gradcheck(block, x.requires_grad_(), atol=1e-4)


def test_mix_shift_refuses_even_windows_and_other_widths():
    with pytest.raises(ValueError, match=r"MixShift: kernel_size\[0\] must be odd"):
        MixShift(4, shifts=(0, 1), kernel_size=(2, 3))
    with pytest.raises(ValueError, match="cannot be cut"):
        MixShift(16)
    with pytest.raises(ValueError, match=r"\(b, 10, i, j\)"):
        MixShift(10)(torch.randn(1, 9, 4, 4))


# -- SpiralMLP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (2, 8, 5, 3), (1, 8, 7, 7)], ids=str)
def test_spiral_layer_is_a_convolution_with_one_tap_per_input_channel(shape):
    channels = shape[1]
    layer = SpiralFC(channels, 3, reach=3, period=5).double()
    x = torch.randn(shape, dtype=torch.float64)
    size = 2 * layer.offsets.abs().max().item() + 1
    kernel = torch.zeros(3, channels, size, size, dtype=torch.float64)
    for c, (down, right) in enumerate(layer.offsets.tolist()):
        kernel[:, c, size // 2 + down, size // 2 + right] = layer.linear.weight[:, c, 0, 0].detach()
    bias = layer.linear.bias.detach()
    expected = values_and_gradients(lambda x: F.conv2d(x, kernel, bias, padding=size // 2), x)
    torch.testing.assert_close(values_and_gradients(layer, x), expected)


def test_spiral_shift_equals_the_loop_and_rolling_with_cleared_borders():
    x, offsets = torch.randn(2, 8, 5, 6, dtype=torch.float64), spiral_offsets(8, reach=4, period=3)
    expected = values_and_gradients(lambda x: spiral_shift_naive(x, offsets), x)
    torch.testing.assert_close(values_and_gradients(lambda x: spiral_shift(x, offsets), x), expected)
    for c, (down, right) in enumerate(offsets.tolist()):
        padded = F.pad(x[:, c], (4, 4, 4, 4)).roll((-down, -right), (1, 2))
        torch.testing.assert_close(expected[0][:, c], padded[:, 4:-4, 4:-4])


def test_the_spiral_winds_out_to_its_reach_and_back_in_every_partition():
    offsets = spiral_offsets(64, reach=5, period=8, partitions=2).double()
    radius = offsets.norm(dim=1)
    assert radius[0] == 0
    assert radius.argmax() % 32 == 16  # the middle of a partition
    assert radius.max() == 5
    torch.testing.assert_close(offsets[:32], offsets[32:])
    exact = torch.tensor([5 / 16 * min(c, 32 - c) for c in range(32)], dtype=torch.float64)
    assert (radius[:32] - exact).abs().max() < math.sqrt(0.5) + 1e-9  # both coordinates are rounded
    with pytest.raises(ValueError, match="must divide"):
        spiral_offsets(9, partitions=2)


def test_a_spiral_of_reach_zero_is_a_plain_layer_over_channels():
    layer, x = SpiralFC(8, 5, reach=0).double(), torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.linear.weight, layer.linear.bias))


def test_spiral_mixer_weighs_both_branches_by_shares_that_sum_to_one():
    mixer, x = SpiralMixer(8, reach=2, period=8).double(), torch.randn(2, 8, 4, 5, dtype=torch.float64)
    cross, plain = mixer.cross(x), mixer.plain(x)
    scores = mixer.weigh((cross + plain).mean((2, 3))).reshape(2, 8, 2)
    share = torch.sigmoid(scores[..., 0] - scores[..., 1])[..., None, None]
    torch.testing.assert_close(mixer(x), mixer.out(share * cross + (1 - share) * plain))
    small = torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mixer, small)
    with pytest.raises(ValueError, match=r"\(8, 2\)"):
        SpiralFC(8, 8, offsets=torch.zeros(7, 2, dtype=torch.long))


# -- Inception -------------------------------------------------------------------------------------


def test_the_low_branch_without_averaging_is_torch_attention_over_all_pixels():
    mixer = LowFrequencyMixer(6, 2).double()
    peer = nn.MultiheadAttention(6, 2, batch_first=True, dtype=torch.float64)
    ours = mixer.attention
    with torch.no_grad():
        for p in ours.parameters():
            nn.init.normal_(p)
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.zeros(6), ours.value.bias]))
        peer.out_proj.weight.copy_(torch.eye(6))  # the heads leave side by side
        peer.out_proj.bias.zero_()
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)

    def attend(x):
        tokens = x.flatten(2).mT
        return peer(tokens, tokens, tokens, need_weights=False)[0].mT.reshape(x.shape)

    torch.testing.assert_close(values_and_gradients(mixer, x), values_and_gradients(attend, x))


def test_the_low_branch_averages_windows_and_repeats_what_it_attends():
    mixer, x = LowFrequencyMixer(4, 2, kernel_size=2).double(), torch.randn(2, 4, 6, 4, dtype=torch.float64)
    small = LowFrequencyMixer(4, 2).double()
    small.load_state_dict(mixer.state_dict())
    expected = F.interpolate(small(F.avg_pool2d(x, 2)), scale_factor=2, mode="nearest")
    torch.testing.assert_close(mixer(x), expected)
    with pytest.raises(ValueError, match="sides that 2 divides"):
        mixer(x[:, :, :5])


def test_the_high_branch_convolves_one_half_and_takes_maxima_of_the_other():
    mixer, x = HighFrequencyMixer(4).double(), torch.randn(2, 4, 5, 3, dtype=torch.float64)
    point, depthwise, _ = mixer.convolve
    first = F.gelu(F.conv2d(F.conv2d(x[:, :2], point.weight), depthwise.weight, padding=1, groups=4))
    windows = F.pad(x[:, 2:], (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 1).unfold(3, 3, 1)
    second = F.gelu(F.conv2d(windows.amax((-2, -1)), mixer.pool[1].weight, mixer.pool[1].bias))
    torch.testing.assert_close(mixer(x), torch.cat([first, second], 1))
    with pytest.raises(ValueError, match="even"):
        HighFrequencyMixer(5)


def test_inception_mixer_fuses_its_branches_and_leaves_out_an_empty_one():
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    mixer = InceptionMixer(6, 2, high_channels=2, kernel_size=2).double()
    u = torch.cat([mixer.high(x[:, :2]), mixer.low(x[:, 2:])], dim=1)
    smoothed = F.conv2d(u, mixer.smooth.weight, padding=1, groups=8)
    expected = F.conv2d(u + smoothed, mixer.out.weight, mixer.out.bias)
    torch.testing.assert_close(mixer(x), expected)
    only_low, only_high = InceptionMixer(6, 1, high_channels=0), InceptionMixer(6, 1, high_channels=6)
    assert {name.split(".")[0] for name, _ in only_low.named_parameters()} == {"low", "smooth", "out"}
    assert {name.split(".")[0] for name, _ in only_high.named_parameters()} == {"high", "smooth", "out"}
    with pytest.raises(ValueError, match="at most channels=6, got 8"):
        InceptionMixer(6, 1, high_channels=8)


def test_frequency_ramp_gives_the_rest_of_the_channels_to_a_growing_number_of_heads():
    for first, last in ((0, 4), (1, 3), (3, 1), (2, 2)):
        ramp = frequency_ramp(20, 5, 5, first=first, last=last)
        heads = [(20 - width) / 5 for width in ramp]
        assert heads[0] == first
        assert heads[-1] == last
        assert all(head == int(head) for head in heads)
        assert sorted(heads, reverse=first > last) == heads
    with pytest.raises(ValueError, match="do not fit"):
        frequency_ramp(20, 5, 3, first=0, last=5)


# -- Frequencies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [1, 2, 4])
def test_a_cosine_lies_in_a_single_ring(frequency):
    angle = 2 * math.pi * frequency * torch.arange(8, dtype=torch.float64) / 8
    x = (3 + torch.cos(angle)).expand(1, 1, 8, 8)
    rings = relative_log_amplitude(x)
    others = [k for k in range(1, 5) if k != frequency]
    assert rings[0] == 0
    assert (rings[others] < -25).all()
    # the cosine's own amplitude, shared out over all pairs of frequencies of that ring
    size = {1: 8, 2: 16, 4: 15}[frequency]
    weight = 1.0 if frequency == 4 else 0.5
    count = 1 if frequency == 4 else 2
    assert math.isclose(rings[frequency].item(), math.log(weight * count / size / 3), abs_tol=1e-9)
    with pytest.raises(ValueError, match="square"):
        relative_log_amplitude(x[..., :5])


def test_gain_of_averages_is_the_known_product_of_cosines():
    omega = 2 * math.pi * torch.arange(16, dtype=torch.float64) / 16
    three = (1 + 2 * torch.cos(omega)) / 3
    gain = frequency_response(nn.AvgPool2d(3, 1, 1), size=16).double()
    torch.testing.assert_close(gain, (three[:, None] * three).abs(), rtol=1e-5, atol=1e-5)
    assert gain.max() <= 1 + 1e-6
    torch.testing.assert_close(gain[8, 0], torch.tensor(1 / 3, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    pool = frequency_response(PoolMixer(), size=16).double()  # average minus the pixel: the rest
    torch.testing.assert_close(pool, (three[:, None] * three - 1).abs(), rtol=1e-5, atol=1e-5)


def test_repeating_a_halved_map_leaves_nothing_at_the_highest_frequency():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert relative_log_amplitude(x)[-1] < -30


def test_reach_map_is_the_support_of_the_kernel_around_the_asked_position():
    kernel, x = nn.Conv2d(2, 3, (3, 5), padding=(1, 2)), torch.randn(1, 2, 9, 9)
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[1:4, 3:8] = True
    assert torch.equal(reach_map(kernel, x, position=(2, 5)) > 0, expected)
    assert (reach_map(kernel, x) > 0).sum() == 15


# -- Spikes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0])
def test_spikes_equal_those_of_snntorch_and_of_the_loop(tau):
    import snntorch

    x = 3 * torch.randn(2, 20, 3)
    peer = snntorch.Leaky(beta=1 - 1 / tau, threshold=1.0, reset_mechanism="zero", reset_delay=False)
    membrane, theirs = torch.zeros(2, 3), []
    for current in x.unbind(1):
        spikes, membrane = peer(current / tau, membrane)
        theirs.append(spikes)
    ours = LIFNeuron(tau=tau)(x)
    assert 0.05 < ours.mean() < 0.6
    assert set(ours.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(ours, torch.stack(theirs, 1))
    torch.testing.assert_close(ours, lif_naive(x, tau)[0])


def test_surrogate_gradient_of_one_step_equals_that_of_snntorch():
    import snntorch
    from snntorch import surrogate

    peer = snntorch.Leaky(
        beta=0.5, reset_mechanism="zero", reset_delay=False, spike_grad=surrogate.sigmoid(slope=4)
    )
    x = 2 * torch.randn(2, 1, 30)  # snntorch keeps its threshold in single precision

    def theirs(x):
        return peer(x[:, 0] / 2, torch.zeros(2, 30))[0][:, None]

    torch.testing.assert_close(values_and_gradients(LIFNeuron(), x), values_and_gradients(theirs, x))


def test_gradient_over_time_equals_the_recursion_by_hand_in_which_a_reset_passes_nothing():
    x, tau, slope = 3 * torch.randn(2, 7, 5, dtype=torch.float64), 3.0, 4.0
    spikes, gradient = values_and_gradients(LIFNeuron(tau=tau, slope=slope), x)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    _, voltage = lif_naive(x, tau)
    soft = torch.sigmoid(slope * (voltage - 1))
    assert spikes.sum() > 0
    later, expected = torch.zeros(2, 5, dtype=torch.float64), torch.empty_like(x)
    for t in range(6, -1, -1):
        wanted = cotangent[:, t] * slope * soft[:, t] * (1 - soft[:, t]) + later * (1 - spikes[:, t])
        expected[:, t], later = wanted / tau, wanted * (1 - 1 / tau)
    torch.testing.assert_close(gradient, expected)


def test_first_spike_of_a_constant_current_comes_when_the_charge_formula_says():
    for current in (1.05, 1.5, 3.0):
        charge = [current * (1 - 0.5**t) for t in range(1, 41)]  # x (1 - (1 - 1/tau)^t)
        period = next((t for t, v in enumerate(charge, start=1) if v >= 1), None)
        spikes = LIFNeuron()(torch.full((1, 40), current, dtype=torch.float64))[0]
        assert spikes.nonzero().flatten().tolist() == list(range(period - 1, 40, period))
    assert LIFNeuron()(torch.full((1, 40), 0.99)).sum() == 0  # the charge never gets there


@pytest.mark.parametrize("tau", [2.0, 4.0])
@pytest.mark.parametrize("frequency", [0, 1, 5, 16])
def test_the_voltage_below_threshold_follows_the_transfer_function(tau, frequency):
    omega = 2 * math.pi * frequency / 32
    time = torch.arange(320, dtype=torch.float64)
    _, voltage = lif_naive(0.5 * torch.cos(omega * time)[None], tau)
    response = lif_frequency_response(torch.tensor(omega, dtype=torch.float64), tau)
    expected = 0.5 * (response * torch.exp(1j * omega * time)).real
    torch.testing.assert_close(voltage[0, 160:], expected[160:])
    assert math.isclose(
        lif_frequency_response(torch.tensor(math.pi, dtype=torch.float64), tau).abs().item(),
        1 / (2 * tau - 1),
    )


def test_the_maximum_of_spikes_is_a_logical_or_and_stays_binary():
    spikes = (torch.rand(2, 3, 5, 5) < 0.2).float()
    pooled = F.max_pool2d(spikes, 3, 1, 1)
    windows = F.pad(spikes, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1).flatten(4).bool()
    assert torch.equal(pooled, windows.any(-1).float())
    block = SpikingMixerBlock(3, PerFrame(nn.MaxPool2d(3, 1, 1)))
    seen = []
    for convolution in (block.mix_channels[1].layers[0], block.mix_channels[3].layers[0]):
        convolution.register_forward_hook(lambda m, i, y: seen.append(i[0]))
    block(2 * torch.randn(2, 4, 3, 5, 5))
    assert [set(x.unique().tolist()) for x in seen] == [{0.0, 1.0}] * 2


def test_the_mixer_of_a_spiking_block_gets_the_membrane_and_no_skip():
    x = torch.randn(2, 4, 3, 5, 6)
    block = SpikingMixerBlock(3, PerFrame(nn.MaxPool2d(3, 1, 1))).eval()
    nn.init.zeros_(block.mix_channels[3].layers[0].weight)  # the channel MLP adds nothing
    torch.testing.assert_close(block(x), torch.stack([F.max_pool2d(x[:, t], 3, 1, 1) for t in range(4)], 1))


def test_spiking_block_is_the_written_sum_of_its_parts():
    block = SpikingMixerBlock(3, SpikingDepthwise(3)).double().eval()
    x = 2 * torch.randn(2, 4, 3, 5, 6, dtype=torch.float64)

    def frames(f, x):
        return torch.stack([f(x[:, t]) for t in range(4)], 1)

    fire = LIFNeuron()
    depthwise, norm = block.mix_tokens.mix[1].layers
    y = x + frames(lambda image: norm(F.conv2d(image, depthwise.weight, padding=1, groups=3)), fire(x))
    _, first, _, second = block.mix_channels
    expected = y + frames(second.layers, fire(frames(first.layers, fire(y))))
    torch.testing.assert_close(block(x), expected)
    with pytest.raises(ValueError, match="3 entries along axis -3"):
        block(x[:, :, :2])


def test_max_patch_embedding_keeps_a_lone_spike_that_averaging_would_fade():
    embed = MaxPatchEmbed(1, 1).double().eval()
    for convolution in (embed.path[0].layers[0], embed.path[2].layers[0], embed.shortcut.layers[0]):
        nn.init.zeros_(convolution.weight)
    embed.shortcut.layers[0].weight.data[:] = 1.0
    x = torch.zeros(1, 1, 1, 8, 8, dtype=torch.float64)
    x[..., 3, 3] = 10.0
    y = embed(x)
    assert y.shape == (1, 1, 1, 4, 4)
    scale = 1 / math.sqrt(1 + 1e-5)  # batch norm at its start, in evaluation
    assert math.isclose(y.max().item(), scale)
    assert (y > 0.5).sum() == 4  # windows of 3 with stride 2 overlap
    with pytest.raises(ValueError, match="1 entries along axis -3"):
        embed(torch.zeros(1, 1, 2, 8, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"LIFNeuron: tau must be .* at least 1, got 0\.5"):
        LIFNeuron(tau=0.5)
