"""Block fusion: a residual block computed tile by tile, so that its wide tensor never reaches memory."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_divides, require_image, require_odd, require_positive
from course_lib.registry import implements


@implements(
    "efficiency-of-convnets", example=lambda: (ConvFirstBlock(8, group_width=4), torch.randn(2, 8, 5, 7))
)
class ConvFirstBlock(nn.Module):
    r"""A grouped spatial convolution at the narrow width, then expand, activate and project.

    .. math:: y = x + P_2\, \mathrm{SiLU}(P_1\, (K * x))

    Only the first layer sees neighbours, and only the tensor between P1 and P2 is wide: in a fused kernel it
    never leaves fast memory.

    Args:
        channels: c.
        kernel_size: of K, odd.
        group_width: channels that K mixes.
        expansion: width between the two 1 x 1 convolutions in units of c.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if the group width does not divide the channels, for an even kernel, a size below 1, or
            other channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    As the block in the authors' code in evaluation, which is compared by value: it has batch normalisation
    behind each of the three convolutions and no biases, and the normalisations fold into the biases here.
    Differs from it: no normalisation in training; no change of width or stride.

    >>> ConvFirstBlock(16)(torch.randn(1, 16, 5, 5)).shape
    torch.Size([1, 16, 5, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 3,
        group_width: int = 8,
        expansion: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_divides(name, channels=channels, group_width=group_width)
        require_odd(name, kernel_size=kernel_size)
        require_positive(name, expansion=expansion)
        self.channels, inner = channels, expansion * channels
        spatial = {"padding": kernel_size // 2, "groups": channels // group_width}
        self.spatial = nn.Conv2d(channels, channels, kernel_size, **spatial, **factory)
        self.expand = nn.Conv2d(channels, inner, 1, **factory)
        self.project = nn.Conv2d(inner, channels, 1, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return x + self.project(F.silu(self.expand(self.spatial(x))))

    def extra_repr(self) -> str:
        return f"{self.channels}"


@implements("efficiency-of-convnets")
def block_fused_forward(
    block: ConvFirstBlock, x: Float[Tensor, "b c i j"], *, rows: int = 1
) -> tuple[Float[Tensor, "b c i j"], int]:
    """Run a block depth first: some rows through all its layers before the next ones.

    A tile reads ``kernel_size // 2`` rows more on each side, its halo, for the spatial convolution; what
    comes after that convolution needs no neighbours.

    Args:
        block: the block.
        x: its input.
        rows: rows of one tile.

    Returns: the output, and the entries of the largest intermediate tensor that was held.

    Raises:
        ValueError: for fewer than one row, or images of other channels.
        TypeError: for rows that are no integer, or an input of another dtype.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617 (the order of
    computation; a kernel for a machine would also run the tiles side by side)

    >>> block, x = ConvFirstBlock(8), torch.randn(1, 8, 16, 10)
    >>> y, workspace = block_fused_forward(block, x, rows=2)
    >>> torch.allclose(y, block(x), atol=1e-5), workspace == 2 * 10 * 4 * 8
    (True, True)
    """
    require_positive("block_fused_forward", rows=rows)
    require_image(x, block.channels, block)
    half, spatial = block.spatial.kernel_size[0] // 2, block.spatial
    padded = F.pad(x, (half, half, half, half))
    tiles, workspace = [], 0
    for top in range(0, x.shape[2], rows):
        height = min(rows, x.shape[2] - top)
        halo = padded[:, :, top : top + height + 2 * half]
        narrow = F.conv2d(halo, spatial.weight, spatial.bias, groups=spatial.groups)
        wide = F.silu(block.expand(narrow))
        workspace = max(workspace, wide.numel(), narrow.numel())
        tiles.append(x[:, :, top : top + height] + block.project(wide))
    return torch.cat(tiles, 2), workspace
