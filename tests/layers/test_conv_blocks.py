"""Networks in networks, inception, unravelled convolutions: against timm, torchvision and masked kernels."""

import importlib
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_lib.layers.conv import (
    AuxiliaryClassifier,
    GlobalAveragePoolingHead,
    InceptionDWConv2d,
    InceptionModule,
    InceptionNeXtBlock,
    MiniGoogLeNet,
    MlpConv2d,
    NaiveInceptionModule,
    NetworkInNetwork,
    SICLayer,
    SpatialBottleneck,
    TopologicalPointwise,
    conv_output_size,
    googlenet_loss,
    merge_to_single_depthwise,
    receptive_field,
)
from tests.peers import timm_layers

SIZES_3A = {"out_1x1": 64, "reduce_3x3": 96, "out_3x3": 128, "reduce_5x5": 16, "out_5x5": 32, "out_pool": 32}


def peer(name):
    """A module of timm or torchvision, imported without its warnings."""
    timm_layers()  # makes torchvision importable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def operations(module, x):
    """Multiply-adds of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops() // 2


def assert_same_gradient(a, b, x):
    """The gradients of two outputs by the same input agree."""
    g, h = (torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (a, b))
    torch.testing.assert_close(g, h)


# -- Network in network ----------------------------------------------------------------------------


@pytest.mark.parametrize("activate_last", [True, False])
def test_an_mlp_convolution_is_one_network_at_every_patch(activate_last):
    layer = MlpConv2d(3, (5, 4, 6), 3, activate_last=activate_last).double()
    x = torch.randn(2, 3, 5, 7).double().requires_grad_()
    patches = F.unfold(x, 3, padding=1).mT  # (b, positions, c k k)
    first, second, third = (layer[i] for i in (0, 2, 4))
    hidden = F.linear(patches, first.weight.flatten(1), first.bias).relu()
    hidden = F.linear(hidden, second.weight.flatten(1), second.bias).relu()
    out = F.linear(hidden, third.weight.flatten(1), third.bias)
    out = (out.relu() if activate_last else out).mT.view(2, 6, 5, 7)
    torch.testing.assert_close(layer(x), out)
    assert_same_gradient(layer(x), out, x)
    with pytest.raises(ValueError, match="odd"):
        MlpConv2d(3, (5, 4, 6), 4)


def test_the_weights_of_an_mlp_convolution_keep_the_variance_through_a_relu():
    torch.manual_seed(0)
    layer = MlpConv2d(64, (64, 64, 64), 3)
    for i, fan_in in ((0, 64 * 9), (2, 64), (4, 64)):
        assert abs(layer[i].weight.std() / (2 / fan_in) ** 0.5 - 1) < 0.1


def test_the_head_is_adaptive_average_pooling_and_has_no_parameters():
    head, x = GlobalAveragePoolingHead(4), torch.randn(2, 4, 5, 3).double().requires_grad_()
    peer_head = F.adaptive_avg_pool2d(x, 1).flatten(1)
    torch.testing.assert_close(head(x), peer_head)
    assert_same_gradient(head(x), peer_head, x)
    assert parameters(head) == 0
    with pytest.raises(ValueError, match="5"):
        head(torch.randn(2, 5, 3, 3))


def test_the_scores_are_the_means_of_the_class_maps_and_do_not_notice_where():
    model = NetworkInNetwork(2, 3, channels=4, activate_last=False).double().eval()
    x = torch.randn(2, 2, 9, 8).double()
    maps = model.class_maps(x)
    halve = partial(conv_output_size, kernel_size=3, stride=2, padding=1)
    side = [halve(halve(n)) for n in (9, 8)]
    assert maps.shape == (2, 3, *side)
    torch.testing.assert_close(model(x), maps.mean((2, 3)))
    shuffled = maps.flatten(2)[:, :, torch.randperm(side[0] * side[1])].view_as(maps)
    torch.testing.assert_close(model.head(shuffled), model(x))


# -- Inception -------------------------------------------------------------------------------------


def test_inception_equals_torchvisions_module_with_the_papers_kernel():
    tv = peer("torchvision.models.googlenet").Inception(8, 3, 4, 5, 2, 3, 4).double().eval()
    tv.branch3[1].conv = nn.Conv2d(2, 3, 5, padding=2, bias=False).double()  # the paper has 5 x 5 there
    ours = InceptionModule(
        8, out_1x1=3, reduce_3x3=4, out_3x3=5, reduce_5x5=2, out_5x5=3, out_pool=4
    ).double()
    pairs = [
        (ours.branch_1x1, tv.branch1),
        (ours.branch_3x3[0], tv.branch2[0]),
        (ours.branch_3x3[1], tv.branch2[1]),
        (ours.branch_5x5[0], tv.branch3[0]),
        (ours.branch_5x5[1], tv.branch3[1]),
        (ours.branch_pool[1], tv.branch4[1]),
    ]
    for mine, theirs in pairs:
        nn.init.normal_(theirs.bn.bias)
        gain = theirs.bn.weight / (theirs.bn.running_var + theirs.bn.eps).sqrt()
        mine[0].weight.data = theirs.conv.weight.data * gain.data[:, None, None, None]
        mine[0].bias.data = theirs.bn.bias.data.clone()
    x = torch.randn(2, 8, 7, 5).double().requires_grad_()
    torch.testing.assert_close(ours(x), tv(x))
    assert_same_gradient(ours(x), tv(x), x)


def test_module_3a_has_the_counts_of_the_formula_and_the_naive_one_is_wider_and_dearer():
    def conv(c, o, k):
        return o * (c * k * k + 1)

    module, naive = (
        InceptionModule(192, **SIZES_3A),
        NaiveInceptionModule(192, out_1x1=64, out_3x3=128, out_5x5=32),
    )
    reduced = conv(192, 64, 1) + conv(192, 96, 1) + conv(96, 128, 3)
    reduced += conv(192, 16, 1) + conv(16, 32, 5) + conv(192, 32, 1)
    assert parameters(module) == reduced
    assert parameters(naive) == conv(192, 64, 1) + conv(192, 128, 3) + conv(192, 32, 5)
    assert (module.out_channels, naive.out_channels) == (256, 64 + 128 + 32 + 192)
    x = torch.zeros(1, 192, 7, 7)
    assert module(x).shape[1] == 256
    assert naive(x).shape[1] == 416
    assert operations(naive, x) > 2 * operations(module, x)


def test_the_naive_module_passes_on_what_it_pooled():
    layer, x = NaiveInceptionModule(4, out_1x1=3, out_3x3=3, out_5x5=2), torch.randn(2, 4, 5, 7)
    torch.testing.assert_close(layer(x)[:, -4:], F.max_pool2d(x, 3, 1, 1))
    torch.testing.assert_close(layer(x)[:, :3], layer.branch_1x1(x))
    torch.testing.assert_close(layer(x)[:, 3:6], layer.branch_3x3(x))
    five = layer.branch_5x5[0]
    torch.testing.assert_close(layer(x)[:, 6:8], F.conv2d(x, five.weight, five.bias, padding=2).relu())


def test_auxiliary_classifier_pools_flattens_and_refuses_what_is_too_small():
    layer = AuxiliaryClassifier(3, 4, image_size=(8, 11), channels=5, hidden_dim=7).eval()
    assert layer.layers[3].in_features == 5 * 2 * 3
    x = torch.randn(2, 3, 8, 11)
    hidden = layer.layers[1](F.avg_pool2d(x, 5, 3)).flatten(1)
    expected = layer.layers[6](layer.layers[3](hidden).relu())
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match="image_size must be 5 or more"):
        AuxiliaryClassifier(3, 4, image_size=(4, 8))


def test_googlenet_learns_through_both_classifiers_and_keeps_one():
    model, x, y = MiniGoogLeNet(1, 10, image_size=8), torch.randn(4, 1, 8, 8), torch.randint(10, (4,))
    scores, auxiliary = model(x)
    loss = googlenet_loss((scores, auxiliary), y)
    torch.testing.assert_close(loss, F.cross_entropy(scores, y) + 0.3 * F.cross_entropy(auxiliary, y))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    assert model(x).shape == (4, 10)
    torch.testing.assert_close(googlenet_loss(model(x), y), F.cross_entropy(model(x), y))
    with pytest.raises(ValueError, match="multiple of 8"):
        MiniGoogLeNet(1, 10, image_size=8, channels=12)


# -- Single intra-channel convolution --------------------------------------------------------------


def test_filter_and_projection_are_one_convolution_of_rank_one_per_pair():
    stage = SICLayer(5, depth=1).double().stages[0]
    x = torch.randn(2, 5, 6, 7).double().requires_grad_()
    kernel = stage.projection.weight[:, :, 0, 0, None, None] * stage.spatial.weight[:, 0]  # (o, c, k, k)
    full = F.conv2d(x, kernel, padding=1)
    ours = stage.projection(stage.spatial(x))
    torch.testing.assert_close(ours, full)
    assert_same_gradient(ours, full, x)


def test_stages_add_what_they_normalise_and_rectify():
    layer = SICLayer(3, depth=2).double().eval()
    for stage in layer.stages:
        nn.init.normal_(stage.norm.weight)
        nn.init.normal_(stage.norm.bias)
    x = torch.randn(2, 3, 5, 4).double()
    y = x
    for stage in layer.stages:
        norm = stage.norm
        z = F.conv2d(F.conv2d(y, stage.spatial.weight, padding=1, groups=3), stage.projection.weight)
        z = F.batch_norm(z, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        y = y + z.relu()
    torch.testing.assert_close(layer(x), y)
    with pytest.raises(ValueError, match="odd"):
        SICLayer(3, kernel_size=2)
    with pytest.raises(ValueError, match="depth"):
        SICLayer(3, depth=0)


def test_operations_follow_the_three_formulas():
    n, pixels, x = 64, 16 * 16, torch.zeros(1, 64, 16, 16)
    assert operations(SICLayer(n), x) == 2 * (9 * n + n * n) * pixels
    sparse = SICLayer(n, mixer_layer=lambda c: TopologicalPointwise(channel_grid=(8, 8), kernel_size=(4, 4)))
    assert operations(sparse, x) == 2 * (9 * n + n * n // 4) * pixels
    # filter down, project, filter up, in low-resolution pixels
    assert operations(SpatialBottleneck(n), x) == (4 * n + n * n + 4 * n) * pixels // 4


@pytest.mark.parametrize(
    ("channel_grid", "kernel_size"), [((2, 3), (1, 2)), ((5,), (3,)), ((2, 2, 3), (2, 1, 3)), ((7,), (1,))]
)
def test_the_topological_layer_is_a_masked_projection(channel_grid, kernel_size):
    layer = TopologicalPointwise(channel_grid=channel_grid, kernel_size=kernel_size).double()
    x = torch.randn(2, layer.channels, 3, 4).double().requires_grad_()
    dense = F.conv2d(x, layer.dense_weight()[:, :, None, None])
    torch.testing.assert_close(layer(x), dense)
    assert_same_gradient(layer(x), dense, x)
    assert torch.equal(layer.connections(), layer.dense_weight() != 0)


def test_windows_are_centred_and_wrap_around():
    connected = TopologicalPointwise(channel_grid=(5, 4), kernel_size=(3, 2)).connections().view(5, 4, 5, 4)
    for a in range(5):
        for b in range(4):
            expected = {((a + r) % 5, (b + s) % 4) for r in (-1, 0, 1) for s in (-1, 0)}
            assert {tuple(place) for place in connected[a, b].nonzero().tolist()} == expected


def test_overlapping_windows_mix_all_channels_in_two_layers_and_groups_never_do():
    topological = TopologicalPointwise(channel_grid=(8, 8), kernel_size=(5, 5)).connections().double()
    assert (topological @ topological > 0).all()
    halves = TopologicalPointwise(channel_grid=(8, 8), kernel_size=(4, 4)).connections().double()
    assert not (halves @ halves > 0).all()
    assert (halves @ halves @ halves > 0).all()
    groups = torch.block_diag(*[torch.ones(16, 16)] * 4).double()
    assert not (torch.matrix_power(groups, 10) > 0).all()
    assert TopologicalPointwise(channel_grid=(8, 8), kernel_size=(8, 8)).connections().all()


def test_windows_larger_than_the_grid_are_refused():
    for window in ((3, 3), (2,), (0, 1)):
        with pytest.raises(ValueError, match="kernel_size"):
            TopologicalPointwise(channel_grid=(2, 3), kernel_size=window)


def test_a_bottleneck_of_deltas_keeps_every_second_pixel():
    layer, x = SpatialBottleneck(3).double(), torch.randn(2, 3, 4, 6).double()
    for conv in (layer.down, layer.up):
        nn.init.zeros_(conv.weight)
        conv.weight.data[:, 0, 0, 0] = 1
    layer.projection.weight.data = torch.eye(3).double()[:, :, None, None]
    expected = torch.zeros_like(x)
    expected[:, :, ::2, ::2] = x[:, :, ::2, ::2]
    torch.testing.assert_close(layer.up(layer.projection(layer.down(x))), expected)
    norm = layer.eval().norm
    torch.testing.assert_close(layer(x), x + (expected / (1 + norm.eps) ** 0.5).relu())
    with pytest.raises(ValueError, match="sides that 2 divides"):
        layer(torch.randn(1, 3, 5, 6).double())
    with pytest.raises(ValueError, match="at least 1"):
        SpatialBottleneck(3, stride=0)


# -- InceptionNeXt ---------------------------------------------------------------------------------


def test_inception_depthwise_equals_timm_in_value_and_gradient():
    theirs = peer("timm.models.inception_next").InceptionDWConv2d(17).double()
    ours = InceptionDWConv2d(17).double()
    for name, branch in (("square", theirs.dwconv_hw), ("row", theirs.dwconv_w), ("column", theirs.dwconv_h)):
        getattr(ours, name).load_state_dict(branch.state_dict())
    x = torch.randn(2, 17, 5, 13).double().requires_grad_()
    torch.testing.assert_close(ours(x), theirs(x))
    assert_same_gradient(ours(x), theirs(x), x)


def test_four_branches_are_one_masked_kernel():
    layer = InceptionDWConv2d(19, band_kernel_size=7, square_kernel_size=5).double()
    merged, x = merge_to_single_depthwise(layer), torch.randn(2, 19, 9, 8).double().requires_grad_()
    assert merged.weight.dtype == torch.float64
    assert merged.kernel_size == (7, 7)
    torch.testing.assert_close(merged(x), layer(x))
    assert_same_gradient(merged(x), layer(x), x)
    small = InceptionDWConv2d(8, band_kernel_size=3, square_kernel_size=5).double()
    torch.testing.assert_close(merge_to_single_depthwise(small)(x[:, :8]), small(x[:, :8]))


def test_the_receptive_field_is_a_cross_around_a_square():
    seen = receptive_field(InceptionDWConv2d(8).double(), 8, (15, 15))
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7, 2:13] = expected[2:13, 7] = expected[6:9, 6:9] = True
    assert torch.equal(seen, expected)


def test_shares_and_kernels_that_do_not_fit_are_refused():
    for options in ({"branch_ratio": 0.05}, {"branch_ratio": 0.5}):
        with pytest.raises(ValueError, match="share"):
            InceptionDWConv2d(8, **options)
    with pytest.raises(ValueError, match="odd"):
        InceptionDWConv2d(8, band_kernel_size=4)


def test_the_block_adds_its_scaled_network_and_takes_any_mixer():
    block = InceptionNeXtBlock(8, mixer=nn.Identity(), layer_scale=0.5, expansion=3).double().eval()
    x = torch.randn(2, 8, 5, 4).double()
    wide, _, narrow = block.mlp
    inner = F.gelu(F.conv2d(x / (1 + block.norm.eps) ** 0.5, wide.weight, wide.bias))
    assert inner.shape[1] == 24
    torch.testing.assert_close(block(x), x + 0.5 * F.conv2d(inner, narrow.weight, narrow.bias))
    assert isinstance(InceptionNeXtBlock(8).mixer, InceptionDWConv2d)
    assert InceptionNeXtBlock(8).scale.weight.unique().item() == pytest.approx(1e-6)
