"""Inception Transformer: some channels keep the high frequencies, the others attend."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_at_least, require_divides, require_image, require_positive
from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.attention._common import reset_projections
from course_lib.registry import implements


@implements("inception-transformer", example=lambda: (HighFrequencyMixer(4), torch.randn(2, 4, 5, 3)))
class HighFrequencyMixer(nn.Module):
    r"""Half of the channels through a depthwise convolution, half through a maximum; twice as many leave.

    .. math:: y_1 = \mathrm{gelu}\bigl(\mathrm{dw}_{3 \times 3}(W_1 x_1)\bigr), \qquad
        y_2 = \mathrm{gelu}\bigl(W_2\, \mathrm{MaxPool}_{3 \times 3}(x_2) + b_2\bigr)

    Args:
        channels: c, even.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, 2 c, i, j)``.

    Raises:
        ValueError: for a number of channels that is odd or below 1, or another one than built for.
        TypeError: for channels that are no integer, or an input of another dtype.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956

    >>> HighFrequencyMixer(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        if channels % 2:
            raise ValueError(f"{name}: channels must be even, since they are halved; got {channels}")
        self.channels, half = channels, channels // 2
        self.convolve = nn.Sequential(
            nn.Conv2d(half, channels, 1, bias=False, **factory),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False, **factory),
            nn.GELU(),
        )
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(half, channels, 1, **factory), nn.GELU()
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b e i j"]:
        require_image(x, self.channels, self)
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.convolve(first), self.pool(second)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.channels}"


class _Heads(MultiHeadAttention):
    """Attention whose heads leave side by side: what fuses the branches is the matrix behind them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.out = nn.Identity()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections, biases zero."""
        reset_projections(self.query, self.key, self.value)


@implements(
    "inception-transformer", example=lambda: (LowFrequencyMixer(4, 2, kernel_size=2), torch.randn(2, 4, 6, 4))
)
class LowFrequencyMixer(nn.Module):
    r"""Attention on a smaller image: average, attend, repeat; the heads have no output matrix.

    .. math:: y = \mathrm{nearest}\bigl(\mathrm{attention}(\mathrm{AvgPool}_{k \times k}(x))\bigr)

    Args:
        channels: c.
        num_heads: attention heads, a divisor of c.
        kernel_size: side k of the averaged window; 1 attends to all pixels.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``; k divides i and j.

    Raises:
        ValueError: for a size below 1, heads that do not divide the channels, an image that the window does
            not divide, or another number of channels.
        TypeError: for an argument that is no integer, or an input of another dtype.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956

    Differs from the released code: the keys have no bias, which the softmax cancels; each projection is drawn
    Xavier-uniform, theirs normal with 0.02.

    >>> LowFrequencyMixer(4, 2, kernel_size=2)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        kernel_size: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, kernel_size=kernel_size)
        require_divides(name, channels=channels, num_heads=num_heads)
        self.channels, self.kernel_size = channels, kernel_size
        self.attention = _Heads(channels, num_heads, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self, multiple_of=self.kernel_size)
        small = F.avg_pool2d(x, self.kernel_size)
        attended = self.attention(small.flatten(2).mT).mT.unflatten(2, small.shape[2:])
        return attended.repeat_interleave(self.kernel_size, 2).repeat_interleave(self.kernel_size, 3)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


@implements(
    "inception-transformer",
    example=lambda: (InceptionMixer(10, 2, high_channels=4, kernel_size=2), torch.randn(2, 10, 4, 6)),
)
class InceptionMixer(nn.Module):
    r"""Split the channels between a high-frequency and a low-frequency mixer, then fuse what they return.

    .. math:: u = \bigl[\mathrm{High}(x_{1..C_h}),\; \mathrm{Low}(x_{C_h + 1..C})\bigr], \qquad
        y = W\,\bigl(u + \mathrm{dw}_{3 \times 3}(u)\bigr) + b

    Args:
        channels: C.
        num_heads: heads of the attention on the channels that are not the first :math:`C_h`; a divisor.
        high_channels: the first :math:`C_h`, even; 0 leaves only attention, C only the other branch.
        kernel_size: window that is averaged before the attention.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for a split that does not exist, heads that do not fit, or another number of channels.
        TypeError: for an argument that is no integer, or an input of another dtype.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956

    Differs from the released code: its weights start normal with 0.02, ours as torch has it; what
    :class:`LowFrequencyMixer` says; no dropout.

    >>> InceptionMixer(16, 2, high_channels=8, kernel_size=2)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        high_channels: int,
        kernel_size: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels, num_heads=num_heads, kernel_size=kernel_size)
        require_at_least(0, name, high_channels=high_channels)
        if high_channels > channels or high_channels % 2:
            raise ValueError(
                f"{name}: high_channels must be even and at most channels={channels}, got {high_channels}"
            )
        self.channels, self.high_channels, low_channels = channels, high_channels, channels - high_channels
        if low_channels % num_heads:
            raise ValueError(
                f"{name}: num_heads={num_heads} does not divide the {low_channels} channels that attend"
            )
        self.high = HighFrequencyMixer(high_channels, **factory) if high_channels else None
        low = {"kernel_size": kernel_size, **factory}
        self.low = LowFrequencyMixer(low_channels, num_heads, **low) if low_channels else None
        fused = channels + high_channels  # the high branch returns twice its channels
        self.smooth = nn.Conv2d(fused, fused, 3, padding=1, groups=fused, bias=False, **factory)
        self.out = nn.Conv2d(fused, channels, 1, **factory)

    def branches(self, x: Float[Tensor, "b c i j"]) -> list[Tensor]:
        """Outputs of the high and of the low branch, those that exist, before they are fused."""
        require_image(x, self.channels, self)
        parts = ((self.high, x[:, : self.high_channels]), (self.low, x[:, self.high_channels :]))
        return [branch(part) for branch, part in parts if branch is not None]

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        u = torch.cat(self.branches(x), dim=1)
        return self.out(u + self.smooth(u))

    def extra_repr(self) -> str:
        return f"{self.channels}, high_channels={self.high_channels}"


@implements("inception-transformer")
def frequency_ramp(channels: int, head_dim: int, depth: int, *, first: int, last: int) -> list[int]:
    r"""Channels for high frequencies in every block, if attention gains heads from block to block.

    .. math:: C_h^{(l)} = C - d_h \cdot \mathrm{round}\Bigl(a + (b - a) \frac{l}{L - 1}\Bigr),
        \qquad l = 0, \dots, L - 1

    Args:
        channels: C of every block.
        head_dim: channels :math:`d_h` of a head.
        depth: blocks L.
        first: attention heads a of the first block.
        last: attention heads b of the last block; fewer than ``first`` turn the ramp around.

    Raises:
        ValueError: for a size below 1, or if some block would need more channels than there are.
        TypeError: for an argument that is no integer.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956 (its ramp is a table of heads per stage,
    while the width grows; one width and equal steps are a simplification)

    >>> frequency_ramp(16, 4, 4, first=0, last=3)
    [16, 12, 8, 4]
    """
    require_positive("frequency_ramp", channels=channels, head_dim=head_dim, depth=depth)
    require_at_least(0, "frequency_ramp", first=first, last=last)
    if max(first, last) > channels // head_dim:
        raise ValueError(
            f"frequency_ramp: {first} to {last} heads of {head_dim} do not fit into channels={channels}"
        )
    steps = max(depth - 1, 1)
    return [channels - head_dim * round(first + (last - first) * block / steps) for block in range(depth)]
