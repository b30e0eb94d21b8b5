"""Relational and dual attention, against four loops, torch and the authors' package."""

import pytest
import torch
from dual_attention.dual_attention import DualAttention as AuthorsDualAttention
from dual_attention.relational_attention import RelationalAttention as AuthorsRelationalAttention
from dual_attention.symbol_retrieval import SymbolicAttention as AuthorsSymbolicAttention
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    DualAttention,
    RelationalAttention,
    SymbolicAttention,
    relational_attention,
    relational_attention_naive,
)
from tests.layers.attention_oracles import randomise
from tests.oracles import values_and_gradients


def tokens(b=2, t=5, d=6):
    return torch.randn(b, t, d).double(), torch.randn(b, t, d).double()


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3, 5, 7, 4), (3, 2, 7, 1, 5)], ids=str)
def test_three_einsums_equal_four_loops_in_value_and_all_gradients(sizes):
    h, r, t, s, e = sizes
    parts = [torch.randn(shape).double() for shape in ((h, t, s), (r, t, s), (h, s, e), (h, r, e))]
    expected = values_and_gradients(relational_attention_naive, *parts)
    got = values_and_gradients(
        lambda a, rho, z, w: relational_attention(a[None], rho[None], z[None], w)[0], *parts
    )
    torch.testing.assert_close(got, expected)


@torch.no_grad()
def copy_to_authors(ours, peer):
    names = {
        "wq_attn": "query",
        "wk_attn": "key",
        "wv": "value",
        "wq_rel": "relation_query",
        "wk_rel": "relation_key",
    }
    for theirs, mine in names.items():
        getattr(peer, theirs).weight.copy_(getattr(ours, mine).weight)
    peer.wr.copy_(ours.weight_r.mT)
    peer.wo.weight.copy_(ours.out.weight)
    return peer.double().eval()


@pytest.mark.parametrize("relations", [1, 2, 4])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_relational_attention_equals_the_authors(relations, symmetric, causal):
    ours = randomise(RelationalAttention(8, 2, num_relations=relations, symmetric=symmetric, causal=causal))
    peer = AuthorsRelationalAttention(8, 2, n_relations=relations, symmetric_rels=symmetric)
    copy_to_authors(ours, peer)
    x, z = tokens(d=8)
    expected, weights, rho = peer(x, z, is_causal=causal)
    got = ours(x, z, return_weights=True)
    torch.testing.assert_close(got, (expected, weights, rho.movedim(-1, 1)))
    torch.testing.assert_close(
        values_and_gradients(ours, x, z),
        values_and_gradients(lambda x, z: peer(x, z, is_causal=causal)[0], x, z),
    )


def test_without_relations_it_is_torchs_attention_over_symbols():
    layer = randomise(RelationalAttention(6, 2))
    nn.init.zeros_(layer.weight_r)
    x, z = tokens()
    q, k, v = (
        rearrange(f(y), "b t (h e) -> b h t e", h=2)
        for f, y in ((layer.query, x), (layer.key, x), (layer.value, z))
    )
    heads = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(layer(x, z), layer.out(rearrange(heads, "b h t e -> b t (h e)")))


def test_relations_have_their_own_scale_and_are_symmetric_if_asked():
    x, _ = tokens()
    layer = randomise(RelationalAttention(6, 2, num_relations=3, relation_dim=5))
    for r in range(3):
        part = slice(5 * r, 5 * r + 5)
        rho = layer.relation_query(x)[..., part] @ layer.relation_key(x)[..., part].mT / 5**0.5
        torch.testing.assert_close(layer.relations(x)[:, r], rho)
    assert not torch.allclose(layer.relations(x), layer.relations(x).mT)
    layer = randomise(RelationalAttention(6, 2, symmetric=True))
    torch.testing.assert_close(layer.relations(x), layer.relations(x).mT)
    assert layer.relation_key is layer.relation_query


def test_relations_do_not_change_when_tokens_and_projections_are_rotated_together():
    layer, (x, _) = randomise(RelationalAttention(6, 2, num_relations=3)), tokens()
    rotation = torch.linalg.qr(torch.randn(6, 6).double())[0]
    before = layer.relations(x)
    with torch.no_grad():
        for projection in (layer.relation_query, layer.relation_key):
            projection.weight.copy_(projection.weight @ rotation)
    torch.testing.assert_close(layer.relations(x @ rotation), before)


@pytest.mark.parametrize("causal", [False, True])
def test_masked_tokens_send_nothing(causal):
    layer, (x, z) = randomise(RelationalAttention(6, 2, causal=causal)), tokens()
    mask = torch.tensor([True, True, True, False, False])
    torch.testing.assert_close(layer(x, z, mask=mask)[:, :3], layer(x[:, :3], z[:, :3]))


