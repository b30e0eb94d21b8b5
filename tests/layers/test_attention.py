"""The one equation, its heads, its cache and its counters, against torch, x-transformers and loops."""

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    GroupedQueryAttention,
    KVCache,
    MultiHeadAttention,
    MultiQueryAttention,
    attention_scores,
    attention_weights,
    causal_mask,
    kv_cache_bytes,
    scaled_dot_product,
    scaled_dot_product_naive,
)
from tests.layers.attention_oracles import as_torch, layer_gradients, randomise
from tests.oracles import values_and_gradients
from tests.peers import x_transformers

# batch, query heads, key-value heads, queries, sources, key width, value width
SIZES = [(1, 1, 1, 1, 1, 1, 1), (2, 3, 1, 5, 7, 3, 2), (1, 4, 2, 1, 11, 5, 5), (2, 6, 3, 7, 7, 2, 3)]
MODES = ["plain", "causal", "bool mask", "float mask", "causal and bool mask", "causal and float mask"]


def inputs(sizes):
    b, h, g, t, s, d, v = sizes
    shapes = [(b, h, t, d), (b, g, s, d), (b, g, s, v)]
    return [torch.randn(*shape, dtype=torch.float64) for shape in shapes]


def options(mode, q, k):
    """Our keyword arguments, and the same as one float mask for torch."""
    t, s = q.shape[-2], k.shape[-2]
    ours, bias = {}, torch.zeros(len(q), 1, t, s, dtype=torch.float64)
    if "causal" in mode:
        ours["causal"] = True
        bias = bias + torch.full((t, s), -torch.inf).triu(s - t + 1)
    if "bool" in mode:
        ours["mask"] = torch.rand(len(q), 1, t, s) > 0.4
        ours["mask"][..., 0] = True  # every query sees something
        bias = bias.masked_fill(~ours["mask"], -torch.inf)
    if "float" in mode:
        ours["mask"] = torch.randn(t, s, dtype=torch.float64)
        bias = bias + ours["mask"]
    return ours, bias


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [None, 0.7])
def test_fused_and_naive_equal_torch_in_value_and_all_gradients(sizes, mode, scale):
    q, k, v = inputs(sizes)
    ours, bias = options(mode, q, k)
    repeat = sizes[1] // sizes[2]

    def torchs(q, k, v):
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)

    expected = values_and_gradients(torchs, q, k, v)
    for form in (scaled_dot_product, scaled_dot_product_naive):
        got = values_and_gradients(lambda *qkv: form(*qkv, scale=scale, **ours), q, k, v)  # noqa: B023
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "change", [lambda x: x + 1e3, lambda x: 1e-8 * x, torch.ones_like], ids=["far", "tiny", "ones"]
)
def test_fused_equals_naive_on_awkward_data(change):
    q, k, v = map(change, inputs((2, 4, 2, 5, 5, 3, 3)))
    for causal in (False, True):
        expected = values_and_gradients(lambda *qkv: scaled_dot_product_naive(*qkv, causal=causal), q, k, v)  # noqa: B023
        got = values_and_gradients(lambda *qkv: scaled_dot_product(*qkv, causal=causal), q, k, v)  # noqa: B023
        torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_groups_are_those_of_torchs_enable_gqa(groups, causal):
    q, k, v = inputs((2, 4, groups, 5, 5, 3, 3))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    torch.testing.assert_close(scaled_dot_product(q, k, v, causal=causal), expected)


