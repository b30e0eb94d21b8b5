"""The cache of keys and values: cropped, reordered, moved, emptied; and unchanged by whatever is refused."""

import copy
import warnings

import pytest
import torch
from torch import nn

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.attention import (
    AllAttention,
    GroupedQueryAttention,
    Hopfield,
    HopfieldPooling,
    KVCache,
    LabelAttention,
    MultiHeadAttention,
    MultiQueryAttention,
    RelationalAttention,
    SubsampledAttention,
    attention_weights,
    kv_cache_bytes,
    scaled_dot_product,
    subset_attention,
)
from course_lib.layers.norm import TransformerBlock
from tests.layers.attention_oracles import randomise

DIM = 12


def layer():
    torch.manual_seed(0)
    return randomise(GroupedQueryAttention(DIM, 4, 2, causal=True))


def tokens(length, rows=2):
    return torch.randn(rows, length, DIM, generator=torch.Generator().manual_seed(length)).double()


def filled(length=5):
    cache = KVCache()
    with torch.no_grad():
        layer()(tokens(length), cache=cache)
    return cache


def state(cache):
    return len(cache), cache.keys.clone(), cache.values.clone()


def test_cropped_it_continues_from_the_tokens_that_are_left():
    attention, x, cache = layer(), tokens(9), KVCache()
    with torch.no_grad():
        attention(x[:, :7], cache=cache)
        cache.crop(4)
        assert len(cache) == 4
        other = torch.cat([x[:, :4], tokens(3)], dim=1)
        torch.testing.assert_close(attention(other[:, 4:], cache=cache), attention(other)[:, 4:])
    cache.crop(0)
    assert len(cache) == 0


def test_reordered_every_row_continues_the_row_it_comes_from():
    attention, x, rows = layer(), tokens(6, rows=3), torch.tensor([2, 0, 0, 1])
    cache = KVCache()
    with torch.no_grad():
        attention(x[:, :5], cache=cache)
        cache.reorder(rows)
        torch.testing.assert_close(attention(x[rows, 5:], cache=cache), attention(x[rows])[:, 5:])
    assert cache.keys.shape[0] == 4


def test_reset_it_takes_another_batch():
    attention, cache = layer(), filled()
    cache.reset()
    assert (len(cache), cache.keys, cache.nbytes) == (0, None, 0)
    with torch.no_grad():
        torch.testing.assert_close(attention(tokens(3, rows=7), cache=cache), attention(tokens(3, rows=7)))


def test_moved_it_holds_the_same_in_another_type_or_place():
    cache, attention = filled(), layer()
    before = state(cache)
    assert cache.to(torch.float32) is cache
    torch.testing.assert_close(
        (len(cache), cache.keys, cache.values), (5, before[1].float(), before[2].float())
    )
    with torch.no_grad():
        got = attention.float()(tokens(2).float(), cache=cache)
        expected = layer()(torch.cat([tokens(5), tokens(2)], dim=1))[:, 5:]
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-5)
    assert filled().to("meta").keys.is_meta
    assert len(KVCache().to(torch.float16)) == 0


def test_a_copy_is_another_cache():
    cache = filled()
    other = copy.deepcopy(cache)
    with torch.no_grad():
        layer()(tokens(2), cache=other)
    assert (len(cache), len(other)) == (5, 7)
    assert repr(cache) == f"KVCache(5 tokens, {cache.nbytes} bytes)"


def pair(*shape, values=None, **options):
    return torch.zeros(*shape, **options), torch.zeros(*(values or shape), **options)


