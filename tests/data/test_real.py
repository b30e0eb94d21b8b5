"""The sets that come from other packages: the same numbers as those packages give, cut without leakage."""

import gzip

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib import cbook
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from course_lib.data import load
from course_lib.data.pictures import elevation_map, mri_slice, photo
from course_lib.data.signals import eeg_recording, stock_prices
from course_lib.data.tables import DIGITS_SIZES

# -- Tables -----------------------------------------------------------------------------------------

FEATURE_NAMES = {"iris", "wine", "breast_cancer"}


@pytest.mark.parametrize("name", ["digits", "iris", "wine", "breast_cancer", "diabetes"])
def test_a_table_holds_the_rows_of_sklearn(name):
    theirs = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    mine = load(name)
    x = torch.cat([split.x.flatten(1) for split in mine.splits.values()]).numpy()
    y = torch.cat([split.y for split in mine.splits.values()]).numpy()
    data = theirs.data / 16 if name == "digits" else theirs.data
    both = [np.column_stack([a, b]).astype(np.float32) for a, b in ((x, y), (data, theirs.target))]
    ordered = [rows[np.lexsort(rows.T)] for rows in both]
    np.testing.assert_array_equal(*ordered)
    if name in FEATURE_NAMES:
        assert mine.meta.features == tuple(theirs.feature_names)
        assert mine.meta.classes == tuple(theirs.target_names)


def test_digits_have_the_sizes_that_are_said():
    digits = load("digits")
    assert tuple(len(split) for split in digits.splits.values()) == DIGITS_SIZES
    assert torch.equal(digits.train.x * 16, (digits.train.x * 16).round())
    model = LogisticRegression(max_iter=500).fit(digits.train.x.flatten(1), digits.train.y)
    assert model.score(digits.test.x.flatten(1), digits.test.y) > 0.94


def test_the_row_that_iris_holds_twice_is_in_one_split():
    rows = [row.numpy().tobytes() for split in load("iris").splits.values() for row in split.x]
    assert len(rows) - len(set(rows)) == 1


# -- Pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["china", "flower"])
def test_a_photo_is_that_of_sklearn(name):
    theirs = datasets.load_sample_image(f"{name}.jpg")
    np.testing.assert_array_equal((photo(name) * 255).round().byte().permute(1, 2, 0).numpy(), theirs)


def test_the_portrait_is_that_of_matplotlib():
    import PIL.Image

    with cbook.get_sample_data("grace_hopper.jpg") as file, PIL.Image.open(file) as image:
        np.testing.assert_allclose(photo("grace_hopper").permute(1, 2, 0), np.asarray(image) / 255, atol=1e-6)


def test_slice_and_map_are_those_of_matplotlib():
    with (
        cbook.get_sample_data("s1045.ima.gz", asfileobj=False)
        if False
        else gzip.open(cbook.get_sample_data("s1045.ima.gz", asfileobj=False)) as file
    ):
        theirs = np.frombuffer(file.read(), np.uint16).reshape(256, 256)
    np.testing.assert_allclose(mri_slice()[0], theirs / 65535, atol=1e-7)
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as file:
        np.testing.assert_array_equal(elevation_map()[0], file["elevation"])


def test_an_unknown_photo_is_refused():
    with pytest.raises(ValueError, match="no photo is called 'lena'; there are china, flower, grace_hopper"):
        photo("lena")


@pytest.mark.parametrize(
    ("name", "whole", "patch"), [("mri", mri_slice, 8), ("elevation", elevation_map, 16)]
)
def test_patches_lie_where_they_say_and_strips_are_apart(name, whole, patch):
    picture, columns = whole(), []
    for split in load(name).splits.values():
        for x, (row, column) in zip(split.x, split.y.tolist(), strict=True):
            assert torch.equal(x, picture[:, row : row + patch, column : column + patch])
            assert x.min() < x.max()
        columns.append((int(split.y[:, 1].min()), int(split.y[:, 1].max()) + patch))
    assert columns[0][1] + patch <= columns[1][0]
    assert columns[1][1] + patch <= columns[2][0]


def test_photos_hold_both_photographs_in_every_split():
    photos = load("photos", patch=40)
    for split in photos.splits.values():
        assert split.y.bincount().min() >= 20
    corner = photos.train.x[0]
    assert torch.equal(corner, photo("china")[:, :40, :40])


@pytest.mark.parametrize("patch", [3, 17, 300])
def test_patches_of_impossible_size_are_refused(patch):
    with pytest.raises(ValueError, match=f"patch={patch} is too small or .*choose 4 to 16"):
        load("mri", patch=patch)


