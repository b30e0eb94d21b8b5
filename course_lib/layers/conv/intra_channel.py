"""Space and channels apart: a filter per channel, a sparse projection, a detour at low resolution."""

import math
from collections.abc import Callable
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.layers.conv._shared import require_image
from course_lib.registry import implements

__all__ = ["SICLayer", "SpatialBottleneck", "TopologicalPointwise"]


@implements(
    "single-intra-channel-convolution",
    example=lambda: (TopologicalPointwise((2, 3), (1, 2)), torch.randn(2, 6, 4, 5)),
)
class TopologicalPointwise(nn.Module):
    r"""A 1 x 1 convolution in which each channel listens only to its neighbourhood on a grid of channels.

    .. math:: y_{g} = \sum_{0 \le r_a < w_a} W_{g,r}\;
        x_{(g_1 + r_1 - \lfloor w_1/2 \rfloor) \bmod n_1,\; \dots}

    The n channels stand on a grid of :math:`n_1 \times \dots \times n_s`; windows wrap around and overlap, so
    that unlike in a grouped convolution everything has mixed after a few layers.

    Args:
        grid: sizes of the channel grid; their product is the number of channels.
        window: size of the neighbourhood along each axis of the grid.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if a window is larger than its axis, or for other channels.

    Paper: Design of Efficient Convolutional Layers using Single Intra-channel Convolution, Topological
    Subdivisioning and Spatial "Bottleneck" Structure - https://arxiv.org/abs/1608.04337

    Inferred: that windows are centred and wrap around. The connected channels are gathered, so multiply-adds
    fall as promised; the gathering itself moves more bytes than a dense projection would.

    >>> layer = TopologicalPointwise((8, 8), (4, 4))
    >>> layer.weight.shape, layer.connections().sum(1).unique()
    (torch.Size([64, 16]), tensor([16]))
    """

    def __init__(self, grid: tuple[int, ...], window: tuple[int, ...]) -> None:
        super().__init__()
        if len(grid) != len(window) or not all(1 <= w <= n for w, n in zip(window, grid, strict=True)):
            raise ValueError(f"each window must fit its axis of the grid, got {window} and {grid}")
        self.grid, self.window, self.channels = grid, window, math.prod(grid)
        self.weight = nn.Parameter(torch.empty(self.channels, math.prod(window)))
        self.register_buffer("sources", torch.empty_like(_sources(self.grid, self.window)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, with the variance of the input kept; who listens to whom, which is no part of the state."""
        self.sources.copy_(_sources(self.grid, self.window))
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "TopologicalPointwise")
        gathered = x.flatten(2)[:, self.sources]  # (b, c, window, i j)
        return torch.einsum("bcws,cw->bcs", gathered, self.weight).view_as(x)

    def dense_weight(self) -> Float[Tensor, "c c"]:
        """The matrix of the 1 x 1 convolution that does the same: mostly zeros."""
        dense = self.weight.new_zeros(self.channels, self.channels)
        return dense.scatter(1, self.sources, self.weight)

    def connections(self) -> Bool[Tensor, "c c"]:
        """Which input channel each output channel listens to."""
        return torch.zeros(self.channels, self.channels, dtype=torch.bool).scatter(
            1, self.sources.cpu(), True
        )

    def extra_repr(self) -> str:
        return f"grid={self.grid}, window={self.window}"


def _sources(grid: tuple[int, ...], window: tuple[int, ...]) -> Tensor:
    """The channels that each output channel listens to: (c, window)."""
    places = torch.arange(math.prod(grid)).view(grid)
    offsets = product(*(range(-(w // 2), w - w // 2) for w in window))
    return torch.stack(
        [places.roll([-o for o in at], tuple(range(len(grid)))).flatten() for at in offsets], 1
    )


def _pointwise(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 1, bias=False)


class _Stage(nn.Module):
    """Add a rectified, normalised projection of a filtered input."""

    def __init__(self, channels: int, kernel_size: int, projection: Callable[[int], nn.Module]) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.spatial = nn.Conv2d(
            channels, channels, kernel_size, padding=padding, groups=channels, bias=False
        )
        self.projection = projection(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.projection(self.spatial(x))).relu()


@implements(
    "single-intra-channel-convolution",
    example=lambda: (SICLayer(4), torch.randn(3, 4, 5, 3)),
    mixes_batch=True,
)
class SICLayer(nn.Module):
    r"""Single intra-channel convolution: stages of one filter per channel, then a projection across channels.

    .. math:: x \leftarrow x + \mathrm{relu}(\mathrm{BN}(P (B * x))), \qquad \text{b times}

    A standard k x k layer costs :math:`n^2 k^2` per pixel; b stages cost :math:`b\,(n k^2 + n^2)`.

    Args:
        channels: n.
        stages: b.
        kernel_size: k, odd.
        projection: builds P from the number of channels; a full 1 x 1 convolution unless given.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an even kernel, no stage or other channels.

    Paper: Design of Efficient Convolutional Layers using Single Intra-channel Convolution, Topological
    Subdivisioning and Spatial "Bottleneck" Structure - https://arxiv.org/abs/1608.04337

    Inferred: that norm, ReLU and skip stand in this order. One stage is what was later called a depthwise
    separable convolution.

    >>> sum(p.numel() for p in SICLayer(64).parameters() if p.ndim == 4), 64 * 64 * 9
    (9344, 36864)
    """

    def __init__(
        self,
        channels: int,
        *,
        stages: int = 2,
        kernel_size: int = 3,
        projection: Callable[[int], nn.Module] = _pointwise,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or stages < 1:
            raise ValueError(f"kernel_size must be odd and stages at least 1, got {kernel_size} and {stages}")
        self.channels = channels
        self.stages = nn.Sequential(*(_Stage(channels, kernel_size, projection) for _ in range(stages)))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "SICLayer")
        return self.stages(x)


@implements(
    "single-intra-channel-convolution",
    example=lambda: (SpatialBottleneck(4), torch.randn(3, 4, 6, 4)),
    mixes_batch=True,
)
class SpatialBottleneck(nn.Module):
    r"""Filter and subsample each channel, project at the low resolution, filter back up.

    .. math:: y = x + \mathrm{relu}(\mathrm{BN}(D^\top * P (D *_k x)))

    D and its transposed counterpart hold one k x k filter per channel at stride k, so the projection, the
    expensive part, runs on :math:`1/k^2` of the pixels.

    Args:
        channels: n.
        stride: k, in both directions.

    Shape: ``(b, c, i, j)`` to the same; i and j multiples of k.

    Raises:
        ValueError: for other channels or sizes that are no multiples of the stride.

    Paper: Design of Efficient Convolutional Layers using Single Intra-channel Convolution, Topological
    Subdivisioning and Spatial "Bottleneck" Structure - https://arxiv.org/abs/1608.04337

    Inferred: that the kernel is as large as the stride, and the place of norm, ReLU and skip.

    >>> SpatialBottleneck(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, channels: int, *, stride: int = 2) -> None:
        super().__init__()
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.channels, self.stride = channels, stride
        options = {"stride": stride, "groups": channels, "bias": False}
        self.down = nn.Conv2d(channels, channels, stride, **options)
        self.projection = _pointwise(channels)
        self.up = nn.ConvTranspose2d(channels, channels, stride, **options)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.normal_(self.up.weight)  # each output pixel has one tap: variance 1 keeps the scale

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "SpatialBottleneck")
        if x.shape[2] % self.stride or x.shape[3] % self.stride:
            raise ValueError(
                f"rows and columns must be multiples of the stride {self.stride}, "
                f"got {tuple(x.shape)}; pad the image"
            )
        return x + self.norm(self.up(self.projection(self.down(x)))).relu()
