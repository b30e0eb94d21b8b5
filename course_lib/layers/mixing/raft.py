"""RaftMLP: token mixing in two narrow steps, down the columns and along the rows, a few channels aboard."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_divides,
    require_grid,
    require_one_of,
    require_pair,
    require_positive,
)
from course_lib.layers.norm import ResidualSublayer
from course_lib.registry import implements

_TOKENS = "b (h w) (r o)"
_RAFTS = {"vertical": "b (o w) (r h)", "horizontal": "b (o h) (r w)"}


torch.fx.wrap("raft_rearrange")  # einops asks a tensor for its shape, which a traced one cannot tell
torch.fx.wrap("raft_restore")


def _pattern(function: str, axis: str) -> str:
    require_one_of(function, _RAFTS, axis=axis)
    return _RAFTS[axis]


@implements("raft-mlp")
def raft_rearrange(
    x: Float[Tensor, "b t d"], *, grid: tuple[int, int], raft: int, axis: str
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

    >>> raft_rearrange(torch.arange(8.0).reshape(1, 4, 2), grid=(2, 2), raft=1, axis="vertical")[0]
    tensor([[0., 4.],
            [2., 6.],
            [1., 5.],
            [3., 7.]])
    """
    return rearrange(x, f"{_TOKENS} -> {_pattern('raft_rearrange', axis)}", h=grid[0], w=grid[1], r=raft)


@implements("raft-mlp")
def raft_restore(
    z: Float[Tensor, "b n m"], *, grid: tuple[int, int], raft: int, axis: str
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

    >>> x, how = torch.arange(24.0).reshape(1, 6, 4), {"grid": (2, 3), "raft": 2, "axis": "vertical"}
    >>> torch.equal(raft_restore(raft_rearrange(x, **how), **how), x)
    True
    """
    return rearrange(z, f"{_pattern('raft_restore', axis)} -> {_TOKENS}", h=grid[0], w=grid[1], r=raft)


@implements(
    "raft-mlp", example=lambda: (RaftTokenMixer(4, grid=(2, 3), axis="vertical"), torch.randn(2, 6, 4))
)
class RaftTokenMixer(nn.Module):
    r"""One step of raft mixing: an MLP over the h places of a column and the r channels of a raft.

    .. math:: y = \mathrm{restore}\bigl(W_2\, \mathrm{gelu}(W_1 \mathrm{rearrange}(x))\bigr), \qquad
        W_1: e r h \times r h

    All columns and all rafts share the two matrices.

    Args:
        dim: channels d.
        grid: rows h and columns w of the tokens.
        axis: "vertical" joins a column, "horizontal" a row.
        raft: channels r per raft, a divisor of d; 1 mixes every channel alone.
        expansion: width e of the hidden layer, in multiples of its input.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)`` with t = h w.

    Raises:
        ValueError: for an unknown axis, a size below 1, a raft that does not divide d, or tokens of another
            grid.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384

    Differs from the released code: no bicubic resizing, so the grid is fixed; no dropout. The rafts of its
    ImageNet models are 2 channels wide, as here; the class itself starts from 4.

    >>> step = RaftTokenMixer(16, grid=(8, 8), axis="vertical", raft=2)
    >>> step.mlp[0].weight.numel() + step.mlp[2].weight.numel()  # 2 e (r h)^2
    1024
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        axis: str,
        raft: int = 2,
        expansion: int = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_one_of(name, _RAFTS, axis=axis)
        require_divides(name, dim=dim, raft=raft)
        require_positive(name, expansion=expansion)
        self.dim, self.grid, self.axis, self.raft = dim, require_pair(name, grid=grid), axis, raft
        width = raft * self.grid[0 if axis == "vertical" else 1]
        self.mlp = nn.Sequential(
            nn.Linear(width, expansion * width, **factory),
            nn.GELU(),
            nn.Linear(expansion * width, width, **factory),
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, self.dim, self)
        rafts = raft_rearrange(x, grid=self.grid, raft=self.raft, axis=self.axis)
        return raft_restore(self.mlp(rafts), grid=self.grid, raft=self.raft, axis=self.axis)

    def extra_repr(self) -> str:
        return f"{self.dim}, grid={self.grid}, axis={self.axis!r}, raft={self.raft}"


@implements("raft-mlp", example=lambda: (RaftMLPBlock(4, grid=(2, 3)), torch.randn(2, 6, 4)))
class RaftMLPBlock(nn.Module):
    r"""Three residual steps: mix down the columns, along the rows, across the channels.

    .. math:: x \leftarrow x + T_v(\mathrm{LN}(x)), \qquad x \leftarrow x + T_h(\mathrm{LN}(x)), \qquad
        x \leftarrow x + \mathrm{MLP}(\mathrm{LN}(x))

    Args:
        dim: channels d.
        grid: rows and columns of the tokens.
        raft: channels per raft.
        expansion: of the two token MLPs.
        hidden_dim: width of the channel MLP, 4 d unless given.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: as :class:`RaftTokenMixer`.
        TypeError: as :class:`RaftTokenMixer`.

    Paper: RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality? -
    https://arxiv.org/abs/2108.04384 (the block; its pyramid with patches of several sizes is left out)

    Differs from the released code: what :class:`RaftTokenMixer` says, and no stochastic depth; it lists the
    channels of the norms before the token mixing raft by raft, which permutes their learned factors.

    >>> RaftMLPBlock(16, grid=(8, 8))(torch.randn(2, 64, 16)).shape
    torch.Size([2, 64, 16])
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        raft: int = 2,
        expansion: int = 2,
        hidden_dim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_divides(name, dim=dim, raft=raft)
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        require_positive(name, expansion=expansion, hidden_dim=hidden_dim)
        self.dim, self.grid = dim, require_pair(name, grid=grid)
        step = {"grid": self.grid, "raft": raft, "expansion": expansion, **factory}
        self.vertical, self.horizontal = (
            ResidualSublayer(RaftTokenMixer(dim, axis=axis, **step), dim, **factory) for axis in _RAFTS
        )
        mlp = nn.Sequential(
            nn.Linear(dim, hidden_dim, **factory), nn.GELU(), nn.Linear(hidden_dim, dim, **factory)
        )
        self.mlp = ResidualSublayer(mlp, dim, **factory)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, self.dim, self)
        return self.mlp(self.horizontal(self.vertical(x)))

    def extra_repr(self) -> str:
        return f"{self.dim}, grid={self.grid}"
