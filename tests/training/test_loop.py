"""The training loop: exact results where they are known, and clear refusals."""

import math
from functools import partial
from itertools import chain, count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from course_lib.data import Split, load
from course_lib.training import loop
from course_lib.training.hooks import EarlyStopping, Progress, Validation
from course_lib.training.loop import cosine_schedule, default_loss, evaluate, fit
from tests.training.loop_models import classes, noisy_net, regression, same

SGD = torch.optim.SGD


# -- What is learned --------------------------------------------------------------------------------


def test_linear_regression_reaches_the_least_squares_solution():
    x, y = (t.double() for t in regression())
    model = nn.Linear(3, 1).double()
    fit(model, (x, y), steps=500, lr=0.3, optimizer=SGD)
    ones = torch.cat([x, torch.ones(len(x), 1)], 1)
    exact = torch.linalg.lstsq(ones, y).solution[:, 0]
    learned = torch.cat([model.weight[0], model.bias])
    torch.testing.assert_close(learned, exact, rtol=1e-9, atol=1e-9)


def test_one_step_of_gradient_descent_is_the_one_done_by_hand():
    x, y = torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [0.0]])
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.5)
        model.bias.fill_(1.0)
    history = fit(model, (x, y), steps=1, lr=0.1, optimizer=SGD)
    # outputs 1.5 and 2.5, errors -0.5 and 2.5: loss (0.25 + 6.25) / 2, dw = -0.5 + 7.5, db = -0.5 + 2.5
    assert history.losses == [pytest.approx(3.25)]
    assert model.weight.item() == pytest.approx(0.5 - 0.1 * 7.0)
    assert model.bias.item() == pytest.approx(1.0 - 0.1 * 2.0)


def test_the_default_optimiser_is_adamw_with_its_defaults():
    x, y = regression()
    mine, theirs = nn.Linear(3, 1), nn.Linear(3, 1)
    theirs.load_state_dict(mine.state_dict())
    fit(mine, (x, y), steps=5, lr=0.01, batch_size=len(x))
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.mse_loss(theirs(x), y).backward()
        optimizer.step()
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # the rows come in another order


@pytest.mark.parametrize("shape", [(7,), (5, 3), (1, 1), (2, 3, 4)])
def test_the_default_loss_of_classes_is_cross_entropy_over_all_places(shape):
    scores = torch.randn(*shape, 6, dtype=torch.float64)
    target = torch.randint(6, shape)
    expected = F.cross_entropy(scores.movedim(-1, 1) if len(shape) > 1 else scores, target)
    torch.testing.assert_close(default_loss(scores, target), expected)
    flat = log_loss(target.reshape(-1), scores.softmax(-1).reshape(-1, 6), labels=range(6))
    assert default_loss(scores, target).item() == pytest.approx(flat)


def test_the_default_loss_of_numbers_is_the_mean_squared_error():
    a, b = torch.randn(2, 5, 3)
    torch.testing.assert_close(default_loss(a, b), ((a - b) ** 2).mean())


def test_a_sequence_model_learns_to_copy():
    def batch(generator):
        x = torch.randint(5, (16, 7), generator=generator)
        return x, x

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))
    fit(model, batch, steps=150, lr=0.05)
    assert evaluate(model, [batch(torch.Generator().manual_seed(9))]) == 1.0


def test_clipping_limits_the_step():
    x, y = torch.tensor([[1.0]]), torch.tensor([[1000.0]])
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.item()
    fit(model, (x, y), steps=1, lr=0.1, optimizer=SGD, clip=2.0)
    assert model.weight.item() - before == pytest.approx(0.2, rel=1e-4)


def test_the_learning_rate_follows_the_schedule():
    seen = []

    def optimizer(parameters, lr):
        made = SGD(parameters, lr=lr)
        made.register_step_pre_hook(lambda opt, *_: seen.append(opt.param_groups[0]["lr"]))
        return made

    fit(
        nn.Linear(3, 1),
        regression(),
        steps=10,
        lr=0.5,
        optimizer=optimizer,
        schedule=cosine_schedule(warmup=4),
    )
    by_hand = [0.125, 0.25, 0.375, 0.5] + [0.25 * (1 + math.cos(math.pi * i / 6)) for i in range(6)]
    assert seen == pytest.approx(by_hand)


def test_the_cosine_equals_torchs():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for step in range(20):
        assert cosine_schedule(floor=0.1)(step, 20) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


