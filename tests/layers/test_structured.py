"""Low rank, Kronecker, Monarch, Block Tensor-Train and mixing, against torch, scikit-learn and loops."""

import math

import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from torch import nn
from torch.nn import functional as F

from course_lib.layers.structured import (
    BlockTensorTrainLinear,
    KroneckerLinear,
    LowRankLinear,
    MonarchLinear,
    PermutedKroneckerLinear,
    RandomPermutedMixerBlock,
    block_tensor_train_naive,
    commutation_matrix,
    effective_rank,
    frobenius_decay,
    mixing_matrix,
    spectral_init_,
    structured_init_std,
    structured_lr_multiplier,
    structured_param_groups,
)

LAYERS = {
    "low rank": lambda: LowRankLinear(15, 14, 4),
    "low rank 1": lambda: LowRankLinear(1, 3, 1, bias=False),
    "kronecker": lambda: KroneckerLinear((3, 5), (2, 7)),
    "kronecker sum": lambda: KroneckerLinear((1, 5), (7, 2), terms=3, bias=False),
    "monarch": lambda: MonarchLinear((3, 5), (2, 7)),
    "block tensor-train": lambda: BlockTensorTrainLinear((3, 5), (4, 7), 2),
    "permuted kronecker": lambda: PermutedKroneckerLinear(
        3, 5, permute_in=torch.randperm(15), permute_out=torch.randperm(15)
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_the_linear_layer_of_its_weight_in_value_and_every_gradient(name):
    layer = LAYERS[name]().double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    width = layer.weight.shape[1]
    for x in (
        torch.randn(4, 2, width),
        1e3 + torch.randn(1, width),
        torch.randn(width),
        torch.zeros(0, width),
    ):
        x = x.double().requires_grad_()
        tensors = [x, *layer.parameters()]
        ours, dense = layer(x), F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(ours, dense)
        gradients = [torch.autograd.grad(y.square().sum(), tensors) for y in (ours, dense)]
        torch.testing.assert_close(*gradients)
    with pytest.raises(ValueError, match=f"{width} entries"):
        layer(torch.randn(2, width + 1).double())


def test_low_rank_from_dense_is_scikit_learns_truncated_svd_and_meets_eckart_and_young():
    w = torch.randn(7, 11).double()
    layer = LowRankLinear.from_dense(w, 3, torch.ones(7).double())
    peer = TruncatedSVD(3, algorithm="arpack", random_state=0)
    torch.testing.assert_close(
        layer.weight.detach(), torch.from_numpy(peer.inverse_transform(peer.fit_transform(w)))
    )
    tail = torch.linalg.svdvals(w)[3:].square().sum().sqrt()
    torch.testing.assert_close((w - layer.weight).norm(), tail)
    torch.testing.assert_close(layer.u.mT @ layer.u, layer.v.mT @ layer.v)  # balanced
    torch.testing.assert_close(layer(torch.zeros(11).double()), torch.ones(7).double())


def test_kronecker_weight_is_torch_kron_and_nearest_product_recovers_a_planted_one():
    layer = KroneckerLinear((3, 5), (2, 7), terms=2).double()
    expected = sum(torch.kron(a, b) for a, b in zip(layer.a, layer.b, strict=True))
    torch.testing.assert_close(layer.weight, expected)
    planted = torch.kron(torch.randn(2, 3), torch.randn(7, 5)).double()
    torch.testing.assert_close(KroneckerLinear.from_dense(planted, (3, 5), (2, 7)).weight, planted)


def test_enough_kronecker_terms_give_any_matrix_and_more_never_hurt():
    w, errors = torch.randn(14, 15).double(), []
    for terms in range(1, 7):
        layer = KroneckerLinear.from_dense(w, (3, 5), (2, 7), terms=terms, bias=torch.zeros(14).double())
        errors.append((w - layer.weight).norm().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-10 < errors[-2]


def test_nearest_kronecker_product_is_a_stationary_point():
    w = torch.randn(14, 15).double()
    layer = KroneckerLinear.from_dense(w, (3, 5), (2, 7), terms=2)
    gradients = torch.autograd.grad((w - layer.weight).square().sum(), (layer.a, layer.b))
    assert max(g.abs().max() for g in gradients) < 1e-10


@pytest.mark.parametrize(("n", "m", "rank"), [((2, 3), (5, 4), 3), ((1, 1), (1, 1), 1), ((3, 2), (2, 7), 2)])
def test_block_tensor_train_equals_four_loops(n, m, rank):
    layer = BlockTensorTrainLinear(n, m, rank).double()
    naive = block_tensor_train_naive(layer.left, layer.right)
    torch.testing.assert_close(layer.weight, naive)
    eye = torch.eye(math.prod(n)).double()
    torch.testing.assert_close(layer(eye).mT, naive + layer.bias[:, None])
    gradients = [
        torch.autograd.grad(w.pow(3).sum(), (layer.left, layer.right)) for w in (layer.weight, naive)
    ]
    torch.testing.assert_close(*gradients)


def test_monarch_is_two_block_diagonal_matrices_and_two_shuffles():
    layer = MonarchLinear((3, 5), (2, 7), bias=False).double()
    left, right = layer.left.squeeze(-1), layer.right.squeeze(-1)  # (2, 7, 3), (7, 3, 5)
    first = torch.block_diag(*right.transpose(0, 1))  # (3 * 7, 3 * 5), one 7 x 5 block per j1
    second = torch.block_diag(*left.transpose(0, 1))  # (7 * 2, 7 * 3), one 2 x 3 block per i2
    shuffle, shuffle_out = (commutation_matrix(*s).double() for s in ((7, 3), (2, 7)))
    torch.testing.assert_close(layer.weight, shuffle_out @ second @ shuffle @ first)


def test_block_tensor_train_contains_kronecker_low_rank_and_at_full_rank_everything():
    kronecker = KroneckerLinear((3, 5), (4, 7)).double().weight.detach()
    low_rank = LowRankLinear(15, 28, 3).double().weight.detach()
    anything = torch.randn(28, 15).double()
    for w, rank in ((kronecker, 1), (low_rank, 3), (anything, 4)):
        layer = BlockTensorTrainLinear.from_dense(w, (3, 5), (4, 7), rank, bias=torch.zeros(28).double())
        torch.testing.assert_close(layer.weight.detach(), w)
    torch.testing.assert_close(MonarchLinear.from_dense(kronecker, (3, 5), (4, 7)).weight.detach(), kronecker)


def test_nearest_block_tensor_train_is_stationary_and_no_perturbation_is_nearer():
    w = torch.randn(28, 15).double()
    layer = BlockTensorTrainLinear.from_dense(w, (3, 5), (4, 7), 2)
    error = (w - layer.weight).square().sum()
    gradients = torch.autograd.grad(error, (layer.left, layer.right))
    assert max(g.abs().max() for g in gradients) < 1e-10
    for _ in range(20):
        left, right = (p + 0.1 * torch.randn_like(p) for p in (layer.left, layer.right))
        assert (
            w - torch.func.functional_call(layer, {"left": left, "right": right}, torch.eye(15).double()).mT
        ).square().sum() > error


@pytest.mark.parametrize(
    "build",
    [
        lambda: LowRankLinear(4, 6, 5),
        lambda: LowRankLinear(4, 6, 0),
        lambda: KroneckerLinear((2, 0), (2, 2)),
        lambda: BlockTensorTrainLinear((2, 3), (5, 2), 4),
        lambda: KroneckerLinear.from_dense(torch.ones(4, 4), (2, 2), (2, 3)),
        lambda: KroneckerLinear.from_dense(torch.ones(4, 4), (2, 2), (2, 2), terms=5),
        lambda: BlockTensorTrainLinear.from_dense(torch.ones(4, 4), (2, 2), (2, 3)),
        lambda: PermutedKroneckerLinear(2, 2, permute_in=torch.tensor([0, 1, 1, 3])),
        lambda: RandomPermutedMixerBlock(2, 2, permutation="reverse"),
        lambda: mixing_matrix(torch.eye(2), 2, mixes="rows"),
        lambda: commutation_matrix(0, 2),
        lambda: structured_init_std(0, 1),
        lambda: structured_lr_multiplier(4, 0),
        lambda: structured_lr_multiplier(4, 4, num_factors=0),
        lambda: spectral_init_(LowRankLinear(4, 6, 2), torch.randn(4, 6)),
    ],
)
def test_impossible_sizes_are_refused(build):
    with pytest.raises(ValueError, match=r"\d|rows|reverse"):
        build()


# -- Start and learning rate -----------------------------------------------------------------------


def test_a_start_keeps_the_root_mean_square_of_order_one_at_all_shapes():
    for fan_in, fan_out in ((64, 64), (400, 100), (100, 400), (900, 900)):
        w = torch.randn(fan_out, fan_in) * structured_init_std(fan_in, fan_out)
        expected = structured_init_std(fan_in, fan_out) * (fan_in**0.5 + fan_out**0.5)  # random matrix theory
        assert math.isclose(torch.linalg.matrix_norm(w, 2).item(), expected, rel_tol=0.1)
        assert 1 < expected * (fan_in / fan_out) ** 0.5 <= 2  # in root mean squares


@pytest.mark.parametrize("name", ["low rank", "kronecker sum", "monarch", "block tensor-train"])
def test_fresh_factors_have_the_deviation_of_their_fans(name):
    torch.manual_seed(1)
    scale = 0.25 if name == "kronecker sum" else 0.0
    samples: dict[str, list] = {}
    layer = LAYERS[name]()
    for _ in range(200):
        layer.reset_parameters()
        for factor in layer.factor_fans():
            samples.setdefault(factor, []).append(getattr(layer, factor).detach().clone())
    for factor, fans in layer.factor_fans().items():
        expected = structured_init_std(*fans) * getattr(layer, "terms", 1) ** -scale
        assert math.isclose(torch.stack(samples[factor]).std().item(), expected, rel_tol=0.1)


def test_parameter_groups_hold_every_parameter_once_at_the_rate_of_its_fan_in():
    layer = BlockTensorTrainLinear((8, 8), (8, 8), 2)
    model = nn.Sequential(nn.Linear(64, 64), layer, LowRankLinear(64, 10, 4), nn.LayerNorm(10))
    groups = structured_param_groups(model, lr=0.1, base_fan_in=64)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert len(rate) == sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    expected = {
        model[0].weight: 0.1,
        layer.right: 0.4,  # two factors: half of the rate each
        layer.left: 0.2,
        model[2].u: 0.8,
        model[2].v: 0.05,
        layer.bias: 0.1,
        model[3].weight: 0.1,
    }
    assert {id(p): r for p, r in expected.items()}.items() <= rate.items()
    assert torch.optim.Adam(groups).param_groups[0]["lr"] == groups[0]["lr"]


@pytest.mark.parametrize("multiplied", [True, False])
def test_one_adam_step_moves_the_output_alike_at_every_width_only_with_the_multiplier(multiplied):
    moves = []
    for width in (64, 256, 1024):
        torch.manual_seed(0)
        layer, x = nn.Linear(width, 8, bias=False), torch.randn(width)
        rate = 1e-3 * (structured_lr_multiplier(width, 64) if multiplied else 1)
        before = layer(x)
        before.sum().backward()
        torch.optim.Adam(layer.parameters(), lr=rate).step()
        moves.append((layer(x) - before).abs().mean().item())
    assert math.isclose(moves[-1] / moves[0], 1 if multiplied else 16, rel_tol=0.25)


def test_one_adam_step_moves_the_output_of_a_product_as_far_as_that_of_a_dense_layer():
    moves = {}
    for name, build in {
        "dense": lambda: nn.Linear(256, 256, bias=False),
        "Monarch": lambda: MonarchLinear((16, 16), (16, 16), bias=False),
    }.items():
        torch.manual_seed(0)
        layer, x, direction = build(), torch.randn(256), torch.randn(256)
        before = layer(x)
        (before * direction).sum().backward()
        torch.optim.Adam(structured_param_groups(layer, 1e-4, 256)).step()
        moves[name] = (layer(x) - before).square().mean().sqrt().item()
    # Without the division by the number of factors the product moves about twice as far.
    assert math.isclose(moves["Monarch"], moves["dense"], rel_tol=0.25)


# -- Rank ------------------------------------------------------------------------------------------


def test_effective_rank_of_equal_values_of_one_value_of_nothing_and_by_its_entropy():
    q = torch.linalg.qr(torch.randn(7, 4).double()).Q
    torch.testing.assert_close(effective_rank(q), torch.tensor(4.0).double())
    torch.testing.assert_close(effective_rank(torch.ones(3, 5)), torch.tensor(1.0))
    assert effective_rank(torch.zeros(3, 5)) == 0
    many = torch.randn(2, 3, 5, 4).double()
    p = torch.linalg.svdvals(many)
    entropy = torch.distributions.Categorical(probs=p).entropy()
    torch.testing.assert_close(effective_rank(many), entropy.exp())
    torch.testing.assert_close(effective_rank(1e-3 * many), effective_rank(many))
    assert torch.autograd.gradcheck(effective_rank, many[0, 0].requires_grad_())


def test_spectral_start_is_the_best_of_its_rank_and_ones_has_equal_values():
    w0, layer = torch.randn(6, 9).double(), LowRankLinear(9, 6, 4).double()
    spectral_init_(layer, w0)
    s = torch.linalg.svdvals(w0)
    torch.testing.assert_close((w0 - layer.weight).norm(), s[4:].square().sum().sqrt())
    norm, directions = layer.weight.norm(), torch.linalg.svd(layer.weight.detach())
    spectral_init_(layer, w0, ones=True)
    values = torch.linalg.svdvals(layer.weight.detach())
    torch.testing.assert_close(values[:4], values[:1].expand(4))
    torch.testing.assert_close(layer.weight.norm(), norm)
    projector = directions.U[:, :4] @ directions.U[:, :4].mT
    torch.testing.assert_close(projector @ layer.weight, layer.weight)
    spectral_init_(layer, w0, ones=True, keep_norm=False)
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight.detach())[:4], torch.ones(4).double())


def test_drawn_spectral_start_has_the_norm_of_the_leading_part_of_a_normal_matrix():
    layer = spectral_init_(LowRankLinear(40, 40, 40))
    assert math.isclose(layer.weight.norm().item(), 40**0.5, rel_tol=0.1)


def test_frobenius_decay_is_half_the_squared_norm_of_the_formed_product_with_its_gradients():
    u, v = (torch.randn(n, 3).double().requires_grad_() for n in (5, 7))
    formed = 0.5 * (u @ v.mT).square().sum()
    torch.testing.assert_close(frobenius_decay(u, v), formed)
    du, dv = torch.autograd.grad(frobenius_decay(u, v), (u, v))
    torch.testing.assert_close((du, dv), torch.autograd.grad(formed, (u, v)))
    torch.testing.assert_close((du, dv), (u @ (v.mT @ v), v @ (u.mT @ u)))


# -- Mixing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("s", "c"), [(1, 1), (3, 5), (7, 2)])
def test_commutation_matrix_transposes_and_is_orthogonal(s, c):
    x, j = torch.randn(s, c), commutation_matrix(s, c)
    torch.testing.assert_close(j @ x.mT.flatten(), x.flatten())
    torch.testing.assert_close(j @ j.mT, torch.eye(s * c))


@pytest.mark.parametrize(("s", "c"), [(1, 4), (3, 5), (7, 2)])
def test_mixing_a_table_is_its_wide_sparse_matrix_on_stacked_columns(s, c):
    x, w, v = torch.randn(s, c).double(), torch.randn(s, s).double(), torch.randn(c, c).double()
    stacked = x.mT.flatten()
    tokens, channels = mixing_matrix(w, c, mixes="tokens"), mixing_matrix(v, s, mixes="channels")
    torch.testing.assert_close(tokens @ stacked, (w @ x).mT.flatten())
    torch.testing.assert_close(channels @ stacked, (x @ v.mT).mT.flatten())
    j = commutation_matrix(s, c).double()
    torch.testing.assert_close(channels, j.mT @ mixing_matrix(v, s, mixes="tokens") @ j)
    assert (tokens != 0).double().mean() == 1 / c
    assert (channels != 0).double().mean() == 1 / s


def test_permuted_kronecker_is_permutation_matrices_around_a_kronecker_product():
    p, q = torch.randperm(6), torch.randperm(6)
    layer = PermutedKroneckerLinear(2, 3, permute_in=p, permute_out=q).double()
    eye = torch.eye(6).double()
    torch.testing.assert_close(layer.weight, eye[q] @ torch.kron(torch.eye(3).double(), layer.block) @ eye[p])
    single = PermutedKroneckerLinear(4, 1)
    torch.testing.assert_close(single.weight, single.block)


def test_block_with_the_transpose_mixes_tokens_then_channels_of_a_table():
    block, x = RandomPermutedMixerBlock(3, 5, permutation="transpose").double(), torch.randn(2, 3, 5).double()
    w, v = block.mix_tokens.block, block.mix_channels.block
    expected = F.gelu(F.gelu(w @ x) @ v.mT)
    torch.testing.assert_close(block(x.mT.flatten(1)), expected.mT.flatten(1))


def test_random_block_has_the_weights_of_the_other_and_keeps_its_permutation_in_the_state():
    one, two = RandomPermutedMixerBlock(3, 5), RandomPermutedMixerBlock(3, 5)
    assert one.weights == RandomPermutedMixerBlock(3, 5, permutation="transpose").weights == 34
    x = torch.randn(4, 15)
    assert not torch.allclose(one(x), two(x))
    two.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(x), two(x))
