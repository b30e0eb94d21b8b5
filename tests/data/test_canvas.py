"""The cluttered canvas: the digit is where its box says, strokes are anywhere, splits share no digit."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from course_lib.data import Dataset, load
from course_lib.data.canvas import box_masks, centre_heatmaps, make_cluttered_digits


def test_a_clean_canvas_shows_the_digit_in_its_box_and_nothing_else():
    digits, canvases = load("digits").test, make_cluttered_digits(450, split="test", strokes=0)
    for i in (0, 7, 399, 400, 449):
        top, left, bottom, right = canvases.boxes[i].tolist()
        assert torch.equal(canvases.x[i, 0, top:bottom, left:right], digits.x[i % 400, 0])
        assert canvases.y[i] == digits.y[i % 400]
    assert (canvases.x[:, 0] * ~box_masks(canvases.boxes, 24)).abs().max() == 0


def test_strokes_only_brighten_and_fall_inside_and_outside_the_box():
    clean, cluttered = (make_cluttered_digits(200, strokes=s, seed=3) for s in (0, 6))
    assert torch.equal(clean.boxes, cluttered.boxes)
    added = cluttered.x - clean.x
    assert added.min() >= 0
    assert cluttered.x.max() <= 1
    inside = box_masks(cluttered.boxes, 24)[:, None]
    assert (added * inside).sum() > 0
    assert (added * ~inside).sum() > 5 * (added * inside).sum()


def test_a_stroke_is_a_short_line():
    strokes = (
        make_cluttered_digits(200, strokes=1, seed=1).x - make_cluttered_digits(200, strokes=0, seed=1).x
    )
    clear = strokes[(strokes > 0.25).flatten(1).sum(1) > 0]
    for image in clear[:50, 0]:
        _, pieces = ndimage.label(np.asarray(image > 0.05), structure=np.ones((3, 3)))
        assert pieces <= 2  # the digit may hide the middle
        assert (image > 0.25).sum() <= 24


def test_places_are_spread_over_the_canvas_and_depend_on_the_seed():
    first, again, other = (make_cluttered_digits(500, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.boxes, other.boxes)
    assert first.boxes[:, :2].unique().tolist() == list(range(17))
    assert (first.boxes[:, 2:] - first.boxes[:, :2] == 8).all()


def test_slices_keep_their_boxes_and_single_rows_are_pairs():
    canvases = make_cluttered_digits(10)
    assert torch.equal(canvases[3:6].boxes, canvases.boxes[3:6])
    assert torch.equal(canvases[2][0], canvases.x[2])
    x, y = canvases
    assert len(x) == len(y) == len(canvases) == 10


def test_masks_and_hills_are_those_of_a_loop():
    boxes = torch.tensor([[0, 1, 3, 4], [2, 2, 4, 6]])
    masks, hills = box_masks(boxes, 6), centre_heatmaps(boxes, 6, sigma=2.0)
    for n, (top, left, bottom, right) in enumerate(boxes.tolist()):
        for i in range(6):
            for j in range(6):
                assert masks[n, i, j] == (top <= i < bottom and left <= j < right)
                far = (i - (top + bottom - 1) / 2) ** 2 + (j - (left + right - 1) / 2) ** 2
                assert hills[n, 0, i, j].item() == pytest.approx(np.exp(-far / 8))


def test_the_set_has_boxes_in_every_split_and_no_canvas_in_two():
    data = load("cluttered_digits", n=50)
    assert isinstance(data, Dataset)
    assert [len(split.boxes) for split in data.splits.values()] == [50, 400, 800]
    rows = [{row.numpy().tobytes() for row in split.x} for split in data.splits.values()]
    assert not rows[0] & rows[1]
    assert not rows[1] & rows[2]


def test_impossible_canvases_are_refused():
    for wrong in ({"n": 0}, {"n": 1, "size": 7}, {"n": 1, "strokes": -1}):
        with pytest.raises(ValueError, match="need n >= 1"):
            make_cluttered_digits(**wrong)
