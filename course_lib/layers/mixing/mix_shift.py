"""MS-MLP: move groups of channels by different distances, then mix each over a window of its own size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._images import ChannelNorm, ChannelScale
from course_lib.layers._shapes import (
    require_image,
    require_integer,
    require_number,
    require_odd,
    require_one_of,
    require_positive,
    require_sequence,
)
from course_lib.layers.norm import ResidualSublayer
from course_lib.registry import implements

SHIFTS, WINDOWS = (-2, -1, 0, 1, 2), (1, 1, 3, 5, 7)
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

torch.fx.wrap("shift_groups")  # how many groups there are hangs on the number of channels


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
        ValueError: if there are fewer channels than groups, or an axis that is neither.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510

    >>> [group.flatten().tolist() for group in shift_groups(torch.arange(3.0).expand(1, 2, 1, 3), (0, 1), -1)]
    [[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]]
    """
    require_one_of("shift_groups", (-1, -2), axis=axis)
    groups = x.chunk(len(shifts), dim=1)
    if len(groups) != len(shifts):
        raise ValueError(
            f"shift_groups: {x.shape[1]} channels cannot be cut into {len(shifts)} groups by torch.chunk"
        )
    return [torch.roll(group, shift, dims=axis) for group, shift in zip(groups, shifts, strict=True)]


@implements("ms-mlp", example=lambda: (MixShift(10), torch.randn(2, 10, 7, 9)))
class MixShift(nn.Module):
    r"""Two sums over moved groups, one along the width and one along the height.

    .. math:: y = \mathop{\Vert}_g K^{\leftrightarrow}_g * \mathrm{roll}_{\leftrightarrow}(x^g, d_g)
        \; + \; \mathop{\Vert}_g K^{\updownarrow}_g * \mathrm{roll}_{\updownarrow}(x^g, d_g)

    The :math:`K_g` are depthwise kernels of :math:`k_g \times k_g`, so near tokens are taken finely and far
    tokens coarsely; the cost is :math:`2 N \sum_g C_g k_g^2`, linear in the number of tokens N.

    Args:
        channels: c.
        shifts: distance d of every group.
        kernel_size: side k of every group's window, odd.
        padding_mode: of the convolutions; with zeros, as in the released code, although the shifts go around.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: for windows that are even or do not match the shifts, fewer channels than groups, an
            unknown padding, or another number of channels.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510. The default is the first stage of the released code, which pairs the
    *signed* shifts with growing windows (the shift -2 gets a window of 1, the shift 2 one of 7), so the reach
    is lopsided; the reading in which the window grows with the distance is ``kernel_size=(5, 3, 1, 3, 5)``.
    Later stages have other windows there: (1, 3, 3, 5, 7), (1, 5, 5, 5, 7), (1, 7, 7, 7, 7).

    >>> sum(kernel.weight.numel() for kernel in MixShift(10).across)  # (1 + 1 + 9 + 25 + 49) * 2
    170
    """

    def __init__(
        self,
        channels: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        kernel_size: Sequence[int] = WINDOWS,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        _require_groups(name, channels, shifts, kernel_size)
        require_one_of(name, PADDING_MODES, padding_mode=padding_mode)
        self.channels, self.shifts, self.kernel_size = channels, tuple(shifts), tuple(kernel_size)
        self.across, self.down = (
            nn.ModuleList(
                nn.Conv2d(c, c, k, padding=k // 2, groups=c, padding_mode=padding_mode, **factory)
                for c, k in zip(_widths(channels, len(shifts)), kernel_size, strict=True)
            )
            for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        across, down = shift_groups(x, self.shifts, -1), shift_groups(x, self.shifts, -2)
        return torch.cat([kernel(across[g]) for g, kernel in enumerate(self.across)], 1) + torch.cat(
            [kernel(down[g]) for g, kernel in enumerate(self.down)], 1
        )

    def extra_repr(self) -> str:
        return f"{self.channels}, shifts={self.shifts}, kernel_size={self.kernel_size}"


def _widths(channels: int, groups: int) -> list[int]:
    """Channels of every group, as ``torch.chunk`` cuts them; fewer groups where it cannot make so many."""
    each = -(-channels // groups)
    return [min(each, channels - start) for start in range(0, channels, each)]


def _require_groups(layer: str, channels: int, shifts: Sequence[int], kernel_size: Sequence[int]) -> None:
    require_positive(layer, channels=channels)
    require_sequence(layer, shifts=shifts)
    if not shifts:
        raise ValueError(f"{layer}: shifts must name at least one group, got {shifts!r}")
    require_integer(layer, **{f"shifts[{g}]": shift for g, shift in enumerate(shifts)})
    require_sequence(layer, len(shifts), kernel_size=kernel_size)
    require_odd(layer, **{f"kernel_size[{g}]": size for g, size in enumerate(kernel_size)})
    if len(_widths(channels, len(shifts))) != len(shifts):
        raise ValueError(
            f"{layer}: channels={channels} cannot be cut into {len(shifts)} groups, one for every shift"
        )


@implements("ms-mlp", example=lambda: (MixShiftBlock(10), torch.randn(2, 10, 7, 9)))
class MixShiftBlock(nn.Module):
    r"""Shift and mix, one norm, one MLP over channels, one skip.

    .. math:: y = x + \gamma \odot W_2\, \mathrm{gelu}\bigl(W_1 \mathrm{LN}(\mathrm{MixShift}(x))\bigr)

    Args:
        channels: c.
        shifts: distance of every group.
        kernel_size: side of every group's window.
        hidden_dim: width of the MLP, 4 c unless given.
        layer_scale: start of :math:`\gamma`.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to ``(b, c, i, j)``.

    Raises:
        ValueError: as :class:`MixShift`; for a hidden width below 1 or a layer scale that is not finite.
        TypeError: as :class:`MixShift`.

    Paper: Mixing and Shifting: Exploiting Global and Local Dependencies in Vision MLPs -
    https://arxiv.org/abs/2202.06510

    Differs from the released code: the layer scale starts at 1 and not at 1e-6, which a short training never
    leaves; 1e-5 in the norm, there 1e-6; no stochastic depth.

    >>> MixShiftBlock(10)(torch.randn(2, 10, 8, 8)).shape
    torch.Size([2, 10, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        shifts: Sequence[int] = SHIFTS,
        kernel_size: Sequence[int] = WINDOWS,
        hidden_dim: int | None = None,
        layer_scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        _require_groups(name, channels, shifts, kernel_size)
        hidden_dim = 4 * channels if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        require_number(name, layer_scale=layer_scale)
        self.channels = channels
        branch = nn.Sequential(
            MixShift(channels, shifts=shifts, kernel_size=kernel_size, **factory),
            ChannelNorm(channels, **factory),
            nn.Conv2d(channels, hidden_dim, 1, **factory),
            nn.GELU(),
            nn.Conv2d(hidden_dim, channels, 1, **factory),
            ChannelScale(channels, layer_scale, **factory),
        )
        self.residual = ResidualSublayer(branch, channels, norm="none")

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return self.residual(x)

    def extra_repr(self) -> str:
        return f"{self.channels}"
