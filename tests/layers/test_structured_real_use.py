"""Structured layers in real use: bad arguments, half precision, state that is saved, tracing."""

import copy

import pytest
import torch
from torch import nn

from course_lib.layers.structured import (
    Decomposition,
    KroneckerLinear,
    LowRankLinear,
    MemoryLinear,
    MonarchLinear,
    MZIMesh,
    OrderedLowRankLinear,
    PermutedKroneckerLinear,
    PhotonicLinear,
    RandomPermutedMixerBlock,
    SNNKLinear,
    SparseFactorizedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    clements_decompose,
    commutation_matrix,
    cp_als,
    effective_rank,
    exp_features,
    fit_bundled,
    mixed_decomposition_search,
    mixing_matrix,
    orthogonal_projections,
    pipelined_latency,
    progressive_shrink_,
    random_mask,
    rigl_update_,
    sample_rank_,
    saturable_absorber,
    sparse_ift_size,
    spectral_init_,
    structured_init_std,
    structured_lr_multiplier,
    svd_conv2d,
    truncate_rank,
)
from tests.layers.arguments import as_users_call, layers

LAYERS = layers("layers/structured")


NAN = float("nan")
REFUSED = {
    "one number for two factors": (
        lambda: MonarchLinear(64, 64),
        TypeError,
        r"MonarchLinear: in_shape .*\(8, 8\) for",
    ),
    "factors of another matrix": (
        lambda: MonarchLinear.from_dense(torch.zeros(4, 6), (2, 2), (2, 2)),
        ValueError,
        "multiplied out",
    ),
    "more terms than a matrix has": (
        lambda: KroneckerLinear.from_dense(torch.zeros(4, 4), (2, 2), (2, 2), terms=5),
        ValueError,
        "terms=5",
    ),
    "rank of a matrix": (lambda: LowRankLinear(6, 4, 5), ValueError, "LowRankLinear: rank must be at most 4"),
    "columns that are not there": (
        lambda: setattr(OrderedLowRankLinear(6, 4), "active_rank", 5),
        ValueError,
        "active_rank must be at most 4",
    ),
    "start of another shape": (
        lambda: spectral_init_(LowRankLinear(6, 4, 2), torch.zeros(6, 4)),
        ValueError,
        "spectral_init_",
    ),
    "no layer": (lambda: sample_rank_([]), ValueError, "sample_rank_"),
    "negative bound": (
        lambda: progressive_shrink_(LowRankLinear(4, 4, 2), -1.0),
        ValueError,
        "progressive_shrink_",
    ),
    "more columns": (lambda: truncate_rank(LowRankLinear(4, 4, 2), 3), ValueError, "truncate_rank"),
    "fan": (lambda: structured_init_std(0, 4), ValueError, "structured_init_std: fan_in"),
    "base": (lambda: structured_lr_multiplier(4, 0), ValueError, "structured_lr_multiplier: base_fan_in"),
    "no rows": (lambda: commutation_matrix(0, 3), ValueError, "commutation_matrix: rows"),
    "word": (lambda: mixing_matrix(torch.eye(2), 2, mixes="heads"), ValueError, "mixing_matrix: mixes"),
    "index": (
        lambda: PermutedKroneckerLinear(2, 2, permute_in=torch.zeros(4)),
        TypeError,
        "torch.int64, got torch.f",
    ),
    "twice": (
        lambda: PermutedKroneckerLinear(2, 2, permute_out=torch.tensor([0, 0, 1, 2])),
        ValueError,
        "permute_out must hold each of 0..3 once",
    ),
    "kind": (lambda: sparse_ift_size(4, 4, 0.5, "narrow"), ValueError, "sparse_ift_size: kind"),
    "nothing left": (lambda: sparse_ift_size(4, 4, 1.0, "wide"), ValueError, "sparsity must be below 1"),
    "places": (lambda: random_mask(2, 2, 5), ValueError, "random_mask: 2 x 2 places"),
    "share": (
        lambda: rigl_update_(SparseWideLinear(4, 6, 0.75), torch.zeros(12, 8), 2.0),
        ValueError,
        "share",
    ),
    "gradient": (
        lambda: rigl_update_(SparseWideLinear(4, 6, 0.75), torch.zeros(8, 12), 0.5),
        ValueError,
        "the mask",
    ),
    "NaN": (
        lambda: rigl_update_(SparseWideLinear(4, 6, 0.75), torch.full((12, 8), NAN), 0.5),
        ValueError,
        "NaN",
    ),
    "features": (lambda: orthogonal_projections(0, 3), ValueError, "orthogonal_projections: num_features"),
    "ridge": (
        lambda: fit_bundled(SNNKLinear(2, 1, 3), torch.zeros(4, 2), torch.zeros(4, 1), -1.0),
        ValueError,
        "fit_bundled: ridge",
    ),
    "targets": (
        lambda: fit_bundled(SNNKLinear(2, 1, 3), torch.zeros(4, 2), torch.zeros(4, 2)),
        ValueError,
        r"targets must be \(4, 1\)",
    ),
    "no unitary": (lambda: clements_decompose(torch.zeros(2, 2, dtype=torch.complex64)), ValueError, "U U"),
    "modes": (lambda: MZIMesh(3)(torch.zeros(4)), ValueError, "MZIMesh"),
    "whole light": (lambda: MZIMesh(3)(torch.zeros(3, dtype=torch.long)), TypeError, "MZIMesh"),
    "transmission": (lambda: saturable_absorber(torch.ones(1), transmission=1.0), ValueError, "transmission"),
    "saturation": (lambda: saturable_absorber(torch.ones(1), saturation=0.0), ValueError, "saturation"),
    "one axis": (lambda: cp_als(torch.zeros(3), 1), ValueError, "two axes"),
    "groups": (lambda: svd_conv2d(nn.Conv2d(4, 4, 3), 1, groups=3), ValueError, "groups"),
    "unfolding": (lambda: svd_conv2d(nn.Conv2d(4, 4, 3), 1, unfolding="x"), ValueError, "unfolding"),
    "units": (lambda: pipelined_latency([1, 2], 1), ValueError, "pipelined_latency"),
    "budget": (
        lambda: mixed_decomposition_search({"a": [Decomposition("svd", 9, 0.1)]}, 5),
        ValueError,
        "need 9 parameters, the budget is",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_docstrings_promise_to_refuse(call, error, words):
    with as_users_call(), pytest.raises(error, match=words):
        call()


# -- Precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_light_behind_a_layer_under_autocast_and_in_half_parameters(dtype):
    net, x = nn.Sequential(nn.Linear(5, 5), PhotonicLinear(5, 3)), torch.randn(4, 5)
    exact = net(x)
    with torch.autocast("cpu", dtype=dtype):
        y = net(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), exact, rtol=0.03, atol=0.03)
    y.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    halves = copy.deepcopy(net).to(dtype)
    torch.testing.assert_close(halves(x.to(dtype)).float(), exact, rtol=0.05, atol=0.05)


def test_memory_of_float32_takes_the_half_precision_of_a_norm_under_autocast():
    net, x = nn.Sequential(nn.Linear(6, 6), MemoryLinear(6, 5, bits=3)), torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
        exact = net[1](net[0](x).float())
    torch.testing.assert_close(y.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("size", [1, 30, 300])
def test_exponential_features_of_half_precision_are_those_of_float32(size):
    x, g = (size * torch.randn(4, 6)).half(), torch.randn(8, 6).half()
    torch.testing.assert_close(exp_features(x, g), exp_features(x.float(), g.float()).half(), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(exp_features(x, g), exp_features(x.float(), g.float()).half())


def test_a_dense_matrix_of_half_precision_is_taken_apart():
    weight = torch.randn(4, 4).bfloat16()
    for layer in (
        LowRankLinear.from_dense(weight, 4),
        MonarchLinear.from_dense(weight, (2, 2), (2, 2)),
        KroneckerLinear.from_dense(weight, (2, 2), (2, 2), terms=4),
    ):
        assert layer.weight.dtype == torch.bfloat16
        assert layer.bias is None
    torch.testing.assert_close(LowRankLinear.from_dense(weight, 4).weight, weight, rtol=0.1, atol=0.1)
    assert effective_rank(weight).dtype == torch.float32


def test_effective_rank_has_a_finite_gradient_where_singular_values_are_zero():
    u = torch.randn(5, 2, dtype=torch.float64)
    matrix = (
        u @ torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)) @ torch.randn(2, 4).double()
    ).detach()
    diagonal = torch.diag(torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(effective_rank(diagonal), diagonal)
    p = torch.tensor([0.6, 0.4], dtype=torch.float64)
    entropy = -(p * p.log()).sum()
    expected = entropy.exp() * -(p.log() + entropy) / 5  # of exp H by s_k, with p = s / 5
    torch.testing.assert_close(gradient.diagonal()[:2], expected)
    assert gradient.isfinite().all()
    assert effective_rank(matrix) <= 2


# -- State ---------------------------------------------------------------------------------------------


def test_the_active_rank_is_saved_and_loaded_and_shrinks_with_the_layer():
    layer, x = OrderedLowRankLinear(6, 4), torch.randn(3, 6)
    layer.active_rank = 2
    other = OrderedLowRankLinear(6, 4)
    other.load_state_dict(layer.state_dict())
    assert other.active_rank == 2
    assert torch.equal(other(x), layer(x))
    layer.active_rank = None
    other.load_state_dict(layer.state_dict())
    assert other.active_rank is None
    nn.init.zeros_(layer.u[:, 1:])
    layer.active_rank = 3
    assert (progressive_shrink_(layer), layer.active_rank) == (1, None)
    layer.active_rank = 1
    layer.reset_parameters()
    assert layer.active_rank is None


def test_a_loaded_permutation_stays_until_the_layer_is_reset():
    a, b = RandomPermutedMixerBlock(3, 4), RandomPermutedMixerBlock(3, 4)
    x = torch.randn(2, 12)
    assert not torch.equal(a.mix_channels.permute_in, b.mix_channels.permute_in)
    own = b.mix_channels.permute_in.clone()
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))
    b.mix_channels.reset_parameters()
    assert torch.equal(b.mix_channels.permute_in, own)


def test_parallel_branches_have_the_activation_that_was_asked_for():
    layer = SparseParallelLinear(4, 6, 0.75, activation=nn.Tanh)
    x = torch.randn(5, 4)
    torch.testing.assert_close(layer(x), sum(torch.tanh(branch(x)) for branch in layer.branches))


@pytest.mark.parametrize("name", LAYERS)
def test_symbolic_tracing_gives_the_same_values(name):
    layer, x = LAYERS[name].example()
    with as_users_call():
        traced = torch.fx.symbolic_trace(copy.deepcopy(layer))
        torch.testing.assert_close(traced(x), layer(x))


def test_factorised_masks_share_the_weights_of_the_dense_layer():
    layer = SparseFactorizedLinear(64, 64, 0.75, dtype=torch.float64)
    assert layer.first.mask.sum() + layer.second.mask.sum() == 64 * 64
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
