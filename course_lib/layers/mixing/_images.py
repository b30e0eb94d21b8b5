"""What the image-shaped mixers of this chapter check and normalise in the same way."""

import torch
from torch import Tensor, nn

from course_lib.layers.norm import LayerNorm


def require_image(x: Tensor, channels: int, layer: nn.Module) -> None:
    """Raise ``ValueError`` unless x is ``(b, channels, i, j)``."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(
            f"{type(layer).__name__} expects (b, {channels}, i, j), got {tuple(x.shape)}; "
            "put channels on axis 1, or build the layer for their number"
        )


def require_grid(x: Tensor, grid: tuple[int, int], dim: int | None, layer: nn.Module) -> None:
    """Raise ``ValueError`` unless x is ``(b, rows * columns, dim)``."""
    rows, columns = grid
    if x.ndim != 3 or x.shape[1] != rows * columns or (dim is not None and x.shape[2] != dim):
        raise ValueError(
            f"{type(layer).__name__} expects (b, {rows * columns}, {'d' if dim is None else dim}): a grid of "
            f"{rows} x {columns} tokens, got {tuple(x.shape)}; build it for the grid of your tokens"
        )


class ChannelNorm(LayerNorm):
    """Layer normalisation over the channels of every position of an image ``(b, c, i, j)``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelScale(nn.Module):
    """One learned factor per channel of an image ``(b, c, i, j)``: a layer scale."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.full((dim,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:, None, None] * x

    def extra_repr(self) -> str:
        return f"{self.dim}"
