"""Kernels that are made by looking far and used near by: one small kernel per pixel."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.conv._shared import SqueezeExcite, require_image
from course_lib.registry import implements

__all__ = [
    "LSBlock",
    "LSConv",
    "LargeKernelPerception",
    "small_kernel_aggregation",
    "small_kernel_aggregation_naive",
]

_DEAD = "a normalised 1 x 1 convolution takes the shift of the norm before it away, as in the authors' code"


def _require_kernels(x: Tensor, weight: Tensor) -> int:
    """The side of the kernels; ``ValueError`` where they do not fit the image."""
    side = math.isqrt(weight.shape[2])
    if side**2 != weight.shape[2] or side % 2 == 0:
        raise ValueError(f"a kernel has 1, 9, 25 ... taps, got {weight.shape[2]}; its side must be odd")
    if x.shape[1] % weight.shape[1] or x.shape[2:] != weight.shape[3:]:
        raise ValueError(
            f"kernels {tuple(weight.shape)} do not fit images {tuple(x.shape)}; their number must divide "
            "the channels, and rows and columns must agree"
        )
    return side


@implements("lsnet")
def small_kernel_aggregation_naive(
    x: Float[Tensor, "b c i j"], weight: Float[Tensor, "b g k i j"]
) -> Float[Tensor, "b c i j"]:
    r"""A weighted sum over a small window, with other weights at every pixel, in loops.

    .. math:: y_{c,i,j} = \sum_q W_{c \bmod g,\, q,\, i,\, j}\; x_{c,\, i + u_q,\, j + v_q}

    Args:
        x: images; zeros stand around them.
        weight: g kernels of k taps, row by row, for each pixel; channels c, c + g, c + 2g, ... share one.

    Raises:
        ValueError: if kernels and images do not fit.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    >>> x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    >>> small_kernel_aggregation_naive(x, torch.ones(1, 1, 9, 1, 3))
    tensor([[[[3., 6., 5.]]]])
    """
    side = _require_kernels(x, weight)
    half, (rows, columns) = side // 2, x.shape[2:]
    padded = F.pad(x, (half,) * 4)
    channels = []
    for c in range(x.shape[1]):
        total = torch.zeros_like(x[:, c])
        for q in range(side**2):
            u, v = divmod(q, side)
            total = total + weight[:, c % weight.shape[1], q] * padded[:, c, u : u + rows, v : v + columns]
        channels.append(total)
    return torch.stack(channels, 1)


@implements("lsnet")
def small_kernel_aggregation(
    x: Float[Tensor, "b c i j"], weight: Float[Tensor, "b g k i j"]
) -> Float[Tensor, "b c i j"]:
    """The same sum by unfolding all windows; equals :func:`small_kernel_aggregation_naive`.

    Args:
        x: images; zeros stand around them.
        weight: g kernels of k taps for each pixel.

    Raises:
        ValueError: if kernels and images do not fit.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135. Which channels share a kernel (c
    modulo g, not c divided by g) follows the authors' code.

    >>> small_kernel_aggregation(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.ones(1, 1, 9, 1, 3)).flatten()
    tensor([3., 6., 5.])
    """
    side, (rows, columns) = _require_kernels(x, weight), x.shape[2:]
    windows = F.unfold(x, side, padding=side // 2)
    sizes = {"g": weight.shape[1], "k": side**2, "i": rows, "j": columns}
    windows = rearrange(windows, "b (s g k) (i j) -> b s g k i j", **sizes)
    return (windows * weight[:, None]).sum(3).flatten(1, 2)


def _conv_bn(in_channels: int, out_channels: int, kernel_size: int = 1, *, groups: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps the size, then batch normalisation."""
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


