"""Options of the mixers at their ends: a threshold met exactly, one branch empty, uneven groups, defaults."""

import math

import pytest
import torch
from torch import nn

from course_lib.layers import mixing
from course_lib.layers.attention import MultiHeadAttention
from tests.layers.arguments import as_users_call
from tests.layers.starts import starts


@pytest.mark.parametrize("tau", [1.0, 2.0, 4.0])
def test_a_voltage_that_meets_the_threshold_fires_and_is_reset(tau):
    x = torch.tensor([[tau, tau * 0.999, 0.0, tau]]).double()
    spikes, _ = mixing.lif_naive(x, tau)
    assert spikes[0, :3].tolist() == [1, 0, 0]
    torch.testing.assert_close(mixing.LIFNeuron(tau=tau)(x), spikes)


def test_the_defaults_of_a_neuron_and_what_it_refuses():
    x = torch.tensor([[2.0, 1.9, 1.9, 1.9, 1.9]]).double()
    spikes, voltages = mixing.lif_naive(x)
    for options in ((2.0,), (2.0, 1.0)):
        torch.testing.assert_close(mixing.lif_naive(x, *options), (spikes, voltages))
    torch.testing.assert_close(mixing.LIFNeuron()(x), spikes)
    assert spikes.tolist() == [[1, 0, 1, 0, 1]]
    assert voltages[0, :3].tolist() == pytest.approx([1.0, 0.95, 1.425])
    halved, _ = mixing.lif_naive(x, 2.0, 0.5)
    assert halved.sum() == 5
    for options in ({"tau": 0.99}, {"threshold": 0.0}, {"slope": 0.0}):
        with pytest.raises(ValueError, match="LIFNeuron"):
            mixing.LIFNeuron(**options)
    omega = torch.tensor([0.0, math.pi])
    torch.testing.assert_close(mixing.lif_frequency_response(omega).abs(), torch.tensor([1.0, 1 / 3]))


@pytest.mark.parametrize("slope", [1.0, 4.0])
def test_the_slope_of_the_surrogate(slope):
    x = torch.tensor([[1.0]], requires_grad=True)
    mixing.LIFNeuron(slope=slope)(x).sum().backward()
    s = torch.sigmoid(torch.tensor(slope * (0.5 - 1)))
    torch.testing.assert_close(x.grad, (slope * s * (1 - s) / 2).reshape(1, 1))


# -- Spirals ---------------------------------------------------------------------------------------------


def places(channels, reach, period, partitions):
    """Row and column of every channel, by trigonometry one by one."""
    size = channels // partitions
    found = []
    for c in range(channels):
        turn, step = 2 * math.pi * (c % size) / period, c % size
        radius = reach * min(step, size - step) / (size / 2)
        found.append([round(radius * math.cos(turn)), round(radius * math.sin(turn))])
    return found


@pytest.mark.parametrize("partitions", [1, 2, 4])
@pytest.mark.parametrize(("reach", "period"), [(3.0, 32.0), (2.0, 8.0), (0.0, 1.0)])
def test_every_partition_winds_out_and_back(partitions, reach, period):
    options = {"reach": reach, "period": period, "partitions": partitions}
    assert mixing.spiral_offsets(16, **options).tolist() == places(16, reach, period, partitions)
    assert mixing.SpiralFC(16, 3, **options).offsets.tolist() == places(16, reach, period, partitions)
    assert mixing.SpiralMixer(16, **options).cross.offsets.tolist() == places(16, reach, period, partitions)
    assert mixing.spiral_offsets(16).tolist() == places(16, 3.0, 32.0, 2)
    assert mixing.SpiralFC(16, 3).offsets.tolist() == mixing.SpiralMixer(16).cross.offsets.tolist()
    assert mixing.SpiralFC(16, 3).offsets.tolist() == places(16, 3.0, 32.0, 2)


@pytest.mark.parametrize("options", [{"partitions": 3}, {"reach": -1.0}, {"period": 0.0}])
def test_spirals_that_do_not_fit_are_refused(options):
    for make in (lambda **o: mixing.spiral_offsets(4, **o), lambda **o: mixing.SpiralFC(4, 4, **o)):
        with pytest.raises(ValueError, match=next(iter(options))):
            make(**options)