double = {"dtype": torch.float64}


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (
            lambda c: c.append(*pair(2, 2, 1, 3, values=(2, 2, 2, 3), **double)),
            ValueError,
            "every key needs one",
        ),
        (lambda c: c.append(*pair(2, 2, 3, **double)), ValueError, "every key needs one"),
        (lambda c: c.append(*pair(1, 2, 1, 3, **double)), ValueError, "per layer and per batch"),
        (lambda c: c.append(*pair(2, 1, 1, 3, **double)), ValueError, "per layer and per batch"),
        (lambda c: c.append(*pair(2, 2, 1, 4, **double)), ValueError, "per layer and per batch"),
        (lambda c: c.append(*pair(2, 2, 1, 3)), ValueError, r"cache\.to"),
        (lambda c: c.append(*pair(2, 2, 1, 3, device="meta", **double)), ValueError, r"cache\.to"),
        (lambda c: c.append(*pair(2, 2, 1, 3, requires_grad=True, **double)), ValueError, "no_grad"),
        (lambda c: c.crop(6), ValueError, "length=6, but the cache holds 5"),
        (lambda c: c.crop(-1), ValueError, "KVCache.crop: length must be"),
        (lambda c: c.crop(2.0), TypeError, "KVCache.crop: length must be"),
        (lambda c: c.crop("all"), TypeError, "KVCache.crop: length must be"),
        (lambda c: c.reorder(torch.tensor([0, 2])), ValueError, r"from 0 to 1, got \[0, 2\]"),
        (lambda c: c.reorder(torch.tensor([-1])), ValueError, "from 0 to 1"),
        (lambda c: c.reorder(torch.tensor([[0]])), ValueError, "from 0 to 1"),
        (lambda c: c.reorder(torch.tensor([], dtype=torch.int64)), ValueError, "from 0 to 1"),
        (lambda c: c.reorder(torch.tensor([0.0])), TypeError, "int64, got torch.float32"),
        (lambda c: c.reorder([0, 1]), TypeError, "int64, got list"),
        (lambda c: c.to(torch.int64), TypeError, "floating-point numbers, got torch.int64"),
    ],
)
def test_what_is_refused_leaves_the_cache_as_it_was(act, error, message):
    cache = filled()
    before = state(cache)
    with as_installed(), pytest.raises(error, match=message):
        act(cache)
    torch.testing.assert_close(state(cache), before, rtol=0, atol=0)
    with torch.no_grad():
        expected = layer()(torch.cat([tokens(5), tokens(2)], dim=1))[:, 5:]
        torch.testing.assert_close(layer()(tokens(2), cache=cache), expected)


def test_an_empty_cache_has_no_rows_to_choose_from():
    with pytest.raises(ValueError, match="the cache is empty"):
        KVCache().reorder(torch.tensor([0]))
    with pytest.raises(ValueError, match="holds 0 tokens"):
        KVCache().crop(1)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [(-1, ValueError, "kv_cache_bytes: length must be"), (2.5, TypeError, "kv_cache_bytes: length must be")],
)
def test_bytes_of_what_is_no_size_are_refused(size, error, message):
    with as_installed(), pytest.raises(error, match=message):
        kv_cache_bytes(size, 1, 1)


REFUSED = {
    "mask of another length": {"mask": torch.ones(2, 5, dtype=torch.bool)},
    "mask of integers": {"mask": torch.ones(2, 7, dtype=torch.int64)},
    "mask that is a list": {"mask": [[True] * 7] * 2},
}


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_a_layer_that_refuses_a_mask_has_not_touched_the_cache(options, empty):
    attention, cache = layer(), KVCache() if empty else filled()
    with torch.no_grad():
        with as_installed(), pytest.raises((ValueError, TypeError), match="mask"):
            attention(tokens(2), cache=cache, **options)
        past = torch.zeros(2, 0, DIM).double() if empty else tokens(5)
        expected = attention(torch.cat([past, tokens(2)], dim=1))[:, past.shape[1] :]
        torch.testing.assert_close(attention(tokens(2), cache=cache), expected)


@pytest.mark.parametrize(
    "attention",
    [AllAttention(DIM, 4, 3, num_positions=6, causal=True), SubsampledAttention(DIM, 4, 2, causal=True)],
    ids=lambda a: type(a).__name__,
)
def test_a_variant_that_refuses_later_has_not_touched_the_cache(attention):
    """Too many positions, or a layer that draws: found out only where keys and queries meet."""
    attention, cache = attention.double(), KVCache()
    with torch.no_grad():
        attention.eval()(tokens(5), cache=cache)
        before = state(cache)
        with pytest.raises(ValueError, match=r"exceed num_positions|whole pattern"):
            attention.train()(tokens(2), cache=cache)
        torch.testing.assert_close(state(cache), before, rtol=0, atol=0)


def test_a_block_hands_mask_and_cache_to_its_attention():
    block, x = randomise(TransformerBlock(DIM, 4, causal=True)), tokens(7)
    mask = torch.tensor([[True] * 7, [False] * 2 + [True] * 5])[:, None, None, :]
    cache = KVCache()
    with torch.no_grad():
        whole = block(x, mask=mask)
        steps = [block(x[:, :4], mask=mask[..., :4], cache=cache), block(x[:, 4:], mask=mask, cache=cache)]
        torch.testing.assert_close(torch.cat(steps, dim=1), whole)
        torch.testing.assert_close(whole[1, 2:], block(x[1:, 2:])[0])
    assert not torch.allclose(whole, block(x))


# -- Masks of integers, and the range of half precision ------------------------------------------------

