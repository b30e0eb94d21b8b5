"""AugLocal: the layers that are copied, isolation by autograd, one module against plain training."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom import check_layer
from course_lib.training.local_learning import (
    AugLocal,
    LocalBlock,
    PoolAndClassify,
    ResidualBlock1d,
    auxiliary_layer_index,
    pyramid_depth,
)
from course_lib.training.memory_saving import saved_bytes

PLAN = [(4, 1), (4, 1), (6, 2), (6, 1), (8, 2), (8, 1)]
SGD = partial(torch.optim.SGD, lr=0.1)


def dense(width_in: int, width_out: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width_in, width_out), nn.ReLU())


def toy(num_modules=6, **options) -> tuple[AugLocal, torch.Tensor, torch.Tensor]:
    options = {"make_optimizer": SGD, "num_modules": num_modules, **options}
    model = AugLocal(ResidualBlock1d, 2, PLAN, 3, **options).double()
    return model, torch.randn(9, 2, 13, dtype=torch.float64), torch.arange(9) % 3


def test_the_layers_that_the_paper_names():
    assert auxiliary_layer_index(0, 16, 3) == [5, 10, 15]


@pytest.mark.parametrize("num_layers", [1, 2, 7, 16])
def test_copied_layers_are_the_nearest_to_an_even_spread(num_layers):
    for l in range(num_layers):
        for depth in range(num_layers + 2):
            picked = auxiliary_layer_index(l, num_layers, depth)
            later = list(range(l + 1, num_layers))
            if depth >= len(later):
                assert picked == later
                continue
            assert len(picked) == depth
            assert picked == sorted(set(picked))
            assert not picked or picked[-1] == num_layers - 1
            for i, index in enumerate(picked, 1):
                exact = l + (num_layers - l - 1) * i / depth
                assert index in later
                assert abs(index - exact) <= 0.5


@pytest.mark.parametrize("num_modules", [2, 3, 10, 55])
@pytest.mark.parametrize("depth", [1, 2, 9])
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_the_pyramid_falls_from_its_depth_to_one(num_modules, depth, tau):
    depths = [pyramid_depth(l, num_modules, depth, tau=tau) for l in range(num_modules - 1)]
    assert depths[0] == depth
    assert depths == sorted(depths, reverse=True)
    assert min(depths) >= 1
    if num_modules > 2:
        assert depths[-1] == max(1, round(depth - tau * (depth - 1)))


def test_auxiliary_networks_have_the_shapes_of_the_layers_they_copy():
    model, x, _ = toy(auxiliary_depth=2, tau=0.0)
    outputs, h = [], x
    for module in model.modules_in_order:
        h = module(h)
        outputs.append(h.shape)
    assert outputs == [(9, 4, 13), (9, 4, 13), (9, 6, 7), (9, 6, 7), (9, 8, 4), (9, 8, 4)]
    h = x
    for l, module in enumerate(model.modules_in_order[:-1]):
        h = module(h)
        copied = auxiliary_layer_index(l, len(PLAN), 2)
        inner = h
        for layer, index in zip(module.auxiliary[:-1], copied, strict=True):
            inner = layer(inner)
            assert inner.shape == outputs[index]
        assert module.auxiliary[-1](inner).shape == (9, 3)


def test_a_copy_makes_up_for_one_downsampling_at_most():
    model, _, _ = toy(auxiliary_depth=1, tau=0.0)  # layers 2 and 4 halve the signal, a copy does once
    strides = [module.auxiliary[0].stride for module in model.modules_in_order[:-1]]
    assert strides == [2, 2, 2, 2, 1]
    longer = AugLocal(ResidualBlock1d, 2, [(4, 1), (4, 2), (4, 2), *[(4, 1)] * 3], 3, auxiliary_depth=3)
    copies = longer.modules_in_order[0].auxiliary[:-1]  # of layers 2, 3 and 5: the second waits for its turn
    assert [copy.stride for copy in copies] == [2, 2, 1]


@pytest.mark.parametrize("depth", [0, 1, 2, 5, 9])
def test_the_last_module_holds_one_layer_more_than_an_auxiliary_network(depth):
    model, _, _ = toy(num_modules=None, auxiliary_depth=depth)
    assert len(model.modules_in_order[-1].layers) == min(depth + 1, len(PLAN))


def test_depth_zero_is_a_linear_classifier_everywhere():
    model, _, _ = toy(auxiliary_depth=0)
    assert all(len(module.auxiliary) == 1 for module in model.modules_in_order)
    assert all(isinstance(module.auxiliary[0], PoolAndClassify) for module in model.modules_in_order)


def test_auxiliary_networks_are_private():
    model, _, _ = toy()
    parameters = [p for module in model.modules_in_order for p in module.parameters()]
    assert len({id(p) for p in parameters}) == len(parameters) == len(list(model.parameters()))


@pytest.mark.parametrize("l", range(len(PLAN)))
def test_the_loss_of_a_module_reaches_no_other_module(l):
    model, x, y = toy()
    h = x
    for i, module in enumerate(model.modules_in_order):
        h = module(h.detach())
        if i == l:
            module.loss(h, y).backward()
    for i, module in enumerate(model.modules_in_order):
        reached = [p.grad is not None for p in module.parameters()]
        assert all(reached) if i == l else not any(reached)


@pytest.mark.parametrize("l", range(len(PLAN)))
def test_disturbing_one_module_leaves_the_updates_of_those_below(l):
    calm, x, y = toy()
    disturbed = copy.deepcopy(calm)
    inner = disturbed.modules_in_order[l]
    inner.loss = lambda h, y: 7 * LocalBlock.loss(inner, h, y)
    calm.train_step(x, y)
    disturbed.train_step(x, y)
    for i, (a, b) in enumerate(zip(calm.modules_in_order, disturbed.modules_in_order, strict=True)):
        same = [torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True)]
        assert not any(same) if i == l else all(same)  # later ones see the same activations of this step


def test_one_module_is_ordinary_backpropagation_bit_for_bit():
    model, x, y = toy(num_modules=1)
    plain = copy.deepcopy(model)
    only = plain.modules_in_order[0]
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for _ in range(5):
        model.train_step(x, y)
        optimizer.zero_grad()
        F.cross_entropy(only.auxiliary(only.layers(x)), y).backward()
        optimizer.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


def test_with_fewer_modules_the_last_holds_the_remaining_layers():
    model, x, y = toy(num_modules=3)
    assert [len(module.layers) for module in model.modules_in_order] == [1, 1, 4]
    model.modules_in_order[-1].train_step(model.modules_in_order[:-1][0](x).detach(), y)
    assert all(p.grad is not None for p in model.modules_in_order[-1].parameters())


def test_a_block_hands_on_its_output_of_before_the_update_cut_off():
    block = LocalBlock(nn.Linear(4, 6), nn.Linear(6, 3), SGD)
    x, y = torch.randn(5, 4), torch.arange(5) % 3
    before, expected = block(x), F.cross_entropy(block.auxiliary(block(x)), y).item()
    h, loss = block.train_step(x, y)
    assert torch.equal(h, before)
    assert not h.requires_grad
    assert loss == pytest.approx(expected)
    assert not torch.equal(block(x), before)


def test_prediction_and_read_out_agree_at_the_end():
    model, x, _ = toy()
    model.eval()
    answers = model.read_out(x)
    assert answers.shape == (len(PLAN), 9)
    assert torch.equal(answers[-1], model.predict(x))
    assert torch.equal(model.predict(x), model(x).argmax(-1))


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_it_learns_a_toy_problem(depth):
    y = torch.arange(24) % 3
    x = F.one_hot(y, 5) + 0.1 * torch.randn(24, 5)
    model = AugLocal(
        dense, 5, [(16, 1)] * 4, 3, auxiliary_depth=depth, make_optimizer=partial(torch.optim.Adam, lr=0.01)
    )
    for _ in range(80):
        model.train_step(x, y)
    assert (model.predict(x) == y).float().mean() > 0.95


def test_stored_bytes_do_not_grow_with_depth_but_those_of_backpropagation_do():
    y = torch.arange(7) % 3
    peaks = {}
    for modules in (1, None):
        for depth in (4, 8, 16):
            model = AugLocal(dense, 5, [(5, 1)] * depth, 3, auxiliary_depth=2, tau=0.0, num_modules=modules)
            x = torch.randn(7, 5)
            peaks[modules, depth] = saved_bytes(lambda model=model, x=x: model.train_step(x, y))
    assert peaks[None, 4] == peaks[None, 8] == peaks[None, 16]
    growth = peaks[1, 8] - peaks[1, 4]
    assert peaks[1, 16] - peaks[1, 8] == 2 * growth > 0


def test_the_parts_keep_the_contract_of_layers():
    assert check_layer(ResidualBlock1d(3, 4, 2), torch.randn(5, 3, 9)).ok
    with_batch_norm = ResidualBlock1d(3, 3, 1, norm_layer=nn.BatchNorm1d)
    assert check_layer(with_batch_norm, torch.randn(5, 3, 9), mixes_batch=True).ok
    assert check_layer(PoolAndClassify(4, 3), torch.randn(5, 4)).ok


@pytest.mark.parametrize("norm_layer", [None, nn.BatchNorm1d], ids=["group", "batch"])
def test_the_residual_block_is_its_equation(norm_layer):
    block = ResidualBlock1d(8, 8, 1, norm_layer=norm_layer).double()
    x = torch.randn(5, 8, 9, dtype=torch.float64)

    def normalise(h):
        groups = h.view(5, 4, 2, 9) if norm_layer is None else h
        axes = (2, 3) if norm_layer is None else (0, 2)
        mean, variance = groups.mean(axes, keepdim=True), groups.var(axes, correction=0, keepdim=True)
        return ((groups - mean) / (variance + 1e-5).sqrt()).view_as(h)

    first, second = block.residual[0].weight, block.residual[3].weight
    inner = normalise(F.conv1d(x, first, padding=1)).relu()
    torch.testing.assert_close(block(x), (x + normalise(F.conv1d(inner, second, padding=1))).relu())


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="l must be below num_layers=16, got l=16"):
        auxiliary_layer_index(16, 16, 2)
    with pytest.raises(ValueError, match="depth must be an integer of at least 0, got -1"):
        auxiliary_layer_index(0, 16, -1)
    with pytest.raises(ValueError, match="l=9"):
        pyramid_depth(9, 10, 3)
    with pytest.raises(ValueError, match="depth must be an integer of at least 1, got 0"):
        pyramid_depth(0, 10, 0)
    with pytest.raises(ValueError, match=r"tau must be .* got 1\.5"):
        pyramid_depth(0, 10, 3, tau=1.5)
    with pytest.raises(ValueError, match="num_modules must be at most 6"):
        toy(num_modules=7)
    with pytest.raises(ValueError, match="AugLocal: auxiliary_depth must be"):
        toy(auxiliary_depth=-1)
    with pytest.raises(ValueError, match=r"PoolAndClassify\(4, 3\) expects x \(b, 4, ...\)"):
        PoolAndClassify(4, 3)(torch.randn(2, 5, 7))
    with pytest.raises(ValueError, match=r"AugLocal\(2, num_classes=3\) expects x \(b, 2, ...\)"):
        toy()[0].predict(torch.randn(2, 3, 13, dtype=torch.float64))