@implements(
    "lsnet",
    example=lambda: (LargeKernelPerception(4, shared=2, large_kernel_size=5), torch.randn(3, 4, 6, 5)),
    exceptions={"gradients": _DEAD},
    mixes_batch=True,
)
class LargeKernelPerception(nn.Module):
    r"""Look at a large window and say with which small kernel each pixel shall be aggregated.

    .. math:: W = \mathrm{GN}\bigl(P_3\, r(P_2\, K_{7 \times 7} * r(P_1 x))\bigr), \qquad r = \mathrm{relu}

    The P are 1 x 1 convolutions, K is depthwise, at half the width; batch normalisation follows each but the
    last.

    Args:
        channels: c, even.
        shared: channels that share one kernel.
        large_kernel_size: side of the window that is looked at.
        small_kernel_size: side of the kernels that come out.

    Shape: ``(b, c, i, j)`` to ``(b, c / shared, taps, i, j)``.

    Raises:
        ValueError: if 2 or ``shared`` does not divide the channels, a kernel is even, or for other channels.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    >>> LargeKernelPerception(16)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 2, 9, 8, 8])
    """

    def __init__(
        self, channels: int, *, shared: int = 8, large_kernel_size: int = 7, small_kernel_size: int = 3
    ) -> None:
        super().__init__()
        if shared < 1 or channels % shared or channels % 2:
            raise ValueError(f"2 and shared must divide the channels, got shared={shared} and {channels}")
        if large_kernel_size % 2 == 0 or small_kernel_size % 2 == 0:
            raise ValueError(f"kernel sizes must be odd, got {large_kernel_size} and {small_kernel_size}")
        self.channels, self.kernels, half = channels, channels // shared, channels // 2
        self.look = nn.Sequential(
            _conv_bn(channels, half),
            nn.ReLU(),
            _conv_bn(half, half, large_kernel_size, groups=half),
            _conv_bn(half, half),
            nn.ReLU(),
        )
        self.make = nn.Conv2d(half, self.kernels * small_kernel_size**2, 1)
        self.norm = nn.GroupNorm(self.kernels, self.kernels * small_kernel_size**2)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b g k i j"]:
        require_image(x, self.channels, "LargeKernelPerception")
        return self.norm(self.make(self.look(x))).unflatten(1, (self.kernels, -1))


@implements(
    "lsnet",
    example=lambda: (LSConv(4, shared=2, large_kernel_size=5), torch.randn(3, 4, 6, 5)),
    exceptions={"gradients": _DEAD},
    mixes_batch=True,
)
class LSConv(nn.Module):
    r"""Large-small convolution: see large, focus small.

    .. math:: y = x + \mathrm{BN}(\mathrm{SKA}(x, \mathrm{LKP}(x)))

    Args:
        channels: c.
        shared: channels that share one kernel.
        large_kernel_size: side of the window that makes the kernels.
        small_kernel_size: side of the kernels.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: as :class:`LargeKernelPerception`.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    >>> LSConv(16)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self, channels: int, *, shared: int = 8, large_kernel_size: int = 7, small_kernel_size: int = 3
    ) -> None:
        super().__init__()
        self.perception = LargeKernelPerception(
            channels, shared=shared, large_kernel_size=large_kernel_size, small_kernel_size=small_kernel_size
        )
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        return x + self.norm(small_kernel_aggregation(x, self.perception(x)))


class _StaticMixer(nn.Module):
    """The mixer of even blocks: depthwise 3 x 3, depthwise 1 x 1 and identity, then squeeze and excite."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.square = _conv_bn(channels, channels, 3, groups=channels)
        self.point = _conv_bn(channels, channels, groups=channels)
        self.excite = SqueezeExcite(channels)

    def forward(self, x: Tensor) -> Tensor:
        require_image(x, self.channels, "LSBlock")
        return self.excite(self.square(x) + self.point(x) + x)


@implements(
    "lsnet",
    example=lambda: (LSBlock(4, depth=1, shared=2), torch.randn(3, 4, 6, 5)),
    exceptions={"gradients": _DEAD},
    mixes_batch=True,
)
class LSBlock(nn.Module):
    r"""A token mixer, static in even and dynamic in odd blocks, and a channel network.

    .. math:: z = M(x), \qquad y = z + \mathrm{BN}(P_2\, \mathrm{relu}(\mathrm{BN}(P_1 z)))

    M is :class:`LSConv` in odd blocks; in even ones a depthwise 3 x 3 with 1 x 1 and identity branches,
    followed by squeeze and excite.

    Args:
        channels: c.
        depth: place of the block in its stage, from 0.
        shared: channels that share one kernel in :class:`LSConv`.
        expansion: width of the channel network in units of c.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: as :class:`LSConv`.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    The last normalisation starts at zero, so a new block is its mixer. The attention blocks of the paper's
    last stage are left out.

    >>> type(LSBlock(16, depth=1).mixer).__name__
    'LSConv'
    """

    def __init__(self, channels: int, *, depth: int = 1, shared: int = 8, expansion: int = 2) -> None:
        super().__init__()
        self.mixer = LSConv(channels, shared=shared) if depth % 2 else _StaticMixer(channels)
        self.channel_network = nn.Sequential(
            _conv_bn(channels, expansion * channels), nn.ReLU(), _conv_bn(expansion * channels, channels)
        )
        nn.init.zeros_(self.channel_network[2][1].weight)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        x = self.mixer(x)
        return x + self.channel_network(x)
