"""Lambda layers, against loops, convolutions, linear attention, lambda-networks and timm."""

import warnings

import pytest
import torch
from einops import rearrange
from lambda_networks import LambdaLayer as PeerLambdaLayer
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import LambdaLayer, attention_scores, lambda_layer_naive
from course_lib.training.memory_saving import saved_bytes
from tests.layers.attention_oracles import layer_gradients, randomise
from tests.oracles import values_and_gradients
from tests.peers import timm_layers


def parts(layer, x):
    """Queries by head, keys and values by depth, as the layer's projections and norms make them."""
    q = layer.norm_query(layer.query(x).flatten(0, 1)).view(*x.shape[:2], -1)
    v = layer.norm_value(layer.value(x).flatten(0, 1)).view(*x.shape[:2], -1)
    return (
        rearrange(q, "b t (h k) -> b h t k", h=layer.num_heads),
        rearrange(layer.key(x), "b s (u k) -> b u s k", u=layer.intra_depth),
        rearrange(v, "b s (u v) -> b u s v", u=layer.intra_depth),
    )


def pair_positions(layer, u=0):
    """The table written out for every pair of positions, by loops: (t, s, k)."""
    places = list(
        torch.cartesian_prod(*(torch.arange(n) for n in layer.grid)).reshape(-1, len(layer.grid)).tolist()
    )
    centre = [n // 2 for n in layer.positions.shape[2:]]
    e = torch.zeros(len(places), len(places), layer.key_dim).double()
    for t, here in enumerate(places):
        for s, there in enumerate(places):
            index = [b - a + c for a, b, c in zip(here, there, centre, strict=True)]
            if all(0 <= i < n for i, n in zip(index, layer.positions.shape[2:], strict=True)):
                e[t, s] = layer.positions[(slice(None), u, *index)]
    return e


def settle(layer):
    """Random weights, and running statistics of the norms that are not 0 and 1."""
    layer = randomise(layer)
    for norm in (layer.norm_query, layer.norm_value):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return layer


GRIDS = [((5,), None), ((2, 3), None), ((3, 2), 3), ((7,), 3), ((1, 1), None), ((1, 5), 1), ((4, 4), 5)]


@pytest.mark.parametrize(("grid", "window"), GRIDS, ids=str)
@pytest.mark.parametrize("depth", [1, 2])
def test_layer_equals_the_loop_over_the_context(grid, window, depth):
    layer = settle(LambdaLayer(6, 2, grid=grid, key_dim=4, intra_depth=depth, kernel_size=window))
    x = torch.randn(2, torch.Size(grid).numel(), 6).double()
    q, k, v = parts(layer, x)
    for b in range(2):
        heads = sum(
            lambda_layer_naive(q[b], k[b, u], v[b, u], pair_positions(layer, u)) for u in range(depth)
        )
        torch.testing.assert_close(layer(x)[b], rearrange(heads, "h t v -> t (h v)"))


def test_naive_form_equals_two_matrix_products_in_value_and_gradients():
    q, k, v, e = (torch.randn(s).double() for s in ((2, 3, 4), (5, 4), (5, 6), (3, 5, 4)))

    def products(q, k, v, e):
        content = torch.einsum("htk,kv->htv", q, k.softmax(0).T @ v)
        return (
            content + torch.einsum("htk,tsk->hts", q, e) @ v
        )  # positions as an attention map, unlike the layer

    torch.testing.assert_close(
        values_and_gradients(lambda_layer_naive, q, k, v, e), values_and_gradients(products, q, k, v, e)
    )


def test_content_alone_is_linear_attention_with_softmaxed_keys():
    layer = settle(LambdaLayer(6, 2, grid=(2, 3), key_dim=4, position=False))
    x = torch.randn(2, 6, 6).double()
    q, k, v = parts(layer, x)
    weights = q @ k.softmax(2).mT  # (b, h, t, s): never built by the layer
    torch.testing.assert_close(layer(x), rearrange(weights @ v, "b h t v -> b t (h v)"))


def test_position_lambdas_of_a_window_are_a_convolution_per_value_channel():
    layer = settle(LambdaLayer(6, 2, grid=(4, 5), key_dim=4, kernel_size=3))
    v = torch.randn(2, 1, 20, 3).double()
    lambdas = layer.position_lambdas(v)
    for channel in range(3):
        plane = v[..., channel].reshape(2, 1, 4, 5)
        expected = F.conv2d(plane, layer.positions, padding=1)  # (b, k, i, j)
        torch.testing.assert_close(lambdas[..., channel].mT.reshape(2, 4, 4, 5), expected)


def test_the_whole_grid_is_the_window_that_reaches_everything():
    whole = settle(LambdaLayer(6, 2, grid=(4, 4), key_dim=3))
    window = LambdaLayer(6, 2, grid=(4, 4), key_dim=3, kernel_size=7).double().eval()
    window.load_state_dict(whole.state_dict())
    x = torch.randn(2, 16, 6).double()
    y, dx, gradients = layer_gradients(whole, x)
    expected, dx_window, gradients_window = layer_gradients(window, x)
    torch.testing.assert_close((y, dx, gradients), (expected, dx_window, gradients_window))


@torch.no_grad()
def copy_to_peer(ours, peer, names):
    for theirs, mine in names.items():
        getattr(peer, theirs).weight.copy_(getattr(ours, mine).weight.unflatten(-1, (-1, 1, 1)))
    for theirs, mine in (("norm_q", ours.norm_query), ("norm_v", ours.norm_value)):
        getattr(peer, theirs).load_state_dict(mine.state_dict())
    return peer.eval()


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("depth", [1, 3])
def test_layer_equals_lambda_networks(window, depth):
    ours = settle(LambdaLayer(8, 2, grid=(3, 3), key_dim=4, intra_depth=depth, kernel_size=window))
    size = {"n": 3} if window is None else {"r": window}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.meshgrid, about its default
        peer = PeerLambdaLayer(8, dim_k=4, heads=2, dim_out=8, dim_u=depth, **size).double()
    copy_to_peer(ours, peer, {"to_q": "query", "to_k": "key", "to_v": "value"})
    with torch.no_grad():
        if window is None:  # its table is indexed by (s - t), as ours
            peer.rel_pos_emb.copy_(rearrange(ours.positions, "k u i j -> i j k u"))
        else:
            peer.pos_conv.weight.copy_(ours.positions[:, :, None])
            peer.pos_conv.bias.zero_()
    x = torch.randn(2, 9, 8).double()

    def theirs(x):
        return rearrange(peer(rearrange(x, "b (i j) d -> b d i j", i=3)), "b d i j -> b (i j) d")

    torch.testing.assert_close(values_and_gradients(ours, x), values_and_gradients(theirs, x))


@pytest.mark.parametrize("window", [None, 3])
def test_layer_equals_timm(window):
    ours = settle(LambdaLayer(8, 2, grid=(3, 3), key_dim=4, kernel_size=window))
    peer = timm_layers().lambda_layer.LambdaLayer(8, feat_size=(3, 3), num_heads=2, dim_head=4, r=window)
    peer.double()
    with torch.no_grad():
        projections = torch.cat([ours.query.weight, ours.key.weight, ours.value.weight])
        peer.qkv.weight.copy_(projections[..., None, None])
        if window is None:
            peer.pos_emb.copy_(rearrange(ours.positions, "k 1 i j -> i j k"))
        else:
            peer.conv_lambda.weight.copy_(ours.positions[..., None])
            peer.conv_lambda.bias.zero_()
    copy_to_peer(ours, peer, {})
    x = torch.randn(2, 9, 8).double()
    expected = rearrange(peer(rearrange(x, "b (i j) d -> b d i j", i=3)), "b d i j -> b (i j) d")
    torch.testing.assert_close(ours(x), expected)


def test_only_positions_break_the_symmetry_under_permutations():
    x, order = torch.randn(2, 9, 8).double(), torch.randperm(9)
    content = settle(LambdaLayer(8, 2, grid=(3, 3), position=False))
    torch.testing.assert_close(content(x[:, order]), content(x)[:, order])
    full = settle(LambdaLayer(8, 2, grid=(3, 3)))
    assert (full(x[:, order]) - full(x)[:, order]).abs().max() > 0.1


def test_queries_and_values_are_normalised_over_batch_and_positions_in_training():
    layer = LambdaLayer(6, 2, grid=(3, 2), key_dim=4).double()
    nn.init.normal_(layer.query.weight)
    q, _, v = parts(layer.train(), 5 + 3 * torch.randn(4, 6, 6).double())
    for normalised, channels in ((q, 8), (v, 3)):
        rows = normalised.transpose(1, 2).reshape(-1, channels)
        torch.testing.assert_close(rows.mean(0), torch.zeros(channels).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(
            rows.var(0, correction=0), torch.ones(channels).double(), atol=1e-3, rtol=0
        )


def test_what_backward_keeps_of_the_positions_does_not_grow_with_the_batch():
    """An attention map has b h t s entries; here t s belongs to the parameters, shared by all examples."""
    kept = []
    for position in (False, True):
        layer = LambdaLayer(8, 2, grid=(8, 8), key_dim=4, position=position)
        x = torch.randn(16, 64, 8)
        bytes_of = [saved_bytes(lambda: layer(x[:b])) for b in (8, 16)]  # noqa: B023
        kept.append(bytes_of[1] - bytes_of[0])
    lambdas, attention_map = 8 * 64 * (4 * 4) * 4, 8 * 2 * 64 * 64 * 4
    assert (
        kept[1] - kept[0] <= 2 * lambdas < attention_map
    )  # a map per position (k v numbers) is all that is added


def test_no_attention_score_is_computed():
    layer = LambdaLayer(8, 2, grid=(4, 4), key_dim=4)
    x = torch.randn(2, 16, 8)
    assert attention_scores(lambda: layer(x)) == 2 * 16 * 4  # the keys' own softmax: t k, not t t


@pytest.mark.parametrize("window", [None, 5])
def test_output_starts_at_unit_scale(window):
    torch.manual_seed(0)
    layer = LambdaLayer(32, 4, grid=(8, 8), kernel_size=window)
    y = layer(torch.randn(16, 64, 32))
    assert 0.5 < y.std().item() < 2.0
    visible = 64 if window is None else 25
    assert layer.positions.std().item() == pytest.approx((16 * visible) ** -0.5, rel=0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LambdaLayer(6, 4, grid=(2, 3)), "num_heads=4 does not divide dim=6"),
        (lambda: LambdaLayer(8, 4, grid=(2, 3, 4)), "rows, columns"),
        (lambda: LambdaLayer(8, 4, grid=(0, 3)), r"grid\[0\] must be"),
        (lambda: LambdaLayer(8, 4, grid=(3, 3), kernel_size=4), "must be odd"),
        (lambda: LambdaLayer(8, 4, grid=(3, 3), kernel_size=3, position=False), "ignores it"),
        (lambda: LambdaLayer(8, 4, grid=(2, 3))(torch.randn(2, 7, 8)), r"grid of 2 x 3"),
        (lambda: LambdaLayer(8, 4, grid=(2, 3))(torch.randn(2, 6, 9)), "9"),
    ],
)
def test_bad_input_is_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()
