"""Learned keys and values, learned queries: all-attention and label attention."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    AllAttention,
    AllAttentionBlock,
    KVCache,
    LabelAttention,
    MultiHeadAttention,
    attention_scores,
)
from tests.layers.attention_oracles import as_torch, randomise
from tests.oracles import values_and_gradients
from tests.peers import x_transformers


def shared_weights(layer, **options):
    """Plain attention with the projections of an all-attention layer."""
    bias = layer.query.bias is not None
    plain = MultiHeadAttention(layer.dim, layer.num_heads, causal=layer.causal, bias=bias, **options).double()
    plain.load_state_dict(layer.state_dict(), strict=False)
    return plain


@pytest.mark.parametrize("causal", [False, True])
def test_one_slot_is_torchs_add_bias_kv(causal):
    ours = randomise(AllAttention(6, 2, 1, causal=causal, bias=True))
    base = as_torch(ours)
    peer = nn.MultiheadAttention(6, 2, batch_first=True, add_bias_kv=True, dtype=torch.float64)
    peer.load_state_dict(base.state_dict(), strict=False)
    keys, values = ours.slots(1)
    with (
        torch.no_grad()
    ):  # torch's bias of the keys moves the context, not the slot: the same as the slot moved back
        peer.bias_k.copy_(keys.transpose(1, 2).reshape(1, 1, 6) + base.in_proj_bias[6:12])
        peer.bias_v.copy_(values.transpose(1, 2).reshape(1, 1, 6))
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    x = torch.randn(3, 5, 6).double()
    expected = values_and_gradients(lambda x: peer(x, x, x, attn_mask=mask, need_weights=False)[0], x)
    torch.testing.assert_close(values_and_gradients(ours, x), expected)
    _, weights = ours(x, return_weights=True)
    _, peers = peer(x, x, x, attn_mask=mask, average_attn_weights=False)
    torch.testing.assert_close(weights, peers.roll(1, -1))  # torch's slot stands last, ours first


def test_slots_equal_the_memory_of_x_transformers():
    ours = randomise(AllAttention(12, 4, 5, bias=False, causal=True))
    peer = x_transformers().Attention(12, dim_head=3, heads=4, num_mem_kv=5, causal=True).double().eval()
    with torch.no_grad():
        for theirs, mine in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out", "out")):
            getattr(peer, theirs).weight.copy_(getattr(ours, mine).weight)
        for theirs, mine in zip((peer.mem_k, peer.mem_v), ours.slots(1), strict=True):
            theirs.copy_(mine[0])
    x = torch.randn(2, 7, 12).double()
    torch.testing.assert_close(ours(x), peer(x), rtol=1e-5, atol=1e-5)  # its softmax is in float32


def test_slots_that_score_minus_infinity_or_are_absent_leave_plain_causal_attention():
    x = torch.randn(3, 5, 6).double()
    absent = randomise(AllAttention(6, 2, 0, causal=True))
    torch.testing.assert_close(absent(x), shared_weights(absent)(x))
    far = randomise(AllAttention(6, 2, 4, causal=True, bias=True))
    with torch.no_grad():
        far.query.bias.copy_(torch.tensor([50.0, 0, 0, 50, 0, 0]))  # every query points along its first axis,
        far.slot_keys.zero_()
        far.slot_keys[..., 0] = -1e3  # every slot against it
    torch.testing.assert_close(far(x), shared_weights(far)(x))
    assert far(x, return_weights=True)[1][..., :4].max() == 0


def test_without_a_context_it_is_a_feed_forward_layer_with_softmax():
    layer = randomise(AllAttention(6, 1, 9, bias=False))
    hidden, out = nn.Linear(6, 9, bias=False).double(), nn.Linear(9, 6, bias=False).double()
    keys, values = layer.slots(1)
    with torch.no_grad():
        hidden.weight.copy_(keys[0, 0] @ layer.query.weight / 6**0.5)
        out.weight.copy_(layer.out.weight @ values[0, 0].T)
    x = torch.randn(3, 5, 6).double()
    torch.testing.assert_close(layer(x, torch.empty(3, 0, 6).double()), out(hidden(x).softmax(-1)))


def test_positions_equal_loops_and_spare_the_slots():
    layer = randomise(AllAttention(6, 2, 4, num_positions=5, causal=True))
    x = torch.randn(1, 5, 6).double()
    (q, k, _), (slots, _) = layer.project(x, x), layer.slots(1)
    _, weights = layer(x, return_weights=True)
    for h in range(2):
        for t in range(5):
            scores = [q[0, h, t] @ slot for slot in slots[0, h]]
            scores += [q[0, h, t] @ (k[0, h, s] + layer.positions[t - s]) for s in range(t + 1)]
            row = (torch.stack(scores) / 3**0.5).softmax(0)
            torch.testing.assert_close(weights[0, h, t, : t + 5], row)
            assert not weights[0, h, t, t + 5 :].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 5).double())
    torch.testing.assert_close(layer(x, return_weights=True)[0], layer(x))


@pytest.mark.parametrize("num_positions", [None, 11])
@pytest.mark.parametrize("layer", [AllAttention, AllAttentionBlock])
def test_cached_decoding_equals_the_full_pass(layer, num_positions):
    layer = randomise(layer(12, 4, 3, num_positions=num_positions, causal=True))
    x, cache = torch.randn(2, 11, 12).double(), KVCache()
    with torch.no_grad():
        steps = [layer(part, cache=cache) for part in x.split([3, 1, 5, 1, 1], dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), layer(x))
    assert len(cache) == 11  # slots are parameters, they take no room in the cache


@pytest.mark.parametrize("num_positions", [None, 7])
def test_a_mask_of_the_context_leaves_the_slots_visible(num_positions):
    layer = randomise(AllAttention(6, 2, 3, num_positions=num_positions, causal=num_positions is not None))
    x, kept = torch.randn(2, 5, 6).double(), torch.tensor([True, True, False, True, False])
    as_float = torch.zeros(5).double().masked_fill(~kept, -torch.inf)
    y, weights = layer(x, mask=kept, return_weights=True)
    assert not weights[..., 3:][..., ~kept].any()
    assert weights[..., :3].min() > 0
    torch.testing.assert_close(layer(x, mask=as_float), y)
    torch.testing.assert_close(layer(x, mask=kept[None].expand(5, 5)), y)
    if num_positions is None:
        torch.testing.assert_close(y, layer(x, x[:, kept]))


def test_four_d_slots_have_the_parameters_of_a_feed_forward_layer_of_width_four_d():
    with_slots, plain = AllAttention(8, 2, 32), MultiHeadAttention(8, 2, bias=False)
    more = sum(p.numel() for p in with_slots.parameters()) - sum(p.numel() for p in plain.parameters())
    assert more == 8 * 32 + 32 * 8
    assert attention_scores(lambda: with_slots(torch.randn(1, 5, 8))) == 2 * 5 * (32 + 5)


def test_slots_start_at_unit_variance():
    torch.manual_seed(0)
    layer = AllAttention(64, 4, 256, num_positions=100, causal=True)
    for scaled in layer.slots(1):
        assert scaled.std().item() == pytest.approx(1.0, rel=0.03)
    assert layer.slot_keys.std().item() == pytest.approx(1 / 4, rel=0.03)
    assert layer.slot_values.std().item() == pytest.approx(1 / 16, rel=0.03)
    assert layer.positions.std().item() == pytest.approx(1, rel=0.06)


def test_block_is_attention_residual_and_torchs_layer_norm():
    block = randomise(AllAttentionBlock(6, 2, 3, causal=True))
    x = torch.randn(2, 5, 6).double()
    expected = F.layer_norm(x + block.attention(x), (6,), block.norm_sum.weight, block.norm_sum.bias)
    torch.testing.assert_close(block(x), expected)
    assert sum(isinstance(m, nn.Linear) for m in block.modules()) == 4  # no feed-forward sublayer


@pytest.mark.parametrize("head_dim", [None, 5])
def test_each_label_is_torchs_attention_with_one_query_row(head_dim):
    layer = randomise(LabelAttention(6, 3, 4, head_dim=head_dim))
    width, x = head_dim or 4, torch.randn(2, 7, 6).double()
    contexts, weights = layer.contexts(x)
    for l in range(3):
        part = slice(l * width, (l + 1) * width)
        k, v = layer.key(x)[..., part], layer.value(x)[..., part]
        q = layer.query[l].expand(2, 1, -1)
        heads = F.scaled_dot_product_attention(
            q, k, v, scale=6**-0.5
        )  # the width of the input, not the head's
        torch.testing.assert_close(contexts[:, l], heads[:, 0])
        torch.testing.assert_close(weights[:, l], (k @ layer.query[l] / 6**0.5).softmax(-1))
    torch.testing.assert_close(layer(x, return_weights=True)[1], weights)


def test_label_attention_equals_its_equation_token_by_token():
    layer = randomise(LabelAttention(6, 3, 4))
    x = torch.randn(1, 5, 6).double()
    contexts, _ = layer.contexts(x)
    for t in range(5):
        blocks = [layer.norm(layer.reduce(x[0, t] + layer.out(contexts[0, l]))) for l in range(3)]
        torch.testing.assert_close(layer(x)[0, t], torch.cat(blocks))


def test_contexts_are_torchs_multi_head_attention_whose_queries_forget_the_input():
    """Query matrix zero, query bias the labels' vectors: every position asks and finds the same."""
    layer = randomise(LabelAttention(6, 3, 2))
    peer = nn.MultiheadAttention(6, 3, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([torch.zeros(6, 6), layer.key.weight, layer.value.weight]))
        queries = layer.query.flatten() / 3**0.5  # torch divides by the root of 2, the layer by that of 6
        peer.in_proj_bias.copy_(torch.cat([queries, torch.zeros(12)]))
        peer.out_proj.weight.copy_(torch.eye(6))
        peer.out_proj.bias.zero_()
    x = torch.randn(2, 7, 6).double()
    expected, _ = peer(x, x, x)
    got = values_and_gradients(lambda x: layer.contexts(x)[0].flatten(1)[:, None].expand(-1, 7, -1), x)
    torch.testing.assert_close(got, values_and_gradients(lambda x: peer(x, x, x)[0], x))
    torch.testing.assert_close(expected, expected[:, :1].expand_as(expected))