def test_offsets_of_ones_own_are_used_and_stay_after_a_reset():
    offsets = torch.tensor([[0, 1], [2, 0], [-1, -1], [0, 0]])
    for layer in (mixing.SpiralFC(4, 4, offsets=offsets), mixing.SpiralMixer(4, offsets=offsets).cross):
        layer.offsets.zero_()
        layer.reset_parameters()
        assert torch.equal(layer.offsets, offsets)
        x = torch.randn(2, 4, 3, 3)
        torch.testing.assert_close(layer(x), layer.linear(mixing.spiral_shift_naive(x, offsets)))
    for wrong in (offsets[:3], offsets[:, :1]):
        with as_users_call(), pytest.raises(ValueError, match="shape"):
            mixing.SpiralFC(4, 4, offsets=wrong)
    with as_users_call(), pytest.raises(TypeError, match="integers"):
        mixing.spiral_shift(torch.zeros(1, 4, 3, 3), offsets.float())


@pytest.mark.parametrize(("channels", "hidden"), [(2, 1), (4, 1), (8, 2)])
def test_the_weighing_has_a_quarter_of_the_channels_and_at_least_one(channels, hidden):
    assert mixing.SpiralMixer(channels).weigh[0].out_features == hidden


# -- Shifts, rafts, tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "widths"), [(10, [4, 4, 2]), (9, [3, 3, 3]), (3, [1, 1, 1])])
def test_the_last_group_takes_what_is_left(channels, widths):
    layer = mixing.MixShift(channels, shifts=(0, 1, 2), kernel_size=(1, 1, 3))
    assert [kernel.in_channels for kernel in layer.across] == widths
    assert [kernel.padding for kernel in layer.down] == [(0, 0), (0, 0), (1, 1)]
    with pytest.raises(ValueError, match="cannot be cut"):
        mixing.MixShift(4, shifts=(0, 1, 2), kernel_size=(1, 1, 1))


def test_default_shifts_and_windows_and_padding():
    layer = mixing.MixShift(10)
    assert layer.shifts == (-2, -1, 0, 1, 2)
    assert layer.kernel_size == (1, 1, 3, 5, 7)
    assert {kernel.padding_mode for kernel in layer.across} == {"zeros"}
    block = mixing.MixShiftBlock(10, shifts=(1,), kernel_size=(3,), layer_scale=0.25)
    assert (block.residual.mixer[0].shifts, block.residual.mixer[0].kernel_size) == ((1,), (3,))
    assert starts(block, "residual.mixer.5.weight", mean=0.25)
    assert starts(mixing.MixShiftBlock(10), "residual.mixer.5.weight", mean=1.0)


@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_a_raft_is_as_wide_as_its_side_times_its_channels(axis):
    side = {"vertical": 2, "horizontal": 3}[axis]
    layer = mixing.RaftTokenMixer(4, grid=(2, 3), axis=axis)
    assert (layer.raft, layer.mlp[0].weight.shape) == (2, (4 * side, 2 * side))
    block = mixing.RaftMLPBlock(4, grid=(2, 3))
    assert getattr(block, axis).mixer.mlp[0].weight.shape == (4 * side, 2 * side)


def test_mixers_of_no_depth_and_the_smallest_widths():
    model = mixing.MLPMixer(2, 3, image_size=(4, 6), patch=2, dim=1)
    assert len(model.blocks) == 2
    assert model.blocks[0].attention.mixer.hidden_dim == 1
    assert model.blocks[0].mlp.mixer[0].out_features == 4
    empty, x = mixing.MLPMixer(2, 3, image_size=2, patch=2, dim=5, depth=0), torch.randn(4, 2, 2, 2)
    expected = empty.out(empty.norm(empty.embed(x.flatten(1)[:, None])))[:, 0]
    torch.testing.assert_close(empty(x), expected)
    for size in ((3, 4), (4, 3)):
        with pytest.raises(ValueError, match="image_size"):
            mixing.MLPMixer(2, 3, image_size=size, patch=2, dim=5)


def test_a_random_matrix_is_the_softmax_of_uniform_numbers():
    matrix = mixing.RandomMixer(200).matrix
    torch.testing.assert_close(matrix.sum(1), torch.ones(200))
    scores = matrix.log() - matrix.log().min(1, keepdim=True).values  # uniform from nearly 0 to nearly 1
    assert scores.max() <= 1
    assert abs(scores.mean() - 0.5) < 0.02
    assert abs(scores.std() - 12**-0.5) < 0.01


