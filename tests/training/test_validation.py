"""Folds against sklearn, and stopping points against hand-made curves and the loop itself."""

import copy
import math

import pytest
import torch
from sklearn.model_selection import KFold
from torch import nn

from course_lib.training import validation
from course_lib.training.hooks import EarlyStopping, Validation
from course_lib.training.loop import evaluate, fit
from course_lib.training.validation import kfold_indices, kfold_scores, stopping_point


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "stop", "best"),
    [
        ([3.0, 2.0, 1.0], 1, 0.0, None, 2),
        ([3.0, 3.0, 1.0], 1, 0.0, 1, 0),
        ([3.0, 2.0, 2.5, 2.2, 1.0], 2, 0.0, 3, 1),
        ([3.0, 2.0, 2.5, 2.2, 1.0], 3, 0.0, None, 4),
        ([1.0, 0.95, 0.85, 0.84], 2, 0.1, None, 2),  # 0.95 is not enough, 0.85 is: measured from the best
        ([1.0, 0.99, 0.98, 0.97], 3, 0.1, 3, 0),
        ([math.nan, math.nan], 2, 0.0, 1, None),
        ([], 1, 0.0, None, None),
    ],
)
def test_stopping_points_of_hand_made_curves(losses, patience, min_delta, stop, best):
    assert stopping_point(losses, patience=patience, min_delta=min_delta) == (stop, best)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_loop_stops_at_the_stopping_point_of_its_own_curve_and_restores_its_best_weights(patience):
    generator = torch.Generator().manual_seed(0)
    draw = lambda n: (torch.randn(n, 8, generator=generator), torch.randint(3, (n,), generator=generator))  # noqa: E731
    train, validation = draw(12), draw(30)
    torch.manual_seed(0)
    start, kept = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)), {}
    model = copy.deepcopy(start)
    options = {"steps": 200, "batch_size": 6, "lr": 0.03}

    def keep(run):
        kept[run.step] = copy.deepcopy(run.model.state_dict())

    stopping = EarlyStopping(validation, patience=patience, every=5)
    history = fit(model, train, hooks=[keep, stopping], **options)
    assert history.stopped == "patience"
    whole = fit(copy.deepcopy(start), train, hooks=[Validation(validation, every=5)], **options)
    curve = [loss for _, loss in whole.validation]
    stop, best = stopping_point(curve, patience=patience)
    assert [len(history.losses), history.best_step] == [5 * (stop + 1), 5 * (best + 1)]
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[history.best_step][name])


@pytest.mark.parametrize(("n", "folds"), [(10, 5), (11, 3), (7, 7), (20, 2)])
def test_folds_have_the_sizes_of_sklearn_and_cut_the_rows_into_disjoint_parts(n, folds):
    ours = kfold_indices(n, folds, seed=3)
    peer = KFold(folds, shuffle=True, random_state=3).split(range(n))
    assert [(len(a), len(b)) for a, b in ours] == [(len(a), len(b)) for a, b in peer]
    assert sorted(torch.cat([held_out for _, held_out in ours]).tolist()) == list(range(n))
    for rest, held_out in ours:
        assert sorted([*rest.tolist(), *held_out.tolist()]) == list(range(n))
    assert [b.tolist() for _, b in kfold_indices(n, folds, seed=4)] != [b.tolist() for _, b in ours]


def test_the_score_of_a_fold_is_that_of_a_run_which_never_saw_it():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=generator), torch.arange(30) % 3
    seen = []

    class Watch(nn.Linear):
        def forward(self, rows):
            if self.training:
                seen[-1] |= {tuple(row.tolist()) for row in rows}
            return super().forward(rows)

    def make():
        seen.append(set())
        return Watch(4, 3)

    scores = kfold_scores(make, (x, y), folds=3, steps=30, batch_size=4, patience=2, every=5, seed=1)
    assert len(scores) == len(seen) == 3
    for rows, (_, held_out) in zip(seen, kfold_indices(30, 3, seed=1), strict=True):
        assert rows
        assert not rows & {tuple(row.tolist()) for row in x[held_out]}