# -- Which data -------------------------------------------------------------------------------------


class Recorder(nn.Module):
    """Remembers the rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.seen = nn.Parameter(torch.ones(1)), []

    def forward(self, x):
        if self.training:
            self.seen.append(x[:, 0].int().tolist())
        return self.scale * x


def test_every_epoch_shows_each_row_once_in_another_order():
    x = torch.arange(12.0)[:, None]
    model = Recorder()
    fit(model, (x, x), steps=6, batch_size=4)
    first, second = [*chain(*model.seen[:3])], [*chain(*model.seen[3:])]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_an_incomplete_batch_is_left_out_and_a_large_one_is_cut():
    x = torch.arange(10.0)[:, None]
    model = Recorder()
    fit(model, (x, x), steps=4, batch_size=4)
    assert [len(rows) for rows in model.seen] == [4] * 4
    assert len({*chain(*model.seen[:2])}) == 8
    large = Recorder()
    fit(large, (x, x), steps=2, batch_size=99)
    assert [sorted(rows) for rows in large.seen] == [list(range(10))] * 2


@pytest.mark.parametrize("form", [tuple, list, lambda pair: Split(*pair)])
def test_all_forms_of_rows_give_the_same(form):
    runs = []
    for data in (classes(), form(classes())):
        model = noisy_net()
        runs.append((fit(model, data, steps=8, batch_size=10).losses, model))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


def test_the_seed_alone_decides_and_the_callers_numbers_are_untouched():
    losses = []
    for before, seed in ((1, 0), (2, 0), (1, 5)):
        model = noisy_net()
        torch.manual_seed(before)
        state = torch.get_rng_state()
        losses.append(fit(model, classes(), steps=8, batch_size=10, seed=seed).losses)
        assert torch.equal(torch.get_rng_state(), state)
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_function_gets_its_own_generator_at_every_step():
    drawn = []

    def batch(generator):
        drawn.append(torch.randint(1000, (1,), generator=generator).item())
        return classes()

    fit(noisy_net(), batch, steps=5)
    again = list(drawn)
    drawn.clear()
    fit(noisy_net(), batch, steps=5)
    assert drawn == again
    assert len(set(again)) > 1


def test_an_iterable_is_gone_through_again_and_again():
    x = torch.arange(3.0)[:, None, None]
    model = Recorder()
    fit(model, [(row, row) for row in x], steps=7)
    assert model.seen == [[0], [1], [2], [0], [1], [2], [0]]


def test_a_shuffling_loader_is_seeded_and_reshuffled():
    x = torch.arange(8.0)[:, None]
    seen = []
    for _ in range(2):
        model = Recorder()
        fit(model, DataLoader(Split(x, x), batch_size=4, shuffle=True), steps=4)
        seen.append(model.seen)
    assert seen[0] == seen[1]
    assert sorted(chain(*seen[0][:2])) == list(range(8))
    assert seen[0][:2] != seen[0][2:]


def test_an_iterator_that_runs_out_says_so():
    batches = iter([classes(), classes()])
    with pytest.raises(ValueError, match="ran out after 2 batches"):
        fit(noisy_net(), batches, steps=3)


# -- Measuring --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_accuracy_equals_that_of_sklearn(batch_size):
    x, y = classes()
    model = noisy_net()
    predicted = model.eval()(x).argmax(-1)
    assert evaluate(model, (x, y), batch_size=batch_size) == pytest.approx(accuracy_score(y, predicted))
    expected = F.cross_entropy(model(x), y).item()
    assert evaluate(model, (x, y), metric="loss", batch_size=batch_size) == pytest.approx(expected, rel=1e-5)
    assert evaluate(model, [(x[:7], y[:7]), (x[7:], y[7:])], metric="loss") == pytest.approx(
        expected, rel=1e-5
    )
    wrong = evaluate(
        model, (x, y), metric=lambda out, t: (out.argmax(-1) != t).float().mean(), batch_size=batch_size
    )
    assert wrong == pytest.approx(1 - accuracy_score(y, predicted))


def test_evaluation_restores_the_mode_of_every_part_and_keeps_no_graph():
    model = noisy_net().train()
    model[1].eval()
    statistics = model[1].running_mean.clone()

    def metric(output, target):
        assert not output.requires_grad
        return default_loss(output, target)

    first = evaluate(model, classes(), metric=metric)
    assert first == evaluate(model, classes(), metric=metric)  # no dropout
    assert [m.training for m in model] == [True, False, True, True, True]
    assert torch.equal(model[1].running_mean, statistics)


def test_a_table_made_while_evaluating_can_be_used_in_training():
    class Positions(nn.Linear):
        table = None

        def forward(self, x):
            if self.table is None:
                self.table = torch.ones(x.shape[1])
            return super().forward(x * self.table * self.weight.sum())

    model = Positions(3, 1)
    evaluate(model, regression(), metric="loss")
    assert len(fit(model, regression(), steps=1).losses) == 1


def test_training_restores_the_mode():
    model = noisy_net().eval()
    fit(model, classes(), steps=1)
    assert not any(m.training for m in model.modules())


def test_the_history_is_what_the_hooks_saw():
    seen = []
    history = fit(noisy_net(), classes(), steps=5, hooks=[lambda run: seen.append((run.step, run.loss))])
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
    assert [loss for _, loss in seen] == history.losses
    assert history.stopped == "steps"
    assert repr(history).startswith("History(5 steps, last loss ")


def test_a_hook_may_evaluate_and_draw_numbers_without_changing_the_run():
    quiet, probed = noisy_net(), noisy_net()
    fit(quiet, classes(), steps=6, batch_size=10)

    def probe(run):
        torch.rand(3)
        evaluate(run.model, classes())

    fit(probed, classes(), steps=6, batch_size=10, hooks=[probe])
    assert same(quiet, probed)


def test_the_progress_bar_is_shown_when_asked_for(capsys):
    fit(nn.Linear(3, 1), regression(), steps=3)
    assert capsys.readouterr().err == ""
    fit(nn.Linear(3, 1), regression(), steps=3, hooks=[Progress()])
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown


# -- Early stopping and divergence ------------------------------------------------------------------


def test_early_stopping_brings_the_best_weights_back():
    torch.manual_seed(0)
    x = torch.randn(12, 20)
    train, held_out = (x[:6], torch.randn(6, 1)), (x[6:], torch.randn(6, 1))  # nothing but noise to learn
    model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 1))
    measured = {}

    def probe(run):
        if run.step % 5 == 0:
            measured[run.step] = evaluate(run.model, held_out, metric="loss")

    stopping = EarlyStopping(held_out, patience=3, every=5)
    history = fit(model, train, steps=400, lr=0.01, hooks=[probe, stopping])
    assert dict(history.validation) == measured
    assert history.stopped == "patience"
    assert history.best_step == min(measured, key=measured.get)
    assert len(history.losses) == history.best_step + 15
    assert evaluate(model, held_out, metric="loss") == measured[history.best_step]


def test_without_patience_validation_is_only_measured():
    plain, watched = noisy_net(), noisy_net()
    fit(plain, classes(), steps=6)
    history = fit(watched, classes(), steps=6, hooks=[Validation(classes(), every=4)])
    assert [step for step, _ in history.validation] == [4, 6]
    assert same(plain, watched)


def test_a_diverging_run_raises_or_is_counted():
    def exploding():
        torch.manual_seed(0)
        return nn.Linear(3, 1)

    with pytest.raises(
        FloatingPointError, match=r"the loss is (inf|nan) after step \d+; try a smaller lr than 1e\+06"
    ):
        fit(exploding(), regression(), steps=100, lr=1e6, optimizer=SGD)
    history = fit(exploding(), regression(), steps=100, lr=1e6, optimizer=SGD, on_divergence="stop")
    assert history.diverged
    assert len(history.losses) < 100
    assert not math.isfinite(history.losses[-1])
    assert all(math.isfinite(v) for v in history.losses[:-1])


def test_weights_that_the_last_update_made_infinite_count_as_divergence():
    x, y = regression()
    far = {"data": (x, y + 100), "steps": 1, "lr": 3e38, "optimizer": SGD}
    assert fit(nn.Linear(3, 1), **far, on_divergence="stop").diverged
    with pytest.raises(FloatingPointError, match="a weight is no finite number after step 1"):
        fit(nn.Linear(3, 1), **far)


def test_bad_data_from_a_function_are_named_as_the_cause():
    x, y = regression()
    with pytest.raises(FloatingPointError, match="the data of step 1 hold NaN"):
        fit(nn.Linear(3, 1), lambda g: (x.log(), y), steps=3)


# -- Bad input --------------------------------------------------------------------------------------


def spoilt(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.clone()
    tensor[0] = math.nan
    return tensor


X, Y = regression()
BAD_DATA = {
    "no rows": ((X[:0], Y[:0]), "at least one"),
    "unequal rows": ((X, Y[1:]), "equally many rows"),
    "NaN in x": ((spoilt(X), Y), "x holds 3 entries that are NaN"),
    "NaN in y": ((X, spoilt(Y)), "y holds 1 entries that are NaN"),
    "bytes": ((X.to(torch.uint8), Y), "x is torch.uint8"),
    "float64": ((X.double(), Y), "torch.float64.*parameters: torch.float32"),
    "tokens": ((X.long(), Y), "torch.int64.*parameters: torch.float32"),
    "wrong width": ((X[:, :2], Y), r"x of shape \(40, 2\)"),
    "small classes": ((X, Y[:, 0].to(torch.int32)), "classes must be int64"),
    "broadcast": ((X, Y[:, 0]), "broadcasting would hide it"),
    "classes out of range": ((X, torch.arange(40)), "scores for 1 classes, but the targets go from 0 to 39"),
    "shape of classes": ((X, torch.zeros(40, 1, dtype=torch.int64)), "need targets of shape"),
    "no data": (None, "data must be a split"),
    "no pairs": ([X, Y, X], "must be a pair of tensors"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused_with_a_reason(case):
    data, reason = BAD_DATA[case]
    with pytest.raises(ValueError, match=reason):
        fit(nn.Linear(3, 1), data, steps=1)


@pytest.mark.parametrize("case", [c for c in BAD_DATA if c != "no data"])
def test_evaluation_refuses_the_same(case):
    data, reason = BAD_DATA[case]
    with pytest.raises(ValueError, match=reason):
        evaluate(nn.Linear(3, 1), data, metric="loss")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"on_divergence": "ignore"}, "must be 'raise' or 'stop', got 'ignore'"),
    ],
)
def test_bad_arguments_are_refused_with_a_reason(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        fit(nn.Linear(3, 1), regression(), **{"steps": 1, **arguments})


def test_a_model_elsewhere_or_without_parameters_is_refused():
    with pytest.raises(ValueError, match=r"on the meta device, without numbers: call model\.to_empty"):
        fit(nn.Linear(3, 1, device="meta"), regression(), steps=1)
    with pytest.raises(ValueError, match="nothing to train"):
        fit(nn.Identity(), regression(), steps=1)


def test_bad_requests_to_evaluate_are_refused():
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="metric must be 'accuracy', 'loss' or a function, got 'f1'"):
        evaluate(model, regression(), metric="f1")
    with pytest.raises(ValueError, match="needs fixed rows"):
        evaluate(model, lambda g: regression())
    with pytest.raises(ValueError, match="no rows"):
        evaluate(model, [])
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(model, regression(), batch_size=0)
    with pytest.raises(ValueError, match="classes must be int64"):
        evaluate(model, regression())


# -- On real data -----------------------------------------------------------------------------------


def test_a_small_network_learns_the_digits():
    digits = load("digits")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    chance = evaluate(model, digits.test)
    history = fit(model, digits.train, steps=300, lr=3e-3)
    assert chance < 0.3
    assert evaluate(model, digits.test) > 0.93
    assert np.mean(history.losses[-20:]) < 0.2 * history.losses[0]


def test_a_character_model_learns_from_windows():
    english = load("english")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(english.vocab_size, 32), nn.Linear(32, english.vocab_size))
    windows = english.validation.windows(64, limit=50)
    fit(model, partial(english.batch, batch_size=16, length=64), steps=200, lr=1e-2)
    # A pair of letters tells more than a letter alone.
    counts = torch.bincount(english.train.tokens, minlength=english.vocab_size) + 1.0
    alone = F.nll_loss(
        (counts / counts.sum()).log()[None].expand(windows.y.numel(), -1), windows.y.reshape(-1)
    )
    assert evaluate(model, windows, metric="loss") < alone.item() - 0.3


def test_the_seconds_of_a_run_are_those_between_its_looks_at_the_clock(monkeypatch):
    ticks = count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    history = fit(nn.Linear(3, 1), regression(), steps=4)
    assert history.seconds == 4.0  # one look at the start, one behind each step
    assert next(ticks) == 5
