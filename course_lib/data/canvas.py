"""One small digit at a random place of a larger canvas, among strokes that mean nothing; its box is known."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, load

__all__ = ["BoxedSplit", "box_masks", "centre_heatmaps", "make_cluttered_digits"]
__numerics__ = 1


@dataclass(frozen=True, eq=False, repr=False)
class BoxedSplit(Split):
    """A split whose images each show one object.

    Attributes:
        boxes: top, left, bottom, right of the object in pixels, the last two exclusive; a row per image.

    >>> make_cluttered_digits(5)[:2].boxes.shape
    torch.Size([2, 4])
    """

    boxes: Int64[Tensor, "n 4"] = None

    def __getitem__(self, rows: Any) -> "BoxedSplit | tuple[Tensor, Tensor]":
        """One row as a pair for an integer, else a smaller split with its boxes."""
        if isinstance(rows, int):
            return self.x[rows], self.y[rows]
        return BoxedSplit(self.x[rows], self.y[rows], None, self.boxes[rows])


def make_cluttered_digits(
    n: int, *, split: str = "train", size: int = 24, strokes: int = 3, seed: int = 0
) -> BoxedSplit:
    """``n`` canvases, each with one 8 x 8 digit at a random place and short bright lines anywhere.

    Digits come in turn from one split of ``digits``, so that no digit of a test canvas was trained on. Each
    pixel shows the brighter of digit and strokes; strokes may cross the digit.

    Args:
        n: number of canvases; beyond the size of the split digits come again at other places.
        split: ``"train"``, ``"validation"`` or ``"test"`` of the digits.
        size: side of the canvas, at least 8.
        strokes: lines per canvas, 3 to 7 pixels long and 0.5 to 1 bright; 0 for a clean canvas.
        seed: of places and strokes.

    Raises:
        ValueError: for a canvas smaller than a digit, fewer than one canvas or a negative number of strokes.

    >>> canvases = make_cluttered_digits(20)
    >>> canvases.x.shape, (canvases.boxes[:, 2:] - canvases.boxes[:, :2]).unique()
    (torch.Size([20, 1, 24, 24]), tensor([8]))
    """
    if n < 1 or size < 8 or strokes < 0:
        raise ValueError(f"need n >= 1, size >= 8 and strokes >= 0, got {n}, {size} and {strokes}")
    digits = load("digits").splits[split]
    rows = torch.arange(n) % len(digits)
    g = torch.Generator().manual_seed(seed)
    place = torch.randint(size - 7, (n, 2), generator=g)
    canvas = torch.zeros(n, size, size)
    inside = torch.arange(8)
    canvas[
        torch.arange(n)[:, None, None],
        (place[:, :1] + inside)[:, :, None],
        (place[:, 1:] + inside)[:, None, :],
    ] = digits.x[rows, 0]
    if strokes:
        canvas = torch.maximum(canvas, _strokes(n, size, strokes, g))
    return BoxedSplit(canvas[:, None], digits.y[rows], None, torch.cat([place, place + 8], dim=1))


def box_masks(boxes: Int64[Tensor, "n 4"], size: int) -> Bool[Tensor, "n h w"]:
    """True inside each box of a canvas of ``size`` x ``size`` pixels.

    >>> box_masks(torch.tensor([[0, 1, 2, 3]]), 4).int()
    tensor([[[0, 1, 1, 0],
             [0, 1, 1, 0],
             [0, 0, 0, 0],
             [0, 0, 0, 0]]], dtype=torch.int32)
    """
    along = torch.arange(size)
    top, left, bottom, right = boxes[:, :, None].unbind(1)  # each (n, 1)
    rows, columns = (along >= top) & (along < bottom), (along >= left) & (along < right)
    return rows[:, :, None] & columns[:, None, :]


def centre_heatmaps(
    boxes: Int64[Tensor, "n 4"], size: int, *, sigma: float = 1.5
) -> Float[Tensor, "n 1 h w"]:
    """A Gaussian hill of height 1 at the centre of each box: the target of keypoint detection.

    Args:
        boxes: top, left, bottom, right, the last two exclusive.
        size: side of the canvas.
        sigma: deviation of the hill in pixels.

    >>> centre_heatmaps(torch.tensor([[0, 0, 3, 3]]), 4)[0, 0, 1].round(decimals=2)
    tensor([0.8000, 1.0000, 0.8000, 0.4100])
    """
    centre = (boxes[:, :2] + boxes[:, 2:] - 1) / 2
    distance = torch.arange(size) - centre[:, :, None]  # (n, 2, size)
    hill = torch.exp(-0.5 * (distance / sigma).square())
    return (hill[:, 0, :, None] * hill[:, 1, None, :])[:, None]


@dataset(
    "cluttered_digits",
    task="classification, localisation",
    x="(n, 1, 24, 24) float32 in [0, 1]: one handwritten digit among strokes; .boxes says where",
    y="(n,) int64: the digit, 0 to 9",
    licence="CC BY 4.0",
    source="scikit-learn's digits on canvases made by this package",
)
def _cluttered_digits(meta: Meta, n: int = 4000, strokes: int = 3, seed: int = 0) -> Dataset:
    sizes = {"train": n, "validation": 400, "test": 800}
    parts = [
        make_cluttered_digits(rows, split=split, strokes=strokes, seed=3 * seed + i)
        for i, (split, rows) in enumerate(sizes.items())
    ]
    return Dataset(*parts, replace(meta, classes=tuple("0123456789")))


def _strokes(n: int, size: int, count: int, g: torch.Generator) -> Float[Tensor, "n h w"]:
    """Straight lines a pixel and a half thick with soft edges, anywhere on the canvas."""
    uniform = lambda *shape: torch.rand(*shape, generator=g)  # noqa: E731
    middle = uniform(n, count, 2, 1, 1) * size
    angle = uniform(n, count, 1, 1) * torch.pi
    half, bright = 1.5 + 2 * uniform(n, count, 1, 1), 0.5 + 0.5 * uniform(n, count, 1, 1)
    picture = torch.zeros(n, size, size)
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).float()
    for s in range(count):  # one stroke at a time keeps the memory small
        down, right = (grid - middle[:, s]).unbind(1)
        along = down * angle[:, s].sin() + right * angle[:, s].cos()
        across = down * angle[:, s].cos() - right * angle[:, s].sin()
        beyond = (along.abs() - half[:, s]).clamp(min=0)
        distance = torch.sqrt(beyond.square() + across.square())
        picture = torch.maximum(picture, bright[:, s] * (1.25 - distance).clamp(0, 1))
    return picture
