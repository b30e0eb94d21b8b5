"""MS-MLP: move groups of channels by different distances, then mix each over a window of its own size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers.mixing._images import ChannelNorm, ChannelScale, require_image
from course_lib.layers.norm import ResidualSublayer
from course_lib.registry import implements

__all__ = ["MixShift", "MixShiftBlock", "shift_groups"]

SHIFTS, SIZES = (-2, -1, 0, 1, 2), (1, 1, 3, 5, 7)


@implements("ms-mlp")
def shift_groups(
    x: Float[Tensor, "b c i j"], shifts: Sequence[int], axis: int
) -> list[Float[Tensor, "b _ i j"]]:
    r"""Cut the channels into groups and move each group by its own distance, around the border.

    .. math:: y^g_{ij} = x^g_{i,\, (j - d_g) \bmod J} \qquad \text{(along the columns, axis } -1)

    So a group with a positive shift lets every position see what lies *before* it.

    Args:
        x: image.
        shifts: distance d of every group; the channels are cut as ``torch.chunk`` cuts them.
        axis: -1 moves along the width, -2 along the height.

    Raises:
        ValueError: if there are fewer channels than groups.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510

    >>> [group.flatten().tolist() for group in shift_groups(torch.arange(3.0).expand(1, 2, 1, 3), (0, 1), -1)]
    [[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]]
    """
    groups = x.chunk(len(shifts), dim=1)
    if len(groups) != len(shifts):
        raise ValueError(f"{x.shape[1]} channels cannot be cut into {len(shifts)} groups by torch.chunk")
    return [torch.roll(group, shift, dims=axis) for group, shift in zip(groups, shifts, strict=True)]


@implements("ms-mlp", example=lambda: (MixShift(10), torch.randn(2, 10, 7, 9)))
class MixShift(nn.Module):
    r"""Two sums over moved groups, one along the width and one along the height.

    .. math:: y = \mathop{\Vert}_g K^{\leftrightarrow}_g * \mathrm{roll}_{\leftrightarrow}(x^g, d_g)
        \; + \; \mathop{\Vert}_g K^{\updownarrow}_g * \mathrm{roll}_{\updownarrow}(x^g, d_g)

    The :math:`K_g` are depthwise kernels of :math:`m_g \times m_g`, so near tokens are taken finely and far
    tokens coarsely; the cost is :math:`2 N \sum_g C_g m_g^2`, linear in the number of tokens N.

    Args:
        dim: channels c.
        shifts: distance d of every group.
        sizes: side m of every group's window, odd.
        padding_mode: of the convolutions; the released code pads with zeros although it rolls around.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for sizes that are even or do not match, or another number of channels.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510. The default pairs the *signed* shifts with growing windows, as the
    released code does (the shift -2 gets a window of 1, the shift 2 one of 7), so the reach is lopsided; the
    reading in which the window grows with the distance is ``sizes=(5, 3, 1, 3, 5)``.

    >>> sum(kernel.weight.numel() for kernel in MixShift(10).across)  # (1 + 1 + 9 + 25 + 49) * 2
    170
    """

    def __init__(
        self,
        dim: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        if len(shifts) != len(sizes) or any(size % 2 == 0 for size in sizes):
            raise ValueError(f"every shift needs one odd window, got shifts {shifts} and sizes {sizes}")
        self.dim, self.shifts, self.sizes = dim, tuple(shifts), tuple(sizes)
        widths = [len(chunk) for chunk in torch.arange(dim).chunk(len(shifts))]
        if len(widths) != len(shifts):
            raise ValueError(f"{dim} channels cannot be cut into {len(shifts)} groups by torch.chunk")
        self.across, self.down = (
            nn.ModuleList(
                nn.Conv2d(c, c, m, padding=m // 2, groups=c, padding_mode=padding_mode)
                for c, m in zip(widths, sizes, strict=True)
            )
            for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.dim, self)
        across, down = (
            torch.cat([kernel(group) for kernel, group in zip(kernels, moved, strict=True)], dim=1)
            for kernels, moved in (
                (self.across, shift_groups(x, self.shifts, -1)),
                (self.down, shift_groups(x, self.shifts, -2)),
            )
        )
        return across + down

    def extra_repr(self) -> str:
        return f"{self.dim}, shifts={self.shifts}, sizes={self.sizes}"


@implements("ms-mlp", example=lambda: (MixShiftBlock(10), torch.randn(2, 10, 7, 9)))
class MixShiftBlock(nn.Module):
    r"""Shift and mix, one norm, one MLP over channels, one skip.

    .. math:: y = x + \gamma \odot W_2\, \mathrm{gelu}\bigl(W_1 \mathrm{LN}(\mathrm{MixShift}(x))\bigr)

    Args:
        dim: channels c.
        shifts: distance of every group.
        sizes: side of every group's window.
        hidden_dim: width of the MLP, 4 c unless given.
        layer_scale: start of :math:`\gamma`.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: as :class:`MixShift`.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510

    Differs from the paper: the layer scale starts at 1 and not at 1e-6, which a short training never leaves;
    no stochastic depth.

    >>> MixShiftBlock(10)(torch.randn(2, 10, 8, 8)).shape
    torch.Size([2, 10, 8, 8])
    """

    def __init__(
        self,
        dim: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        sizes: Sequence[int] = SIZES,
        hidden_dim: int | None = None,
        layer_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.dim, hidden_dim = dim, 4 * dim if hidden_dim is None else hidden_dim
        branch = nn.Sequential(
            MixShift(dim, shifts=shifts, sizes=sizes),
            ChannelNorm(dim),
            nn.Conv2d(dim, hidden_dim, 1),
            nn.GELU(),
            nn.Conv2d(hidden_dim, dim, 1),
            ChannelScale(dim, layer_scale),
        )
        self.residual = ResidualSublayer(branch, dim, norm="none")

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        return self.residual(x)

    def extra_repr(self) -> str:
        return f"{self.dim}"