def test_contexts_do_not_depend_on_the_order_and_ignore_what_is_masked():
    layer, x = randomise(LabelAttention(6, 3, 4)), torch.randn(2, 7, 6).double()
    contexts, _ = layer.contexts(x)
    torch.testing.assert_close(layer.contexts(x[:, torch.randperm(7)])[0], contexts)
    padded, mask = F.pad(x, (0, 0, 0, 2), value=9.0), torch.tensor([True] * 7 + [False] * 2)
    torch.testing.assert_close(layer.contexts(padded, mask=mask)[0], contexts)
    torch.testing.assert_close(layer(padded, mask=mask)[:, :7], layer(x))


def test_labels_compute_one_row_of_scores_each():
    x = torch.randn(2, 24, 6)
    assert attention_scores(lambda: LabelAttention(6, 6, 4)(x)) == 2 * 6 * 24
    assert attention_scores(lambda: MultiHeadAttention(6, 6)(x)) == 2 * 6 * 24**2


def test_label_dropout_hits_the_context_not_the_residual():
    layer, x = randomise(LabelAttention(6, 3, 4, dropout=0.999999)), torch.randn(2, 5, 6).double()
    bare = layer.norm(layer.reduce(x))
    torch.testing.assert_close(layer.train()(x), bare.repeat(1, 1, 3))
    assert not torch.allclose(layer.eval()(x), bare.repeat(1, 1, 3))


