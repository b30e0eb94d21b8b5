"""Options and ends of self-organising maps and of NoProp's paths."""

import math

import pytest
import torch
from torch import nn

from course_lib.training import local_learning as local
from course_lib.training.local_learning import auglocal
from course_lib.training.local_learning._checks import following, require_finite, require_labels
from tests.layers.arguments import as_users_call


@pytest.mark.parametrize(("grid", "sigma"), [((4, 6), 3.0), ((5, 2), 2.5), ((1, 1), 0.5)])
def test_by_default_a_neighbourhood_begins_at_half_the_longer_side(grid, sigma):
    map_ = local.SelfOrganizingMap(2, grid=grid)
    assert map_.sigma == (sigma, 0.5)
    assert map_.lr == (0.5, 0.02)
    assert local.SelfOrganizingMap(2, grid=grid, sigma=(2.0, 1.0), lr=(1.0, 0.1)).sigma == (2.0, 1.0)
    for options in ({"lr": (1.1, 0.1)}, {"lr": (0.0, 0.1)}, {"sigma": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=next(iter(options))):
            local.SelfOrganizingMap(2, grid=grid, **options)


def test_a_map_starts_uniform_between_zero_and_one():
    for map_ in (local.SelfOrganizingMap(50, grid=(5, 5)), local.GrowingGrid(500)):
        map_.weights.fill_(7)
        map_.reset_parameters()
        assert 0 <= map_.weights.min() < 0.05
        assert 0.95 < map_.weights.max() <= 1


def test_no_step_leaves_rows_of_the_data_and_one_row_is_learned_at_once():
    x = torch.rand(3, 2)
    map_ = local.SelfOrganizingMap(2, grid=(2, 3)).fit(x, steps=0)
    assert all((x == row).all(1).any() for row in map_.weights)
    fixed = local.SelfOrganizingMap(2, grid=(1, 1), lr=(1.0, 0.1)).fit_in_order(x[:1])
    torch.testing.assert_close(fixed.weights, x[:1])


@pytest.mark.parametrize("decay", [True, False])
def test_rate_and_width_fall_by_equal_factors_only_with_decay(decay):
    x = torch.rand(8, 2).double()
    map_ = local.SelfOrganizingMap(2, grid=(2, 3), lr=(0.5, 0.05), sigma=(2.0, 0.5)).double()
    weights = map_.weights.clone()
    for t, row in enumerate(x):
        share = t / len(x) if decay else 0
        lr, sigma = 0.5 * 0.1**share, 2.0 * 0.25**share
        weights = local.som_update(weights, map_.positions, row, lr, sigma)
    map_.fit_in_order(x, **({} if decay else {"decay": False}))  # by default it falls
    torch.testing.assert_close(map_.weights, weights)


def test_a_grid_grows_on_thirty_rows_a_unit_to_its_limit(monkeypatch):
    taken = []
    update = local.SelfOrganizingMap._update_for

    def noted(self, x, *, decay=True):
        taken.append((len(x), len(self.weights), decay))
        return update(self, x, decay=decay)

    monkeypatch.setattr(local.SelfOrganizingMap, "_update_for", noted)
    local.GrowingGrid(2, max_units=6).fit(torch.rand(20, 2), steps=5)
    assert taken == [(120, 4, False), (5, 6, True)]
    taken.clear()
    local.GrowingGrid(2, max_units=5, patience=2).fit(torch.rand(20, 2), steps=3)
    assert taken == [(3, 4, True)]
    taken.clear()
    local.GrowingGrid(2, max_units=9, patience=2).fit(torch.rand(20, 2), steps=0)
    assert taken[0] == (8, 4, False)
    assert taken[-1][:2] in ((0, 6), (0, 8), (0, 9))
    grid = local.GrowingGrid(2)
    assert (grid.max_units, grid.patience, grid.lr, grid.sigma) == (64, 30, (0.2, 0.01), (0.7, 0.5))
    with pytest.raises(ValueError, match="max_units"):
        local.GrowingGrid(2, max_units=3)


@pytest.mark.parametrize(
    "pair", [((0, 0), (1, 1)), ((0, 0), (0, 0)), ((0, 0), (-1, 0)), ((1, 1), (1, 2)), ((0, 1), (1, 0))]
)
def test_a_line_is_inserted_between_neighbours_of_the_grid_only(pair):
    grid = local.GrowingGrid(2)
    with pytest.raises(ValueError, match="GrowingGrid"):
        grid.insert_between(*pair)
    assert (grid.rows, grid.columns) == (2, 2)


@pytest.mark.parametrize("num_points", [2, 3, 5])
def test_vectors_of_short_and_long_paths(num_points):
    path = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]])
    even = local.ordered_vector(path, num_points).unflatten(0, (-1, 2))
    assert even[0].tolist() == [0, 0]
    assert even[-1].tolist() == [1, 3]
    assert local.ordered_vector(path[:1], num_points).tolist() == [0.0] * (2 * num_points)
    between = local.ordered_vector(path[:2], num_points).unflatten(0, (-1, 2))
    torch.testing.assert_close(between[:, 0], torch.linspace(0, 1, num_points))
    padded = local.padded_vector(path, num_points).unflatten(0, (-1, 2))
    torch.testing.assert_close(padded[:3], path[:num_points])
    assert padded[3:].abs().sum() == 0
    with pytest.raises(ValueError, match="num_points"):
        local.ordered_vector(path, 1)


