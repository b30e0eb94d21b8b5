"""Arguments and inputs of training/local_learning: refused by name, and before anything is changed."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from course_lib.registry import Entry
from course_lib.training.local_learning import (
    RBM,
    AugLocal,
    DeepBeliefNetwork,
    ForwardForward,
    GrowingGrid,
    HierarchicalSOM,
    LocalBlock,
    NoProp,
    PoolAndClassify,
    ResidualBlock1d,
    SelfOrganizingMap,
)
from tests.layers.arguments import argument_faults, as_users_call, input_faults


def dense(in_features, out_features, stride):
    return nn.Sequential(nn.Linear(in_features, out_features), nn.ReLU())


def hierarchy():
    return HierarchicalSOM(
        SelfOrganizingMap(3, grid=(2, 2)), SelfOrganizingMap(8, grid=(2, 3)), 2, num_points=4, lr=0.5
    )


# Those that are no layers of the contract: their forward draws noise, takes a list, or has no gradient.
EXAMPLES = {
    SelfOrganizingMap: lambda: (
        SelfOrganizingMap(3, grid=(2, 2), lr=(0.5, 0.1), sigma=(1.0, 0.5)),
        torch.rand(4, 3),
    ),
    GrowingGrid: lambda: (GrowingGrid(3), torch.rand(4, 3)),
    ForwardForward: lambda: (ForwardForward(6, (5, 4), 3), torch.rand(4, 6)),
    AugLocal: lambda: (AugLocal(dense, 5, ((6, 1), (6, 1)), 3, num_modules=2), torch.randn(2, 5)),
    PoolAndClassify: lambda: (PoolAndClassify(4, 3), torch.randn(2, 4, 7)),
    ResidualBlock1d: lambda: (ResidualBlock1d(4, 4, 1), torch.randn(2, 4, 7)),
}
NOISY = {
    NoProp: lambda: (NoProp(4, 3, num_steps=2), torch.randn(2, 4)),
    HierarchicalSOM: lambda: (hierarchy(), [torch.rand(5, 3)]),
    LocalBlock: lambda: (LocalBlock(nn.Linear(4, 6), nn.Linear(6, 3), torch.optim.Adam), torch.randn(2, 4)),
}
LAYERS = {
    cls.__name__: Entry(cls, cls.__name__, cls.__module__, (), example) for cls, example in EXAMPLES.items()
}
EVERY = LAYERS | {
    cls.__name__: Entry(cls, cls.__name__, cls.__module__, (), example) for cls, example in NOISY.items()
}


@pytest.mark.parametrize("entry", EVERY.values(), ids=EVERY)
def test_arguments_that_do_not_fit_are_refused_by_name(entry):
    assert argument_faults(entry) == []


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_inputs_that_do_not_fit_are_refused_by_name(entry):
    right = {"extra axis", "missing axis"} if entry.obj is ForwardForward else set()  # layers come first
    assert input_faults(entry, right=right) == []


Y = torch.tensor([0, 1, 1, 0])
TRAINERS = {
    "SelfOrganizingMap.fit": (lambda: SelfOrganizingMap(3, grid=(2, 2)), lambda m, x, y: m.fit(x, steps=3)),
    "SelfOrganizingMap.fit_in_order": (
        lambda: SelfOrganizingMap(3, grid=(2, 2)),
        lambda m, x, y: m.fit_in_order(x),
    ),
    "SelfOrganizingMap.train_step": (
        lambda: SelfOrganizingMap(3, grid=(2, 2)),
        lambda m, x, y: m.train_step(x[-1] if len(x) else x.new_zeros(0), lr=0.1, sigma=1.0),
    ),
    "GrowingGrid.fit": (lambda: GrowingGrid(3, max_units=6), lambda m, x, y: m.fit(x, steps=3)),
    "RBM.train_step": (lambda: RBM(3, 2), lambda m, x, y: m.train_step(x)),
    "RBM.train_step, gaussian": (lambda: RBM(3, 2, visible="gaussian"), lambda m, x, y: m.train_step(x)),
    "RBM.reset_parameters": (lambda: RBM(3, 2), lambda m, x, y: m.reset_parameters(x)),
    "DeepBeliefNetwork.pretrain": (
        lambda: DeepBeliefNetwork([3, 2, 2]),
        lambda m, x, y: m.pretrain(x, steps=2),
    ),
    "DeepBeliefNetwork.train_step": (
        lambda: DeepBeliefNetwork([3, 2, 2]),
        lambda m, x, y: m.train_step(x, layer=1),
    ),
    "ForwardForward.train_step": (lambda: ForwardForward(3, [4, 4], 2), lambda m, x, y: m.train_step(x, y)),
    "NoProp.train_step": (lambda: NoProp(3, 2, num_steps=2), lambda m, x, y: m.train_step(x, y)),
    "AugLocal.train_step": (
        lambda: AugLocal(dense, 3, [(4, 1), (4, 1)], 2, num_modules=2),
        lambda m, x, y: m.train_step(x, y),
    ),
    "HierarchicalSOM.fit_maps": (hierarchy, lambda m, x, y: m.fit_maps([x] * 4, steps=3)),
    "HierarchicalSOM.train_step": (
        lambda: hierarchy().fit_maps([torch.rand(5, 3), torch.rand(6, 3)], steps=3),
        lambda m, x, y: m.train_step([x] * 4, y),
    ),
}
WRONG = {
    "NaN": lambda x: x.index_fill(0, torch.tensor([3]), torch.nan),
    "infinite": lambda x: x.index_fill(0, torch.tensor([3]), torch.inf),
    "float64": torch.Tensor.double,
    "int64": torch.Tensor.long,
    "another width": lambda x: x[:, :2],
    "no rows": lambda x: x[:0],
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_bad_rows_are_refused_by_name_and_leave_the_state_as_it_was(trainer, wrong):
    make, train = TRAINERS[trainer]
    model = make()
    train(model, torch.rand(4, 3), Y)  # good rows are taken
    before = copy.deepcopy(model.state_dict())
    bad = WRONG[wrong](torch.rand(4, 3))
    with as_users_call(), pytest.raises((ValueError, TypeError), match=trainer.split(".")[0]):
        train(model, bad, Y)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("y", [Y + 1, Y - 1, Y[:2], Y.float()], ids=["high", "negative", "few", "float"])
@pytest.mark.parametrize(
    "trainer",
    ["ForwardForward.train_step", "NoProp.train_step", "AugLocal.train_step", "HierarchicalSOM.train_step"],
)
def test_bad_labels_are_refused_by_name_and_leave_the_state_as_it_was(trainer, y):
    make, train = TRAINERS[trainer]
    model = make()
    before = copy.deepcopy(model.state_dict())
    with as_users_call(), pytest.raises((ValueError, TypeError), match="labels"):
        train(model, torch.rand(4, 3), y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_grown_grid_is_saved_and_loaded_also_into_meta_and_inside_a_hierarchy():
    data = torch.rand(60, 2)
    grown = GrowingGrid(2, max_units=12).fit(data, steps=50)
    assert grown.rows * grown.columns > 4
    fresh = GrowingGrid(2, max_units=12)
    fresh.load_state_dict(grown.state_dict())
    with torch.device("meta"):
        empty = GrowingGrid(2, max_units=12)
    empty.load_state_dict(grown.state_dict(), assign=True)
    for other in (fresh, empty):
        assert (other.rows, other.columns) == (grown.rows, grown.columns)
        assert torch.equal(other.winners(data), grown.winners(data))
    fresh.reset_parameters()
    assert fresh.weights.shape == (4, 2)
    films = [torch.rand(9, 2) for _ in range(4)]
    maps = partial(lambda: (GrowingGrid(2, max_units=9), GrowingGrid(8, max_units=6)))
    model = HierarchicalSOM(*maps(), 2, num_points=4).fit_maps(films, steps=30)
    model.fit_output(films, Y, steps=5)
    again = HierarchicalSOM(*maps(), 2, num_points=4)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(films), model(films))
    assert torch.equal(again.weight, model.weight)


def test_a_map_from_meta_is_a_map():
    som = SelfOrganizingMap(3, grid=(2, 4), device="meta").to_empty(device="cpu")
    som.reset_parameters()
    assert 0 <= som.weights.min() < som.weights.max() <= 1
    assert som.winners(som.weights).tolist() == [[i, j] for i in range(2) for j in range(4)]
    assert som.winners(som.weights).dtype == torch.int64


@pytest.mark.parametrize(
    "trainer", ["ForwardForward.train_step", "NoProp.train_step", "AugLocal.train_step", "RBM.train_step"]
)
def test_training_goes_on_after_the_parameters_were_replaced(trainer):
    make, train = TRAINERS[trainer]
    torch.manual_seed(0)
    model, other = make(), make()
    train(model, torch.rand(4, 3), Y)
    other.load_state_dict(model.state_dict(), assign=True)
    before = copy.deepcopy(other.state_dict())
    train(other, torch.rand(4, 3), Y)
    names = [name for name, _ in other.named_parameters()]
    assert all(not torch.equal(other.state_dict()[name], before[name]) for name in names)


@pytest.mark.parametrize(
    "make",
    [
        lambda **f: ForwardForward(6, [5, 4], 3, **f),
        lambda **f: NoProp(4, 3, num_steps=2, **f),
        lambda **f: NoProp(4, 3, num_steps=2, embed_dim=5, **f),
        lambda **f: RBM(4, 3, **f),
        lambda **f: DeepBeliefNetwork([4, 3, 2], **f),
        lambda **f: AugLocal(dense, 5, [(6, 1)] * 3, 3, **f),
        lambda **f: SelfOrganizingMap(3, grid=(2, 2), **f),
        lambda **f: ResidualBlock1d(4, 6, 2, **f),
        lambda **f: PoolAndClassify(4, 3, **f),
    ],
)
def test_device_and_dtype_reach_every_tensor_and_values_are_those_of_the_default(make):
    torch.manual_seed(0)
    plain = make()
    torch.manual_seed(0)
    double = make(dtype=torch.float64)
    for (name, a), b in zip(plain.state_dict().items(), double.state_dict().values(), strict=True):
        assert b.dtype == (torch.float64 if a.is_floating_point() else a.dtype), name
        assert a.shape == b.shape
    assert all(t.is_meta for t in make(device="meta").state_dict().values())
