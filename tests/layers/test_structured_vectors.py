"""layers/structured against values of the authors' code; see tests/vectors."""

import pytest
import torch
from torch import Tensor, nn

from course_lib.layers.structured import (
    BlockTensorTrainLinear,
    KroneckerLinear,
    LowRankLinear,
    MemoryLinear,
    MonarchLinear,
    OrderedLowRankLinear,
    SNNKLinear,
    SparseDopedLinear,
    SparseFactorizedLinear,
    SparseParallelLinear,
    SparseWideLinear,
    arccos_features,
    cp_als,
    cp_tensor,
    hierarchical_group_lasso,
    progressive_shrink_,
    rigl_update_,
    sparse_ift_size,
    structured_param_groups,
    svd_conv2d,
    universal_random_features,
)
from tests.vectors import Vector, fill, vector, wave

# -- Block Tensor-Train ----------------------------------------------------------------------------


def by_their_names(v: Vector) -> tuple[dict[str, Tensor], list[str]]:
    """Their numbers as ours are laid out, and the names of our factors in their order."""
    given = v.weights()
    first, second = given["op_params.0"], given["op_params.1"]
    if v.call.startswith("build_btt"):
        rank = second.shape[1] // first.shape[0]
        right = first.unflatten(2, (second.shape[0], rank)).permute(2, 0, 1, 3)
        left = second.unflatten(1, (first.shape[0], rank)).permute(3, 0, 1, 2)
        return {"right": right, "left": left, "bias": transposed(given["b"], second)}, ["right", "left"]
    if v.call.startswith("build_monarch"):
        right, left = first.permute(1, 0, 2)[..., None], second.permute(1, 0, 2)[..., None]
        return {"right": right, "left": left, "bias": given["b"]}, ["right", "left"]
    if v.call.startswith("build_low_rank"):
        return {"v": first, "u": second.mT, "bias": given["b"]}, ["v", "u"]
    return {"a": first[..., 0].mT, "b": second[..., 0].mT, "bias": given["b"]}, ["a", "b"]


def transposed(y: Tensor, core: Tensor) -> Tensor:
    """Their Block Tensor-Train numbers its outputs column by column of ours."""
    return y.unflatten(-1, (core.shape[0], core.shape[2])).mT.flatten(-2)


