"""Attention pooling, the two gates and the way back, against torch, numpy, timm and written-out sums."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_lib.layers.pool import (
    AttentionPool,
    ClassQueryPool,
    LargeContextTransposedConv2d,
    PatchConvBlock,
    PatchConvNet,
    PolarizedSelfAttention,
    overlap_count,
    spectral_artifact_energy,
    zero_insert,
    zero_insert_then_convolve,
)
from tests.oracles import values_and_gradients
from tests.peers import timm_layers


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def perturbed(module):
    """In float64, with every parameter moved from its start, so that none hides behind a 0 or a 1."""
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


# -- Attention over positions -------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [1, 2, 7])
def test_attention_pooling_is_torchs_attention_with_one_head(positions):
    pool, x = perturbed(AttentionPool(6)), double(3, positions, 6)
    peer = nn.MultiheadAttention(6, 1, bias=True, batch_first=True).double()
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([pool.query.weight, pool.key.weight, pool.value.weight]))
        peer.in_proj_bias.copy_(torch.cat([pool.query.bias, pool.key.bias, pool.value.bias]))
        peer.out_proj.load_state_dict(pool.out.state_dict())

    def expected(x):
        def norm(t, n):
            return F.layer_norm(t, (6,), n.weight, n.bias)

        n = norm(torch.cat([pool.queries.expand(3, 1, 6), x], dim=1), pool.norm_in)
        attended, _ = peer(n[:, :1], n, n)
        z = pool.queries + pool.scale_attention * attended
        return norm(z + pool.scale_mlp * pool.mlp(norm(z, pool.norm_mlp)), pool.norm_out)[:, 0]

    torch.testing.assert_close(values_and_gradients(pool, x), values_and_gradients(expected, x))


def test_the_weights_are_those_used_and_ignore_the_order_of_positions():
    pool, x = perturbed(AttentionPool(6)), double(2, 5, 6)
    weights = pool.weights(x)
    own = 1 - weights.sum(1)
    assert (own > 0).all()  # what the query takes from itself
    mean = torch.einsum("bt,btd->bd", weights, pool.value(pool.norm_in(x)))
    mean = mean + own[:, None] * pool.value(pool.norm_in(pool.queries))
    z = pool.queries[0] + pool.scale_attention * pool.out(mean)
    torch.testing.assert_close(pool(x), pool.norm_out(z + pool.scale_mlp * pool.mlp(pool.norm_mlp(z))))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(pool(x[:, order]), pool(x))
    torch.testing.assert_close(pool.weights(x[:, order]), weights[:, order])


def test_without_a_query_matrix_all_positions_and_the_query_count_alike():
    pool, x = perturbed(AttentionPool(6)), double(2, 5, 6)
    nn.init.zeros_(pool.query.weight)
    nn.init.zeros_(pool.query.bias)
    torch.testing.assert_close(pool.weights(x), torch.full((2, 5), 1 / 6).double())


@pytest.mark.parametrize("make", [AttentionPool, lambda dim, **options: ClassQueryPool(dim, 3, **options)])
def test_the_maps_of_queries_keys_and_values_have_biases_unless_told_otherwise(make):
    assert all(layer.bias is not None for pool in [make(6)] for layer in (pool.query, pool.key, pool.value))
    plain = make(6, bias=False)
    assert all(layer.bias is None for layer in (plain.query, plain.key, plain.value))
    assert plain.out.bias is not None


def test_one_query_per_class_is_that_many_single_pools():
    many, x = perturbed(ClassQueryPool(6, 3)), double(2, 5, 6)
    logits, one = many(x), ClassQueryPool(6, 1).double()
    for k in range(3):
        rows = {name: getattr(many, name)[k : k + 1] for name in ("queries", "score", "bias")}
        one.load_state_dict(many.state_dict() | rows)
        torch.testing.assert_close(logits[:, k], one(x)[:, 0])
        torch.testing.assert_close(many.weights(x)[:, k], one.weights(x)[:, 0])
    torch.testing.assert_close(many.weights(x).sum(2), torch.ones(2, 3).double())


def test_the_block_is_timms_squeeze_excite_between_plain_convolutions():
    block, x = perturbed(PatchConvBlock(8)), double(2, 8, 3, 5)
    peer = timm_layers().SqueezeExcite(8, rd_channels=2).double()
    gate = block.layers[4].gate
    with torch.no_grad():
        for conv, linear in ((peer.fc1, gate[0]), (peer.fc2, gate[2])):
            conv.weight.copy_(linear.weight)
            conv.bias.copy_(linear.bias)

    def expected(x):
        n = F.layer_norm(x.permute(0, 2, 3, 1), (8,), block.norm.weight, block.norm.bias).permute(0, 3, 1, 2)
        n = F.gelu(F.conv2d(n, block.layers[0].weight, block.layers[0].bias))
        n = F.gelu(F.conv2d(n, block.layers[2].weight, block.layers[2].bias, padding=1, groups=8))
        n = F.conv2d(peer(n), block.layers[5].weight, block.layers[5].bias)
        return x + block.scale.weight.reshape(-1, 1, 1) * n

    torch.testing.assert_close(values_and_gradients(block, x), values_and_gradients(expected, x))


def test_the_network_takes_any_pool_and_maps_its_attention():
    net, images = PatchConvNet(1, 3, dim=8, depth=2, stem_stages=2).double(), double(2, 1, 12, 20)
    assert net.features(images).shape == (2, 8, 3, 5)
    attention = net.attention_map(images)
    assert attention.shape == (2, 3, 5)
    assert ((attention > 0) & (attention < 1)).all()

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    plain = PatchConvNet(1, 3, dim=8, depth=2, stem_stages=2, pool=Mean()).double()
    torch.testing.assert_close(plain(images), plain.out(plain.features(images).mean((2, 3))))


def test_the_cost_of_the_network_is_linear_in_the_pixels():
    net = PatchConvNet(1, 3, dim=8, depth=1, stem_stages=1)

    def operations(side):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.randn(1, 1, side, side))
        return counter.get_total_flops()

    differences = [operations(side) for side in (8, 16, 32)]
    ratio = (differences[2] - differences[1]) / (differences[1] - differences[0])
    assert ratio == pytest.approx(4.0)  # the pixels grow by 192, then by 768


def test_attention_pools_refuse_nothing_to_look_at():
    with pytest.raises(ValueError, match=r"no position to attend to in \(2, 0, 6\)"):
        AttentionPool(6)(torch.zeros(2, 0, 6))
    with pytest.raises(ValueError, match="stem_stages must be"):
        PatchConvNet(3, 3, dim=8, depth=1, stem_stages=0)


# -- Two gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("softmax", ["channels", "product", "values"])
@pytest.mark.parametrize("layout", ["parallel", "sequential"])
def test_the_gates_are_their_equations_written_with_einsum(layout, softmax):
    layer, x = PolarizedSelfAttention(6, layout=layout, spatial_softmax=softmax), double(2, 6, 3, 4)
    layer = perturbed(layer)

    def flat(conv):
        return conv.weight[..., 0, 0]

    def by_hand(x):
        def channel(x):
            over = torch.einsum("c,bcij->bij", flat(layer.channel_query)[0], x)
            over = over.exp() / over.exp().sum((1, 2), keepdim=True)
            context = torch.einsum("hc,bcij,bij->bh", flat(layer.channel_value), x, over)
            up, norm = layer.channel_up
            raised = torch.einsum("ch,bh->bc", up.weight, context)
            return torch.sigmoid(F.layer_norm(raised, (6,), norm.weight, norm.bias))[..., None, None]

        def spatial(x):
            query = torch.einsum("hc,bcij->bh", flat(layer.spatial_query), x) / 12
            value = torch.einsum("hc,bcij->bhij", flat(layer.spatial_value), x)
            if softmax == "channels":
                query = query.softmax(1)
            if softmax == "values":
                value = value.exp() / value.exp().sum((2, 3), keepdim=True)
            scores = torch.einsum("bh,bhij->bij", query, value)
            if softmax == "product":
                scores = scores.exp() / scores.exp().sum((1, 2), keepdim=True)
            return torch.sigmoid(scores)[:, None]

        if layout == "parallel":
            return x * channel(x) + x * spatial(x)
        return spatial(x * channel(x)) * (x * channel(x))

    torch.testing.assert_close(values_and_gradients(layer, x), values_and_gradients(by_hand, x))


def test_zero_weights_open_both_gates_halfway():
    x = double(2, 6, 3, 4)
    for layout, share in (("parallel", 1.0), ("sequential", 0.25)):
        layer = PolarizedSelfAttention(6, layout=layout).double()
        for matrix in (m for m in layer.modules() if isinstance(m, (nn.Conv2d, nn.Linear))):
            nn.init.zeros_(matrix.weight)
        torch.testing.assert_close(layer(x), share * x)


def test_permuting_the_pixels_permutes_the_output():
    layer, x, order = perturbed(PolarizedSelfAttention(6)), double(2, 6, 3, 4), torch.randperm(12)

    def shuffle(t):
        return t.flatten(2)[..., order].unflatten(2, (3, 4))

    torch.testing.assert_close(layer(shuffle(x)), shuffle(layer(x)))


def test_a_softmax_over_all_positions_leaves_a_gate_that_hardly_varies():
    x = double(2, 16, 24, 24)
    spread = {}
    for softmax in ("channels", "product", "values"):
        torch.manual_seed(0)
        layer = PolarizedSelfAttention(16, spatial_softmax=softmax).double()
        spread[softmax] = layer.spatial_gate(x).std().item()
    assert spread["channels"] > 0.05
    assert max(spread["product"], spread["values"]) < 0.01


def test_polarized_attention_refuses_odd_channels_and_unknown_names():
    with pytest.raises(ValueError, match=r"must be even: .* got 5"):
        PolarizedSelfAttention(5)
    with pytest.raises(ValueError, match="hidden_dim must be"):
        PolarizedSelfAttention(6, hidden_dim=0)
    for wrong in ({"layout": "both"}, {"spatial_softmax": "all"}):
        with pytest.raises(ValueError, match="must be one of"):
            PolarizedSelfAttention(6, **wrong)


# -- The way back -------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_zero_insertion_repeats_the_spectrum(factor):
    x = double(2, 5, 6)
    spectrum = np.fft.fft2(zero_insert(x, factor).numpy())
    np.testing.assert_allclose(spectrum, np.tile(np.fft.fft2(x.numpy()), (1, factor, factor)), atol=1e-12)
    assert zero_insert(x, factor).sum() == pytest.approx(x.sum().item())


@pytest.mark.parametrize("k", [3, 5, 7])
@pytest.mark.parametrize("stride", [2, 3])
def test_transposed_convolution_is_zero_insertion_and_a_flipped_kernel(k, stride):
    x, weight = double(2, 3, 4, 5), double(3, 2, k, k)

    def peer(x, w):
        return F.conv_transpose2d(x, w, None, stride, k // 2, output_padding=stride - 1)

    def ours(x, w):
        return zero_insert_then_convolve(x, w, stride=stride)

    torch.testing.assert_close(values_and_gradients(ours, x, weight), values_and_gradients(peer, x, weight))


@pytest.mark.parametrize(("k", "stride"), [(1, 1), (3, 2), (4, 2), (7, 2), (5, 3)])
def test_the_overlap_is_counted_as_by_hand_and_alternates_unless_the_stride_divides_the_kernel(k, stride):
    count = overlap_count(9, k, stride=stride)
    by_hand = [sum(0 <= o - stride * m < k for m in range(9)) for o in range(stride * 8 + k)]
    assert count.tolist() == by_hand
    inside = count[k - 1 : len(count) - k + 1]
    assert set(inside.tolist()) == ({k // stride} if k % stride == 0 else {k // stride, k // stride + 1})


def test_the_layer_is_one_transposed_convolution_with_the_small_kernel_in_the_middle_of_the_large():
    layer, x = perturbed(LargeContextTransposedConv2d(3, 2, kernel_size=7)), double(2, 3, 4, 5)

    def folded(x):
        weight = layer.large.weight + F.pad(layer.small.weight, (2, 2, 2, 2))
        return zero_insert_then_convolve(x, weight) + layer.large.bias[:, None, None]

    torch.testing.assert_close(values_and_gradients(layer, x), values_and_gradients(folded, x))
    grouped = perturbed(LargeContextTransposedConv2d(4, 2, num_groups=2))
    halves = [LargeContextTransposedConv2d(2, 1).double() for _ in range(2)]
    for n, half in enumerate(halves):
        rows = {"large.weight": slice(2 * n, 2 * n + 2), "small.weight": slice(2 * n, 2 * n + 2)}
        rows["large.bias"] = slice(n, n + 1)
        half.load_state_dict({key: grouped.state_dict()[key][rows[key]] for key in rows})
    wide = double(2, 4, 3, 5)
    apart = torch.cat([half(part) for half, part in zip(halves, wide.split(2, dim=1), strict=True)], dim=1)
    torch.testing.assert_close(grouped(wide), apart)
    nn.init.zeros_(layer.small.weight)
    alone = LargeContextTransposedConv2d(3, 2, kernel_size=7, small_kernel_size=0).double()
    alone.large.load_state_dict(layer.large.state_dict())
    torch.testing.assert_close(alone(x), layer(x))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_output_is_exactly_so_many_times_as_large(stride):
    layer = LargeContextTransposedConv2d(1, 1, kernel_size=5, stride=stride)
    assert layer(torch.randn(1, 1, 3, 4)).shape == (1, 1, 3 * stride, 4 * stride)


def test_a_triangular_kernel_makes_the_layer_bilinear_interpolation():
    x = double(1, 1, 5, 6)
    triangle = torch.tensor([0.25, 0.75, 0.75, 0.25]).double()
    kernel = torch.outer(triangle, triangle)[None, None]
    inner = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(
        F.conv_transpose2d(x, kernel, stride=2, padding=1)[inner],
        F.interpolate(x, scale_factor=2, mode="bilinear")[inner],
    )


def test_artifact_energy_is_all_for_a_checkerboard_and_none_for_a_slow_wave():
    line = torch.arange(32).double()
    board = torch.cos(torch.pi * line)
    slow = torch.cos(2 * torch.pi * 2 * line / 32)
    stack = torch.stack([torch.outer(board, board), torch.outer(slow, slow), torch.outer(slow, board)])
    energy = spectral_artifact_energy(5 + stack)
    torch.testing.assert_close(energy, torch.tensor([1.0, 0.0, 1.0]).double(), atol=1e-2, rtol=0)
    third = torch.cos(2 * torch.pi * line / 3).expand(32, 32)
    assert spectral_artifact_energy(third, factor=3, radius=0.1) > 0.99
    assert spectral_artifact_energy(third) < 0.01


def test_zero_insertion_moves_three_quarters_of_a_slow_wave_to_its_copies():
    line = torch.arange(32).double()
    slow = torch.cos(2 * torch.pi * 3 * line / 32)
    energy = spectral_artifact_energy(zero_insert(torch.outer(slow, slow)), radius=0.1)
    assert energy.item() == pytest.approx(0.75, abs=0.02)


def test_the_way_back_refuses_even_kernels_and_impossible_sizes():
    with pytest.raises(ValueError, match="kernel_size=4 and small_kernel_size=3 must be odd"):
        LargeContextTransposedConv2d(1, 1, kernel_size=4)
    with pytest.raises(ValueError, match="does not divide out_channels"):
        LargeContextTransposedConv2d(4, 3, num_groups=2)
    with pytest.raises(ValueError, match="small_kernel_size < kernel_size"):
        LargeContextTransposedConv2d(1, 1, kernel_size=3)
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        overlap_count(0, 3)
    with pytest.raises(ValueError, match="radius"):
        spectral_artifact_energy(torch.randn(8, 8), radius=0.3)
    with pytest.raises(ValueError, match="factor of 1 or more"):
        zero_insert(torch.randn(2, 2), 0)
