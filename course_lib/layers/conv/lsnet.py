"""Kernels that are made by looking far and used near by: one small kernel per pixel."""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._images import SqueezeExcite
from course_lib.layers._shapes import (
    require_divides,
    require_image,
    require_module,
    require_odd,
    require_positive,
    require_real,
)
from course_lib.registry import implements

_DEAD = "a normalised 1 x 1 convolution takes the shift of the norm before it away, as in the authors' code"


torch.fx.wrap("small_kernel_aggregation")  # it asks images and kernels for their shapes


def _require_kernels(x: Tensor, weight: Tensor) -> int:
    """The side of the kernels; ``ValueError`` where they do not fit the image."""
    require_image(x, None, "small_kernel_aggregation")
    require_real(weight, "small_kernel_aggregation", name="weight")
    if weight.ndim != 5:
        raise ValueError(
            f"small_kernel_aggregation expects weight (b, g, k, i, j), got shape {tuple(weight.shape)}"
        )
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
        TypeError: for images or kernels that are not real.

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
        TypeError: for images or kernels that are not real.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    As in the authors' code, which is compared by value and gradient: channels c modulo g share a kernel, not
    neighbouring ones.

    >>> small_kernel_aggregation(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.ones(1, 1, 9, 1, 3)).flatten()
    tensor([3., 6., 5.])
    """
    side, (rows, columns) = _require_kernels(x, weight), x.shape[2:]
    windows = F.unfold(x, side, padding=side // 2)
    sizes = {"g": weight.shape[1], "k": side**2, "i": rows, "j": columns}
    windows = rearrange(windows, "b (s g k) (i j) -> b s g k i j", **sizes)
    return (windows * weight[:, None]).sum(3).flatten(1, 2)


def _conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, *, groups: int = 1, **factory: Any
) -> nn.Sequential:
    """A convolution without bias that keeps the size, then batch normalisation."""
    options = {"padding": kernel_size // 2, "groups": groups, "bias": False}
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, **options, **factory)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, **factory))


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
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c / shared, taps, i, j)``.

    Raises:
        ValueError: if 2 or ``shared`` does not divide the channels, a kernel is even, or for other channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    As in the authors' code, which is compared by value.

    >>> LargeKernelPerception(16)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 2, 9, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        shared: int = 8,
        large_kernel_size: int = 7,
        small_kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        _require_sizes(type(self).__name__, channels, shared, large_kernel_size, small_kernel_size)
        self.channels, self.kernels, half = channels, channels // shared, channels // 2
        taps = self.kernels * small_kernel_size**2
        self.look = nn.Sequential(
            _conv_bn(channels, half, **factory),
            nn.ReLU(),
            _conv_bn(half, half, large_kernel_size, groups=half, **factory),
            _conv_bn(half, half, **factory),
            nn.ReLU(),
        )
        self.make = nn.Conv2d(half, taps, 1, **factory)
        self.norm = nn.GroupNorm(self.kernels, taps, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b g k i j"]:
        require_image(x, self.channels, self)
        return self.norm(self.make(self.look(x))).unflatten(1, (self.kernels, -1))

    def extra_repr(self) -> str:
        return f"{self.channels}, kernels={self.kernels}"


def _require_sizes(
    layer: str, channels: int, shared: int, large_kernel_size: int = 1, small_kernel_size: int = 1
) -> None:
    require_divides(layer, channels=channels, shared=shared)
    if channels % 2:
        raise ValueError(f"{layer}: channels must be even, got {channels}")
    require_odd(layer, large_kernel_size=large_kernel_size, small_kernel_size=small_kernel_size)


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
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: as :class:`LargeKernelPerception`.
        TypeError: as :class:`LargeKernelPerception`.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    As in the authors' code, which is compared by value.

    >>> LSConv(16)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        shared: int = 8,
        large_kernel_size: int = 7,
        small_kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        _require_sizes(type(self).__name__, channels, shared, large_kernel_size, small_kernel_size)
        sizes = {"large_kernel_size": large_kernel_size, "small_kernel_size": small_kernel_size}
        self.channels = channels
        self.perception = LargeKernelPerception(channels, shared=shared, **sizes, **factory)
        self.norm = nn.BatchNorm2d(channels, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return x + self.norm(small_kernel_aggregation(x, self.perception(x)))

    def extra_repr(self) -> str:
        return f"{self.channels}"


@implements("lsnet", example=lambda: (LSStaticMixer(4), torch.randn(3, 4, 6, 5)), mixes_batch=True)
class LSStaticMixer(nn.Module):
    r"""The mixer of even blocks, with the same kernels everywhere: small filters, then squeeze and excite.

    .. math:: y = \mathrm{SE}\bigl(\mathrm{BN}(K_{3 \times 3} * x) + \mathrm{BN}(K_{1 \times 1} * x) + x\bigr)

    Both kernels are depthwise. The gate has a quarter of the channels as hidden units, rounded to a multiple
    of 8.

    Args:
        channels: c.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for channels below 1, or others than built for.
        TypeError: for channels that are no integer, or an input of another dtype.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    As in the authors' code, which is compared by value.

    >>> LSStaticMixer(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        require_positive(type(self).__name__, channels=channels)
        self.channels = channels
        self.square = _conv_bn(channels, channels, 3, groups=channels, **factory)
        self.point = _conv_bn(channels, channels, groups=channels, **factory)
        self.excite = SqueezeExcite(channels, max(8, (channels + 16) // 32 * 8), **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return self.excite(self.square(x) + self.point(x) + x)

    def extra_repr(self) -> str:
        return f"{self.channels}"


@implements(
    "lsnet",
    example=lambda: (LSBlock(4, shared=2), torch.randn(3, 4, 6, 5)),
    exceptions={"gradients": _DEAD},
    mixes_batch=True,
)
class LSBlock(nn.Module):
    r"""A token mixer, dynamic in odd and static in even blocks of a stage, and a channel network.

    .. math:: z = M(x), \qquad y = z + \mathrm{BN}(P_2\, \mathrm{relu}(\mathrm{BN}(P_1 z)))

    M is :class:`LSConv` in odd blocks and :class:`LSStaticMixer` in even ones.

    Args:
        channels: c.
        mixer: M, from images to images of the same shape; :class:`LSConv` unless given.
        shared: channels that share one kernel in the :class:`LSConv` built in.
        expansion: width of the channel network in units of c.
        device: of the parameters, except those of your own mixer.
        dtype: of the parameters, except those of your own mixer.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: as :class:`LSConv`, or for an expansion below 1.
        TypeError: as :class:`LSConv`, or for a mixer that is no module.

    Paper: LSNet: See Large, Focus Small - https://arxiv.org/abs/2503.23135

    As in the authors' code, which is compared by value: the last normalisation starts at zero, so a new block
    is its mixer. The attention blocks of the paper's last stage are left out.

    >>> stage = nn.Sequential(LSBlock(16, mixer=LSStaticMixer(16)), LSBlock(16))
    >>> stage(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        mixer: nn.Module | None = None,
        shared: int = 8,
        expansion: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels, shared=shared, expansion=expansion)
        if mixer is None:
            _require_sizes(name, channels, shared)
            mixer = LSConv(channels, shared=shared, **factory)
        require_module(name, mixer=mixer)
        self.channels, inner = channels, expansion * channels
        self.mixer = mixer
        self.channel_network = nn.Sequential(
            _conv_bn(channels, inner, **factory), nn.ReLU(), _conv_bn(inner, channels, **factory)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The last norm starts at zero."""
        nn.init.zeros_(self.channel_network[2][1].weight)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        x = self.mixer(x)
        return x + self.channel_network(x)

    def extra_repr(self) -> str:
        return f"{self.channels}"