BLOCKS = {
    "BTT rank 2": lambda: BlockTensorTrainLinear((6, 2), (10, 2), 2),
    "BTT rank 1": lambda: MonarchLinear((4, 4), (4, 4)),
    "low rank": lambda: LowRankLinear(12, 20, 4),
    "Kronecker": lambda: KroneckerLinear((2, 6), (2, 10)),
    "Monarch": lambda: MonarchLinear((4, 4), (4, 4)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_structures_their_fans_and_their_learning_rates_are_those_of_the_authors(name):
    v, layer = vector("block-tensor-train", name), BLOCKS[name]()
    numbers, order = by_their_names(v)
    fill(layer, numbers, {key: key for key in layer.state_dict()})
    y = layer(*v.given())
    if v.call.startswith("build_btt"):
        y = y.unflatten(-1, layer.out_shape).mT.flatten(-2)
    rates = {
        id(p): group["lr"]
        for group in structured_param_groups(layer, 1.0, layer.in_features)
        for p in group["params"]
    }
    multipliers = torch.tensor([rates[id(p)] for p in (layer.bias, *map(layer.get_parameter, order))])
    fans = torch.tensor([layer.factor_fans()[key] for key in order])
    v.check(y, multipliers, fans)


# -- MemoryFormer ----------------------------------------------------------------------------------


def own_rows(tables: Tensor, bits: int) -> Tensor:
    """Their tables, one chunk after the other: the first entry of a chunk is the highest bit of the row."""
    order = [int(f"{row:0{bits}b}"[::-1], 2) for row in range(2**bits)]
    return tables.unflatten(0, (-1, 2**bits))[:, order]


def test_a_memory_layer_and_its_gradients_are_those_of_the_authors():
    v, layer = vector("memoryformer", "memory layer"), MemoryLinear(6, 5, bits=3)
    given = v.weights()
    fill(layer, {"tables": own_rows(given["tables"], 3), "bias": given["bias"]}, lambda key: key)
    x = v.given()[0].requires_grad_()
    y = layer(x)
    slope, rows = torch.autograd.grad(y.square().sum(), (x, layer.tables))
    v.check(y, slope, own_rows(rows.flatten(0, 1), 3).flatten(0, 1))


def test_the_feed_forward_half_of_a_block_is_that_of_the_authors():
    v = vector("memoryformer", "feed-forward half")
    half = nn.Sequential(MemoryLinear(6, 10, bits=3), nn.LayerNorm(10), MemoryLinear(10, 6, bits=5))
    given = v.weights()
    given |= {"0.tables": own_rows(given["0.tables"], 3), "2.tables": own_rows(given["2.tables"], 5)}
    fill(half, given, lambda key: key)
    v.check(half(*v.given()))


# -- Maestro ---------------------------------------------------------------------------------------


def test_an_ordered_layer_its_penalty_and_its_tails_are_those_of_the_authors():
    v, layer = vector("maestro", "linear"), OrderedLowRankLinear(6, 4)
    given = v.weights()
    numbers = {
        "u": given["out_network.weight"],
        "v": given["in_network.weight"].mT,
        "bias": given["out_network.bias"],
        "active_columns": torch.tensor([4]),
    }
    fill(layer, numbers, lambda key: key)
    (x,) = v.given()
    every = layer(x)
    layer.active_rank = 2
    first_two = layer(x)
    layer.active_rank = None
    penalty = hierarchical_group_lasso([layer])
    slopes = torch.autograd.grad(penalty, (layer.v, layer.u))
    tails = [f.detach().square().sum(0).flip(0).cumsum(0).flip(0).sqrt() for f in (layer.u, layer.v)]
    v.check(every, first_two, penalty, slopes[0].mT, slopes[1], tails[0] * tails[1])
    importance = v.output["importance"]
    assert progressive_shrink_(layer, (importance[1] + importance[2]).item() / 2) == 2


def test_a_layer_taken_from_a_dense_one_is_cut_as_the_authors_cut_it():
    v, layer = vector("maestro", "decomposed"), OrderedLowRankLinear(6, 4)
    given = v.weights()
    near = LowRankLinear.from_dense(given["weight"], 4, given["bias"]).state_dict()
    fill(layer, {**near, "active_columns": torch.tensor([4])}, lambda key: key)
    every = layer(*v.given())
    layer.active_rank = 2
    v.check(every, layer(*v.given()))


# -- Mixed-TD --------------------------------------------------------------------------------------

CHAINS = {
    "separable": lambda conv: svd_conv2d(conv, 3, unfolding="separable"),
    "filters": lambda conv: svd_conv2d(conv, 2, unfolding="filters"),
    "channels": lambda conv: svd_conv2d(conv, 2, unfolding="channels"),
    "filters, input groups": lambda conv: svd_conv2d(conv, 2, unfolding="filters", groups=2),
    "channels, filter groups": lambda conv: svd_conv2d(conv, 2, unfolding="channels", groups=2),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains_by_svd_and_their_sizes_are_those_of_the_authors(name):
    v, conv = vector("mixed-td", name), nn.Conv2d(4, 6, 3, stride=2, padding=1)
    fill(conv, v.weights(), lambda key: key)
    chain = CHAINS[name](conv)
    size = torch.tensor(sum(link.weight.numel() for link in chain))
    v.check(chain(*v.given()), size)


def test_cp_comes_as_near_to_a_kernel_as_that_of_the_authors():
    v, conv = vector("mixed-td", "CP"), nn.Conv2d(4, 6, 3, padding=1)
    fill(conv, v.weights(), lambda key: key)
    rebuilt = cp_tensor(cp_als(conv.weight.detach(), 5))
    error = (rebuilt - conv.weight.detach()).norm() / conv.weight.detach().norm()
    assert error <= 1.01 * v.output["relative error"]


# -- Scalable neural network kernels ---------------------------------------------------------------


def test_random_features_and_their_layer_are_those_of_the_authors():
    v = vector("snnk", "ReLU features")
    v.check(arccos_features(*v.given()))
    v = vector("snnk", "universal random features")
    phi = universal_random_features(*v.given(), torch.tensor([0.3]).double())
    v.check(phi.real, phi.imag)
    v = vector("snnk", "NNK_Relu")
    x, projections = v.given()
    layer = SNNKLinear(5, 4, 7)
    psi = arccos_features(0.3 * wave((4, 5), 1), projections)
    fill(layer, {"psi": psi, "projections": projections}, lambda key: key)
    v.check(layer(x))


# -- Sparse iso-FLOP -------------------------------------------------------------------------------


def centre(kernel: Tensor) -> Tensor:
    """What a 3 x 3 kernel does to an image of one pixel."""
    return kernel[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_parallel_branches_with_batch_norms_make_the_block_of_the_authors(mode):
    v = vector("sparse-ift", f"parallel block, {mode}")
    given, halves = v.weights(), []
    for half in "12":
        layer = SparseParallelLinear(4, 4, 2 / 3, activation=lambda: nn.BatchNorm1d(4), bias=False)
        numbers = {}
        for i in range(3):
            numbers[f"branches.{i}.dense_weight"] = centre(given[f"conv{half}_list.{i}.weight"])
            numbers[f"branches.{i}.mask"] = torch.ones(4, 4)
            for name in ("weight", "bias", "running_mean", "running_var"):
                numbers[f"activations.{i}.{name}"] = given[f"bn{half}_list.{i}.{name}"]
        fill(layer, numbers, lambda key: key)
        halves.append(layer.train(mode == "train"))
    x = v.given()[0].flatten(1)
    y = (halves[1](halves[0](x).relu()) + x).relu()
    v.check(y[..., None, None])


def test_doped_and_factorized_layers_and_all_their_sizes_are_those_of_the_authors():
    v, layer = vector("sparse-ift", "doped"), SparseDopedLinear(4, 6, 0.5, bias=False)
    given = v.weights()
    u, w = centre(given["V_conv1x1.weight"]), centre(given["U_conv3x3.weight"])
    layer.u, layer.v = nn.Parameter(u), nn.Parameter(w.mT)  # of the rank of their 3 x 3 kernel
    layer.sparse.mask.fill_(True)
    layer.sparse.dense_weight.data = centre(given["sparse_conv.weight"])
    v.check(layer(v.given()[0].flatten(1))[..., None, None])
    v, layer = vector("sparse-ift", "factorized"), SparseFactorizedLinear(2, 6, 0.5, bias=False)
    for factor, name in ((layer.first, "U_conv3x3.weight"), (layer.second, "V_conv1x1.weight")):
        factor.dense_weight = nn.Parameter(centre(v.weights()[name]))
        factor.in_features = factor.dense_weight.shape[1]
        factor.mask = torch.ones_like(factor.dense_weight, dtype=torch.bool)
    v.check(layer(v.given()[0].flatten(1))[..., None, None])
    shapes = [(9 * i, o, s) for i, o in ((16, 16), (3, 7), (64, 128)) for s in (0.5, 0.75, 0.9)]
    sizes = [torch.tensor([sparse_ift_size(*n, kind) for n in shapes]) for kind in ("factorized", "doped")]
    vector("sparse-ift", "sizes").check(*sizes)


def test_masks_move_as_those_of_the_authors():
    v, layer = vector("sparse-ift", "RigL"), SparseWideLinear(4, 4, 0.6).double()
    weight, gradient, order = v.given()
    mask = torch.zeros(40, dtype=torch.bool)
    mask[order.flatten().argsort()[:16]] = True
    layer.mask, layer.dense_weight = mask.reshape(5, 8), nn.Parameter(weight.clone())
    assert rigl_update_(layer, gradient, 0.5) == 8
    v.check(layer.mask, layer.weight)