def test_label_attention_starts_as_the_authors_does():
    """Xavier's rule on their tensors (l, d, e) of keys and values, on the matrix of queries; else torch's."""
    torch.manual_seed(0)
    layer = LabelAttention(64, 50, 32)
    for weight in (layer.key.weight, layer.value.weight):
        theirs = nn.init.xavier_normal_(torch.empty(50, 64, 32))
        assert weight.std().item() == pytest.approx(theirs.std().item(), rel=0.02)
    assert layer.query.std().item() == pytest.approx((2 / 82) ** 0.5, rel=0.05)
    for linear in (layer.out, layer.reduce):
        assert linear.weight.abs().max().item() == pytest.approx(linear.in_features**-0.5, rel=0.01)
        assert linear.weight.std().item() == pytest.approx((3 * linear.in_features) ** -0.5, rel=0.05)
    assert torch.equal(layer.norm.weight, torch.ones(32))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AllAttention(6, 2, -1), "num_slots must be"),
        (lambda: AllAttention(6, 2, 3, num_positions=4), "needs causal=True"),
        (
            lambda: AllAttention(6, 2, 3, num_positions=4, causal=True)(torch.randn(1, 5, 6)),
            "5 tokens exceed num_positions=4",
        ),
        (lambda: AllAttention(6, 2, 3)(torch.randn(1, 5, 7)), "7"),
        (lambda: AllAttentionBlock(6, 4, 3), "AllAttentionBlock: num_heads=4 does not divide dim=6"),
        (lambda: LabelAttention(6, 0, 4), "num_labels must be"),
        (lambda: LabelAttention(6, 3, 1), "label_dim must be an integer of at least 2"),
        (lambda: LabelAttention(6, 3, 4)(torch.randn(1, 5, 7)), "7"),
        (lambda: LabelAttention(6, 3, 4)(torch.randn(5, 6)), r"\(b, t, 6\)"),
    ],
)
def test_bad_input_is_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()