def test_weights_equal_four_loops_and_any_leading_axes_are_fine():
    q, k, v = (x[0] for x in inputs((1, 4, 2, 3, 5, 2, 3)))
    weights, y = attention_weights(q, k, causal=True), scaled_dot_product(q, k, v, causal=True)
    for h in range(4):
        for t in range(3):
            seen = [(q[h, t] @ k[h // 2, s] / 2**0.5).exp() for s in range(5 - 3 + t + 1)]
            row = torch.stack(seen) / sum(seen)
            torch.testing.assert_close(weights[h, t], F.pad(row, (0, 5 - len(row))))
            torch.testing.assert_close(y[h, t], sum(w * v[h // 2, s] for s, w in enumerate(row)))
    nested = [x.expand(2, 3, *x.shape) for x in (q, k, v)]
    torch.testing.assert_close(scaled_dot_product(*nested, causal=True)[1, 2], y)


@pytest.mark.parametrize("form", [scaled_dot_product, scaled_dot_product_naive])
def test_a_query_that_sees_nothing_gets_zeros_and_no_nan_in_the_gradient(form):
    q, k, v = inputs((1, 2, 1, 3, 4, 2, 2))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    y, *gradients = values_and_gradients(lambda *qkv: form(*qkv, mask=mask), q, k, v)
    assert torch.equal(y[:, :, 1], torch.zeros(1, 2, 2))
    assert all(g.isfinite().all() for g in gradients)
    assert torch.equal(gradients[0][:, :, 1], torch.zeros(1, 2, 2))


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    q, k, v = torch.zeros(8, 2, 50, 4), torch.zeros(8, 2, 100, 4), torch.ones(8, 2, 100, 4)
    y = scaled_dot_product(q, k, v, dropout=0.3)
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    assert y[..., 0].std().item() == pytest.approx((0.3 / 0.7 / 100) ** 0.5, rel=0.1)


def test_causal_mask_is_aligned_with_the_newest_source():
    assert torch.equal(causal_mask(4, 4), torch.ones(4, 4).tril().bool())
    assert torch.equal(causal_mask(1, 4), torch.ones(1, 4).bool())
    with pytest.raises(ValueError, match="first 1 would see no key"):
        causal_mask(4, 3)


@pytest.mark.parametrize(
    ("shapes", "mask", "message"),
    [
        ([(4, 3, 2), (3, 5, 2), (3, 5, 2)], None, "3 key heads do not divide 4"),
        ([(2, 3, 2), (2, 5, 4), (2, 5, 4)], None, "equal b and d"),
        ([(2, 3, 2), (2, 5, 2), (2, 4, 2)], None, "one value"),
        ([(3, 2), (5, 2), (5, 2)], None, "got queries"),
        ([(2, 3, 2), (2, 5, 2), (2, 5, 2)], (3, 4), "does not broadcast"),
        ([(2, 3, 2), (2, 5, 2), (2, 5, 2)], (7, 2, 3, 5), "does not broadcast"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_shapes(shapes, mask, message):
    q, k, v = (torch.randn(*shape) for shape in shapes)
    mask = None if mask is None else torch.ones(mask, dtype=torch.bool)
    with as_installed(), pytest.raises(ValueError, match=message):
        scaled_dot_product(q, k, v, mask=mask)


@pytest.mark.parametrize("dim_heads", [(4, 1), (6, 3), (10, 2)], ids=str)
@pytest.mark.parametrize("kind", ["self", "causal", "context"])
def test_multi_head_attention_equals_torch_in_value_weights_and_all_gradients(dim_heads, kind):
    dim, heads = dim_heads
    ours = randomise(MultiHeadAttention(dim, heads, causal=kind == "causal"))
    peer = as_torch(ours)
    x, context = torch.randn(3, 5, dim).double(), torch.randn(3, 7, dim).double()
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if kind == "causal" else None

    class Torch(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = peer

        def forward(self, x, c):
            return self.attention(x, c, c, attn_mask=mask, need_weights=False)[0]

    class Ours(Torch):
        def __init__(self):
            super().__init__()
            self.attention = ours

        def forward(self, x, c):
            return self.attention(x, None if kind != "context" else c) + 0 * c.sum()

    c = context if kind == "context" else x
    y, (dx, dc), ours_grad = layer_gradients(Ours(), x, c)
    expected, (dx_peer, dc_peer), peer_grad = layer_gradients(Torch(), x, c)
    if kind != "context":
        dx_peer = dx_peer + dc_peer  # torch got the input twice, ours once
    torch.testing.assert_close((y, dx), (expected, dx_peer))
    if kind == "context":
        torch.testing.assert_close(dc, dc_peer)
    parts = peer_grad["attention.in_proj_weight"].chunk(3)
    for name, part in zip(("query", "key", "value"), parts, strict=True):
        torch.testing.assert_close(ours_grad[f"attention.{name}.weight"], part)
    query_bias, key_bias, value_bias = peer_grad["attention.in_proj_bias"].chunk(3)
    torch.testing.assert_close(ours_grad["attention.query.bias"], query_bias)
    torch.testing.assert_close(ours_grad["attention.value.bias"], value_bias)
    assert key_bias.abs().max() < 1e-12  # why ours has none
    for name in ("weight", "bias"):
        torch.testing.assert_close(
            ours_grad[f"attention.out.{name}"], peer_grad[f"attention.out_proj.{name}"]
        )
    _, weights = ours(x, context if kind == "context" else None, return_weights=True)
    _, peer_weights = peer(x, c, c, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(weights, peer_weights)


@pytest.mark.parametrize("layer", [MultiQueryAttention(12, 4), GroupedQueryAttention(12, 4, 2)], ids=str)
def test_shared_heads_equal_torch_with_repeated_weights(layer):
    layer = randomise(layer)
    x = torch.randn(2, 5, 12).double()
    torch.testing.assert_close(layer(x), as_torch(layer)(x, x, x, need_weights=False)[0])
    torch.testing.assert_close(layer(x, return_weights=True)[0], layer(x))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_shared_heads_equal_x_transformers(groups):
    """There head h reads group h mod G, here (as in torch) floor(h G / H); and its softmax is in float32."""
    ours = randomise(GroupedQueryAttention(12, 4, groups, bias=False, causal=True))
    peer = x_transformers().Attention(12, dim_head=3, heads=4, kv_heads=groups, causal=True).double().eval()
    with torch.no_grad():
        peer.to_q.weight.copy_(rearrange(ours.query.weight, "(g r e) d -> (r g e) d", g=groups, e=3))
        peer.to_out.weight.copy_(rearrange(ours.out.weight, "d (g r e) -> d (r g e)", g=groups, e=3))
        peer.to_k.weight.copy_(ours.key.weight)
        peer.to_v.weight.copy_(ours.value.weight)
    x = torch.randn(2, 5, 12).double()
    expected = peer(x)
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


def test_multi_query_attention_equals_the_papers_einsums():
    layer = randomise(MultiQueryAttention(6, 3, head_dim=4, bias=False))
    x = torch.randn(2, 5, 6).double()
    query = layer.query.weight.unflatten(0, (3, 4)).mT  # (h, d, k)
    out = layer.out.weight.T.unflatten(0, (3, 4))  # (h, v, d)
    q = torch.einsum("bnd,hdk->bhnk", x, query)
    logits = torch.einsum("bhnk,bmk->bhnm", q, layer.key(x))
    o = torch.einsum("bhnm,bmv->bhnv", (logits / 4**0.5).softmax(-1), layer.value(x))
    torch.testing.assert_close(layer(x), torch.einsum("bhnv,hvd->bnd", o, out))


def test_the_gradient_of_shared_keys_is_the_sum_over_the_heads():
    shared, full = randomise(MultiQueryAttention(12, 4)), randomise(MultiHeadAttention(12, 4))
    full.load_state_dict(
        {
            name: value.repeat(4, *[1] * (value.ndim - 1)) if name.startswith(("key", "value")) else value
            for name, value in shared.state_dict().items()
        }
    )
    x = torch.randn(2, 5, 12).double()
    y, _, gradients = layer_gradients(shared, x)
    expected, _, per_head = layer_gradients(full, x)
    torch.testing.assert_close(y, expected)
    for name in ("key.weight", "value.weight", "value.bias"):
        torch.testing.assert_close(gradients[name], per_head[name].unflatten(0, (4, 3)).sum(0))


def test_the_ends_of_grouped_query_attention():
    x = torch.randn(2, 5, 12).double()
    full, shared = randomise(MultiHeadAttention(12, 4)), randomise(MultiQueryAttention(12, 4))
    for groups, end in ((4, full), (1, shared)):
        layer = GroupedQueryAttention(12, 4, groups).double()
        layer.load_state_dict(end.state_dict())
        torch.testing.assert_close(layer(x), end(x))


CACHED = [
    MultiHeadAttention(12, 4, causal=True),
    GroupedQueryAttention(12, 4, 2, causal=True),
    MultiQueryAttention(12, 4, causal=True),
]


@pytest.mark.parametrize("layer", CACHED, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("chunks", [[1] * 11, [3, 1, 5, 2], [11]], ids=str)
def test_decoding_with_a_cache_equals_the_full_pass(layer, chunks):
    layer, x = randomise(layer), torch.randn(2, 11, 12).double()
    cache = KVCache()
    with torch.no_grad():
        steps = [layer(part, cache=cache) for part in x.split(chunks, dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), layer(x))
    assert len(cache) == 11
    torch.testing.assert_close(cache.keys.transpose(1, 2).flatten(2), layer.key(x))
    torch.testing.assert_close(cache.values.transpose(1, 2).flatten(2), layer.value(x))


def test_cached_weights_are_the_last_rows_of_the_full_weights():
    layer, x, cache = (
        randomise(MultiQueryAttention(12, 4, causal=True)),
        torch.randn(2, 7, 12).double(),
        KVCache(),
    )
    with torch.no_grad():
        layer(x[:, :4], cache=cache)
        _, last = layer(x[:, 4:], cache=cache, return_weights=True)
        torch.testing.assert_close(last, layer(x, return_weights=True)[1][:, :, 4:])


def test_bytes_of_the_cache_are_counted_on_the_cache():
    counted = {}
    for layer in CACHED:
        cache = KVCache()
        with torch.no_grad():
            layer.float()(torch.randn(2, 5, 12), cache=cache)
        counted[layer.num_kv_heads] = cache.nbytes
        assert cache.nbytes == kv_cache_bytes(5, layer.num_kv_heads, 3, batch_size=2)
    assert counted[4] == 2 * counted[2] == 4 * counted[1] == 2 * 5 * 2 * 12 * 4
    assert kv_cache_bytes(5, 2, 3, num_layers=7, dtype=torch.bfloat16) == 7 * 2 * (5 * 2 * 3) * 2
    with pytest.raises(ValueError, match="length must be"):
        kv_cache_bytes(-1, 2, 3)


def test_an_empty_cache_holds_nothing_and_a_growing_one_rarely_moves():
    cache, addresses = KVCache(), set()
    assert (len(cache), cache.keys, cache.values, cache.nbytes) == (0, None, None, 0)
    for step in range(64):
        keys, values = cache.append(
            torch.full((1, 1, 1, 2), float(step)), torch.full((1, 1, 1, 3), -float(step))
        )
        addresses.add(keys.data_ptr())
    assert len(addresses) <= 8
    assert torch.equal(keys[0, 0, :, 0], torch.arange(64.0))
    assert torch.equal(values[0, 0, :, 2], -torch.arange(64.0))


def test_a_cache_refuses_gradients_other_shapes_and_layers_that_are_not_causal():
    layer, x = MultiHeadAttention(4, 2, causal=True), torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match="no_grad"):
        layer(x, cache=KVCache())
    cache = KVCache()
    with torch.no_grad():
        layer(x, cache=cache)
        with pytest.raises(ValueError, match="per layer and per batch"):
            layer(x[:1], cache=cache)
        with pytest.raises(ValueError, match="causal=True"):
            MultiHeadAttention(4, 2)(x, cache=KVCache())
    assert len(cache) == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiHeadAttention(10, 3), "num_heads=3 does not divide dim=10; 2 and 5 do"),
        (lambda: MultiHeadAttention(10, 0), "num_heads must be an integer of at least 1"),
        (lambda: MultiHeadAttention(10, 2, dropout=1.5), "at most 1"),
        (lambda: GroupedQueryAttention(12, 4, 3), "num_kv_heads=3 does not divide num_heads=4"),
        (lambda: GroupedQueryAttention(12, 4, 0), "num_kv_heads must be"),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(2, 3, 5)), "5"),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(3, 4)), r"\(b, t, 4\)"),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(2, 3, 4), torch.randn(2, 3, 5)), "5"),
        (lambda: MultiHeadAttention(4, 2)(torch.randn(2, 3, 4), torch.randn(1, 3, 4)), "equal b"),
        (lambda: MultiHeadAttention(4, 2, causal=True)(*torch.randn(2, 2, 3, 4)), "causal=False"),
    ],
)
def test_bad_sizes_are_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()


def test_head_dim_and_bias_set_the_number_of_parameters():
    assert sum(p.numel() for p in MultiHeadAttention(6, 2, head_dim=5, bias=False).parameters()) == 4 * 6 * 10
    assert sum(p.numel() for p in MultiHeadAttention(6, 2).parameters()) == 4 * 36 + 3 * 6
    assert sum(p.numel() for p in MultiQueryAttention(6, 2, bias=False).parameters()) == 2 * 36 + 2 * 18


def test_projections_start_xavier_uniform_and_biases_at_zero():
    torch.manual_seed(0)
    layer = MultiQueryAttention(128, 4)
    for projection in (layer.query, layer.key, layer.value, layer.out):
        bound = (6 / sum(projection.weight.shape)) ** 0.5
        assert projection.weight.abs().max() <= bound
        assert projection.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert projection.bias is None or not projection.bias.any()


@pytest.mark.parametrize("return_weights", [False, True])
def test_dropout_acts_in_training_only(return_weights):
    layer, x = MultiHeadAttention(8, 2, dropout=0.5), torch.randn(2, 9, 8)

    def run():
        y = layer(x, return_weights=return_weights)
        return y[0] if return_weights else y

    assert not torch.equal(run(), run())
    assert torch.equal(layer.eval()(x), MultiHeadAttention.forward(layer, x))
    mean = torch.stack([layer.train()(x) for _ in range(400)]).mean(0)
    torch.testing.assert_close(mean, layer.eval()(x), atol=0.25, rtol=0)


def test_scores_are_counted_where_torch_computes_them():
    x, layer = torch.randn(3, 5, 8), MultiQueryAttention(8, 2, causal=True)
    expected = 3 * 2 * 5 * 5
    assert attention_scores(lambda: layer(x)) == expected
    assert attention_scores(lambda: layer(x).sum().backward()) == expected
    assert attention_scores(lambda: layer(x, return_weights=True)) == expected
    peer = nn.MultiheadAttention(8, 2, batch_first=True)
    assert attention_scores(lambda: peer(x, x, x)) == expected
    assert attention_scores(lambda: peer(x, x[:, :3], x[:, :3], need_weights=False)) == 3 * 2 * 5 * 3
    with torch.no_grad():
        assert attention_scores(lambda: peer.eval()(x, x, x)) == expected
    assert attention_scores(lambda: x @ x.mT) == 0


def test_a_decoding_step_computes_one_row_of_scores():
    layer, cache = MultiHeadAttention(8, 2, causal=True), KVCache()
    with torch.no_grad():
        layer(torch.randn(1, 6, 8), cache=cache)
        assert attention_scores(lambda: layer(torch.randn(1, 1, 8), cache=cache)) == 2 * 7
