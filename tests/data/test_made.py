"""The generators: each against the definition of its task, written as a loop."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from torch import nn

from course_lib.data import load
from course_lib.data.actions import ACTIONS, JOINTS, stick_figure_actions
from course_lib.data.mnist1d import MNIST1D_TEMPLATES, make_mnist1d
from course_lib.data.synthetic import (
    OBJECT_PATTERNS,
    bars_and_stripes,
    cue_tokens,
    flip_signs,
    majority,
    multi_label_cues,
    object_patterns,
    pixel_shift,
    random_patterns,
)
from course_lib.training.loop import evaluate, fit

# -- Patterns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_bars_and_stripes_are_those_of_the_definition(size):
    wanted = set()
    for on in itertools.product((0.0, 1.0), repeat=size):
        wanted.add(tuple(v for v in on for _ in range(size)))
        wanted.add(tuple(v for _ in range(size) for v in on))
    patterns = [tuple(row) for row in bars_and_stripes(size).tolist()]
    assert len(patterns) == len(wanted) == 2 ** (size + 1) - 2
    assert set(patterns) == wanted


def test_random_patterns_are_balanced_and_independent():
    x = random_patterns(2000, 64)
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    assert abs(x.mean()) < 4 / (2000 * 64) ** 0.5
    overlap = x @ x.T
    assert overlap.fill_diagonal_(0).std().item() == pytest.approx(8, rel=0.03)  # the root of 64
    assert torch.equal(x, random_patterns(2000, 64))
    assert not torch.equal(x, random_patterns(2000, 64, seed=1))


@pytest.mark.parametrize(("share", "flips"), [(0.0, 0), (0.15, 10), (0.5, 32), (1.0, 64)])
def test_signs_are_flipped_exactly_so_often(share, flips):
    x = random_patterns(30, 64)
    before = x.clone()
    y = flip_signs(x, share, seed=4)
    assert ((y != x).sum(1) == flips).all()
    assert torch.equal(y.abs(), x.abs())
    assert torch.equal(x, before)


# -- Sequences --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "length"), [(2, 1), (3, 4), (5, 30), (7, 50)])
def test_the_majority_is_unique_and_right(classes, length):
    x, y = majority(200, classes=classes, length=length)
    assert x.shape == y.shape == (200, length)
    for tokens, targets in zip(x.tolist(), y.tolist(), strict=True):
        counts = Counter(tokens).most_common(2)
        assert len(counts) == 1 or counts[0][1] > counts[1][1]
        assert set(targets) == {counts[0][0]}
    assert set(y[:, 0].tolist()) == set(range(classes))


def test_labels_are_present_where_their_cues_are():
    x, y = multi_label_cues(500)
    cues = cue_tokens().tolist()
    shown = Counter()
    for tokens, present in zip(x.tolist(), y.tolist(), strict=True):
        for label, own in enumerate(cues):
            count = sum(token in own for token in tokens)
            assert count in ((1, 2) if present[label] else (0,))
            shown.update(token for token in tokens if token in own)
        assert all(0 <= token < 40 for token in tokens)
    assert y.mean(0).tolist() == pytest.approx([0.5] * 6, abs=0.08)
    assert sorted(shown) == list(range(18))
    mean = shown.total() / 18
    assert all(abs(count - mean) < 5 * mean**0.5 for count in shown.values())
    places = torch.stack([(x < 18)[:, i].float().mean() for i in range(24)])
    assert places.max() < 1.5 * places.min()  # cues stand anywhere


# -- Objects and pixels -----------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [None, 3, 20])
def test_objects_are_equal_as_the_class_says(pool):
    x, y = object_patterns(100, dim=4, pool=pool)
    assert torch.bincount(y).tolist() == [20] * 5
    for row, label in zip(x, y.tolist(), strict=True):
        letters = OBJECT_PATTERNS[label]
        for i, j in itertools.combinations(range(3), 2):
            assert torch.equal(row[i], row[j]) == (letters[i] == letters[j])
    different = len(torch.unique(x.reshape(-1, 4), dim=0))
    assert different == pool if pool else different > 150


def test_objects_of_one_split_are_unknown_to_the_others():
    data = load("object_patterns", pool=50)
    seen: set[bytes] = set()
    for split in data.splits.values():
        objects = {v.numpy().tobytes() for v in split.x.reshape(-1, 16)}
        assert len(objects) == 50
        assert not seen & objects
        seen |= objects
    assert data.meta.classes == OBJECT_PATTERNS


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_pixels_move_to_the_right(shift):
    digits = load("digits").test.x[:20]
    x, y = pixel_shift(digits, shift)
    assert torch.equal(x, digits)
    for n, i, j in itertools.product(range(20), range(8), range(8)):
        assert y[n, 0, i, j] == (digits[n, 0, i, j - shift] if j >= shift else 0)
    shifted = load("pixel_shift", shift=shift)
    assert torch.equal(shifted.test.y[:20], y)
    assert torch.equal(shifted.test.x, load("digits").test.x)


# -- MNIST-1D ---------------------------------------------------------------------------------------


def test_without_disturbance_a_signal_is_a_rolled_template():
    x, y = make_mnist1d(200, length=12, padding=(0, 0), scale=0, shear=0, noise=0, white_noise=0)
    shifts = set()
    for signal, digit in zip(x[:, 0], y.tolist(), strict=True):
        fits = [k for k in range(12) if torch.allclose(signal, MNIST1D_TEMPLATES[digit].roll(k), atol=1e-6)]
        assert len(fits) == 1
        shifts.update(fits)
    assert shifts == set(range(12))


def test_padding_shortens_the_stroke_as_it_should():
    x, _ = make_mnist1d(300, padding=(48, 48), noise=0, white_noise=0, length=61, scale=0, shear=0)
    # 60 points resampled at 61 places: the stroke of 12 points, less the zeros it has, plus interpolation
    drawn = (x[:, 0].abs() > 0).sum(1)
    assert drawn.max() <= 14
    assert drawn.float().mean().item() == pytest.approx(12, abs=1.5)


def test_factor_slope_and_noise_have_the_sizes_that_are_said():
    plain = {"length": 12, "padding": (0, 0), "shear": 0.0, "noise": 0.0, "white_noise": 0.0, "scale": 0.0}
    reference, _ = make_mnist1d(500, **plain)
    scaled, _ = make_mnist1d(500, **{**plain, "scale": 0.4})
    factor = (scaled * reference).sum((1, 2)) / reference.square().sum((1, 2))
    torch.testing.assert_close(scaled, factor[:, None, None] * reference)
    assert 0.8 <= factor.min() < 0.82
    assert 1.18 < factor.max() <= 1.2
    tilted, _ = make_mnist1d(500, **{**plain, "shear": 0.75})
    tilt = (tilted - reference).abs().amax((1, 2))
    assert 0.36 < tilt.max() <= 0.375
    white, _ = make_mnist1d(500, **{**plain, "white_noise": 0.1})
    assert (white - reference).std().item() == pytest.approx(0.1, rel=0.05)


def test_splits_of_mnist1d_are_balanced_and_differ():
    data = load("mnist1d", n=200)
    assert data.train.y.bincount().tolist() == [20] * 10
    assert not torch.equal(data.validation.x, data.test.x)
    assert not torch.equal(load("mnist1d", n=200, seed=1).train.x, data.train.x)


def test_convolutions_beat_linear_models_on_mnist1d():
    data = load("mnist1d")
    linear = RidgeClassifier().fit(data.train.x[:, 0], data.train.y)
    line = linear.score(data.test.x[:, 0], data.test.y)
    torch.manual_seed(0)
    convolutions = nn.Sequential(
        *(nn.Conv1d(1, 25, 5, 2, 1), nn.ReLU(), nn.Conv1d(25, 25, 3, 2, 1), nn.ReLU()),
        *(nn.Conv1d(25, 25, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(125, 10)),
    )
    fit(convolutions, data.train, steps=200, lr=1e-2)
    assert 0.2 < line < 0.5
    assert evaluate(convolutions, data.test) > 0.7


# -- Stick figures ----------------------------------------------------------------------------------


def test_the_length_of_a_film_is_the_inverse_of_its_speed():
    films = stick_figure_actions(400, speed=(0.5, 2.0), frames=30)
    assert films.lengths.min() == 15
    assert films.lengths.max() == films.x.shape[1] == 60
    middle = films.lengths.double().median().item()
    assert middle == pytest.approx(30, abs=3)  # the logarithm of the speed is uniform
    for film, n in zip(films.x, films.lengths.tolist(), strict=True):
        assert (film[n:] == 0).all()
        assert (film[:n].abs().sum((1, 2)) > 0).all()


def test_a_slow_film_shows_the_same_poses():
    fast = stick_figure_actions(30, speed=(1, 1), frames=20, noise=0.0)
    slow = stick_figure_actions(30, speed=(1, 1), frames=60, noise=0.0)
    torch.testing.assert_close(slow.x[:, ::3], fast.x, atol=1e-5, rtol=0)
    half = stick_figure_actions(30, speed=(1, 1), frames=40, noise=0.0).x
    torch.testing.assert_close(half[:, :20], half[:, 20:], atol=1e-5, rtol=0)  # two rounds


def test_noise_has_the_size_that_is_said():
    clean, noisy = (stick_figure_actions(60, speed=(1, 1), noise=v).x for v in (0.0, 0.05))
    assert (noisy - clean).std().item() == pytest.approx(0.05, rel=0.05)


def test_each_action_moves_what_it_should():
    films = stick_figure_actions(60, speed=(1, 1), noise=0.0)
    travel = films.x.amax(1) - films.x.amin(1)  # (n, joints, 2)
    head, left_hand, right_hand, left_foot, right_foot = (JOINTS.index(j) for j in JOINTS)
    for moved, label in zip(travel, films.y.tolist(), strict=True):
        action = ACTIONS[label]
        assert (moved[right_hand, 0] > 0.2) == (action in ("wave", "punch", "walk", "bend", "turn"))
        assert (moved[head, 1] > 0.2) == (action in ("jump", "bend"))
        assert (moved[left_foot, 0] > 0.2) == (action in ("walk", "turn"))
        if action == "wave":
            assert moved[[head, left_hand, left_foot, right_foot]].max() == 0


def test_actions_can_be_told_apart_at_one_speed_and_test_speeds_are_wider():
    data = load("stick_figure_actions")
    assert data.train.lengths.max() <= 38
    assert data.test.lengths.min() < 15
    assert data.test.lengths.max() > 60
    features = [torch.cat([s.x.amax(1), s.x.amin(1)], -1).flatten(1) for s in (data.train, data.validation)]
    model = LogisticRegression(max_iter=500, C=100).fit(features[0], data.train.y)
    assert model.score(features[1], data.validation.y) > 0.95


# -- Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: bars_and_stripes(0), "size must be at least 1"),
        (lambda: random_patterns(0, 5), "n must be at least 1"),
        (lambda: flip_signs(torch.ones(2, 4), 1.5), "between 0 and 1, got 1.5"),
        (lambda: majority(5, classes=1), "at least 2 classes"),
        (lambda: majority(5, length=0), "length must be at least 1"),
        (lambda: multi_label_cues(5, tokens=18), "more than 18 tokens"),
        (lambda: multi_label_cues(5, length=11), "at least 12"),
        (lambda: object_patterns(5, pool=2), "at least 3 objects, got 2"),
        (lambda: pixel_shift(torch.zeros(1, 1, 2, 3), 3), "between 1 and 2"),
        (lambda: make_mnist1d(0), "need n >= 1"),
        (lambda: make_mnist1d(5, padding=(5, 3)), "padding"),
        (lambda: stick_figure_actions(5, speed=(2.0, 1.0)), "slowest <= fastest"),
        (lambda: stick_figure_actions(5, speed=(0.0, 1.0)), "0 < slowest"),
        (lambda: stick_figure_actions(5, frames=1), "two frames"),
    ],
)
def test_impossible_requests_are_refused(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()


def test_generators_leave_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    for make in (majority, multi_label_cues, object_patterns, make_mnist1d, stick_figure_actions):
        make(10)
    random_patterns(3, 4)
    assert (torch.rand(1), np.random.rand()) == expected
