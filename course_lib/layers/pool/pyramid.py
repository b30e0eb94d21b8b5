"""A vector of one length from an image of any size, and from any box inside it."""

from math import ceil

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from course_lib.layers._shapes import layer_name, require_image, require_positive, require_sequence
from course_lib.registry import implements


@implements("spatial-pyramid-pooling")
def adaptive_bins(size: int, bins: int) -> list[tuple[int, int]]:
    r"""First and last-plus-one row of each bin, for any size: together they cover every row.

    .. math:: \bigl[\lfloor m\, a / n \rfloor,\; \lceil (m + 1)\, a / n \rceil\bigr), \qquad 0 \le m < n

    Args:
        size: rows a.
        bins: n; may exceed the rows, then bins repeat rows.

    Shape: two numbers to n pairs.

    Raises:
        ValueError: without rows or bins.

    Paper: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition -
    https://arxiv.org/abs/1406.4729

    >>> adaptive_bins(10, 4)
    [(0, 3), (2, 5), (5, 8), (7, 10)]
    """
    require_positive("adaptive_bins", size=size, bins=bins)
    return [(m * size // bins, -(-(m + 1) * size // bins)) for m in range(bins)]


@implements("spatial-pyramid-pooling")
def sliding_bins(size: int, bins: int) -> list[tuple[int, int]]:
    r"""The bins of a sliding window for one fixed size, as given for training with ordinary pooling layers.

    .. math:: \text{window } \lceil a / n \rceil, \qquad \text{stride } \lfloor a / n \rfloor

    A trap: ten rows in four bins give windows of 3 with stride 2, which end at row 9: the last row is never
    seen. :func:`adaptive_bins` sees it.

    Args:
        size: rows a.
        bins: n, at most a.

    Shape: two numbers to at least n pairs.

    Raises:
        ValueError: without rows or bins, or with more bins than rows, which would need a stride of 0.

    Paper: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition -
    https://arxiv.org/abs/1406.4729

    >>> sliding_bins(10, 4)
    [(0, 3), (2, 5), (4, 7), (6, 9)]
    """
    require_positive("sliding_bins", size=size, bins=bins)
    if bins > size:
        raise ValueError(f"{bins} bins of {size} rows need a stride of 0; use adaptive_bins")
    window, stride = ceil(size / bins), size // bins
    return [(start, start + window) for start in range(0, size - window + 1, stride)]


@implements("spatial-pyramid-pooling", example=lambda: (SpatialPyramidPool(), torch.randn(2, 3, 5, 7)))
class SpatialPyramidPool(nn.Module):
    r"""Max-pool into n x n bins at every level of a pyramid and write all bins into one vector.

    .. math:: y = \bigl(\max_{(u, v) \in \text{bin}} x_{cuv}\bigr)_{c,\, \text{bin},\, \text{level}}
        \;\in\; \mathbb R^{C \sum_n n^2}

    The length does not depend on the size of the image, so a dense layer can follow, and one network can be
    trained and used at many sizes. Unlike global pooling (the single level 1) it keeps where things are.

    Args:
        levels: bins per side, level by level.

    Shape: ``(b, c, i, j)`` to ``(b, c * sum(n * n for n in levels))``; level by level, channel by channel.

    Raises:
        ValueError: for anything but images, an empty image, or no level.
        TypeError: for levels that are no integers, or an input that is not real.

    Paper: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition -
    https://arxiv.org/abs/1406.4729

    Values in given cells agree with the authors' code for regions (``tests/vectors``).

    Differs from the paper's formula for one fixed size: the bins are those of :func:`adaptive_bins`, as in
    that code. The maximum there starts from 0, which matters for negative features only.

    >>> pool = SpatialPyramidPool()
    >>> [pool(torch.randn(1, 3, size, size)).shape[1] for size in (8, 13, 24)]
    [63, 63, 63]
    """

    def __init__(self, *, levels: tuple[int, ...] = (1, 2, 4)) -> None:
        super().__init__()
        name = type(self).__name__
        require_sequence(name, levels=levels)
        if not levels:
            raise ValueError(f"{name}: levels must be one or more positive numbers of bins, got {levels!r}")
        require_positive(name, **{f"levels[{i}]": n for i, n in enumerate(levels)})
        self.levels = tuple(levels)

    @property
    def bins(self) -> int:
        """Bins of all levels together: the output is so many times as long as there are channels."""
        return sum(n * n for n in self.levels)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b _"]:
        require_image(x, None, self)
        if not isinstance(x, Proxy) and not (x.shape[2] and x.shape[3]):
            raise ValueError(f"{layer_name(self)}: the image {tuple(x.shape)} is empty")
        return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in self.levels], dim=1)

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