def test_symbolic_attention_equals_the_authors():
    ours, peer = randomise(SymbolicAttention(6, 2, 7)), AuthorsSymbolicAttention(6, 2, 7).double()
    with torch.no_grad():
        peer.q_proj.load_state_dict(ours.query.state_dict())
        peer.template_features.copy_(rearrange(ours.templates, "h n e -> n (h e)"))
        peer.symbol_library.copy_(rearrange(ours.symbols, "h n e -> n (h e)"))
    x, _ = tokens()
    torch.testing.assert_close(values_and_gradients(ours, x), values_and_gradients(peer, x))


def test_a_symbol_does_not_depend_on_the_position_or_the_other_tokens():
    layer, (x, other) = randomise(SymbolicAttention(6, 2, 7)), tokens()
    other[:, 3] = x[:, 1]
    torch.testing.assert_close(layer(other)[:, 3], layer(x)[:, 1])


def test_symbols_start_standard_normal():
    torch.manual_seed(0)
    layer = SymbolicAttention(64, 2, 100)
    assert layer.templates.std().item() == pytest.approx(1, rel=0.03)
    assert layer.symbols.std().item() == pytest.approx(1, rel=0.03)
    layer, peer = (
        RelationalAttention(64, 4, num_relations=16),
        AuthorsRelationalAttention(64, 4, n_relations=16),
    )
    for weight in (layer.weight_r, peer.wr):
        assert weight.abs().max().item() == pytest.approx(1 / 16, rel=0.02)
        assert weight.std().item() == pytest.approx(1 / 16 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_dual_attention_is_both_kinds_of_heads_side_by_side(causal, symmetric):
    """Either kind has its own output matrix and its own part of the output."""
    ours = randomise(DualAttention(8, 1, 3, num_relations=2, symmetric=symmetric, causal=causal))
    options = {"n_relations": 2, "symmetric_rels": symmetric}
    peer = AuthorsDualAttention(8, 1, 3, dropout=0.0, ra_kwargs=options).double().eval()
    copy_to_authors(ours.relational, peer.relational_attention)
    with torch.no_grad():
        for theirs, mine in (("wq", "query"), ("wk", "key"), ("wv", "value"), ("wo", "out")):
            getattr(peer.self_attention, theirs).weight.copy_(getattr(ours.sensory, mine).weight)
    x, _ = tokens(d=8)
    torch.testing.assert_close(
        values_and_gradients(ours, x),
        values_and_gradients(lambda x: peer(x, ours.symbols(x), is_causal=causal)[0], x),
    )


def test_dual_attention_has_the_parameters_of_the_authors():
    ours, peer = DualAttention(32, 2, 2), AuthorsDualAttention(32, 2, 2, dropout=0.0)
    symbols = sum(p.numel() for p in ours.symbols.parameters())
    assert (
        sum(p.numel() for p in ours.parameters()) - symbols
        == sum(p.numel() for p in peer.parameters())
        == 4640
    )


def test_dual_attention_takes_symbols_of_your_own_and_a_mask():
    class Position(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(7, 8)

        def forward(self, x):
            return self.table.weight[: x.shape[1]].expand_as(x)

    layer = randomise(DualAttention(8, 2, 2, symbols=Position()))
    x, _ = tokens(d=8)
    mask = torch.tensor([True, True, True, False, False])
    torch.testing.assert_close(layer(x, mask=mask)[:, :3], layer(x[:, :3]))
    assert not torch.allclose(layer(x.flip(1)).flip(1), layer(x))  # the symbols tell the order
    by_content = randomise(DualAttention(8, 2, 2))
    torch.testing.assert_close(by_content(x.flip(1)).flip(1), by_content(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RelationalAttention(6, 4), "does not divide dim=6"),
        (lambda: RelationalAttention(6, 2, num_relations=0), "num_relations must be"),
        (lambda: RelationalAttention(6, 2)(torch.randn(2, 5, 7), torch.randn(2, 5, 7)), "7"),
        (
            lambda: RelationalAttention(6, 2)(torch.randn(2, 5, 6), torch.randn(2, 4, 6)),
            "every token needs a symbol",
        ),
        (lambda: SymbolicAttention(6, 2, 0), "num_symbols must be"),
        (lambda: SymbolicAttention(6, 2, 3)(torch.randn(2, 5, 7)), "7"),
        (lambda: DualAttention(6, 0, 2), "num_sensory_heads must be"),
        (lambda: DualAttention(6, 2, 2), "does not divide dim=6"),
        (lambda: DualAttention(8, 2, 2)(torch.randn(2, 5, 7)), "7"),
    ],
)
def test_bad_input_is_refused(build, message):
    with as_installed(), pytest.raises(ValueError, match=message):
        build()
