"""Inception Transformer: some channels keep the high frequencies, the others attend."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.mixing._images import require_image
from course_lib.registry import implements

__all__ = ["HighFrequencyMixer", "InceptionMixer", "LowFrequencyMixer", "frequency_ramp"]


@implements("inception-transformer", example=lambda: (HighFrequencyMixer(4), torch.randn(2, 4, 5, 3)))
class HighFrequencyMixer(nn.Module):
    r"""Half of the channels through a depthwise convolution, half through a maximum; twice as many leave.

    .. math:: y_1 = \mathrm{gelu}\bigl(\mathrm{dw}_{3 \times 3}(W_1 x_1)\bigr), \qquad
        y_2 = \mathrm{gelu}\bigl(W_2\, \mathrm{MaxPool}_{3 \times 3}(x_2) + b_2\bigr)

    Args:
        dim: channels c, even.

    Shape: ``(b, c, i, j)`` to ``(b, 2 c, i, j)``.

    Raises:
        ValueError: for an odd number of channels, or another one than built for.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956 (biases as in the released code)

    >>> HighFrequencyMixer(4)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"the high-frequency channels are halved, so dim must be even; got {dim}")
        self.dim = dim
        self.convolve = nn.Sequential(
            nn.Conv2d(dim // 2, dim, 1, bias=False),
            nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False),
            nn.GELU(),
        )
        self.pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(dim // 2, dim, 1), nn.GELU()
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b e i j"]:
        require_image(x, self.dim, self)
        first, second = x.chunk(2, dim=1)
        return torch.cat([self.convolve(first), self.pool(second)], dim=1)

    def extra_repr(self) -> str:
        return f"{self.dim}"


@implements(
    "inception-transformer", example=lambda: (LowFrequencyMixer(4, 2, pool=2), torch.randn(2, 4, 6, 4))
)
class LowFrequencyMixer(nn.Module):
    r"""Attention on a smaller image: average, attend, repeat.

    .. math:: y = \mathrm{nearest}\bigl(\mathrm{attention}(\mathrm{AvgPool}_{p \times p}(x))\bigr)

    Args:
        dim: channels c.
        num_heads: attention heads.
        pool: side p of the averaged window; 1 attends to all pixels.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``; p divides i and j.

    Raises:
        ValueError: for an image that the window does not divide, or another number of channels.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956

    >>> LowFrequencyMixer(4, 2, pool=2)(torch.randn(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, dim: int, num_heads: int, *, pool: int = 1) -> None:
        super().__init__()
        self.dim, self.pool = dim, pool
        self.attention = MultiHeadAttention(dim, num_heads)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.dim, self)
        if x.shape[2] % self.pool or x.shape[3] % self.pool:
            raise ValueError(
                f"an image of {tuple(x.shape[2:])} cannot be averaged by {self.pool}; crop or pad it"
            )
        small = F.avg_pool2d(x, self.pool)
        attended = self.attention(small.flatten(2).mT).mT.unflatten(2, small.shape[2:])
        return attended.repeat_interleave(self.pool, 2).repeat_interleave(self.pool, 3)

    def extra_repr(self) -> str:
        return f"{self.dim}, pool={self.pool}"


@implements(
    "inception-transformer",
    example=lambda: (InceptionMixer(10, 4, num_heads=2, pool=2), torch.randn(2, 10, 4, 6)),
)
class InceptionMixer(nn.Module):
    r"""Split the channels between a high-frequency and a low-frequency mixer, then fuse what they return.

    .. math:: u = \bigl[\mathrm{High}(x_{1..C_h}),\; \mathrm{Low}(x_{C_h + 1..C})\bigr], \qquad
        y = W\,\bigl(u + \mathrm{dw}_{3 \times 3}(u)\bigr) + b

    Args:
        dim: channels C.
        high_dim: the first :math:`C_h` of them, even; 0 leaves only attention, C only the other branch.
        num_heads: heads of the attention on the rest.
        pool: window that is averaged before the attention.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for a split that does not exist, or another number of channels.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956

    >>> InceptionMixer(16, 8, num_heads=2, pool=2)(torch.randn(2, 16, 8, 8)).shape
    torch.Size([2, 16, 8, 8])
    """

    def __init__(self, dim: int, high_dim: int, *, num_heads: int = 1, pool: int = 1) -> None:
        super().__init__()
        if not 0 <= high_dim <= dim:
            raise ValueError(f"high_dim must lie between 0 and dim={dim}, got {high_dim}")
        self.dim, self.high_dim = dim, high_dim
        self.high = HighFrequencyMixer(high_dim) if high_dim else None
        self.low = LowFrequencyMixer(dim - high_dim, num_heads, pool=pool) if high_dim < dim else None
        fused = dim + high_dim  # the high branch returns twice its channels
        self.smooth = nn.Conv2d(fused, fused, 3, padding=1, groups=fused)
        self.out = nn.Conv2d(fused, dim, 1)

    def branches(self, x: Float[Tensor, "b c i j"]) -> list[Tensor]:
        """Outputs of the high and of the low branch, those that exist, before they are fused."""
        require_image(x, self.dim, self)
        parts = ((self.high, x[:, : self.high_dim]), (self.low, x[:, self.high_dim :]))
        return [branch(part) for branch, part in parts if branch is not None]

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        u = torch.cat(self.branches(x), dim=1)
        return self.out(u + self.smooth(u))

    def extra_repr(self) -> str:
        return f"{self.dim}, high_dim={self.high_dim}"


@implements("inception-transformer")
def frequency_ramp(dim: int, head_dim: int, depth: int, *, first: int, last: int) -> list[int]:
    r"""Channels for high frequencies in every block, if attention gains heads from block to block.

    .. math:: C_h^{(l)} = C - d_h \cdot \mathrm{round}\Bigl(a + (b - a) \frac{l}{L - 1}\Bigr),
        \qquad l = 0, \dots, L - 1

    Args:
        dim: channels C of every block.
        head_dim: channels :math:`d_h` of a head.
        depth: blocks L.
        first: attention heads a of the first block.
        last: attention heads b of the last block; fewer than ``first`` turn the ramp around.

    Raises:
        ValueError: if some block would need more channels than there are.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956 (its ramp is a table of heads per stage,
    while the width grows; one width and equal steps are a simplification)

    >>> frequency_ramp(16, 4, 4, first=0, last=3)
    [16, 12, 8, 4]
    """
    if not 0 <= min(first, last) <= max(first, last) <= dim // head_dim:
        raise ValueError(f"{first} to {last} heads of {head_dim} channels do not fit into dim={dim}")
    steps = max(depth - 1, 1)
    return [dim - head_dim * round(first + (last - first) * block / steps) for block in range(depth)]
