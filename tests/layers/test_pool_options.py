"""Options of the pools at their ends: start values, one branch off, sizes of one, thresholds met exactly."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.norm import LayerNorm, RMSNorm
from course_lib.layers.pool import (
    AttentionPool,
    ClassQueryPool,
    EfficientLayer,
    GeM,
    GroupGeM,
    LargeContextTransposedConv2d,
    MaxPoolMixer,
    ParameterFreeBottleneck,
    PatchConvBlock,
    PatchConvNet,
    PolarizedSelfAttention,
    SoftPool2d,
    SpatialPyramidPool,
    generalized_mean,
    overlap_count,
    pool_regions,
    pooling_information_loss,
    project_boxes,
    soft_pool2d,
    spectral_artifact_energy,
    zero_insert,
)
from course_lib.layers.pool.power import generalized_mean_naive
from course_lib.layers.pool.soft import soft_pool2d_naive
from course_lib.layers.pool.upsampling import zero_insert_then_convolve
from tests.layers.starts import starts

# -- Start values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "name", "values"),
    [
        (AttentionPool(400), "queries", {"std": 0.02}),
        (AttentionPool(4), "scale_attention", {"mean": 1.0}),
        (AttentionPool(4, layer_scale=0.5), "scale_attention", {"mean": 0.5}),
        (AttentionPool(4, layer_scale=0.5), "scale_mlp", {"mean": 0.5}),
        (ClassQueryPool(4, 3, layer_scale=0.5), "scale_mlp", {"mean": 0.5}),
        (ClassQueryPool(100, 20), "queries", {"std": 0.02}),
        (ClassQueryPool(100, 20), "score", {"std": 0.1}),
        (ClassQueryPool(4, 3), "bias", {}),
        (PatchConvBlock(4, layer_scale=0.25), "scale.weight", {"mean": 0.25}),
        (PatchConvBlock(4), "scale.weight", {"mean": 1.0}),
        (GeM(p=2.5), "p", {"mean": 2.5}),
        (GroupGeM(6, 3, p=2.5), "p", {"mean": 2.5}),
        (GroupGeM(6, 3), "p", {"mean": 3.0}),
        (PolarizedSelfAttention(50), "channel_value.weight", {"std": (2 / 50) ** 0.5}),
        (PolarizedSelfAttention(50), "spatial_query.weight", {"std": (2 / 50) ** 0.5}),
        (PolarizedSelfAttention(50), "spatial_value.weight", {"std": (2 / 50) ** 0.5}),
        (PolarizedSelfAttention(900), "channel_query.weight", {"std": (2 / 900) ** 0.5}),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_parameters_start_as_documented(layer, name, values):
    assert starts(layer, name, **values)


# -- Attention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [AttentionPool, lambda dim, **options: ClassQueryPool(dim, 3, **options)])
def test_the_widths_of_an_aggregation(make):
    assert make(4).mlp[0].out_features == 12
    assert make(4, hidden_dim=5).mlp[0].out_features == 5
    assert make(4).out.bias is not None
    assert make(4, bias=False).out.bias is not None
    pool, x = make(4, layer_scale=0.0), torch.randn(2, 1, 4)
    alone = pool.norm_out(pool.queries).expand(2, -1, -1)
    torch.testing.assert_close(pool._aggregate(x), alone)  # both branches are scaled away


@pytest.mark.parametrize("off", ["scale_attention", "scale_mlp"])
def test_each_branch_of_an_aggregation_is_scaled_by_its_own_vector(off):
    pool, x = AttentionPool(4), torch.randn(2, 5, 4)
    nn.init.normal_(pool.queries)
    nn.init.zeros_(getattr(pool, off))
    n = torch.cat([pool.norm_in(pool.queries).expand(2, 1, 4), pool.norm_in(x)], 1)
    q, k, v = pool.query(n[:, :1]), pool.key(n), pool.value(n)
    attended = pool.out(((q @ k.mT) / 4**0.5).softmax(-1) @ v)
    z = pool.queries.expand(2, 1, 4) + (0 if off == "scale_attention" else attended)
    expected = pool.norm_out(z + (0 if off == "scale_mlp" else pool.mlp(pool.norm_mlp(z))))
    torch.testing.assert_close(pool(x), expected[:, 0])


def test_the_weights_of_the_positions_leave_room_for_the_query():
    pool, x = AttentionPool(4), torch.randn(2, 3, 4)
    assert pool.weights(x).shape == (2, 3)
    assert (pool.weights(x).sum(1) < 1).all()
    torch.testing.assert_close(ClassQueryPool(4, 2).weights(x).sum(-1), torch.ones(2, 2))


def test_the_norm_of_the_blocks_can_be_exchanged():
    block, x = PatchConvBlock(4, norm_layer=lambda channels: nn.Identity()), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(block(x), x + block.layers(x))
    net = PatchConvNet(2, 3, dim=8, depth=2, stem_stages=1, norm_layer=RMSNorm)
    assert [type(b.norm) for b in net.blocks] == [RMSNorm] * 2
    assert isinstance(PatchConvNet(2, 3, dim=8, depth=1, stem_stages=1).blocks[0].norm, LayerNorm)


@pytest.mark.parametrize(("channels", "hidden"), [(2, 1), (4, 1), (8, 2), (12, 3)])
def test_the_squeeze_has_a_quarter_of_the_channels_and_at_least_one(channels, hidden):
    convolutions = [m for m in PatchConvBlock(channels).layers[4].modules() if isinstance(m, nn.Conv2d)]
    linear = [m for m in PatchConvBlock(channels).layers[4].modules() if isinstance(m, nn.Linear)]
    first = (convolutions or linear)[0]
    assert first.weight.shape[:2] == (hidden, channels)


def test_the_stem_halves_the_sides_and_doubles_the_channels():
    net = PatchConvNet(3, 2, dim=8, depth=1)
    convolutions = [layer for layer in net.stem if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(3, 1), (1, 2), (2, 4), (4, 8)]
    assert all(c.stride == (2, 2) and c.padding == (1, 1) and c.bias is None for c in convolutions)
    assert [type(layer) for layer in net.stem] == [nn.Conv2d, nn.GELU] * 3 + [nn.Conv2d]
    narrow = PatchConvNet(3, 2, dim=2, depth=1, stem_stages=3)
    assert [c.out_channels for c in narrow.stem if isinstance(c, nn.Conv2d)] == [1, 1, 2]
    assert net.features(torch.randn(1, 3, 33, 17)).shape == (1, 8, 3, 2)


# -- Without parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "hidden", "stride", "identity"),
    [(8, 2, 1, True), (8, 2, 2, False), (6, 2, 1, False), (10, 2, 1, False)],
)
def test_the_skip_is_the_identity_only_where_shapes_stay(channels, hidden, stride, identity):
    layer = ParameterFreeBottleneck(channels, hidden, stride=stride).eval()
    assert isinstance(layer.skip, nn.Identity) == identity
    assert all(m.bias is None for m in layer.modules() if isinstance(m, nn.Conv2d))
    x = torch.randn(1, channels, 5, 4)
    skip = x if identity else layer.skip(x)
    expected = (layer.expand(layer.mixer(layer.reduce(x))) + skip).relu()
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape == (1, 4 * hidden, *(-(-n // stride) for n in (5, 4)))


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_mixer_of_every_odd_window_keeps_the_sides(kernel_size):
    x = torch.randn(1, 2, 4, 6)
    expected = F.max_pool2d(x, kernel_size, 1, kernel_size // 2)
    torch.testing.assert_close(MaxPoolMixer(kernel_size=kernel_size)(x), expected)
    layer = EfficientLayer(4, grid=(2, 3), expansion=2, kernel_size=kernel_size)
    assert (layer.widen.out_features, layer.pool.kernel_size) == (8, kernel_size)
    assert EfficientLayer(4, grid=(2, 3)).widen.out_features == 12
    with pytest.raises(ValueError, match="odd"):
        MaxPoolMixer(kernel_size=kernel_size + 1)


# -- Means and soft maxima ------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_what_lies_below_eps_counts_as_eps(eps):
    x = torch.tensor([[[0.1, -3.0], [0.2, 0.0]]])
    raised = x.clamp(min=eps)
    torch.testing.assert_close(GeM(p=2.0, eps=eps)(x), raised.square().mean(1).sqrt())
    torch.testing.assert_close(GroupGeM(2, 1, p=2.0, eps=eps)(x), raised.square().mean(1).sqrt())
    two = torch.full((2,), 2.0)
    torch.testing.assert_close(generalized_mean(x, two, eps=eps), raised.square().mean(1).sqrt())
    torch.testing.assert_close(generalized_mean_naive(x, two, eps=eps), raised.square().mean(1).sqrt())
    torch.testing.assert_close(generalized_mean_naive(x, two), x.clamp(min=1e-6).square().mean(1).sqrt())


@pytest.mark.parametrize("p", [-3.0, -0.5, 0.5])
def test_orders_below_one_are_means_too(p):
    x = torch.rand(2, 3, 4).double() + 0.5
    order = torch.full((4,), p).double()
    torch.testing.assert_close(generalized_mean(x, order), generalized_mean_naive(x, order))
    torch.testing.assert_close(GeM(p=p).double()(x), x.pow(p).mean(1).pow(1 / p))
    for eps in (0.0, -1.0):
        with pytest.raises(ValueError, match="eps"):
            GeM(eps=eps)


@pytest.mark.parametrize(
    ("size", "k", "stride"), [((4, 4), 2, None), ((5, 7), 2, 2), ((5, 7), 3, 2), ((3, 3), 3, 1)]
)
def test_the_layer_is_its_function(size, k, stride):
    x = torch.randn(2, 3, *size)
    for beta in (1.0, -0.5):
        layer = SoftPool2d(k, stride=stride, beta=beta)
        torch.testing.assert_close(layer(x), soft_pool2d(x, k, stride=stride, beta=beta))
    torch.testing.assert_close(SoftPool2d(k, stride=stride)(x), soft_pool2d_naive(x, k, stride=stride))


def test_a_window_may_be_as_large_as_the_image_and_no_larger():
    x = torch.randn(1, 1, 3, 4)
    assert soft_pool2d(x, 3).shape == (1, 1, 1, 1)
    for image in (x[:, :, :2], x[..., :2]):
        with pytest.raises(ValueError, match="do not fit"):
            soft_pool2d(image, 3)


def test_what_no_window_holds_gets_a_zero_gradient_however_large_it_is():
    x = torch.randn(1, 1, 5, 5)
    x[..., 4, :] = x[..., 4] = 1e3
    x.requires_grad_()
    soft_pool2d(x, 2).sum().backward()
    assert x.grad[..., :4, :4].abs().min() > 0
    assert x.grad[..., 4].abs().sum() == x.grad[..., 4, :].abs().sum() == 0


@pytest.mark.parametrize(("bright", "count"), [(0.0, 1), (1 / 16, 1), (0.1, 2), (0.25, 4), (1.0, 16)])
def test_bright_energy_is_of_the_brightest_share_of_pixels_and_of_one_at_least(bright, count):
    image = torch.arange(1.0, 17.0).reshape(1, 1, 4, 4)
    loss = pooling_information_loss(
        image, lambda x: x, unpool=lambda x: x * (x > 16 - count) / 2, bright=bright
    )
    assert loss.bright_energy == pytest.approx(0.25)
    none = pooling_information_loss(image, lambda x: x, unpool=lambda x: x * (x <= 16 - count), bright=bright)
    assert none.bright_energy == 0
    by_default = pooling_information_loss(image, nn.AvgPool2d(2))
    assert by_default.error == pytest.approx(4.25)


# -- Pyramids and regions -------------------------------------------------------------------------------


def test_the_levels_are_as_given_and_by_default_one_two_four():
    x = torch.randn(1, 2, 5, 6)
    assert SpatialPyramidPool().bins == 21
    assert SpatialPyramidPool(levels=(3, 1)).bins == 10
    expected = [F.adaptive_max_pool2d(x, n).flatten(1) for n in (3, 1)]
    torch.testing.assert_close(SpatialPyramidPool(levels=(3, 1))(x), torch.cat(expected, 1))
    assert pool_regions(x[0], torch.tensor([[0, 0, 5, 6]])).shape == (1, 42)
    assert pool_regions(x[0], torch.tensor([[0, 0, 5, 6]]), levels=(2,)).shape == (1, 8)


def test_an_empty_box_is_one_cell_and_one_that_ends_before_it_begins_is_refused():
    boxes = project_boxes(torch.tensor([[3, 3, 3, 3], [0, 0, 16, 16], [31, 0, 32, 8]]), 4, (8, 8))
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes[1].tolist() == [1, 1, 4, 4]  # strictly inside: from one past the edge to before the other
    assert boxes.max() <= 8
    for box in ([4, 0, 3, 3], [0, 4, 3, 3]):
        with pytest.raises(ValueError, match="ends before it begins"):
            project_boxes(torch.tensor([box]), 4, (8, 8))


# -- Upsampling -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (4, 2, 3)])
def test_zeros_are_inserted_behind_every_row_and_column(shape):
    x = torch.randn(shape)
    assert torch.equal(zero_insert(x, 1), x)
    y = zero_insert(x)
    assert y.shape == (*shape[:-2], 2 * shape[-2], 2 * shape[-1])
    assert torch.equal(y[..., ::2, ::2], x)
    assert y.abs().sum() == pytest.approx(x.abs().sum().item())
    with pytest.raises(ValueError, match="need rows"):
        zero_insert(x, 0)


def test_the_defaults_are_a_factor_of_two_everywhere():
    x, weight = torch.randn(1, 2, 3, 4), torch.randn(2, 3, 5, 5)
    by_two = zero_insert_then_convolve(x, weight, stride=2)
    torch.testing.assert_close(zero_insert_then_convolve(x, weight), by_two)
    assert overlap_count(3, 3).tolist() == [1, 1, 2, 1, 2, 1, 1]
    checkerboard = torch.ones(8, 8)
    checkerboard[::2, 1::2] = checkerboard[1::2, ::2] = -1
    assert spectral_artifact_energy(checkerboard) > 0.5
    torch.testing.assert_close(
        spectral_artifact_energy(by_two), spectral_artifact_energy(by_two, factor=2, radius=0.125)
    )


def test_what_artifact_energy_takes_and_refuses():
    x = torch.randn(4, 5)
    for factor in (2, 3):
        assert 0 <= spectral_artifact_energy(x, factor=factor, radius=1 / (2 * factor)) <= 1
        for radius in (0.0, -0.1, 1 / (2 * factor) + 1e-3):
            with pytest.raises(ValueError, match="radius"):
                spectral_artifact_energy(x, factor=factor, radius=radius)
    for small in (x[:3], x[:, :3]):
        with pytest.raises(ValueError, match="4 x 4"):
            spectral_artifact_energy(small)


def test_artifact_energy_is_that_of_the_formula_and_the_same_for_the_mirror_image():
    x = torch.randn(7, 6).double()
    along = [torch.sin(math.pi * torch.arange(1, n + 1).double() / (n + 1)).square() for n in (7, 6)]
    window = torch.outer(*along)
    spectrum = torch.fft.fft2((x - (x * window).sum() / window.sum()) * window).abs().square()
    near = [[(f % 1 < 0.125 or f % 1 > 0.875, (f - 0.5).abs() < 0.125 or (f + 0.5).abs() < 0.125)
             for f in torch.fft.fftfreq(n)] for n in (7, 6)]  # fmt: skip
    share = sum(
        spectrum[i, j]
        for i in range(7)
        for j in range(6)
        if (near[0][i][1] and any(near[1][j])) or (near[0][i][0] and near[1][j][1])
    )
    torch.testing.assert_close(spectral_artifact_energy(x), share / spectrum.sum(), rtol=1e-10, atol=0)
    torch.testing.assert_close(spectral_artifact_energy(x), spectral_artifact_energy(x.flip(0, 1)))


@pytest.mark.parametrize(
    ("kernel_size", "small", "stride", "fits"),
    [(5, 3, 2, True), (3, 1, 3, True), (3, 0, 2, True), (3, 3, 2, False), (3, 5, 2, False), (3, 1, 4, False),
     (4, 3, 2, False), (5, 2, 2, False), (1, 0, 1, True)],
)  # fmt: skip
def test_which_kernels_fit(kernel_size, small, stride, fits):
    options = {"kernel_size": kernel_size, "small_kernel_size": small, "stride": stride}
    if not fits:
        with pytest.raises(ValueError, match="kernel_size"):
            LargeContextTransposedConv2d(2, 3, **options)
        return
    layer, x = LargeContextTransposedConv2d(2, 3, **options), torch.randn(1, 2, 4, 5)
    assert (layer.small is None) == (small == 0)
    expected = F.conv_transpose2d(
        x, layer.large.weight, layer.large.bias, stride, kernel_size // 2, stride - 1
    )
    if small:
        expected = expected + F.conv_transpose2d(x, layer.small.weight, None, stride, small // 2, stride - 1)
    torch.testing.assert_close(layer(x), expected)
    assert layer(x).shape[2:] == (4 * stride, 5 * stride)


def test_one_bias_for_both_kernels_or_none():
    assert [n for n, _ in LargeContextTransposedConv2d(2, 2).named_parameters()] == [
        "large.weight",
        "large.bias",
        "small.weight",
    ]
    without = LargeContextTransposedConv2d(4, 2, bias=False, num_groups=2)
    assert [n for n, _ in without.named_parameters()] == ["large.weight", "small.weight"]
    assert [p.shape[1] for p in without.parameters()] == [1, 1]


# -- Polarized ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm_layer", [LayerNorm, None])
def test_the_bottleneck_of_the_channel_gate(norm_layer):
    layer, x = PolarizedSelfAttention(4, hidden_dim=3, norm_layer=norm_layer), torch.randn(2, 4, 3, 3)
    first, norm, _, second = layer.channel_up
    assert isinstance(norm, LayerNorm if norm_layer else nn.Identity)
    assert first.weight.shape == (3, 2)
    assert first.bias is not None
    assert second.bias is not None
    weights = layer.channel_query(x).flatten(2).softmax(-1)
    context = (layer.channel_value(x).flatten(2) @ weights.mT).flatten(1)
    torch.testing.assert_close(
        layer.channel_gate(x)[..., 0, 0], second(norm(first(context)).relu()).sigmoid()
    )
    plain = PolarizedSelfAttention(4, norm_layer=norm_layer)
    assert isinstance(plain.channel_up[1], LayerNorm if norm_layer else nn.Identity)
    assert plain.channel_up[0].bias is None
    convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
    assert [c.bias for c in convolutions] == [None] * 4
    assert math.prod(layer.channel_query.weight.shape) == 4
