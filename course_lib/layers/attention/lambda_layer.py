"""Lambda layers: the context becomes a linear map, which is applied to every query."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from course_lib.layers.attention._common import require_tokens, reset_projections
from course_lib.registry import implements

__all__ = ["LambdaLayer", "lambda_layer_naive"]


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
    example=lambda: (LambdaLayer(8, (2, 3), num_heads=2, key_dim=4), torch.randn(3, 6, 8)),
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
        grid: size of the grid that the tokens form, row by row: ``(8, 8)``, or ``(64,)`` for a sequence.
        num_heads: query heads H.
        key_dim: width of queries and keys.
        depth: intra-depth u: so many keys and values per position, whose lambdas are added.
        window: side of the square of neighbours (odd) to which the position lambdas are restricted; they
            are then a convolution of the values. None: the whole grid.
        position: False leaves the position lambdas out, which gives linear attention.

    Shape: ``(b, t, d)`` to ``(b, t, d)``, t = product of the grid.

    Raises:
        ValueError: for sizes that do not fit, or another number of tokens than the grid has.

    Paper: LambdaNetworks: Modeling Long-Range Interactions Without Attention - https://arxiv.org/abs/2102.08602

    Differs from public codes: tokens ``(b, t, d)`` instead of images, no bias of the position lambdas, and
    :math:`e` starts so small that the output has unit scale.

    >>> LambdaLayer(8, (2, 3), num_heads=2)(torch.randn(3, 6, 8)).shape
    torch.Size([3, 6, 8])
    """

    def __init__(
        self,
        dim: int,
        grid: tuple[int, ...],
        *,
        num_heads: int = 4,
        key_dim: int = 16,
        depth: int = 1,
        window: int | None = None,
        position: bool = True,
    ) -> None:
        super().__init__()
        _require_sizes(dim, grid, num_heads, window, position)
        self.dim, self.grid, self.num_heads, self.key_dim = dim, tuple(grid), num_heads, key_dim
        self.depth, self.window = depth, window
        value_dim = dim // num_heads
        self.query = nn.Linear(dim, num_heads * key_dim, bias=False)
        self.key = nn.Linear(dim, depth * key_dim, bias=False)
        self.value = nn.Linear(dim, depth * value_dim, bias=False)
        self.norm_query = nn.BatchNorm1d(num_heads * key_dim)
        self.norm_value = nn.BatchNorm1d(depth * value_dim)
        reach = [2 * n - 1 if window is None else window for n in grid]  # offsets from -(n - 1) to n - 1
        self.positions = nn.Parameter(torch.empty(key_dim, depth, *reach)) if position else None
        if position and window is None:
            self.register_buffer("offsets", torch.empty_like(_offsets(self.grid)), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections; e of a variance that keeps the scale of queries and values."""
        reset_projections(self.query, self.key, self.value)
        self.norm_query.reset_parameters()
        self.norm_value.reset_parameters()
        if self.positions is None:
            return
        if self.window is None:
            self.offsets.copy_(_offsets(self.grid))
        visible = math.prod(self.grid if self.window is None else self.positions.shape[2:])
        nn.init.normal_(self.positions, std=(self.key_dim * self.depth * visible) ** -0.5)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self)
        if x.shape[1] != math.prod(self.grid):
            raise ValueError(f"a grid of {self.grid} has {math.prod(self.grid)} tokens, got {x.shape[1]}")
        q, k, v = self.query(x), self.key(x), self.value(x)
        q, v = self.norm_query(q.flatten(0, 1)).view_as(q), self.norm_value(v.flatten(0, 1)).view_as(v)
        q = rearrange(q, "b t (h k) -> b h t k", h=self.num_heads)
        k = rearrange(k, "b s (u k) -> b u s k", u=self.depth).softmax(dim=2)  # over the positions
        v = rearrange(v, "b s (u v) -> b u s v", u=self.depth)
        lambdas = einsum("busk,busv->bkv", k, v)[:, None]  # (b, 1, k, v): one map for all positions
        if self.positions is not None:
            lambdas = lambdas + self.position_lambdas(v)
        y = einsum("bhtk,btkv->bthv", q, lambdas.expand(-1, x.shape[1], -1, -1))
        return rearrange(y, "b t h v -> b t (h v)")

    def position_lambdas(self, v: Float[Tensor, "b u s v"]) -> Float[Tensor, "b t k v"]:
        """One map per position: values weighted by e, which knows only the offset."""
        if self.window is None:
            e = self.positions.flatten(2)[..., self.offsets]  # (k, u, t, s), the same for every example
            return einsum("kuts,busv->btkv", e, v)
        convolve = {1: F.conv1d, 2: F.conv2d}[len(self.grid)]
        planes = rearrange(v, "b u s v -> (b v) u s").unflatten(-1, self.grid)
        lambdas = convolve(planes, self.positions, padding=self.window // 2).flatten(2)
        return rearrange(lambdas, "(b v) k t -> b t k v", b=v.shape[0])

    def extra_repr(self) -> str:
        sizes = f"{self.dim}, grid={self.grid}, num_heads={self.num_heads}, key_dim={self.key_dim}"
        return f"{sizes}, window={self.window}, position={self.positions is not None}"


def _offsets(grid: tuple[int, ...]) -> Tensor:
    """For every pair (t, s) the place of the offset s - t in a flattened table of all offsets."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, len(grid))  # (t, axes)
    flat = torch.zeros(len(places), len(places), dtype=torch.long)
    for axis, n in enumerate(grid):
        shifted = places[None, :, axis] - places[:, None, axis] + n - 1  # from 0 to 2 n - 2
        flat = flat * (2 * n - 1) + shifted
    return flat


def _require_sizes(
    dim: int, grid: tuple[int, ...], num_heads: int, window: int | None, position: bool
) -> None:
    if num_heads < 1 or dim % num_heads:
        raise ValueError(f"{num_heads} heads do not divide dim={dim}; values are dim / num_heads wide")
    if len(grid) not in (1, 2) or min(grid) < 1:
        raise ValueError(f"grid must be (n,) or (rows, columns) of positive sizes, got {grid}")
    if window is not None and (window < 1 or window % 2 == 0):
        raise ValueError(f"window must be odd and positive, so that it has a centre; got {window}")
    if window is not None and not position:
        raise ValueError("window restricts the position lambdas; position=False would ignore it")
