"""Self-organising maps, against MiniSom, online k-means by loops, and torch's own linear layer."""

import numpy as np
import pytest
import torch
from minisom import MiniSom
from torch import nn

from course_lib.training.local_learning import (
    GrowingGrid,
    HierarchicalSOM,
    SelfOrganizingMap,
    delta_rule,
    ordered_vector,
    padded_vector,
    som_update,
)


def exponential(first: float, last: float):
    """The decay of our map, as MiniSom asks for it."""
    return lambda value, t, steps: first * (last / first) ** (t / steps)


def path(*points: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(points, dtype=torch.float64)


@pytest.mark.parametrize(("rows", "columns", "dim"), [(1, 1, 1), (3, 5, 2), (7, 4, 11)])
def test_the_fit_is_that_of_minisom(rows, columns, dim):
    lr, sigma, steps = (0.5, 0.05), (1.0, 0.4), 500
    data = torch.randn(steps, dim, dtype=torch.float64)
    som = SelfOrganizingMap(dim, grid=(rows, columns), lr=lr, sigma=sigma).double()
    peer = MiniSom(
        rows,
        columns,
        dim,
        sigma=sigma[0],
        learning_rate=lr[0],
        decay_function=exponential(*lr),
    )
    peer._sigma_decay_function = exponential(*sigma)  # MiniSom takes names only
    peer._weights = som.weights.view(rows, columns, dim).numpy().copy()
    som.fit_in_order(data)
    peer.train(data.numpy(), steps)
    np.testing.assert_allclose(
        som.weights.view(rows, columns, dim).numpy(), peer._weights, rtol=0, atol=1e-10
    )
    expected = np.array([peer.winner(x) for x in data.numpy()])
    np.testing.assert_array_equal(som.winners(data).numpy(), expected)
    assert som.quantization_error(data) == pytest.approx(peer.quantization_error(data.numpy()))


def test_the_fast_loop_is_the_update_one_by_one():
    data = 1e3 + torch.randn(40, 3, dtype=torch.float64)
    som = SelfOrganizingMap(3, grid=(2, 5)).double()
    weights = som.weights.clone()
    som.fit_in_order(data)
    for t, x in enumerate(data):
        lr, sigma = (first * (last / first) ** (t / 40) for first, last in (som.lr, som.sigma))
        weights = som_update(weights, som.positions, x, lr, sigma)
    torch.testing.assert_close(som.weights, weights, rtol=1e-12, atol=1e-12)


def test_a_single_step_is_the_update():
    som = SelfOrganizingMap(4, grid=(2, 3)).double()
    before, x = som.weights.clone(), torch.randn(4, dtype=torch.float64)
    error = som.train_step(x, lr=0.3, sigma=0.8)["error"]
    assert error == pytest.approx((before - x).norm(dim=1).min().item())
    assert torch.equal(som.weights, som_update(before, som.positions, x, 0.3, 0.8))


def test_the_update_is_its_equation_unit_by_unit():
    som = SelfOrganizingMap(2, grid=(3, 4)).double()
    x = torch.rand(2, dtype=torch.float64)
    updated = som_update(som.weights, som.positions, x, 0.3, 1.1)
    units = [(i, j) for i in range(3) for j in range(4)]
    distances = [sum((x[d] - som.weights[n, d]) ** 2 for d in range(2)) for n in range(12)]
    ci, cj = units[min(range(12), key=lambda n: distances[n])]
    for n, (i, j) in enumerate(units):
        pull = 0.3 * np.exp(-((i - ci) ** 2 + (j - cj) ** 2) / (2 * 1.1**2))
        torch.testing.assert_close(updated[n], som.weights[n] + pull * (x - som.weights[n]))


@pytest.mark.parametrize("sigma", [0.0, 1e-3])
def test_without_a_neighbourhood_the_map_is_online_k_means(sigma):
    data = torch.randn(60, 3, dtype=torch.float64)
    som = SelfOrganizingMap(3, grid=(2, 3)).double()
    weights, centres = som.weights.clone(), som.weights.clone()
    for x in data:
        weights = som_update(weights, som.positions, x, 0.1, sigma)
        nearest = min(range(6), key=lambda n: (x - centres[n]).norm().item())
        centres[nearest] += 0.1 * (x - centres[nearest])
    torch.testing.assert_close(weights, centres)


def test_distances_are_exact_far_from_the_origin():
    som = SelfOrganizingMap(2, grid=(2, 2))
    som.weights.copy_(torch.tensor([[1e4, 0.0], [1e4, 0.5], [1e4, 1.0], [1e4, 1.5]]))
    torch.testing.assert_close(
        som(som.weights + torch.tensor([0.0, 0.25])).diagonal(), torch.full((4,), 0.0625)
    )


def test_a_fitted_map_spreads_over_the_data_and_keeps_neighbours_together():
    data = torch.rand(400, 2)
    som = SelfOrganizingMap(2, grid=(5, 5)).fit(data, steps=2000)
    assert som.quantization_error(data) < 0.12
    grid = som.weights.view(5, 5, 2)
    beside = torch.cat(
        [(grid[1:] - grid[:-1]).norm(dim=-1).flatten(), (grid[:, 1:] - grid[:, :-1]).norm(dim=-1).flatten()]
    )
    assert beside.mean() < torch.pdist(som.weights).mean() / 2


@pytest.mark.parametrize(
    ("unit", "neighbour", "shape"),
    [((0, 1), (1, 1), (4, 4)), ((2, 0), (1, 0), (4, 4)), ((1, 3), (1, 2), (3, 5))],
)
def test_an_inserted_line_is_the_mean_of_its_neighbours_and_the_grid_stays_rectangular(
    unit, neighbour, shape
):
    grid = GrowingGrid(2).double()
    grid._take(torch.randn(3, 4, 2, dtype=torch.float64))
    before = grid.weights.view(3, 4, 2).clone()
    grid.insert_between(unit, neighbour)
    assert (grid.rows, grid.columns) == shape
    assert grid.positions.shape == (shape[0] * shape[1], 2)
    axis = 0 if shape[0] == 4 else 1
    place = max(unit[axis], neighbour[axis])
    after = grid.weights.view(*shape, 2)
    new = after.select(axis, place)
    mean = (after.select(axis, place - 1) + after.select(axis, place + 1)) / 2
    torch.testing.assert_close(new, mean)
    kept = [i for i in range(shape[axis]) if i != place]
    assert torch.equal(after.index_select(axis, torch.tensor(kept)), before)


def test_the_farthest_neighbour_is_found_at_corners_too():
    grid = GrowingGrid(1)
    grid.weights = torch.tensor([[0.0], [1.2], [5.0], [2.0]])
    assert grid.farthest_neighbour(0, 0) == (1, 0)
    assert grid.farthest_neighbour(1, 1) == (1, 0)
    assert grid.farthest_neighbour(0, 1) == (0, 0)


def test_a_grid_grows_beside_the_unit_that_wins_most(monkeypatch):
    data = torch.tensor([[0.0]] * 90 + [[10.0]] * 5 + [[20.0]] * 5)
    grid = GrowingGrid(1, max_units=6)
    chosen = []
    monkeypatch.setattr(grid, "_update_for", lambda x, decay=True: grid)  # the weights stay where they start
    insert = grid.insert_between

    def watch(unit, neighbour):
        busiest = int((grid.weights - 0.0).abs().argmin())
        chosen.append((unit, divmod(busiest, grid.columns), neighbour, grid.farthest_neighbour(*unit)))
        insert(unit, neighbour)

    monkeypatch.setattr(grid, "insert_between", watch)
    for _ in range(5):
        grid._take(torch.zeros(2, 2, 1))
        grid.fit(data, steps=1)
    assert len(chosen) == 5
    assert all(unit == busiest and other == farthest for unit, busiest, other, farthest in chosen)


@pytest.mark.parametrize("max_units", [4, 5, 6, 20])
def test_a_growing_grid_grows_to_its_limit_and_fits(max_units):
    data = torch.rand(200, 2) * torch.tensor([4.0, 1.0])
    grid = GrowingGrid(2, max_units=max_units).fit(data, steps=300)
    assert grid.weights.shape == (grid.rows * grid.columns, 2)
    assert len(grid.weights) <= max_units
    assert len(grid.weights) + max(grid.rows, grid.columns) > max_units
    assert grid.winners(data).amax(0).tolist() <= [grid.rows - 1, grid.columns - 1]
    if max_units == 20:
        assert max(grid.rows, grid.columns) > min(
            grid.rows, grid.columns
        )  # the data are four times as long as wide
        assert grid.quantization_error(data) < 0.35


@pytest.mark.parametrize("repeats", [1, 2, 7])
def test_an_ordered_vector_does_not_see_speed(repeats):
    steps = torch.randint(0, 6, (11, 2)).double()
    slow = steps.repeat_interleave(repeats, dim=0)
    assert torch.equal(ordered_vector(slow, 9), ordered_vector(steps, 9))


def test_an_ordered_vector_sees_order():
    there = path((0, 0), (0, 3), (4, 3))
    torch.testing.assert_close(
        ordered_vector(there.flip(0), 8).view(8, 2), ordered_vector(there, 8).view(8, 2).flip(0)
    )
    assert not torch.equal(ordered_vector(there.flip(0), 8), ordered_vector(there, 8))


@pytest.mark.parametrize("num_points", [2, 3, 8, 29])
def test_points_lie_evenly_along_the_path(num_points):
    points = path((0, 0), (0, 3), (0, 3), (4, 3), (4, 3), (4, 5))
    total = 3 + 4 + 2
    for n, point in enumerate(ordered_vector(points, num_points).view(num_points, 2)):
        along = total * n / (num_points - 1)
        by_hand = (0, along) if along <= 3 else (along - 3, 3) if along <= 7 else (4, along - 4)
        torch.testing.assert_close(point, torch.tensor(by_hand, dtype=torch.float64))


def test_a_path_that_stays_is_its_point_repeated():
    assert ordered_vector(path((2, 5)), 3).tolist() == [2, 5, 2, 5, 2, 5]
    assert ordered_vector(path((2, 5), (2, 5)), 3).tolist() == [2, 5, 2, 5, 2, 5]


def test_a_padded_vector_is_the_raw_path():
    points = path((1, 2), (1, 2), (3, 4))
    assert padded_vector(points, 2).tolist() == [1, 2, 1, 2]
    assert padded_vector(points, 5).tolist() == [1, 2, 1, 2, 3, 4, 0, 0, 0, 0]


def test_the_delta_rule_is_a_gradient_step_of_a_linear_layer():
    layer = nn.Linear(5, 3, bias=False).double()
    activity, target = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    updated = delta_rule(layer.weight.detach(), activity, target, lr=0.2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2)
    (nn.functional.mse_loss(layer(activity), target, reduction="sum") / 2 / 7).backward()
    optimizer.step()
    torch.testing.assert_close(updated, layer.weight.detach())


def corners() -> tuple[list[torch.Tensor], torch.Tensor]:
    """Walks along two sides of a square, clockwise or not."""
    walks = [path((0, 0), (0, 1), (1, 1)), path((0, 0), (1, 0), (1, 1))]
    sequences = []
    for n in range(20):
        walk = ordered_vector(walks[n % 2], 12).view(12, 2) + 0.03 * torch.randn(12, 2, dtype=torch.float64)
        sequences.append(walk.float())
    return sequences, torch.arange(20) % 2


def hierarchy(**options) -> HierarchicalSOM:
    return HierarchicalSOM(
        SelfOrganizingMap(2, grid=(4, 4)), SelfOrganizingMap(16, grid=(3, 3)), 2, num_points=8, **options
    )


def test_the_hierarchy_learns_without_any_gradient_and_is_blind_to_repeated_frames():
    sequences, y = corners()
    model = hierarchy().fit_maps(sequences, steps=400)
    errors = [model.train_step(sequences, y)["error"] for _ in range(30)]
    assert errors[-1] < errors[0]
    assert (model.predict(sequences) == y).all()
    assert not any(p.requires_grad for p in model.parameters())
    by_steps = model.weight
    model.weight = torch.zeros_like(by_steps)
    torch.testing.assert_close(model.fit_output(sequences, y, steps=30).weight, by_steps)
    slow = [x.repeat_interleave(3, dim=0) for x in sequences]
    torch.testing.assert_close(model(slow), model(sequences))
    assert torch.equal(model.predict(slow), y)


def test_activity_is_that_of_the_equation():
    sequences, _ = corners()
    model = hierarchy().double()
    sequences = [x.double() for x in sequences]
    model.fit_maps(sequences, steps=200)
    distance = (model.vectors(sequences)[:, None] - model.paths.weights).square().sum(-1)
    activity = torch.exp(-distance / model.spread)
    torch.testing.assert_close(model(sequences), activity / activity.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(model.spread, distance.amin(-1).mean())


def test_a_growing_grid_serves_as_a_map_of_the_hierarchy():
    sequences, y = corners()
    model = HierarchicalSOM(GrowingGrid(2, max_units=16), GrowingGrid(16, max_units=9), 2, num_points=8)
    model.fit_maps(sequences, steps=200)
    assert (model.fit_output(sequences, y, steps=30).predict(sequences) == y).all()


def test_the_control_sees_repeated_frames():
    sequences, _ = corners()
    model = hierarchy(to_vector=padded_vector).fit_maps(sequences, steps=200)
    slow = [x.repeat_interleave(3, dim=0) for x in sequences]
    assert not torch.allclose(model.vectors(slow), model.vectors(sequences))


def test_bad_input_is_refused():
    weights, positions, x = torch.zeros(2, 3), torch.zeros(2, 2), torch.zeros(3)
    with pytest.raises(ValueError, match=r"lr must be .* got 1\.5"):
        som_update(weights, positions, x, 1.5, 1.0)
    with pytest.raises(ValueError, match=r"sigma must be .* got -1\.0"):
        som_update(weights, positions, x, 0.5, -1.0)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SelfOrganizingMap(2, grid=(0, 3))
    with pytest.raises(ValueError, match="sigma must be a finite number above 0"):
        SelfOrganizingMap(2, grid=(3, 3), sigma=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"SelfOrganizingMap\(2, grid=\(3, 3\)"):
        SelfOrganizingMap(2, grid=(3, 3)).winners(torch.zeros(5, 3))
    with pytest.raises(ValueError, match=r"SelfOrganizingMap\(2, grid=\(3, 3\)"):
        SelfOrganizingMap(2, grid=(3, 3)).fit_in_order(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="max_units must be an integer of at least 4, got 3"):
        GrowingGrid(2, max_units=3)
    with pytest.raises(ValueError, match="not next to each other"):
        GrowingGrid(2).insert_between((0, 0), (1, 1))
    for to_vector in (ordered_vector, padded_vector):
        with pytest.raises(ValueError, match="at least one row of path"):
            to_vector(torch.zeros(0, 2), 5)
        with pytest.raises(ValueError, match="num_points must be an integer of at least 2, got 1"):
            to_vector(torch.zeros(3, 2), 1)
    with pytest.raises(ValueError, match="second map, takes 16"):
        HierarchicalSOM(
            SelfOrganizingMap(2, grid=(4, 4)), SelfOrganizingMap(16, grid=(3, 3)), 2, num_points=9
        )
    with pytest.raises(ValueError, match="call fit_maps first"):
        hierarchy().predict([torch.zeros(5, 2)])
    with pytest.raises(ValueError, match="call fit_maps first"):
        hierarchy().train_step([torch.zeros(5, 2)], torch.tensor([0]))