def test_the_score_is_the_metric_on_the_fold():
    x, y = torch.arange(12.0)[:, None], torch.arange(12.0)[:, None]
    make = lambda: nn.Linear(1, 1)  # noqa: E731
    options = {"steps": 1, "batch_size": 2, "lr": 1e-30}
    scores = kfold_scores(make, (x, y), folds=4, metric="loss", steps=1, batch_size=2, lr=1e-30, seed=5)
    for i, (_, held_out) in enumerate(kfold_indices(12, 4, seed=5)):
        torch.manual_seed(5 + i)
        model = make()
        fit(model, (x, y), **options)
        assert scores[i] == pytest.approx(evaluate(model, (x[held_out], y[held_out]), metric="loss"))


def test_folds_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match="5 folds of 4 rows"):
        kfold_indices(4, 5)
    with pytest.raises(ValueError, match="leave none to train on"):
        kfold_scores(lambda: nn.Linear(1, 1), (torch.zeros(2, 1), torch.zeros(2, 1)), folds=2, steps=1)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        kfold_scores(lambda: nn.Linear(1, 1), (torch.zeros(4, 1), torch.zeros(4, 1)), validation=1.0, steps=1)
    with pytest.raises(ValueError, match="got 0 and 0"):
        stopping_point([1.0], patience=0)


@pytest.mark.parametrize(("patience", "every"), [(None, 100), (3, 7)])
def test_what_each_fold_hands_to_the_training(monkeypatch, patience, every):
    seen = []
    monkeypatch.setattr(validation, "fit", lambda model, data, **options: seen.append((data, options)))
    x, y = torch.arange(20.0)[:, None], torch.arange(20.0)[:, None]
    options = {} if patience is None else {"patience": patience, "every": every}
    kfold_scores(lambda: nn.Linear(1, 1), (x, y), metric="loss", seed=3, steps=9, lr=0.5, **options)
    assert [given["seed"] for _, given in seen] == [3, 4, 5, 6, 7]
    assert [len(data[0]) for data, _ in seen] == [13] * 5  # of sixteen, a fifth is watched
    for (used, targets), given in seen:
        assert torch.equal(used, targets)
        assert (given["steps"], given["lr"]) == (9, 0.5)
        assert [(type(h), h.patience, h.every) for h in given["hooks"]] == (
            [(validation.EarlyStopping, 3, 7)] if patience else []
        )
        for hook in given["hooks"]:
            assert not {*hook.data[0].flatten().tolist()} & {*used.flatten().tolist()}


@pytest.mark.parametrize(("share", "watched"), [(0.01, 1), (0.5, 4), (0.9, 7)])
def test_at_least_one_row_is_watched(monkeypatch, share, watched):
    sizes = []
    monkeypatch.setattr(validation, "fit", lambda model, data, **options: sizes.append(len(data[0])))
    rows = torch.arange(16.0)[:, None]
    kfold_scores(lambda: nn.Linear(1, 1), (rows, rows), folds=2, validation=share, metric="loss")
    assert sizes == [8 - watched] * 2
    for outside in (0.0, 1.0):
        with pytest.raises(ValueError, match="share between 0 and 1"):
            kfold_scores(lambda: nn.Linear(1, 1), (rows, rows), validation=outside)


def test_folds_from_two_to_as_many_as_rows():
    assert [len(held_out) for _, held_out in kfold_indices(4, 4)] == [1] * 4
    assert [len(held_out) for _, held_out in kfold_indices(5, 2)] == [3, 2]
    for rest, held_out in kfold_indices(5, 2):
        assert sorted([*rest.tolist(), *held_out.tolist()]) == list(range(5))
        assert rest.tolist() == sorted(rest.tolist())
        assert held_out.tolist() == sorted(held_out.tolist())
    for folds in (1, 5):
        with pytest.raises(ValueError, match="folds of 4 rows"):
            kfold_indices(4, folds)
    for options in ({"patience": 0}, {"patience": 1, "min_delta": -0.1}):
        with pytest.raises(ValueError, match="need patience"):
            stopping_point([1.0], **options)