MASKED = {
    "MultiHeadAttention": lambda: MultiHeadAttention(DIM, 2),
    "GroupedQueryAttention": lambda: GroupedQueryAttention(DIM, 4, 2),
    "MultiQueryAttention": lambda: MultiQueryAttention(DIM, 4),
    "AllAttention": lambda: AllAttention(DIM, 2, 3),
    "Hopfield": lambda: Hopfield(DIM, 2, steps=2),
    "HopfieldPooling": lambda: HopfieldPooling(DIM, 2),
    "LabelAttention": lambda: LabelAttention(DIM, 3, 4),
    "RelationalAttention": lambda: RelationalAttention(DIM, 2),
}


@pytest.mark.parametrize("return_weights", [True, False])
@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_ones_and_zeros_is_refused_and_its_bool_hides_the_zeros(name, return_weights):
    attention, x = MASKED[name]().eval(), torch.randn(2, 4, DIM)
    inputs = (x, x) if name == "RelationalAttention" else (x,)
    ones = torch.tensor([1, 0, 1, 1])
    with as_installed(), pytest.raises(ValueError, match=r"mask must be bool .* take mask\.bool\(\)"):
        attention(*inputs, mask=ones, return_weights=return_weights)
    weights = attention(*inputs, mask=ones.bool(), return_weights=True)[1]
    sources = weights[..., -4:]  # behind the slots, where there are some
    assert not sources[..., 1].any()
    assert (sources[..., [0, 2, 3]] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_beyond_half_precision_are_scaled_before_their_product(dtype):
    """Entries of 40 in 64 columns: the product is 102400, beyond float16; scaled it is 12800."""
    q = torch.full((1, 1, 5, 64), 40.0, dtype=dtype)
    v = torch.randn(1, 1, 5, 3).to(dtype)
    kept = torch.tensor([[0, 2]])
    for y in (
        attention_weights(q, q) @ v,
        scaled_dot_product(q, q, v),
        subset_attention(q, q, v, kept),
        subset_attention(q, q, v, kept, causal=True),
    ):
        assert y.isfinite().all()
    torch.testing.assert_close(
        subset_attention(q, q, v, kept, causal=True).double(),
        subset_attention(q.double(), q.double(), v.double(), kept, causal=True),
        rtol=1e-2,
        atol=1e-2,
    )


def test_relations_and_positions_are_scaled_before_their_product():
    relational = RelationalAttention(64, 1, relation_dim=64).half()
    nn.init.eye_(relational.relation_query.weight)
    nn.init.eye_(relational.relation_key.weight)
    x = torch.full((1, 3, 64), 40.0, dtype=torch.float16)
    assert relational.relations(x).unique().tolist() == [12800.0]
    slots = AllAttention(64, 1, 1, num_positions=3, causal=True).half()
    nn.init.constant_(slots.positions, 40.0)
    q = torch.full((1, 1, 3, 64), 40.0, dtype=torch.float16)
    assert slots._add_positions(q, q, None).unique().tolist() == [12800.0]


# -- Tracers ------------------------------------------------------------------------------------------

TRACED = {
    "multi-head": lambda: MultiHeadAttention(DIM, 4),
    "causal": lambda: MultiHeadAttention(DIM, 4, causal=True),
    "grouped, causal": lambda: GroupedQueryAttention(DIM, 4, 2, causal=True),
    "multi-query": lambda: MultiQueryAttention(DIM, 4),
    "slots": lambda: AllAttention(DIM, 4, 3, causal=True),
}


@pytest.mark.parametrize("name", TRACED)
def test_jit_trace_gives_the_same(name):
    attention, x = randomise(TRACED[name]()), tokens(5)
    with as_installed(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(attention, (x,))
    torch.testing.assert_close(traced(2 * x), attention(2 * x))


@pytest.mark.parametrize("name", TRACED)
def test_export_leaves_time_open(name):
    attention, x = randomise(TRACED[name]()), tokens(5)
    with as_installed():
        program = torch.export.export(attention, (x,), dynamic_shapes=({1: torch.export.Dim("t", min=2)},))
    for length in (2, 9):
        torch.testing.assert_close(program.module()(tokens(length)), attention(tokens(length)))


@pytest.mark.parametrize("name", [*TRACED, "Hopfield"])
def test_symbolic_trace_of_a_network_gives_the_same(name):
    """In a network; alone, the options of forward must be told: ``concrete_args={"mask": None, ...}``."""
    net = nn.Sequential({**TRACED, **MASKED}[name](), nn.Linear(DIM, DIM))
    net, x = randomise(net), tokens(5)
    with as_installed():
        traced = torch.fx.symbolic_trace(net)
    torch.testing.assert_close(traced(x), net(x))
