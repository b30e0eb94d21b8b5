"""Ordered rank, taken-apart convolutions, sparse and hashed layers."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.experiments.layers.structured import exactly_ordered, largest_angle, ordered_loss
from course_lib.layers.structured import (
    Decomposition,
    LowRankLinear,
    MemoryFormerBlock,
    MemoryLinear,
    OrderedLowRankLinear,
    SparseDopedLinear,
    SparseFactorizedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    chain_kernel,
    cp_als,
    cp_conv2d,
    cp_tensor,
    hierarchical_group_lasso,
    memory_linear_naive,
    mixed_decomposition_search,
    pipelined_latency,
    progressive_shrink_,
    random_mask,
    rigl_update_,
    sample_rank_,
    sparse_ift_size,
    svd_conv2d,
    truncate_rank,
)

# -- Maestro ---------------------------------------------------------------------------------------


def test_ordered_layer_is_the_low_rank_layer_of_its_first_columns():
    layer, x = OrderedLowRankLinear(5, 7).double(), torch.randn(3, 5).double()
    nn.init.normal_(layer.bias)
    for b in (1, 3, 5, None):
        layer.active_rank = b
        expected = F.linear(x, layer.u[:, :b] @ layer.v[:, :b].mT, layer.bias)
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(F.linear(x, layer.weight, layer.bias), expected)


def test_ordered_layer_starts_from_an_svd_and_columns_beyond_the_active_get_no_gradient():
    layer = OrderedLowRankLinear(5, 7).double()
    s = layer.u.detach().norm(dim=0).square()
    torch.testing.assert_close(s, torch.linalg.svdvals(layer.weight.detach())[:5], rtol=1e-6, atol=1e-6)
    layer.active_rank = 2
    layer(torch.randn(3, 5).double()).sum().backward()
    assert layer.u.grad[:, 2:].abs().max() == 0 < layer.u.grad[:, :2].abs().max()


def test_sampled_layer_and_rank_are_uniform_and_only_one_layer_is_cut():
    layers = [OrderedLowRankLinear(3, 3), OrderedLowRankLinear(2, 4)]
    generator, counts = torch.Generator().manual_seed(0), {}
    for _ in range(3000):
        which, rank = sample_rank_(layers, generator)
        assert layers[which].active_rank == rank
        assert layers[1 - which].active_rank is None
        counts[which, rank] = counts.get((which, rank), 0) + 1
    assert set(counts) == {(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)}
    expected = {key: 3000 / 2 / layers[key[0]].rank for key in counts}
    assert all(abs(counts[key] - expected[key]) < 4 * expected[key] ** 0.5 for key in counts)
    with pytest.raises(ValueError, match="no factorised layer"):
        sample_rank_([])


def test_group_lasso_equals_loops_over_all_tails_and_is_differentiable_at_a_zero_tail():
    layers = [LowRankLinear(5, 7, 4).double(), LowRankLinear(2, 3, 1).double()]
    expected = sum(f[:, b:].norm() for layer in layers for f in (layer.u, layer.v) for b in range(layer.rank))
    torch.testing.assert_close(hierarchical_group_lasso(layers), expected)
    factors = [f for layer in layers for f in (layer.u, layer.v)]
    ours = torch.autograd.grad(hierarchical_group_lasso(layers), factors)
    torch.testing.assert_close(ours, torch.autograd.grad(expected, factors))
    nn.init.zeros_(layers[0].u[:, 2:])
    hierarchical_group_lasso(layers).backward()
    assert all(f.grad.isfinite().all() for f in factors)
    assert layers[0].u.grad[:, 2:].abs().max() == 0


def test_shrinking_drops_a_dead_tail_for_good_and_leaves_the_output_unchanged():
    layer, x = OrderedLowRankLinear(5, 7).double(), torch.randn(3, 5).double()
    nn.init.zeros_(layer.v[:, 3:])  # one dead factor is enough
    before = layer(x)
    assert progressive_shrink_(layer) == layer.rank == 3
    torch.testing.assert_close(layer(x), before)
    assert progressive_shrink_(layer) == 3
    nn.init.zeros_(layer.u)
    assert progressive_shrink_(layer) == 1


def test_a_dead_column_in_the_middle_stays_until_all_after_it_are_dead():
    layer = LowRankLinear(4, 4, 4)
    nn.init.zeros_(layer.u[:, 1])
    assert progressive_shrink_(layer) == 4


def test_truncation_at_full_rank_changes_nothing_and_cheap_dense_layers_are_merged():
    layer, x = LowRankLinear(6, 6, 5).double(), torch.randn(3, 6).double()
    merged, thin = truncate_rank(layer, 5), truncate_rank(layer, 3)
    assert isinstance(merged, nn.Linear)
    assert isinstance(thin, LowRankLinear)
    torch.testing.assert_close(merged(x), layer(x))
    torch.testing.assert_close(thin.weight, layer.u[:, :3] @ layer.v[:, :3].mT)
    with pytest.raises(ValueError, match="5 columns"):
        truncate_rank(layer, 6)


# -- Mixed-TD --------------------------------------------------------------------------------------


def convolution(**options):
    return nn.Conv2d(6, 7, (3, 5), **options).double()


@pytest.mark.parametrize(("unfolding", "rank"), [("filters", 7), ("separable", 21), ("channels", 6)])
@pytest.mark.parametrize(
    "options", [{}, {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1), "bias": False}]
)
def test_full_rank_svd_chain_equals_the_convolution(unfolding, rank, options):
    conv, x = convolution(**options), torch.randn(2, 6, 11, 13).double()
    chain = svd_conv2d(conv, rank, unfolding=unfolding)
    torch.testing.assert_close(chain(x), conv(x))
    assert chain[0].out_channels == rank


@pytest.mark.parametrize(
    ("unfolding", "rank", "groups"), [("filters", 7, 3), ("separable", 10, 3), ("channels", 6, 7)]
)
def test_grouped_svd_chain_at_full_rank_equals_the_convolution(unfolding, rank, groups):
    conv, x = convolution(stride=2), torch.randn(2, 6, 11, 13).double()
    chain = svd_conv2d(conv, rank, unfolding=unfolding, groups=groups)
    torch.testing.assert_close(chain(x), conv(x))
    parted = "7 filters" if unfolding == "channels" else "6 input channels"
    with pytest.raises(ValueError, match=f"groups must divide the {parted}, got 5"):
        svd_conv2d(conv, 1, unfolding=unfolding, groups=5)


@pytest.mark.parametrize("unfolding", ["filters", "separable", "channels"])
def test_truncated_svd_chain_has_the_error_of_eckart_and_young_and_the_kernel_it_says(unfolding):
    conv, x = convolution(), torch.randn(2, 6, 11, 13).double()
    chain = svd_conv2d(conv, 3, unfolding=unfolding)
    kernel = chain_kernel(chain)
    torch.testing.assert_close(chain(x), F.conv2d(x, kernel, conv.bias))
    order = {"filters": (0, 1, 2, 3), "separable": (0, 2, 1, 3), "channels": (0, 2, 3, 1)}[unfolding]
    split = {"filters": 1, "separable": 2, "channels": 3}[unfolding]
    unfolded = conv.weight.detach().permute(order).flatten(split).flatten(0, split - 1)
    tail = torch.linalg.svdvals(unfolded)[3:].square().sum().sqrt()
    torch.testing.assert_close((conv.weight - kernel).norm(), tail)


def test_cp_chain_is_the_convolution_with_the_rebuilt_kernel():
    conv, x = convolution(stride=(2, 1), padding=(1, 2)), torch.randn(2, 6, 11, 13).double()
    chain = cp_conv2d(conv, 4)
    kernel = cp_tensor(cp_als(conv.weight.detach(), 4))
    torch.testing.assert_close(chain(x), F.conv2d(x, kernel, conv.bias, conv.stride, conv.padding))
    torch.testing.assert_close(chain_kernel(chain), kernel)
    assert sum(link.weight.numel() for link in chain) == 4 * (7 + 6 + 3 + 5)


def test_cp_als_recovers_a_planted_tensor_and_equals_svd_for_matrices():
    planted = cp_tensor([torch.randn(n, 3).double() for n in (5, 6, 7)])
    assert (cp_tensor(cp_als(planted, 3, steps=300)) - planted).norm() < 1e-3 * planted.norm()
    w = torch.randn(6, 9).double()
    best = torch.linalg.svdvals(w)[2:].square().sum().sqrt()
    torch.testing.assert_close((cp_tensor(cp_als(w, 2)) - w).norm(), best, rtol=1e-4, atol=0)


def test_cp_als_is_a_stationary_point_and_stays_bounded_beyond_the_true_rank():
    t = torch.randn(3, 4, 5).double()
    factors = [f.requires_grad_() for f in cp_als(t, 2, steps=500, ridge=0.0)]
    gradients = torch.autograd.grad((cp_tensor(factors) - t).square().sum(), factors)
    assert max(g.abs().max() for g in gradients) < 1e-3
    beyond = cp_als(cp_tensor([torch.randn(n, 2).double() for n in (3, 4, 5)]), 5)
    assert max(f.abs().max() for f in beyond) < 100
    with pytest.raises(ValueError, match="rank must be an integer of at least 1"):
        cp_als(t, 0)


def test_cp_tensor_is_a_sum_of_outer_products():
    a, b, c = (torch.randn(n, 2) for n in (2, 3, 4))
    loops = sum(torch.einsum("i,j,k->ijk", a[:, s], b[:, s], c[:, s]) for s in range(2))
    torch.testing.assert_close(cp_tensor([a, b, c]), loops)


@pytest.mark.parametrize("conv", [nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same")])
def test_convolutions_that_cannot_be_taken_apart_are_refused(conv):
    for take_apart in (svd_conv2d, cp_conv2d):
        with pytest.raises(ValueError, match="one group"):
            take_apart(conv, 2)
    with pytest.raises(ValueError, match="rank must be at most 4"):
        svd_conv2d(nn.Conv2d(4, 4, 3), 5, unfolding="filters")
    with pytest.raises(ValueError, match="unfolding"):
        svd_conv2d(nn.Conv2d(4, 4, 3), 2, unfolding="rows")


@pytest.mark.parametrize("budget", [30, 47, 80])
def test_search_finds_the_best_of_all_combinations(budget):
    generator = torch.Generator().manual_seed(budget)
    draw = lambda: Decomposition(  # noqa: E731
        "any", int(torch.randint(5, 30, (), generator=generator)), torch.rand((), generator=generator).item()
    )
    candidates = {name: [draw() for _ in range(5)] for name in "abc"}
    chosen = mixed_decomposition_search(candidates, budget)
    feasible = (c for c in itertools.product(*candidates.values()) if sum(d.parameters for d in c) <= budget)
    best = min(sum(d.error for d in c) for c in feasible)
    assert math.isclose(sum(d.error for d in chosen.values()), best)
    assert sum(d.parameters for d in chosen.values()) <= budget
    with pytest.raises(ValueError, match="budget is 3"):
        mixed_decomposition_search(candidates, 3)


def test_pipelined_latency_is_the_best_of_all_shares():
    work, units = [70, 30, 110], 9
    shares = [s for s in itertools.product(range(1, units), repeat=3) if sum(s) <= units]
    assert pipelined_latency(work, units) == min(
        max(w / u for w, u in zip(work, s, strict=True)) for s in shares
    )
    with pytest.raises(ValueError, match="3 layers"):
        pipelined_latency(work, 2)


def test_the_ordered_loss_is_the_mean_over_all_ranks_and_its_optimum_the_principal_components():
    layer, x = OrderedLowRankLinear(5, 5, rank=3, bias=False).double(), torch.randn(30, 5).double()
    losses = []
    for rank in (1, 2, 3):
        layer.active_rank = rank
        losses.append((layer(x) - x).square().sum())
    torch.testing.assert_close(ordered_loss(layer, x, x), torch.stack(losses).mean())
    fitted = exactly_ordered(x, x, 3, seed=0)
    directions = torch.linalg.svd(x, full_matrices=False)[2]
    assert all(largest_angle(fitted.u[:, :b], directions[:b].mT) < 0.1 for b in (1, 2, 3))


# -- Sparse iso-FLOP -------------------------------------------------------------------------------

SPARSE = [SparseWideLinear, SparseParallelLinear, SparseFactorizedLinear, SparseDopedLinear]


def active_weights(layer):
    """Ones of all masks, plus dense factors."""
    masks = sum(m.mask.sum().item() for m in layer.modules() if hasattr(m, "mask"))
    return masks + sum(p.numel() for name, p in layer.named_parameters() if name in ("u", "v"))


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.75, 0.9])
def test_active_weights_are_exactly_those_of_the_dense_layer(kind, sparsity):
    assert active_weights(kind(13, 17, sparsity)) == 13 * 17


@pytest.mark.parametrize("options", [{"widen_in": False}, {"widen_out": False}])
def test_first_and_last_layer_keep_their_outer_width_and_the_count(options):
    layer = SparseWideLinear(12, 20, 0.75, **options)
    assert {layer.in_features, layer.out_features} & {12, 20}
    assert active_weights(layer) == 240


def test_without_sparsity_wide_and_doped_are_dense_layers_and_parallel_is_dense_with_its_activation():
    x = torch.randn(5, 6).double()
    for kind, after in (
        (SparseWideLinear, lambda y: y),
        (SparseParallelLinear, F.relu),
        (SparseDopedLinear, lambda y: y),
    ):
        layer = kind(6, 4, 0.0).double()
        inner = next(m for m in layer.modules() if hasattr(m, "mask"))
        torch.testing.assert_close(layer(x), after(F.linear(x, inner.dense_weight, inner.bias)))


def test_masked_layer_equals_torchs_sparse_product_and_masked_weights_get_no_gradient():
    layer, x = SparseWideLinear(6, 4, 0.75).double(), torch.randn(5, 12).double()
    expected = torch.sparse.mm(layer.weight.detach().to_sparse(), x.mT).mT + layer.bias
    torch.testing.assert_close(layer(x), expected)
    layer(x).square().sum().backward()
    torch.testing.assert_close(layer.dense_weight.grad != 0, layer.mask)


def test_doped_layer_is_sparse_plus_low_rank_and_factorised_is_a_product():
    x = torch.randn(5, 12).double()
    doped, factored = SparseDopedLinear(12, 10, 0.6).double(), SparseFactorizedLinear(12, 10, 0.6).double()
    torch.testing.assert_close(doped(x), F.linear(x, doped.weight, doped.sparse.bias))
    assert torch.linalg.matrix_rank(doped.weight - doped.sparse.weight) == doped.rank == int(0.6 * 120 / 22)
    dense = factored.second.weight @ factored.first.weight
    torch.testing.assert_close(factored(x), F.linear(x, dense, factored.second.bias))


def test_sparse_start_keeps_the_variance_of_the_dense_layers_output():
    torch.manual_seed(0)
    x = torch.randn(4000, 120)
    wide = SparseWideLinear(60, 60, 0.75, bias=False)
    assert math.isclose(wide(x).var().item(), nn.Linear(120, 60, bias=False)(x).var().item(), rel_tol=0.15)


def test_random_masks_have_an_exact_count_and_every_place_is_as_likely():
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([random_mask(3, 4, 5, generator).double() for _ in range(2000)]).mean(0)
    assert (mean - 5 / 12).abs().max() < 4 * (5 / 12 * 7 / 12 / 2000) ** 0.5
    with pytest.raises(ValueError, match="13 ones"):
        random_mask(3, 4, 13)
    with pytest.raises(ValueError, match="kind"):
        sparse_ift_size(3, 4, 0.5, "deep")
    with pytest.raises(ValueError, match="sparsity"):
        sparse_ift_size(3, 4, 1.0, "wide")


def test_rigl_drops_the_smallest_grows_the_steepest_and_keeps_the_count():
    layer = SparseWideLinear(4, 4, 0.75)
    before, gradient = layer.mask.clone(), torch.randn(8, 8)
    weight = layer.weight.detach().clone()
    assert rigl_update_(layer, gradient, 0.25) == 4
    assert layer.mask.sum() == 16
    smallest = weight.abs().masked_fill(~before, math.inf).flatten().topk(4, largest=False).indices
    kept = before.clone()
    kept.view(-1)[smallest] = False
    grown = layer.mask & ~kept
    assert (kept & ~layer.mask).sum() == 0
    assert gradient[grown].abs().min() >= gradient[~kept & ~layer.mask].abs().max()
    assert (layer.weight[grown & ~before] == 0).all()
    torch.testing.assert_close(layer.weight[layer.mask & before], weight[layer.mask & before])
    with pytest.raises(ValueError, match="share"):
        rigl_update_(layer, gradient, 1.5)


# -- MemoryFormer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "bits"), [(6, 3), (5, 1), (4, 4)])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("full", [True, False])
def test_lookup_equals_the_softmax_over_all_corners_in_value_and_gradient(width, bits, temperature, full):
    layer = MemoryLinear(width, 7, bits=bits, temperature=temperature, full=full).double()
    x = torch.randn(3, 2, width).double().requires_grad_()
    nn.init.normal_(layer.bias)
    slow = memory_linear_naive(x, layer.tables, temperature, full) + layer.bias
    torch.testing.assert_close(layer(x), slow)
    gradients = [torch.autograd.grad(y.square().sum(), (x, layer.tables)) for y in (layer(x), slow)]
    torch.testing.assert_close(*gradients)


def test_cold_lookup_is_piecewise_constant_and_reads_one_row_per_chunk():
    layer = MemoryLinear(6, 7, bits=3, temperature=1e-3, full=False, bias=False).double()
    x = torch.randn(5, 6).double()
    torch.testing.assert_close(layer(x), layer(10 * x))
    row, p = layer.address(x)
    torch.testing.assert_close(p, torch.ones_like(p))
    torch.testing.assert_close(layer(x), layer.tables[0, row[:, 0]] + layer.tables[1, row[:, 1]])
    gradient = torch.autograd.grad(layer(x[:1]).sum(), layer.tables)[0]
    assert (gradient.abs().sum(-1) > 0).sum() == 2


@pytest.mark.parametrize("options", [{}, {"full": False}, {"temperature": 0.5}, {"bits": 1}])
def test_fresh_tables_give_outputs_of_variance_one(options):
    y = MemoryLinear(64, 256, **{"bits": 8, **options})(torch.randn(1000, 64))
    assert math.isclose(y.var().item(), 1.0, rel_tol=0.1)


def test_a_memory_layer_has_a_bias_only_if_asked_for():
    assert [name for name, _ in MemoryLinear(6, 5, bits=3, bias=False).named_parameters()] == ["tables"]
    assert MemoryFormerBlock(8, 2, bits=4, bias=False, full=False).second.full is False
    assert all(
        "bias" not in n or "norm" in n for n in MemoryFormerBlock(8, 2, bits=4, bias=False).state_dict()
    )


def test_memory_layer_refuses_bits_that_do_not_divide_and_a_block_its_heads():
    for options in ({"bits": 4}, {"bits": 0}):
        with pytest.raises(ValueError, match="bits"):
            MemoryLinear(6, 7, **options)
    with pytest.raises(ValueError, match="heads"):
        MemoryFormerBlock(6, 4, bits=3)


@pytest.mark.parametrize("causal", [False, True])
def test_memory_block_is_attention_and_two_lookups_written_out(causal):
    block, x = MemoryFormerBlock(8, 2, bits=4, causal=causal).double(), torch.randn(2, 5, 8).double()
    n = F.layer_norm(x, (8,))
    q, k, v = (m(n).unflatten(-1, (2, 4)).transpose(1, 2) for m in (block.query, block.key, block.value))
    scores = q @ k.mT / 2
    if causal:
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    middle = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    hidden = F.layer_norm(block.first(F.layer_norm(middle, (8,))), (12,))
    torch.testing.assert_close(block(x), middle + block.second(hidden))
    assert block.second.bits == 6