def hierarchy(**options):
    postures = local.SelfOrganizingMap(3, grid=(3, 3))
    paths = local.SelfOrganizingMap(4, grid=(2, 2))
    return local.HierarchicalSOM(postures, paths, 2, num_points=2, **options)


def test_the_options_of_a_hierarchy_act():
    sequences = [torch.rand(5, 3) for _ in range(6)]
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    model = hierarchy(to_vector=local.padded_vector, lr=0.25)
    winners = [model.postures.winners(x).float() for x in sequences]
    expected = torch.stack([local.padded_vector(path, 2) for path in winners])
    torch.testing.assert_close(model.vectors(sequences), expected)
    assert hierarchy().to_vector is local.ordered_vector
    assert hierarchy().lr == 0.5
    with pytest.raises(ValueError, match="fit_maps first"):
        model.predict(sequences)
    model.fit_maps(sequences, steps=20)
    activity, target = model(sequences), nn.functional.one_hot(y, 2).float()
    torch.testing.assert_close(activity.norm(dim=-1), torch.ones(6))
    assert model.fit_output(sequences, y, steps=0).weight.abs().sum() == 0
    error = model.train_step(sequences, y)["error"]
    torch.testing.assert_close(model.weight, 0.25 * target.T @ activity / 6)
    assert error == pytest.approx((target - activity @ model.weight.T).square().mean().item())
    once = hierarchy().spread
    assert once.item() == 1
    for wrong in (0.0, -1.0):
        with pytest.raises(ValueError, match="lr"):
            hierarchy(lr=wrong)


# -- Auxiliary networks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("l", "layers", "depth", "copied"),
    [
        (0, 6, 0, []),
        (0, 6, 5, [1, 2, 3, 4, 5]),
        (0, 6, 9, [1, 2, 3, 4, 5]),
        (0, 6, 4, [1, 2, 4, 5]),
        (4, 6, 1, [5]),
        (5, 6, 2, []),
    ],
)
def test_which_layers_are_copied_at_the_ends(l, layers, depth, copied):
    assert local.auxiliary_layer_index(l, layers, depth) == copied
    with pytest.raises(ValueError, match="below num_layers"):
        local.auxiliary_layer_index(layers, layers, depth)


@pytest.mark.parametrize(
    ("l", "modules", "depth", "options", "found"),
    [
        (0, 6, 5, {}, 5),
        (4, 6, 5, {}, 3),
        (4, 6, 5, {"tau": 1.0}, 1),
        (4, 6, 5, {"tau": 0.0}, 5),
        (0, 2, 3, {}, 3),
        (2, 6, 1, {}, 1),
    ],
)
def test_the_depth_of_an_auxiliary_network_at_the_ends(l, modules, depth, options, found):
    assert local.pyramid_depth(l, modules, depth, **options) == found
    with pytest.raises(ValueError, match="num_modules - 2"):
        local.pyramid_depth(modules - 1, modules, depth)


