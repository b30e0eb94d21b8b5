"""SpiralMLP: a 1 x 1 layer in which every channel is read at its own place on a spiral."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_image,
    require_number,
    require_positive,
)
from course_lib.registry import implements

torch.fx.wrap("spiral_shift")  # it lays out rows and columns, which a traced tensor cannot tell


@implements("spiral-mlp")
def spiral_offsets(
    channels: int, *, reach: int | float = 3.0, period: int | float = 32.0, partitions: int = 2
) -> Int[Tensor, "c 2"]:
    r"""Where each channel looks: rows and columns on a spiral that winds out and back again.

    .. math:: \delta_c = \mathrm{round}\bigl(A(c) \cos\tfrac{2 \pi c}{T},\; A(c) \sin\tfrac{2 \pi c}{T}\bigr),
        \qquad A(c) = \tfrac{2R}{P} \min(c,\, P - c)

    c counts within a partition of P channels; every partition winds anew.

    Args:
        channels: channels c of all partitions together.
        reach: largest distance R.
        period: channels T per turn.
        partitions: how often the spiral is run through, a divisor of ``channels``.

    Shape: integers ``(c, 2)``: row offset, then column offset.

    Raises:
        ValueError: if the partitions do not divide the channels, or a number is too small.
        TypeError: for an argument of another type.

    Paper: SpiralMLP: A Lightweight Vision MLP Architecture - https://arxiv.org/abs/2404.00648

    Differs from the released code, whose amplitude is 14 c / P up to the middle, so at most 7: ``reach=7``
    gives its table. There both partitions write to the first half of it and the second half stays
    uninitialised memory; here each has its own rows.

    >>> spiral_offsets(8, reach=2, period=8, partitions=1).tolist()
    [[0, 0], [0, 0], [0, 1], [-1, 1], [-2, 0], [-1, -1], [0, -1], [0, 0]]
    """
    _require_spiral("spiral_offsets", channels, reach, period, partitions)
    return torch.tensor(_places(channels, reach, period, partitions))


def _require_spiral(layer: str, channels: int, reach: float, period: float, partitions: int) -> None:
    require_positive(layer, channels=channels, partitions=partitions)
    require_number(layer, 0, reach=reach)
    require_number(layer, 0, open_low=True, period=period)
    if channels % partitions:
        raise ValueError(f"{layer}: partitions={partitions} must divide the {channels} channels")


def _places(channels: int, reach: float, period: float, partitions: int) -> list[tuple[int, int]]:
    """The offsets as plain numbers, which exist where tensors have none: on the meta device."""
    size, places = channels // partitions, []
    for c in range(size):
        amplitude, angle = 2 * reach / size * min(c, size - c), 2 * math.pi * c / period
        places.append((round(amplitude * math.cos(angle)), round(amplitude * math.sin(angle))))
    return places * partitions


def spiral_shift_naive(x: Float[Tensor, "b c i j"], offsets: Int[Tensor, "c 2"]) -> Float[Tensor, "b c i j"]:
    r"""Read every channel at its own offset, pixel by pixel; zero outside the image.

    .. math:: y_{cij} = x_{c,\, i + \delta_{c1},\, j + \delta_{c2}}

    >>> spiral_shift_naive(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[0, 1]]))
    tensor([[[[2., 3., 0.]]]])
    """
    rows, columns = x.shape[-2:]
    y = torch.zeros_like(x)
    for c, (down, right) in enumerate(offsets.tolist()):
        for i in range(rows):
            for j in range(columns):
                if 0 <= i + down < rows and 0 <= j + right < columns:
                    y[:, c, i, j] = x[:, c, i + down, j + right]
    return y


@implements("spiral-mlp")
def spiral_shift(x: Float[Tensor, "b c i j"], offsets: Int[Tensor, "c 2"]) -> Float[Tensor, "b c i j"]:
    r"""Read every channel at its own offset, in one gather; equals :func:`spiral_shift_naive`.

    .. math:: y_{cij} = x_{c,\, i + \delta_{c1},\, j + \delta_{c2}}, \quad 0 \text{ outside the image}

    Args:
        x: image.
        offsets: row and column offset of every channel.

    Raises:
        ValueError: for what is no image, or not one pair of offsets for every channel.
        TypeError: for an input that is not real, or offsets that are no integers.

    Paper: SpiralMLP: A Lightweight Vision MLP Architecture - https://arxiv.org/abs/2404.00648 (there a
    deformable convolution with constant offsets does the same)

    >>> spiral_shift(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[0, 1]]))
    tensor([[[[2., 3., 0.]]]])
    """
    require_image(x, None, "spiral_shift")
    _require_offsets("spiral_shift", offsets, x.shape[1])
    rows, columns = x.shape[-2:]
    down, right = offsets.to(x.device)[:, :, None, None].unbind(1)  # (c, 1, 1) each
    i = torch.arange(rows, device=x.device)[:, None] + down
    j = torch.arange(columns, device=x.device) + right
    inside = ((i >= 0) & (i < rows)) & ((j >= 0) & (j < columns))  # (c, i, j)
    index = (i.clamp(0, rows - 1) * columns + j.clamp(0, columns - 1)).flatten(1)
    moved = x.flatten(2).gather(2, index.expand(x.shape[0], -1, -1)).unflatten(2, (rows, columns))
    return torch.where(inside, moved, torch.zeros_like(moved))


def _require_offsets(layer: str, offsets: Tensor, channels: int) -> None:
    if not isinstance(offsets, Tensor) or offsets.is_floating_point() or offsets.is_complex():
        kind = offsets.dtype if isinstance(offsets, Tensor) else type(offsets).__name__
        raise TypeError(f"{layer}: offsets must be a tensor of integers, got {kind}")
    if offsets.shape != (channels, 2):
        raise ValueError(f"{layer}: offsets must have shape {(channels, 2)}, got {tuple(offsets.shape)}")


@implements("spiral-mlp", example=lambda: (SpiralFC(8, 5, reach=2, period=8), torch.randn(2, 8, 4, 6)))
class SpiralFC(nn.Module):
    r"""A linear map over channels, each read at its own place on the spiral.

    .. math:: y_{oij} = b_o + \sum_c W_{oc}\, x_{c,\, i + \delta_{c1},\, j + \delta_{c2}}

    It costs what a 1 x 1 convolution costs, for images of any size, and yet it mixes positions. It is a
    large convolution in which every input channel has one tap.

    Args:
        in_channels: channels c that enter.
        out_channels: channels o that leave.
        reach: largest distance of :func:`spiral_offsets`; 0 gives a plain 1 x 1 convolution.
        period: channels per turn.
        partitions: how often the spiral is run through.
        offsets: a table ``(c, 2)`` of your own in place of the spiral.
        bias: learn b.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, o, i, j)``.

    Raises:
        ValueError: for offsets of another shape, partitions that do not divide the channels, a number that is
            too small, or another number of channels.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: SpiralMLP: A Lightweight Vision MLP Architecture - https://arxiv.org/abs/2404.00648

    Differs from the released code: its offsets, see :func:`spiral_offsets`.

    >>> SpiralFC(32, 32, reach=3, period=8)(torch.randn(2, 32, 8, 8)).shape
    torch.Size([2, 32, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        reach: int | float = 3.0,
        period: int | float = 32.0,
        partitions: int = 2,
        offsets: Int[Tensor, "c 2"] | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, out_channels=out_channels)
        _require_spiral(name, in_channels, reach, period, partitions)
        if offsets is None:
            self.places = _places(in_channels, reach, period, partitions)
        else:
            _require_offsets(name, offsets, in_channels)
            self.places = offsets.tolist()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.linear = nn.Conv2d(in_channels, out_channels, 1, bias=bias, **factory)
        self.register_buffer("offsets", torch.empty(in_channels, 2, dtype=torch.int64, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The offsets as built; the linear map has a start of its own."""
        if not self.offsets.is_meta:
            self.offsets.copy_(torch.tensor(self.places))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b o i j"]:
        require_image(x, self.in_channels, self)
        return self.linear(spiral_shift(x, self.offsets))

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@implements("spiral-mlp", example=lambda: (SpiralMixer(8, reach=2, period=8), torch.randn(2, 8, 4, 6)))
class SpiralMixer(nn.Module):
    r"""A spiral layer beside a plain one, weighed against each other channel by channel.

    .. math:: u = \mathrm{SpiralFC}(x), \quad v = W_s x + b_s, \quad
        (a, 1 - a) = \mathrm{softmax}\bigl(\mathrm{MLP}(\mathrm{mean}_{ij}(u + v))\bigr), \quad
        y = W_o\,(a \odot u + (1 - a) \odot v) + b_o

    Args:
        channels: c.
        reach: largest distance of the spiral.
        period: channels per turn.
        partitions: how often the spiral is run through.
        offsets: a table ``(c, 2)`` of your own.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: as :class:`SpiralFC`.
        TypeError: as :class:`SpiralFC`.

    Paper: SpiralMLP: A Lightweight Vision MLP Architecture - https://arxiv.org/abs/2404.00648

    Differs from the released code: no dropout in the MLP and behind :math:`W_o` (0.1 there). An earlier
    version of that code took the largest of every 16 channels first and had no :math:`b_s`; its newest has
    the bias and leaves the maximum out, and so does this layer.

    >>> SpiralMixer(16, reach=2, period=8)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        reach: int | float = 3.0,
        period: int | float = 32.0,
        partitions: int = 2,
        offsets: Int[Tensor, "c 2"] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        _require_spiral(name, channels, reach, period, partitions)
        if offsets is not None:
            _require_offsets(name, offsets, channels)
        self.channels, hidden = channels, max(channels // 4, 1)
        spiral = {"reach": reach, "period": period, "partitions": partitions, "offsets": offsets}
        self.cross = SpiralFC(channels, channels, **spiral, **factory)
        self.plain = nn.Conv2d(channels, channels, 1, **factory)
        self.weigh = nn.Sequential(
            nn.Linear(channels, hidden, **factory), nn.GELU(), nn.Linear(hidden, 2 * channels, **factory)
        )
        self.out = nn.Conv2d(channels, channels, 1, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        cross, plain = self.cross(x), self.plain(x)
        scores = self.weigh((cross + plain).mean((2, 3))).unflatten(1, (self.channels, 2))
        a, b = F.softmax(scores, dim=-1)[..., None, None].unbind(2)
        return self.out(a * cross + b * plain)

    def extra_repr(self) -> str:
        return f"{self.channels}"
