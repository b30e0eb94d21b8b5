"""Space and channels apart: a filter per channel, a sparse projection, a detour at low resolution."""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_callable,
    require_image,
    require_odd,
    require_positive,
    require_sequence,
)
from course_lib.registry import implements


@implements(
    "single-intra-channel-convolution",
    example=lambda: (TopologicalPointwise(channel_grid=(2, 3), kernel_size=(1, 2)), torch.randn(2, 6, 4, 5)),
)
class TopologicalPointwise(nn.Module):
    r"""A 1 x 1 convolution in which each channel listens only to its neighbourhood on a grid of channels.

    .. math:: y_{g} = \sum_{0 \le r_a < k_a} W_{g,r}\;
        x_{(g_1 + r_1 - \lfloor k_1/2 \rfloor) \bmod n_1,\; \dots}

    The n channels stand on a grid of :math:`n_1 \times \dots \times n_s`; windows wrap around and overlap, so
    that unlike in a grouped convolution everything has mixed after a few layers.

    Args:
        channel_grid: sizes of the grid; their product is the number of channels.
        kernel_size: size k of the neighbourhood along each axis of the grid.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if a window is larger than its axis, for a size below 1, or for other channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: Design of Efficient Convolutional Layers using Single Intra-channel Convolution, Topological
    Subdivisioning and Spatial "Bottleneck" Structure - https://arxiv.org/abs/1608.04337

    Inferred: that windows are centred and wrap around. The connected channels are gathered, so multiply-adds
    fall as promised; the gathering itself moves more bytes than a dense projection would.

    >>> layer = TopologicalPointwise(channel_grid=(8, 8), kernel_size=(4, 4))
    >>> layer.weight.shape, layer.connections().sum(1).unique()
    (torch.Size([64, 16]), tensor([16]))
    """

    sources: Tensor

    def __init__(
        self,
        *,
        channel_grid: tuple[int, ...],
        kernel_size: tuple[int, ...],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_sequence(name, channel_grid=channel_grid)
        require_positive(name, **{f"channel_grid[{a}]": size for a, size in enumerate(channel_grid)})
        require_sequence(name, len(channel_grid), kernel_size=kernel_size)
        require_positive(name, **{f"kernel_size[{a}]": size for a, size in enumerate(kernel_size)})
        if not channel_grid or any(k > n for k, n in zip(kernel_size, channel_grid, strict=True)):
            raise ValueError(
                f"{name}: each kernel_size must fit its axis of channel_grid, got {kernel_size} and "
                f"{channel_grid}"
            )
        self.channel_grid, self.kernel_size = tuple(channel_grid), tuple(kernel_size)
        self.channels, taps = math.prod(channel_grid), math.prod(kernel_size)
        self.weight = nn.Parameter(torch.empty(self.channels, taps, device=device, dtype=dtype))
        sources = torch.empty(self.channels, taps, device=device, dtype=torch.int64)
        self.register_buffer("sources", sources)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal, with the variance of the input kept; and who listens to whom."""
        if not self.sources.is_meta:
            self.sources.copy_(_sources(self.channel_grid, self.kernel_size))
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        gathered = x.flatten(2)[:, self.sources]  # (b, c, taps, i j)
        return torch.einsum("bcks,ck->bcs", gathered, self.weight).view_as(x)

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
        return f"channel_grid={self.channel_grid}, kernel_size={self.kernel_size}"


def _sources(grid: tuple[int, ...], kernel_size: tuple[int, ...]) -> Tensor:
    """The channels that each output channel listens to: (c, taps)."""
    places = torch.arange(math.prod(grid)).view(grid)
    offsets = product(*(range(-(k // 2), k - k // 2) for k in kernel_size))
    return torch.stack(
        [places.roll([-o for o in at], tuple(range(len(grid)))).flatten() for at in offsets], 1
    )


def _pointwise(channels: int, **factory: Any) -> nn.Module:
    return nn.Conv2d(channels, channels, 1, bias=False, **factory)


class _Stage(nn.Module):
    """Add a rectified, normalised projection of a filtered input."""

    def __init__(
        self, channels: int, kernel_size: int, mixer_layer: Callable[..., nn.Module], **factory: Any
    ) -> None:
        super().__init__()
        options = {"padding": kernel_size // 2, "groups": channels, "bias": False}
        self.spatial = nn.Conv2d(channels, channels, kernel_size, **options, **factory)
        self.projection = mixer_layer(channels, **{k: v for k, v in factory.items() if v is not None})
        self.norm = nn.BatchNorm2d(channels, **factory)

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
        depth: stages b.
        kernel_size: k, odd.
        mixer_layer: builds P, called with the number of channels, and with ``device`` and ``dtype`` where
            they are given; a full 1 x 1 convolution unless given.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an even kernel, no stage, no channels or others than built for.
        TypeError: for an argument of another type, or an input of another dtype.

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
        depth: int = 2,
        kernel_size: int = 3,
        mixer_layer: Callable[..., nn.Module] = _pointwise,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels, depth=depth)
        require_odd(name, kernel_size=kernel_size)
        require_callable(name, mixer_layer=mixer_layer)
        self.channels = channels
        stages = (_Stage(channels, kernel_size, mixer_layer, **factory) for _ in range(depth))
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return self.stages(x)

    def extra_repr(self) -> str:
        return f"{self.channels}"


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
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same; i and j multiples of k.

    Raises:
        ValueError: for a size below 1, other channels or sides that are no multiples of the stride.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: Design of Efficient Convolutional Layers using Single Intra-channel Convolution, Topological
    Subdivisioning and Spatial "Bottleneck" Structure - https://arxiv.org/abs/1608.04337

    Inferred: that the kernel is as large as the stride, and the place of norm, ReLU and skip.

    >>> SpatialBottleneck(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        require_positive(type(self).__name__, channels=channels, stride=stride)
        self.channels, self.stride = channels, stride
        options = {"stride": stride, "groups": channels, "bias": False}
        self.down = nn.Conv2d(channels, channels, stride, **options, **factory)
        self.projection = _pointwise(channels, **factory)
        self.up = nn.ConvTranspose2d(channels, channels, stride, **options, **factory)
        self.norm = nn.BatchNorm2d(channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The way up keeps the scale: each output pixel has one tap, so its variance is 1."""
        nn.init.normal_(self.up.weight)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self, multiple_of=self.stride)
        return x + self.norm(self.up(self.projection(self.down(x)))).relu()

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}"
