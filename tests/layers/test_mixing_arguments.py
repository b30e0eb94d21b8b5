"""Token mixers as an engineer uses them: bad arguments and inputs, dtypes, tracing, export, late filling."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers import mixing
from course_lib.layers._images import ChannelNorm, ChannelScale, SqueezeExcite


def test_image_parts_equal_torch_and_the_formula():
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    norm, peer = ChannelNorm(4, dtype=torch.float64), nn.LayerNorm(4, dtype=torch.float64)
    for p, q in zip(norm.parameters(), peer.parameters(), strict=True):
        nn.init.normal_(p)
        q.data.copy_(p)
    torch.testing.assert_close(norm(x), peer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    torch.testing.assert_close(ChannelScale(4, 0.3).double()(x), 0.3 * x, rtol=1e-6, atol=0)
    gate = SqueezeExcite(4, 3, activation=nn.Tanh, dtype=torch.float64)
    first, _, second, _ = gate.gate
    hidden = torch.tanh(x.mean((2, 3)) @ first.weight[:, :, 0, 0].T + first.bias)
    wanted = x * torch.sigmoid(hidden @ second.weight[:, :, 0, 0].T + second.bias)[:, :, None, None]
    torch.testing.assert_close(gate(x), wanted)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
)  # of torch's scan
def test_the_time_of_an_exported_neuron_is_open_in_value_and_gradient():
    neuron, anything = mixing.LIFNeuron(), torch.export.Dim.AUTO
    shapes = ({0: anything, 1: anything},)
    example = (torch.randn(3, 5, 4),)
    with as_installed():
        program = torch.export.export(neuron, example, dynamic_shapes=shapes, strict=False).module()
    for steps in (1, 2, 9):
        x = (2 * torch.randn(2, steps, 4)).requires_grad_()
        weight = torch.randn(2, steps, 4)
        mine, theirs = (torch.autograd.grad((f(x) * weight).sum(), x)[0] for f in (neuron, program))
        assert torch.equal(program(x), neuron(x))
        torch.testing.assert_close(theirs, mine)


def test_the_sides_of_an_exported_poolformer_are_open():
    model, anything = mixing.PoolFormer(2, 3, dims=(4, 6), depth=(1, 1)).eval(), torch.export.Dim.AUTO
    shapes = ({0: anything, 2: anything, 3: anything},)
    example = (torch.randn(2, 2, 32, 40),)
    with as_installed():
        program = torch.export.export(model, example, dynamic_shapes=shapes, strict=False)
    for shape in ((1, 2, 64, 16), (3, 2, 21, 90)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), model(x))


def test_neurons_need_a_step_of_time():
    for layer, x in (
        (mixing.LIFNeuron(), torch.zeros(2, 0, 3)),
        (mixing.LIFNeuron(), torch.zeros(2)),
        (mixing.SpikingMixerBlock(3, nn.Identity()), torch.zeros(2, 0, 3, 4, 4)),
        (mixing.SpikingDepthwise(3), torch.zeros(2, 0, 3, 4, 4)),
        (mixing.MaxPatchEmbed(3, 4), torch.zeros(2, 0, 3, 4, 4)),
        (mixing.PerFrame(nn.Identity()), torch.zeros(2, 0, 3, 4, 4)),
        (mixing.PerFrame(nn.Identity()), torch.zeros(2, 3, 4, 4)),
    ):
        with (
            as_installed(),
            pytest.raises(ValueError, match=rf"^{type(layer).__name__}\(.*at least one step, got shape"),
        ):
            layer(x)


def test_a_random_matrix_follows_the_dtype_of_its_input():
    mixer, x = mixing.RandomMixer(5), torch.randn(2, 5, 3)
    for dtype in (torch.float64, torch.bfloat16):
        y = mixer(x.to(dtype))
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), mixer(x), rtol=2e-2, atol=2e-2)


def test_shifts_go_along_their_own_axis_with_both_paths_on():
    """A shift is a roll; a window of one pixel multiplies: so the whole layer can be written by hand."""
    layer = mixing.MixShift(2, shifts=(-1, 2), kernel_size=(1, 1)).double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for c, shift in enumerate((-1, 2)):
        for kernels, axis in ((layer.across, 2), (layer.down, 1)):
            kernel = kernels[c]
            expected[:, c] += kernel.weight[0, 0, 0, 0] * x[:, c].roll(shift, axis) + kernel.bias[0]
    torch.testing.assert_close(layer(x), expected)


def test_options_act():
    x = torch.randn(2, 4, 6, 6)
    torch.manual_seed(0)
    wide = mixing.MetaFormerBlock(4, nn.Identity(), hidden_dim=3)
    assert wide.mix_channels.mixer[0].weight.shape[0] == 3
    assert mixing.MetaFormerBlock(4, nn.Identity()).mix_channels.mixer[0].weight.shape[0] == 16
    assert (
        mixing.MetaFormerBlock(4, nn.Identity(), norm_layer=nn.BatchNorm2d).mix_tokens.norm_in.num_features
        == 4
    )
    circular = mixing.MixShift(5, padding_mode="circular")
    assert {kernel.padding_mode for kernel in [*circular.across, *circular.down]} == {"circular"}
    assert mixing.MixShiftBlock(5, hidden_dim=3).residual.mixer[2].weight.shape[0] == 3
    assert mixing.MixShiftBlock(5).residual.mixer[2].weight.shape[0] == 20
    assert mixing.SpiralFC(4, 3, bias=False).linear.bias is None
    assert len(mixing.MLPMixer(4, 3, image_size=6, patch=2, dim=5, depth=3).blocks) == 3
    model = mixing.MLPMixer(4, 3, image_size=6, patch=2, dim=5, token_hidden_dim=7, hidden_dim=11)
    block = model.blocks[0]
    assert block.attention.mixer.mlp[0].weight.shape == (7, 9)
    assert block.mlp.mixer[0].weight.shape == (11, 5)
    default = mixing.MLPMixer(4, 3, image_size=6, patch=2, dim=5).blocks[0]
    assert (default.attention.mixer.hidden_dim, default.mlp.mixer[0].out_features) == (2, 20)
    raft = mixing.RaftMLPBlock(4, grid=(2, 3), raft=1, expansion=3, hidden_dim=5)
    assert raft.vertical.mixer.mlp[0].weight.shape == (6, 2)
    assert raft.horizontal.mixer.mlp[0].weight.shape == (9, 3)
    assert raft.mlp.mixer[0].out_features == 5
    assert mixing.RaftMLPBlock(4, grid=(2, 3)).mlp.mixer[0].out_features == 16
    pool = mixing.PoolFormer(4, 3, dims=(5,), depth=(1,), stem=(3, 2), layer_scale=0.7)
    assert (pool.stages[0].kernel_size, pool.stages[0].stride) == ((3, 3), (2, 2))
    assert pool.stages[1].mix_tokens.mixer[1].weight.unique().tolist() == pytest.approx([0.7])
    block = mixing.SpikingMixerBlock(4, nn.Identity(), hidden_dim=3, neuron=nn.GELU)
    assert block.mix_channels[1].layers[0].out_channels == 3
    assert not any(isinstance(m, mixing.LIFNeuron) for m in block.modules())
    assert mixing.SpikingMixerBlock(4, nn.Identity()).mix_channels[1].layers[0].out_channels == 16
    depthwise = mixing.SpikingDepthwise(4, kernel_size=5, neuron=nn.GELU)
    assert depthwise.mix[1].layers[0].kernel_size == (5, 5)
    assert depthwise(x[:, None]).shape == x[:, None].shape
    assert not any(isinstance(m, mixing.LIFNeuron) for m in depthwise.modules())
    high = mixing.LIFNeuron(threshold=2.0)(torch.full((1, 40), 1.9))
    assert high.sum() == 0
    assert mixing.LIFNeuron(threshold=2.0)(torch.full((1, 40), 2.1)).sum() > 0
    embed = mixing.MaxPatchEmbed(4, 2, neuron=nn.GELU).eval()
    frames = x[:, None]
    spikes = F.gelu(x)
    torch.testing.assert_close(
        embed(frames)[:, 0],
        embed.path[2].layers(F.gelu(embed.path[0].layers(spikes))) + embed.shortcut.layers(spikes),
    )


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: mixing.raft_rearrange(torch.ones(1, 4, 2), grid=(2, 2), raft=1, axis="x"),
            ValueError,
            "axis must",
        ),
        (
            lambda: mixing.raft_restore(torch.ones(1, 4, 2), grid=(2, 2), raft=1, axis="x"),
            ValueError,
            "axis must",
        ),
        (
            lambda: mixing.shift_groups(torch.ones(1, 2, 3, 3), (1,), 0),
            ValueError,
            "axis must be one of -1, -2",
        ),
        (lambda: mixing.MixShift(5, shifts=()), ValueError, "at least one group"),
        (lambda: mixing.MixShift(3), ValueError, "channels=3 cannot be cut into 5 groups"),
        (lambda: mixing.PoolFormer(1, 2, dims=(), depth=()), ValueError, "depth must have 1 entries"),
        (lambda: mixing.PoolMixer(kernel_size=4), ValueError, "must be odd"),
        (lambda: mixing.HighFrequencyMixer(5), ValueError, "channels must be even"),
        (
            lambda: mixing.InceptionMixer(6, 4, high_channels=0),
            ValueError,
            "num_heads=4 does not divide the 6",
        ),
        (
            lambda: mixing.InceptionMixer(6, 1, high_channels=3),
            ValueError,
            "must be even and at most channels=6",
        ),
        (lambda: mixing.frequency_ramp(8, 4, 0, first=0, last=1), ValueError, "depth must be"),
        (lambda: mixing.frequency_ramp(8, 4, 2, first=0, last=1.5), TypeError, "last must be"),
        (lambda: mixing.spiral_offsets(9, partitions=2), ValueError, "partitions=2 must divide"),
        (lambda: mixing.spiral_offsets(8, reach="far"), TypeError, "reach must be"),
        (
            lambda: mixing.spiral_shift(torch.ones(2, 3, 3), torch.zeros(2, 2).long()),
            ValueError,
            "spiral_shift expects",
        ),
        (
            lambda: mixing.spiral_shift(torch.ones(1, 2, 3, 3), torch.zeros(3, 2).long()),
            ValueError,
            r"shape \(2, 2\)",
        ),
        (
            lambda: mixing.spiral_shift(torch.ones(1, 2, 3, 3).long(), torch.zeros(2, 2).long()),
            TypeError,
            "real",
        ),
        (
            lambda: mixing.SpiralFC(2, 2, offsets=torch.zeros(2, 2)),
            TypeError,
            "tensor of integers, got torch.float32",
        ),
        (
            lambda: mixing.relative_log_amplitude(torch.ones(1, 4, 4)),
            ValueError,
            "relative_log_amplitude expects",
        ),
        (lambda: mixing.relative_log_amplitude(torch.ones(1, 1, 4, 4).long()), TypeError, "of real numbers"),
        (lambda: mixing.frequency_response(nn.Identity(), size=0), ValueError, "size must be"),
        (lambda: mixing.frequency_response(nn.Identity(), size=1.5), TypeError, "size must be"),
        (lambda: mixing.reach_map(nn.Identity(), torch.ones(4, 4)), ValueError, "reach_map expects"),
        (
            lambda: mixing.reach_map(nn.Identity(), torch.ones(1, 1, 4, 4).long()),
            TypeError,
            "of real numbers",
        ),
        (
            lambda: mixing.MLPMixer(1, 2, image_size=(4, 5), patch=2, dim=3),
            ValueError,
            "patch=2 does not divide",
        ),
    ],
)
def test_what_is_promised_to_be_raised_is_raised(call, error, words):
    with as_installed(), pytest.raises(error, match=words):
        call()