@implements("spatial-pyramid-pooling")
def project_boxes(boxes: Int64[Tensor, "n 4"], stride: int, size: tuple[int, int]) -> Int64[Tensor, "n 4"]:
    r"""Boxes in pixels to boxes in cells of a feature map that is ``stride`` times smaller.

    .. math:: \text{first} = \lfloor x_{\min} / S \rfloor + 1, \qquad
        \text{last} = \lceil x_{\max} / S \rceil - 1

    A cell m stands for the pixel :math:`S m`; the box keeps the cells that stand strictly inside. A box
    without any keeps one cell, and all stay inside the map.

    Args:
        boxes: top, left, bottom, right; the last two are the last pixel inside.
        stride: S, pixels per cell.
        size: rows and columns of the feature map.

    Shape: ``(n, 4)`` to ``(n, 4)``: top, left, bottom, right, the last two **exclusive**, ready for slicing.

    Raises:
        ValueError: if a box is upside down.

    Paper: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition -
    https://arxiv.org/abs/1406.4729

    Differs from the authors' code, which rounds to the nearest cell, with offsets for the receptive field,
    and gives a box without a cell the one in the middle; what happens to such boxes here is our choice.

    >>> project_boxes(torch.tensor([[0, 15, 31, 48]]), 8, (8, 8))
    tensor([[1, 2, 4, 6]])
    """
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError("a box ends before it begins; expected (top, left, bottom, right)")
    limit = torch.tensor(size, device=boxes.device)
    first = torch.minimum(boxes[:, :2] // stride + 1, limit - 1)
    last = torch.minimum(-(-boxes[:, 2:] // stride) - 1, limit - 1)
    return torch.cat([first, torch.maximum(first, last) + 1], dim=1)


@implements("spatial-pyramid-pooling")
def pool_regions(
    features: Float[Tensor, "c i j"],
    boxes: Int64[Tensor, "n 4"],
    *,
    stride: int = 1,
    levels: tuple[int, ...] = (1, 2, 4),
) -> Float[Tensor, "n _"]:
    r"""One vector per box, all from a single feature map: the convolutions run once, not once per box.

    .. math:: y_n = \mathrm{SPP}\bigl(\text{features}[:,\, \text{top}_n{:}\text{bottom}_n,\,
        \text{left}_n{:}\text{right}_n]\bigr)

    Args:
        features: the map of one image.
        boxes: in pixels of the image: top, left, bottom, right, inclusive.
        stride: pixels per cell of the map; the boxes are projected with :func:`project_boxes`.
        levels: of the pyramid.

    Shape: ``(c, i, j)`` and ``(n, 4)`` to ``(n, c * bins)``.

    Raises:
        ValueError: for a box upside down, or features that are no single map.

    Paper: Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition -
    https://arxiv.org/abs/1406.4729

    >>> pool_regions(torch.randn(3, 8, 8), torch.tensor([[0, 0, 31, 31], [8, 8, 63, 40]]), stride=8).shape
    torch.Size([2, 63])
    """
    if features.ndim != 3:
        raise ValueError(f"expected the features (c, i, j) of one image, got shape {tuple(features.shape)}")
    pool = SpatialPyramidPool(levels=levels)
    cells = project_boxes(boxes, stride, features.shape[1:]).tolist()
    regions = [pool(features[None, :, top:bottom, left:right]) for top, left, bottom, right in cells]
    return torch.cat(regions) if regions else features.new_empty(0, len(features) * pool.bins)