PLAN = ((4, 1), (6, 2), (6, 1), (8, 2))


def make_auglocal(**options):
    return local.AugLocal(auglocal.ResidualBlock1d, 3, PLAN, 5, **options)


def test_the_options_of_auglocal_act():
    model = make_auglocal()
    assert len(model.modules_in_order) == 2
    assert all(isinstance(m.optimizer, torch.optim.Adam) for m in model.modules_in_order)
    assert [len(m.auxiliary) for m in model.modules_in_order] == [3, 1]
    every = make_auglocal(num_modules=4, make_optimizer=torch.optim.SGD, auxiliary_depth=3, tau=1.0)
    assert [len(m.auxiliary) for m in every.modules_in_order] == [4, 3, 2, 1]
    assert [len(m.layers) for m in every.modules_in_order] == [1, 1, 1, 1]
    assert all(isinstance(m.optimizer, torch.optim.SGD) for m in every.modules_in_order)
    flat = make_auglocal(num_modules=4, auxiliary_depth=3, tau=0.0)
    assert [len(m.auxiliary) for m in flat.modules_in_order] == [4, 3, 2, 1]
    assert len(make_auglocal(auxiliary_depth=9).modules_in_order) == 1
    with pytest.raises(ValueError, match="at most 4"):
        make_auglocal(num_modules=5)


@pytest.mark.parametrize(
    ("channels", "stride", "groups", "identity"),
    [((4, 4), 1, 4, True), ((4, 4), 2, 4, False), ((4, 6), 1, 1, False), ((3, 8), 1, 4, False)],
)
def test_the_shortcut_is_the_identity_where_shapes_stay(channels, stride, groups, identity):
    block, x = auglocal.ResidualBlock1d(*channels, stride), torch.randn(2, channels[0], 7)
    assert isinstance(block.shortcut, nn.Identity) == identity
    assert [m.num_groups for m in block.modules() if isinstance(m, nn.GroupNorm)] == [groups] * 2
    assert all(m.bias is None for m in block.modules() if isinstance(m, nn.Conv1d))
    torch.testing.assert_close(block(x), (block.shortcut(x) + block.residual(x)).relu())
    assert block(x).shape == (2, channels[1], -(-7 // stride))


def test_pooling_before_the_classifier_only_where_there_is_something_to_pool():
    head = auglocal.PoolAndClassify(4, 3)
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(head(x), head.linear(x.mean((2, 3))))
    torch.testing.assert_close(head(x[..., 0, 0]), head.linear(x[..., 0, 0]))
    for wrong in (x[:, :3], x[0, :, 0, 0]):
        with as_users_call(), pytest.raises(ValueError, match="PoolAndClassify"):
            head(wrong)


# -- Checks ----------------------------------------------------------------------------------------------


def test_what_the_checks_take_and_refuse():
    layer = nn.Linear(2, 2)
    require_finite(torch.zeros(1, 2), layer)
    for wrong in (torch.zeros(0, 2), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="at least one row"):
            require_finite(wrong, layer)
    bad = torch.tensor([[1.0, math.nan], [math.inf, math.nan], [0.0, 1.0]])
    with pytest.raises(ValueError, match="2 of 3 rows"):
        require_finite(bad, layer)
    require_labels(torch.tensor([0, 2]), 3, 2, layer)
    require_labels(torch.zeros(0, dtype=torch.long), 3, 0, layer)
    for y in (torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0]), torch.zeros(2, 1).long()):
        with pytest.raises(ValueError, match="labels"):
            require_labels(y, 3, 2, layer)


def test_an_optimizer_is_kept_while_it_holds_the_very_parameters():
    layer = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1)
    made = []

    def make(parameters):
        made.append(parameters)
        return torch.optim.SGD(parameters, lr=2)

    assert following(optimizer, layer.parameters(), make) is optimizer
    assert following(optimizer, [layer.weight], make) is not optimizer
    assert following(optimizer, [layer.bias, layer.weight], make) is not optimizer
    assert following(None, layer.parameters(), make).param_groups[0]["lr"] == 2
    assert len(made) == 3
