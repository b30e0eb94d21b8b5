"""The network around the mixers of several papers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from course_lib.layers.norm import LayerNorm
from course_lib.training.validation import LINEAR_DIGITS

GRID, DIM, HIDDEN, DEPTH = (8, 8), 20, 40, 3

# Test accuracy on digits of the matrix that maps pixels to classes with the smallest squared error, trained
# on all images and on the first 150: what a network must beat before anything is concluded from it. A test
# computes them again.
LEAST_SQUARES, LEAST_SQUARES_FEW = LINEAR_DIGITS, 0.8


class TokenFrame(nn.Module):
    """A 3 x 3 stem, 64 tokens, blocks, the mean over tokens, a read-out; a table of positions or none."""

    def __init__(self, blocks: Iterable[nn.Module], *, dim: int = DIM, positions: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, dim, 3, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(64, dim)) if positions else None
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.out = LayerNorm(dim), nn.Linear(dim, 10)

    def streams(self, images: Tensor) -> list[Tensor]:
        """The tokens that enter the first block, and those that leave every block."""
        x = self.stem(images).flatten(2).mT
        streams = [x if self.position is None else x + self.position]
        for block in self.blocks:
            streams.append(block(streams[-1]))
        return streams

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.norm(self.streams(images)[-1]).mean(1))