def test_the_default_poolformer():
    model = mixing.PoolFormer(3, 10)
    convolutions = [s for s in model.stages if isinstance(s, nn.Conv2d)]
    blocks = [s for s in model.stages if isinstance(s, mixing.MetaFormerBlock)]
    assert [(c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions] == [
        (16, (7, 7), (4, 4), (2, 2)),
        (32, (3, 3), (2, 2), (1, 1)),
    ]
    assert [b.channels for b in blocks] == [16, 16, 32, 32]
    assert starts(blocks[0], "mix_tokens.mixer.1.weight", mean=0.1)
    assert starts(blocks[0], "mix_channels.mixer.1.weight", mean=0.1)
    bare = mixing.PoolFormer(3, 10, dims=(4,), depth=(0,), stem=(1, 3))
    assert [type(s) for s in bare.stages] == [nn.Conv2d]
    assert bare.stages[0].padding == (0, 0)
    assert mixing.MetaFormerBlock(4, nn.Identity()).mix_tokens.mixer.__class__ is nn.Identity
    torch.testing.assert_close(
        mixing.pool_minus_input_naive(torch.arange(9.0).reshape(1, 1, 3, 3)),
        mixing.PoolMixer()(torch.arange(9.0).reshape(1, 1, 3, 3)),
    )


# -- High and low frequencies ----------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "branches"), [(0, 1), (4, 2), (8, 1)])
def test_an_empty_branch_is_left_out(high, branches):
    mixer = mixing.InceptionMixer(8, 2, high_channels=high)
    x = torch.randn(1, 8, 3, 4)
    parts = mixer.branches(x)
    assert len(parts) == branches
    assert sum(part.shape[1] for part in parts) == 8 + high
    u = torch.cat(parts, 1)
    torch.testing.assert_close(mixer(x), mixer.out(u + mixer.smooth(u)))
    assert mixer.smooth.groups == 8 + high
    assert mixer.smooth.bias is None
    for wrong in (3, 10):
        with pytest.raises(ValueError, match="high_channels"):
            mixing.InceptionMixer(8, 2, high_channels=wrong)
    with pytest.raises(ValueError, match="num_heads"):
        mixing.InceptionMixer(8, 4, high_channels=2)


def test_the_low_branch_does_not_average_unless_told_to():
    layer = mixing.LowFrequencyMixer(4, 2)
    assert layer.kernel_size == 1
    assert isinstance(layer.attention, MultiHeadAttention)
    assert mixing.InceptionMixer(8, 2, high_channels=4).low.kernel_size == 1
    assert mixing.InceptionMixer(8, 2, high_channels=4, kernel_size=3).low.kernel_size == 3


@pytest.mark.parametrize(
    ("depth", "first", "last", "channels"),
    [(1, 1, 3, [10]), (2, 1, 3, [10, 6]), (3, 1, 3, [10, 8, 6]), (3, 0, 6, [12, 6, 0]), (2, 6, 0, [0, 12])],
)
def test_the_ramp_of_heads(depth, first, last, channels):
    assert mixing.frequency_ramp(12, 2, depth, first=first, last=last) == channels
    with pytest.raises(ValueError, match="do not fit"):
        mixing.frequency_ramp(12, 2, depth, first=7, last=0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_there_are_as_many_rings_as_frequencies(size):
    x = torch.randn(2, 3, size, size)
    amplitudes = mixing.relative_log_amplitude(x)
    assert amplitudes.shape == (size // 2 + 1,)
    assert amplitudes[0] == 0
    assert mixing.frequency_response(nn.Identity(), size).shape == (size, size)
    torch.testing.assert_close(mixing.frequency_response(nn.Identity(), size), torch.ones(size, size))


def test_a_constant_that_a_mixer_adds_is_no_response():
    class Adds(nn.Module):
        def forward(self, x):
            return 2 * x + 3

    assert mixing.frequency_response(Adds()).shape == (32, 32)
    torch.testing.assert_close(mixing.frequency_response(Adds()), torch.full((32, 32), 2.0))


@pytest.mark.parametrize(("position", "seen"), [(None, (2, 3)), ((0, 0), (0, 0)), ((1, 5), (1, 5))])
def test_the_reach_is_asked_in_the_middle_or_where_told(position, seen):
    reach = mixing.reach_map(nn.Identity(), torch.randn(1, 2, 5, 6), position=position)
    assert [tuple(place) for place in reach.nonzero().tolist()] == [seen]
