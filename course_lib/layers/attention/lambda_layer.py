"""Lambda layers: the context becomes a linear map, which is applied to every query."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_divides, require_grid, require_positive, require_sequence
from course_lib.layers.attention._common import reset_projections
from course_lib.registry import implements

torch.fx.wrap("rearrange")


def lambda_layer_naive(
    q: Float[Tensor, "h t k"],
    k: Float[Tensor, "s k"],
    v: Float[Tensor, "s v"],
    positions: Float[Tensor, "t s k"],
) -> Float[Tensor, "h t v"]:
    r"""One lambda per position, built by a loop over the context and applied to the query of every head.

    .. math:: \lambda_t = \sum_s \bigl(\bar k_s + e_{ts}\bigr) v_s^\top, \qquad
        \bar k = \mathrm{softmax}_s(k), \qquad y_{ht} = \lambda_t^\top q_{ht}

    >>> q, k, v = torch.ones(1, 1, 1), torch.zeros(2, 1), torch.tensor([[1.0], [3.0]])
    >>> lambda_layer_naive(q, k, v, torch.zeros(1, 2, 1))
    tensor([[[2.]]])
    """
    keys = k.softmax(dim=0)  # over the context: each of the k features is a distribution over positions
    y = []
    for t in range(q.shape[1]):
        lam = sum(torch.outer(keys[s] + positions[t, s], v[s]) for s in range(len(k)))  # (k, v)
        y.append(q[:, t] @ lam)
    return torch.stack(y, dim=1)


@implements(
    "lambda-networks",
    example=lambda: (LambdaLayer(8, 2, grid=(2, 3), key_dim=4), torch.randn(3, 6, 8)),
    mixes_batch=True,
)
class LambdaLayer(nn.Module):
    r"""Turn the context into linear maps, one by content and one per position, and apply them to queries.

    .. math:: \lambda_t = \underbrace{\sum_s \bar k_s v_s^\top}_{\text{content}}
        + \underbrace{\sum_s e_{s-t} v_s^\top}_{\text{position}}, \qquad
        \bar k = \mathrm{softmax}_s(W^K x), \qquad y_{ht} = \lambda_t^\top W^Q_h x_t

    Only the queries have heads; :math:`e` depends on the offset between two positions of the grid and is
    shared by all examples. No attention map is stored.

    Args:
        dim: width d of input and output; values are d / H wide.
        num_heads: query heads H.
        grid: size of the grid that the tokens form, row by row: ``(8, 8)``, or ``(64,)`` for a sequence.
        key_dim: width of queries and keys.
        intra_depth: u: so many keys and values per position, whose lambdas are added.
        kernel_size: side of the square of neighbours (odd) to which the position lambdas are restricted;
            they are then a convolution of the values. None: the whole grid.
        position: False leaves the position lambdas out, which gives linear attention.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``, t = product of the grid.

    Raises:
        ValueError: for sizes that do not fit, or another number of tokens than the grid has.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: LambdaNetworks: Modeling Long-Range Interactions Without Attention - https://arxiv.org/abs/2102.08602

    Code of the author was not found. Differs from the two reimplementations that the tests compare with
    (lambda-networks, timm): tokens ``(b, t, d)`` instead of images, no bias of the position lambdas, and
    :math:`e` starts so small that the output has unit scale.

    >>> LambdaLayer(8, 2, grid=(2, 3))(torch.randn(3, 6, 8)).shape
    torch.Size([3, 6, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        grid: tuple[int, ...],
        key_dim: int = 16,
        intra_depth: int = 1,
        kernel_size: int | None = None,
        position: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_divides(name, dim=dim, num_heads=num_heads)
        require_positive(name, key_dim=key_dim, intra_depth=intra_depth)
        self.dim, self.num_heads, self.key_dim, self.intra_depth = dim, num_heads, key_dim, intra_depth
        self.grid, self.kernel_size = _grid_and_kernel(name, grid, kernel_size, position)
        value_dim = dim // num_heads
        self.query = nn.Linear(dim, num_heads * key_dim, bias=False, **factory)
        self.key = nn.Linear(dim, intra_depth * key_dim, bias=False, **factory)
        self.value = nn.Linear(dim, intra_depth * value_dim, bias=False, **factory)
        self.norm_query = nn.BatchNorm1d(num_heads * key_dim, **factory)
        self.norm_value = nn.BatchNorm1d(intra_depth * value_dim, **factory)
        # offsets from -(n - 1) to n - 1, or those of the kernel
        reach = [2 * n - 1 if kernel_size is None else kernel_size for n in self.grid]
        self.positions = (
            nn.Parameter(torch.empty(key_dim, intra_depth, *reach, **factory)) if position else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections; e of a variance that keeps the scale of queries and values."""
        reset_projections(self.query, self.key, self.value)
        self.norm_query.reset_parameters()
        self.norm_value.reset_parameters()
        if self.positions is None:
            return
        visible = math.prod(self.grid if self.kernel_size is None else self.positions.shape[2:])
        nn.init.normal_(self.positions, std=(self.key_dim * self.intra_depth * visible) ** -0.5)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, (*self.grid, 1)[:2], self.dim, self)
        q, k, v = self.query(x), self.key(x), self.value(x)
        q, v = self.norm_query(q.flatten(0, 1)).view_as(q), self.norm_value(v.flatten(0, 1)).view_as(v)
        q = rearrange(q, "b t (h k) -> b h t k", h=self.num_heads)
        k = rearrange(k, "b s (u k) -> b u s k", u=self.intra_depth).softmax(dim=2)  # over the positions
        v = rearrange(v, "b s (u v) -> b u s v", u=self.intra_depth)
        lambdas = einsum("busk,busv->bkv", k, v)[:, None]  # (b, 1, k, v): one map for all positions
        if self.positions is not None:
            lambdas = lambdas + self.position_lambdas(v)
        y = einsum("bhtk,btkv->bthv", q, lambdas.expand(-1, q.shape[2], -1, -1))
        return rearrange(y, "b t h v -> b t (h v)")

    def position_lambdas(self, v: Float[Tensor, "b u s v"]) -> Float[Tensor, "b t k v"]:
        """One map per position: values weighted by e, which knows only the offset."""
        if self.kernel_size is None:
            e = self.positions.flatten(2)[
                ..., _offsets(self.grid, v.device)
            ]  # (k, u, t, s), the same for every example
            return einsum("kuts,busv->btkv", e, v)
        convolve = {1: F.conv1d, 2: F.conv2d}[len(self.grid)]
        planes = rearrange(v, "b u s v -> (b v) u s").unflatten(-1, self.grid)
        lambdas = convolve(planes, self.positions, padding=self.kernel_size // 2).flatten(2)
        return rearrange(lambdas, "(b v) k t -> b t k v", b=v.shape[0])

    def extra_repr(self) -> str:
        sizes = f"{self.dim}, grid={self.grid}, num_heads={self.num_heads}, key_dim={self.key_dim}"
        return f"{sizes}, kernel_size={self.kernel_size}, position={self.positions is not None}"


def _offsets(grid: tuple[int, ...], device: torch.device) -> Tensor:
    """For every pair (t, s) the place of the offset s - t in a flattened table of all offsets."""
    places = torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid)).reshape(-1, len(grid))
    tokens = math.prod(grid)
    flat = torch.zeros(tokens, tokens, dtype=torch.long, device=device)
    for axis, n in enumerate(grid):
        shifted = places[None, :, axis] - places[:, None, axis] + n - 1  # from 0 to 2 n - 2
        flat = flat * (2 * n - 1) + shifted
    return flat


def _grid_and_kernel(
    layer: str, grid: tuple[int, ...], kernel_size: int | None, position: bool
) -> tuple[tuple[int, ...], int | None]:
    require_sequence(layer, grid=grid)
    if len(grid) not in (1, 2):
        raise ValueError(f"{layer}: grid must be (n,) or (rows, columns), got {grid!r}")
    require_positive(layer, **{f"grid[{axis}]": n for axis, n in enumerate(grid)})
    if kernel_size is None:
        return tuple(grid), None
    require_positive(layer, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"{layer}: kernel_size must be odd, so that it has a centre; got {kernel_size}")
    if not position:
        raise ValueError(f"{layer}: kernel_size restricts the position lambdas; position=False ignores it")
    return tuple(grid), kernel_size
