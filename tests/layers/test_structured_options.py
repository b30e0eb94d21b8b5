"""Options of structured layers at their ends: start values, no bias, rank and size one, defaults by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.structured import (
    BlockTensorTrainLinear,
    Decomposition,
    KroneckerLinear,
    LowRankLinear,
    MemoryFormerBlock,
    MemoryLinear,
    MonarchLinear,
    MZIMesh,
    OrderedLowRankLinear,
    PermutedKroneckerLinear,
    PhotonicLinear,
    RandomPermutedMixerBlock,
    SNNKLinear,
    SparseDopedLinear,
    SparseFactorizedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    clements_decompose,
    cp_als,
    effective_rank,
    fit_bundled,
    mixed_decomposition_search,
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
)
from course_lib.layers.structured.memory_former import memory_linear_naive
from course_lib.layers.structured.mixed_td import cp_conv2d
from course_lib.layers.structured.snnk import orthogonal_projections
from tests.layers.arguments import as_users_call
from tests.layers.starts import starts, starts_uniform

# -- Start values --------------------------------------------------------------------------------------

STARTS = {
    "btt left": (BlockTensorTrainLinear((4, 30), (30, 20), 3), "left", structured_init_std(12, 30)),
    "btt right": (BlockTensorTrainLinear((4, 30), (30, 20), 3), "right", structured_init_std(30, 60)),
    "kronecker a": (KroneckerLinear((30, 4), (20, 5), terms=4), "a", structured_init_std(30, 20) / 2**0.5),
    "kronecker b": (KroneckerLinear((4, 30), (5, 20), terms=4), "b", structured_init_std(30, 20) / 2**0.5),
    "low rank u": (LowRankLinear(50, 60, 20), "u", structured_init_std(20, 60)),
    "low rank v": (LowRankLinear(50, 60, 20), "v", structured_init_std(50, 20)),
    "permuted block": (PermutedKroneckerLinear(40, 2), "block", 40**-0.5),
    "bias of btt": (BlockTensorTrainLinear((2, 3), (4, 2), 1), "bias", 0.0),
    "bias of kronecker": (KroneckerLinear((2, 3), (4, 2)), "bias", 0.0),
    "bias of low rank": (LowRankLinear(3, 4, 2), "bias", 0.0),
    "bias of ordered": (OrderedLowRankLinear(3, 4), "bias", 0.0),
    "bias of memory": (MemoryLinear(6, 4, bits=3), "bias", 0.0),
    "bias of permuted": (PermutedKroneckerLinear(3, 2), "bias", 0.0),
}


@pytest.mark.parametrize(("layer", "name", "std"), STARTS.values(), ids=STARTS)
def test_factors_start_with_the_spread_of_their_fans_and_biases_at_zero(layer, name, std):
    assert starts(layer, name, std=std)


@pytest.mark.parametrize(
    ("layer", "name", "bound"),
    [
        (SparseWideLinear(20, 30, 0.75), "dense_weight", (60 / 600) ** 0.5),
        (SparseWideLinear(20, 200, 0.75), "bias", (400 / 4000) ** 0.5),
        (SparseDopedLinear(40, 50, 0.5), "v", 40**-0.5),
        (SparseDopedLinear(40, 50, 0.5), "u", 11**-0.5),
    ],
)
def test_sparse_layers_start_uniform_within_their_bound(layer, name, bound):
    assert starts_uniform(layer, name, bound)


def test_angles_of_a_mesh_start_uniform_over_their_range():
    mesh = MZIMesh(60)
    for angles, top in ((mesh.theta, math.pi / 2), (mesh.phi, 2 * math.pi), (mesh.alpha, 2 * math.pi)):
        assert 0 <= angles.min() < 0.1 * top
        assert 0.9 * top < angles.max() <= top
    assert PhotonicLinear(3, 2).singular_values.tolist() == [1, 1]


@pytest.mark.parametrize(("fan_in", "fan_out", "std"), [(4, 4, 0.5), (4, 16, 0.5), (4, 1, 0.25), (1, 1, 1.0)])
def test_the_start_is_narrower_where_fewer_go_out_than_come_in(fan_in, fan_out, std):
    assert structured_init_std(fan_in, fan_out) == std


def test_the_multiplier_of_the_rate():
    assert structured_lr_multiplier(8, 4) == 0.5
    assert structured_lr_multiplier(8, 4, 2) == 0.25
    assert structured_lr_multiplier(4, 4) == 1


# -- Products of factors -------------------------------------------------------------------------------

WITHOUT_BIAS = {
    "btt": lambda bias: BlockTensorTrainLinear((2, 3), (4, 2), 2, bias=bias),
    "monarch": lambda bias: MonarchLinear((2, 3), (4, 2), bias=bias),
    "kronecker": lambda bias: KroneckerLinear((2, 3), (4, 2), bias=bias),
    "low rank": lambda bias: LowRankLinear(6, 8, 2, bias=bias),
    "ordered": lambda bias: OrderedLowRankLinear(6, 8, bias=bias),
    "permuted": lambda bias: PermutedKroneckerLinear(3, 2, bias=bias),
    "wide": lambda bias: SparseWideLinear(3, 4, 0.75, bias=bias),
    "doped": lambda bias: SparseDopedLinear(6, 8, 0.5, bias=bias),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", WITHOUT_BIAS.values(), ids=WITHOUT_BIAS)
def test_a_bias_is_added_where_it_was_asked_for(make, bias):
    layer, x = make(bias).double(), torch.randn(5, 6).double()
    own = [p for name, p in layer.named_parameters() if name.endswith("bias")]
    assert len(own) == bias
    for p in own:
        nn.init.normal_(p)
    expected = F.linear(x, layer.weight, own[0] if bias else None)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda rank: LowRankLinear(3, 5, rank), 3),
        (lambda rank: LowRankLinear(5, 3, rank), 3),
        (lambda rank: BlockTensorTrainLinear((2, 4), (3, 5), rank), 3),
        (lambda rank: BlockTensorTrainLinear((2, 2), (3, 5), rank), 2),
        (lambda rank: OrderedLowRankLinear(5, 3, rank=rank), 3),
    ],
)
def test_the_largest_rank_is_taken_and_no_larger(make, most):
    assert make(most).rank == most
    with pytest.raises(ValueError, match="rank"):
        make(most + 1)


def test_as_many_terms_as_the_rearranged_matrix_has_rows_are_taken():
    weight = torch.randn(6, 8)
    full = KroneckerLinear.from_dense(weight, (2, 4), (3, 2), terms=6)
    torch.testing.assert_close(full.weight, weight)
    with pytest.raises(ValueError, match="terms=7"):
        KroneckerLinear.from_dense(weight, (2, 4), (3, 2), terms=7)
    assert KroneckerLinear.from_dense(weight, (2, 4), (3, 2)).terms == 1
    assert BlockTensorTrainLinear.from_dense(weight, (2, 4), (3, 2)).rank == 1


@pytest.mark.parametrize("bias", [None, torch.arange(6.0)])
def test_the_bias_of_a_dense_layer_is_taken_over(bias):
    weight = torch.randn(6, 8)
    for layer in (
        KroneckerLinear.from_dense(weight, (2, 4), (3, 2), bias=bias),
        BlockTensorTrainLinear.from_dense(weight, (2, 4), (3, 2), 2, bias=bias),
        MonarchLinear.from_dense(weight, (2, 4), (3, 2), bias=bias),
        LowRankLinear.from_dense(weight, 2, bias=bias),
    ):
        assert (layer.bias is None) if bias is None else torch.equal(layer.bias.detach(), bias)


def test_effective_rank_of_one_and_of_equal_values():
    assert effective_rank(torch.ones(1, 1)) == 1
    torch.testing.assert_close(effective_rank(torch.eye(3)), torch.tensor(3.0))
    torch.testing.assert_close(
        effective_rank(torch.stack([torch.eye(2), torch.zeros(2, 2)])), torch.tensor([2.0, 0])
    )


@pytest.mark.parametrize(("keep_norm", "size"), [(True, (5 / 2) ** 0.5), (False, 1.0)])
def test_a_spectral_start_of_ones_keeps_the_norm_or_does_not(keep_norm, size):
    layer = spectral_init_(
        LowRankLinear(3, 3, 2), torch.diag(torch.tensor([1.0, 2, 0.5])), ones=True, keep_norm=keep_norm
    )
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight)[:2], torch.full((2,), size))


# -- Ranks in order ------------------------------------------------------------------------------------


def test_the_active_rank_lies_between_one_and_the_rank():
    layer = OrderedLowRankLinear(3, 4)
    for rank in (1, 3, None):
        layer.active_rank = rank
        assert layer.active_columns.tolist() == [rank or 3]
    for rank in (0, 4):
        with pytest.raises(ValueError, match="active_rank"):
            layer.active_rank = rank


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_active_rank_is_read_back_and_full_means_none(rank):
    source, target = OrderedLowRankLinear(3, 4), OrderedLowRankLinear(3, 4)
    source.active_rank = rank
    target.active_rank = 1
    target.load_state_dict(source.state_dict())
    assert target.active_rank == (None if rank == 3 else rank)


def test_every_rank_from_one_to_the_largest_is_drawn():
    layers = [OrderedLowRankLinear(2, 4), OrderedLowRankLinear(3, 4)]
    drawn = {sample_rank_(layers, torch.Generator().manual_seed(seed)) for seed in range(60)}
    assert drawn == {(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)}


@pytest.mark.parametrize(
    ("active", "kept", "after"), [(None, 2, None), (1, 2, 1), (2, 2, None), (3, 2, None), (1, 0, None)]
)
def test_shrinking_keeps_one_column_at_least_and_the_active_rank_that_is_left(active, kept, after):
    layer = OrderedLowRankLinear(3, 4)
    with torch.no_grad():
        layer.u[:, kept:] = 0
        layer.v[:, kept:] = 0
    layer.active_rank = active
    progressive_shrink_(layer)
    assert layer.rank == max(1, kept)
    assert layer.u.shape == (4, max(1, kept))
    assert layer.v.shape == (3, max(1, kept))
    assert layer.active_rank == after


def test_a_tail_is_dropped_only_below_eps():
    layer = LowRankLinear(2, 2, 2)
    with torch.no_grad():
        layer.u.copy_(torch.diag(torch.tensor([1.0, 0.5])))
        layer.v.copy_(torch.diag(torch.tensor([1.0, 0.5])))
    progressive_shrink_(layer, eps=0.24)
    assert layer.rank == 2
    progressive_shrink_(layer, eps=0.25)
    assert layer.rank == 1


# -- Sparse --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "size"), [("wide", 2.0), ("parallel", 4), ("factorized", 5), ("doped", 1)])
def test_the_sizes_at_three_quarters(kind, size):
    assert sparse_ift_size(3, 2, 0.75, kind) == pytest.approx(size if kind != "doped" else 0)
    assert sparse_ift_size(4, 6, 0.75, "doped") == 1


def test_both_sides_of_a_wide_layer_are_widened_unless_told_otherwise():
    widths = {
        (a, b): (layer.in_features, layer.out_features)
        for a in (True, False)
        for b in (True, False)
        for layer in [SparseWideLinear(4, 6, 0.75, widen_in=a, widen_out=b)]
    }
    assert widths == {
        (True, True): (8, 12),
        (True, False): (8, 6),
        (False, True): (4, 12),
        (False, False): (4, 6),
    }
    layer = SparseWideLinear(4, 6, 0.75)
    assert (layer.in_features, layer.out_features, int(layer.mask.sum())) == (8, 12, 24)


@pytest.mark.parametrize("active", [0, 1, 5, 6])
def test_a_mask_has_from_no_to_all_places(active):
    assert random_mask(2, 3, active).sum() == active
    with pytest.raises(ValueError, match="cannot hold"):
        random_mask(2, 3, 7)


def test_the_parts_of_sparse_layers_have_a_bias_where_one_is_due():
    factorized = SparseFactorizedLinear(4, 6, 0.5)
    assert factorized.first.bias is None
    assert factorized.second.bias is not None
    assert SparseFactorizedLinear(4, 6, 0.5, bias=False).second.bias is None
    parallel = SparseParallelLinear(4, 6, 0.6, bias=False)
    assert all(branch.bias is None for branch in parallel.branches)
    assert all(branch.bias is not None for branch in SparseParallelLinear(4, 6, 0.6).branches)
    assert [type(a) for a in SparseParallelLinear(4, 6, 0.6).activations] == [nn.ReLU] * 2
    assert [int(b.mask.sum()) for b in SparseParallelLinear(3, 3, 0.5).branches] == [4, 5]


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0), (0.2, 0), (0.25, 1), (1.0, 4)])
def test_a_share_of_the_active_weights_moves(share, moved):
    layer = SparseWideLinear(2, 2, 0.0, bias=False)
    layer.mask.copy_(torch.tensor([[True, True], [True, True]]))
    assert rigl_update_(layer, torch.randn(2, 2), share) == moved
    assert layer.mask.all()


# -- Memories, features, light -------------------------------------------------------------------------


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_options_of_a_block_of_memories_reach_every_memory(full, temperature):
    block = MemoryFormerBlock(8, 2, bits=4, hidden_bits=3, temperature=temperature, full=full, bias=False)
    memories = [m for m in block.modules() if isinstance(m, MemoryLinear)]
    assert {(m.temperature, m.full, m.bias) for m in memories} == {(temperature, full, None)}
    assert (block.first.out_features, block.second.bits) == (6, 3)
    default = MemoryFormerBlock(8, 2, bits=4)
    assert (default.first.out_features, default.second.bits) == (12, 6)
    assert all(m.bias is not None for m in default.modules() if isinstance(m, MemoryLinear))
    x = torch.randn(5, 8)
    expected = memory_linear_naive(x, block.query.tables, temperature, full)
    torch.testing.assert_close(block.query(x), expected)
    if temperature == 1 and not full:
        torch.testing.assert_close(memory_linear_naive(x, block.query.tables), expected)


def test_zero_lies_on_the_side_of_minus_one():
    row, _ = MemoryLinear(3, 2, bits=3).address(torch.tensor([[0.0, 1.0, -1.0]]))
    assert row.tolist() == [[2]]


@pytest.mark.parametrize("number", [1, 3, 4, 7])
def test_projections_are_orthogonal_within_each_block_and_drawn_from_the_generator(number):
    def draw(seed):
        return orthogonal_projections(number, 3, generator=torch.Generator().manual_seed(seed))

    assert draw(0).shape == (number, 3)
    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    block = draw(0)[: min(3, number)].double()
    gram = block @ block.mT
    torch.testing.assert_close(gram, gram.diagonal().diag(), atol=1e-5, rtol=0)
    before = torch.random.get_rng_state()
    draw(0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("ridge", [None, 0.0, 10.0])
def test_the_ridge_of_a_fit(ridge):
    layer, x, y = SNNKLinear(2, 1, 3).double(), torch.randn(20, 2).double(), torch.randn(20, 1).double()
    fit_bundled(layer, x, y) if ridge is None else fit_bundled(layer, x, y, ridge)
    phi = layer.features(x, layer.projections)
    added = torch.eye(3).double() * (1e-3 if ridge is None else ridge)
    torch.testing.assert_close(layer.psi, torch.linalg.solve(phi.mT @ phi + added, phi.mT @ y).mT)


def test_phase_noise_is_drawn_at_every_call_only_where_it_is_asked_for():
    x = torch.randn(2, 4)
    quiet, loud = PhotonicLinear(4, 3), PhotonicLinear(4, 3, phase_noise=0.1)
    assert torch.equal(quiet(x), quiet(x))
    assert not torch.equal(loud(x), loud(x))
    weight = torch.randn(3, 4).double()
    assert PhotonicLinear.from_dense(weight).phase_noise == 0
    assert PhotonicLinear.from_dense(weight, phase_noise=0.2).phase_noise == 0.2
    mesh, z = MZIMesh(3), torch.randn(2, 3) + 0j
    assert torch.equal(mesh(z), mesh(z))
    assert not torch.equal(mesh(z, 0.1), mesh(z, 0.1))


@pytest.mark.parametrize("bad", [torch.ones(2, 2), 2 * torch.eye(2), torch.eye(3)[:2], torch.ones(2)])
def test_only_unitary_matrices_are_taken_apart(bad):
    with as_users_call(), pytest.raises(ValueError, match="square matrix"):
        clements_decompose(bad.to(torch.complex64))
    nearly = torch.eye(2).to(torch.complex128)
    nearly[0, 1] = 5e-5
    assert len(clements_decompose(nearly)) == 3


def test_the_absorber_takes_any_transmission_between_none_and_all():
    for options in ({"transmission": 0.0}, {"transmission": 1.0}, {"saturation": 0.0}):
        with pytest.raises(ValueError, match="saturable_absorber"):
            saturable_absorber(torch.ones(1), **options)
    intensity = torch.tensor([0.0, 0.5, 100.0]).double()
    default = saturable_absorber(intensity)
    torch.testing.assert_close(default, saturable_absorber(intensity, transmission=0.1, saturation=1.0))
    torch.testing.assert_close(saturable_absorber(4 * intensity, saturation=4.0), 4 * default)
    share = default[1:] / intensity[1:]
    torch.testing.assert_close((share / 0.1).log(), 2 * intensity[1:] * (1 - share))


# -- Permutations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("permutation", ["random", "transpose"])
def test_a_mixer_block_has_its_activation_behind_both_maps(permutation):
    block = RandomPermutedMixerBlock(3, 2, permutation=permutation, activation=nn.Tanh)
    x = torch.randn(4, 6)
    expected = F.linear(F.linear(x, block.mix_tokens.weight).tanh(), block.mix_channels.weight).tanh()
    torch.testing.assert_close(block(x), expected)
    assert block.weights == 13
    assert isinstance(RandomPermutedMixerBlock(3, 2).activation, nn.GELU)
    assert RandomPermutedMixerBlock(3, 2).permutation == "random"


# -- Convolutions taken apart --------------------------------------------------------------------------


def test_the_search_and_the_latency_at_their_ends():
    small, large = Decomposition("a", 2, 1.0), Decomposition("b", 5, 0.5)
    assert mixed_decomposition_search({"x": [small, large]}, 5) == {"x": large}
    assert mixed_decomposition_search({"x": [small, large]}, 4) == {"x": small}
    assert mixed_decomposition_search({"x": [small], "y": [small]}, 4) == {"x": small, "y": small}
    with pytest.raises(ValueError, match="need 4 parameters"):
        mixed_decomposition_search({"x": [small], "y": [large, small]}, 3)
    assert small.module is None
    assert pipelined_latency([6, 2], 2) == 6
    assert pipelined_latency([6, 2], 4) == 2
    for work, units in (([1, 1], 1), ([], 1)):
        with pytest.raises(ValueError, match="a unit each"):
            pipelined_latency(work, units)


def test_alternating_steps_from_none_on_and_the_same_every_time():
    tensor = torch.randn(3, 4, 2)
    by_steps = [cp_als(tensor, 2, steps=steps) for steps in (0, 1, 100)]

    def error(factors):
        return (torch.einsum("az,bz,cz->abc", *factors) - tensor).norm()

    assert error(by_steps[0]) > error(by_steps[1]) > error(by_steps[2])
    for mine, again in zip(by_steps[2], cp_als(tensor, 2), strict=True):
        torch.testing.assert_close(mine, again)
    lengths = torch.stack([f.norm(dim=0) for f in by_steps[2]])
    torch.testing.assert_close(lengths, lengths[:1].expand_as(lengths))  # shared evenly by the factors
    assert [f.shape for f in cp_als(tensor, 5, steps=2)] == [(3, 5), (4, 5), (2, 5)]
    with pytest.raises(ValueError, match="two axes"):
        cp_als(torch.randn(3), 1)


def test_the_default_unfolding_is_the_separable_one_in_one_group():
    conv = nn.Conv2d(4, 3, 3, padding=1)
    first, second = svd_conv2d(conv, 2)
    assert (first.kernel_size, second.kernel_size) == ((1, 3), (3, 1))
    assert (first.groups, second.groups) == (1, 1)
    assert first.bias is None
    torch.testing.assert_close(second.bias, conv.bias)
    assert svd_conv2d(nn.Conv2d(4, 3, 3, bias=False), 2)[1].bias is None
    for same, again in zip(cp_conv2d(conv, 2), cp_conv2d(conv, 2, steps=100), strict=True):
        torch.testing.assert_close(same.weight, again.weight)
    assert [link.bias is None for link in cp_conv2d(conv, 2, steps=1)] == [True, True, True, False]
    most = min(3 * 3, 4 * 3)
    assert svd_conv2d(conv, most)[0].out_channels == most
    with pytest.raises(ValueError, match="rank must be at most 9"):
        svd_conv2d(conv, most + 1)
