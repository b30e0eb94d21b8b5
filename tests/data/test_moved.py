"""Images moved by a pixel: all of it stays, or zeros come in."""

import torch

from course_lib.data.moved import moved_by_a_pixel, moved_each_way


def test_images_move_by_a_pixel_at_most_and_lose_nothing():
    images = torch.randn(200, 2, 5, 4)
    moved = moved_by_a_pixel(images, torch.Generator().manual_seed(0))
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    found = []
    for image, other in zip(images, moved, strict=True):
        (shift,) = [s for s in shifts if torch.equal(image.roll(s, (1, 2)), other)]
        found.append(shift)
    assert set(found) == set(shifts)


def test_each_way_is_a_pixel_further_and_leaves_a_border_of_zeros():
    images = torch.rand(3, 2, 5, 4) + 1
    for moved, shift in zip(moved_each_way(images), ((1, 0), (-1, 0), (0, 1), (0, -1)), strict=True):
        rolled = images.roll(shift, (2, 3))
        inside = moved != 0
        assert torch.equal(moved[inside], rolled[inside])
        assert (~inside).sum() == 3 * 2 * (4 if shift[0] else 5)