# -- Signals ----------------------------------------------------------------------------------------


def test_signals_are_those_of_matplotlib():
    with cbook.get_sample_data("eeg.dat") as file:
        theirs = np.fromfile(file, float).reshape(800, 4)
    np.testing.assert_allclose(eeg_recording().T, theirs, rtol=1e-6)
    with cbook.get_sample_data("Stocks.csv") as file:
        table = np.genfromtxt(file, delimiter=",", names=True, dtype=None, encoding="utf-8", skip_header=1)
    dates, prices = stock_prices()
    assert len(dates) == prices.shape[1] == 390
    assert all(day.day == 1 for day in dates)
    by_date = {row["Date"]: row for row in table if not np.isnan(row["IBM"])}
    for i in (0, 17, 389):
        row = by_date[dates[i].isoformat()]
        np.testing.assert_allclose(
            prices[:, i], [row[n] for n in ("IBM", "AAPL", "MSFT", "XRX", "ADBE", "GSPC", "IXIC")], rtol=1e-6
        )


def test_stocks_are_logarithms_of_ratios():
    prices = stock_prices()[1].double().numpy()
    expected = np.log(prices[:, 1:] / prices[:, :-1])
    stocks = load("stocks", length=5, horizon=2)
    np.testing.assert_allclose(stocks.train.x[3], expected[:, 3:8], atol=1e-6)
    np.testing.assert_allclose(stocks.train.y[3], expected[:, 8:10], atol=1e-6)


def test_windows_run_in_time_and_leave_a_gap_of_one_window():
    recording = eeg_recording()
    eeg = load("eeg", length=20, horizon=5)
    places = []
    for split in eeg.splits.values():
        both = torch.cat([split.x, split.y], 2)
        starts = [i for i in range(800 - 24) if torch.equal(both[0], recording[:, i : i + 25])]
        assert len(starts) == 1
        for k in range(len(split)):
            assert torch.equal(both[k], recording[:, starts[0] + k : starts[0] + k + 25])
        places.append((starts[0], starts[0] + len(split) + 24))
    assert places[0][0] == 0
    assert places[2][1] == 800
    assert places[1][0] - places[0][1] == places[2][0] - places[1][1] == 25


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 100}, {"horizon": 0}, {"horizon": 60}])
def test_windows_of_impossible_size_are_refused(options):
    with pytest.raises(ValueError, match="must be positive and, together, at most 80"):
        load("eeg", **options)


# -- Graphs -----------------------------------------------------------------------------------------

GRAPHS = {
    "karate": nx.karate_club_graph,
    "les_miserables": nx.les_miserables_graph,
    "florentine_families": nx.florentine_families_graph,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_adjacency_is_that_of_networkx(name):
    graph, mine = GRAPHS[name](), load(name)
    np.testing.assert_array_equal(mine.adjacency, nx.to_numpy_array(graph))
    assert mine.nodes == tuple(str(node) for node in graph)
    assert int((mine.adjacency > 0).sum()) == 2 * graph.number_of_edges()


def test_the_members_of_the_karate_club_are_each_in_one_split():
    karate, graph = load("karate"), nx.karate_club_graph()
    nodes = torch.cat([split.x for split in karate.splits.values()]).tolist()
    assert sorted(nodes) == list(range(34))
    for split in karate.splits.values():
        for node, club in zip(split.x.tolist(), split.y.tolist(), strict=True):
            assert graph.nodes[node]["club"] == karate.meta.classes[club]
    assert torch.equal(karate.train_adjacency, karate.adjacency)


@pytest.mark.parametrize("name", ["les_miserables", "florentine_families"])
def test_every_pair_is_in_one_split_and_training_does_not_see_the_others(name):
    data = load(name)
    n = len(data.nodes)
    pairs = torch.cat([split.x for split in data.splits.values()]).tolist()
    assert sorted(pairs) == [[i, j] for i in range(n) for j in range(i + 1, n)]
    known = data.train_adjacency
    assert torch.equal(known, known.T)
    for split_name, split in data.splits.items():
        i, j = split.x.T
        assert torch.equal(data.adjacency[i, j], split.y)
        seen = known[i, j]
        assert torch.equal(seen, split.y if split_name == "train" else torch.zeros(len(split)))
        assert (split.y > 0).float().mean().item() == pytest.approx(
            (data.adjacency > 0).sum().item() / n / (n - 1), abs=0.05
        )


def test_graphs_and_node_numbers_are_not_standardised():
    with pytest.raises(ValueError, match="numbers of nodes"):
        load("karate").standardised()
