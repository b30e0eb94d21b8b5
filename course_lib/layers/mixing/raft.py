"""RaftMLP: token mixing in two narrow steps, down the columns and along the rows, a few channels aboard."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers.mixing._images import require_grid
from course_lib.layers.norm import ResidualSublayer
from course_lib.registry import implements

__all__ = ["RaftMLPBlock", "RaftTokenMixer", "raft_rearrange", "raft_restore"]

_TOKENS = "b (h w) (r o)"
_RAFTS = {"vertical": "b (o w) (r h)", "horizontal": "b (o h) (r w)"}


def _pattern(axis: str) -> str:
    if axis not in _RAFTS:
        raise ValueError(f"axis must be 'vertical' or 'horizontal', got {axis!r}")
    return _RAFTS[axis]


@implements("raft-mlp")
def raft_rearrange(
    x: Float[Tensor, "b t d"], grid: tuple[int, int], raft: int, axis: str
) -> Float[Tensor, "b n m"]:
    r"""Lay r channels of one column (or row) of tokens side by side, ready for one matrix.

    .. math:: z_{(o, w), (\rho, h)} = x_{(h, w), (\rho, o)} \qquad
        \text{(vertical; for horizontal swap } h \text{ and } w)

    Args:
        x: tokens, row by row; channel :math:`\rho\, C/r + o` sits at place :math:`\rho` of raft o.
        grid: rows h and columns w.
        raft: channels r that are mixed together, a divisor of d.
        axis: "vertical" joins a column, "horizontal" a row.

    Raises:
        ValueError: for an unknown axis.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384

    >>> raft_rearrange(torch.arange(8.0).reshape(1, 4, 2), (2, 2), 1, "vertical")[0]
    tensor([[0., 4.],
            [2., 6.],
            [1., 5.],
            [3., 7.]])
    """
    return rearrange(x, f"{_TOKENS} -> {_pattern(axis)}", h=grid[0], w=grid[1], r=raft)


@implements("raft-mlp")
def raft_restore(
    z: Float[Tensor, "b n m"], grid: tuple[int, int], raft: int, axis: str
) -> Float[Tensor, "b t d"]:
    r"""Undo :func:`raft_rearrange`.

    .. math:: x_{(h, w), (\rho, o)} = z_{(o, w), (\rho, h)}

    Args:
        z: what it returned.
        grid: rows h and columns w.
        raft: channels r that are mixed together.
        axis: "vertical" or "horizontal".

    Raises:
        ValueError: for an unknown axis.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384

    >>> x = torch.arange(24.0).reshape(1, 6, 4)
    >>> torch.equal(raft_restore(raft_rearrange(x, (2, 3), 2, "vertical"), (2, 3), 2, "vertical"), x)
    True
    """
    return rearrange(z, f"{_pattern(axis)} -> {_TOKENS}", h=grid[0], w=grid[1], r=raft)


@implements("raft-mlp", example=lambda: (RaftTokenMixer((2, 3), 4, axis="vertical"), torch.randn(2, 6, 4)))
class RaftTokenMixer(nn.Module):
    r"""One step of raft mixing: an MLP over the h places of a column and the r channels of a raft.

    .. math:: y = \mathrm{restore}\bigl(W_2\, \mathrm{gelu}(W_1 \mathrm{rearrange}(x))\bigr), \qquad
        W_1: e r h \times r h

    All columns and all rafts share the two matrices.

    Args:
        grid: rows h and columns w of the tokens.
        dim: channels d.
        axis: "vertical" joins a column, "horizontal" a row.
        raft: channels r per raft, a divisor of d; 1 mixes every channel alone.
        expansion: width e of the hidden layer, in multiples of its input.

    Shape: ``(b, t, d)`` to ``(b, t, d)`` with t = h w.

    Raises:
        ValueError: for an unknown axis, a raft that does not divide d, or tokens of another grid.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384

    Differs from the paper: no bicubic resizing, so the grid is fixed.

    >>> step = RaftTokenMixer((8, 8), 16, axis="vertical", raft=2)
    >>> step.mlp[0].weight.numel() + step.mlp[2].weight.numel()  # 2 e (r h)^2
    1024
    """

    def __init__(
        self, grid: tuple[int, int], dim: int, *, axis: str, raft: int = 2, expansion: int = 2
    ) -> None:
        super().__init__()
        _pattern(axis)
        if raft < 1 or dim % raft:
            raise ValueError(f"raft={raft} must divide dim={dim}")
        self.grid, self.dim, self.axis, self.raft = tuple(grid), dim, axis, raft
        width = raft * (grid[0] if axis == "vertical" else grid[1])
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, self.dim, self)
        rafts = raft_rearrange(x, self.grid, self.raft, self.axis)
        return raft_restore(self.mlp(rafts), self.grid, self.raft, self.axis)

    def extra_repr(self) -> str:
        return f"{self.grid}, {self.dim}, axis={self.axis!r}, raft={self.raft}"


@implements("raft-mlp", example=lambda: (RaftMLPBlock((2, 3), 4), torch.randn(2, 6, 4)))
class RaftMLPBlock(nn.Module):
    r"""Three residual steps: mix down the columns, along the rows, across the channels.

    .. math:: x \leftarrow x + T_v(\mathrm{LN}(x)), \qquad x \leftarrow x + T_h(\mathrm{LN}(x)), \qquad
        x \leftarrow x + \mathrm{MLP}(\mathrm{LN}(x))

    Args:
        grid: rows and columns of the tokens.
        dim: channels d.
        raft: channels per raft.
        expansion: of the two token MLPs.
        hidden_dim: width of the channel MLP, 4 d unless given.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: as :class:`RaftTokenMixer`.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384 (the block; its pyramid with patches of several sizes is left out)

    >>> RaftMLPBlock((8, 8), 16)(torch.randn(2, 64, 16)).shape
    torch.Size([2, 64, 16])
    """

    def __init__(
        self,
        grid: tuple[int, int],
        dim: int,
        *,
        raft: int = 2,
        expansion: int = 2,
        hidden_dim: int | None = None,
    ) -> None:
        super().__init__()
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        self.grid, self.dim = tuple(grid), dim
        self.vertical, self.horizontal = (
            ResidualSublayer(RaftTokenMixer(grid, dim, axis=axis, raft=raft, expansion=expansion), dim)
            for axis in _RAFTS
        )
        mlp = nn.Sequential(nn.Linear(dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, dim))
        self.mlp = ResidualSublayer(mlp, dim)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.mlp(self.horizontal(self.vertical(x)))

    def extra_repr(self) -> str:
        return f"{self.grid}, {self.dim}"
