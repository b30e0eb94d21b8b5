"""Low rank learned while training: an order of importance, a penalty that empties the tail, and ranks that
shrink.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._half import wide
from course_lib.layers._shapes import require_number, require_positive, require_width
from course_lib.layers.structured.low_rank import LowRankLinear
from course_lib.registry import implements


@implements(
    "maestro",
    example=lambda: (OrderedLowRankLinear(6, 4), torch.randn(3, 5, 6)),
    permutation_equivariant=True,
)
class OrderedLowRankLinear(LowRankLinear):
    r"""A factorised layer that can use its first columns only.

    .. math:: y = U_{:b} V_{:b}^\top x + c

    ``active_rank`` is b; None uses all columns; the state keeps it. When b is drawn anew at every step
    (:func:`sample_rank_`), early columns are used more often than late ones and become the important ones.

    Args:
        in_features: input width i.
        out_features: output width o.
        rank: columns at the start; None for the smaller width, so that every matrix can be reached.
        bias: add a learned bias.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a rank above the smaller width, an ``active_rank`` that the layer does
            not have, or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Maestro: Uncovering Low-Rank Structures via Trainable Decomposition -
    https://arxiv.org/abs/2308.14929

    Differs from the authors' code: there the SVD is that of torch's uniform start, a rank is given as a share
    and rounded up, and a layer may end with no column at all and give its bias. Convolutions and attention,
    which it takes apart too, are left out.

    >>> layer = OrderedLowRankLinear(6, 4)
    >>> layer.active_rank = 2
    >>> torch.linalg.matrix_rank(layer.weight).item()
    2
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rank: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_positive(type(self).__name__, in_features=in_features, out_features=out_features)
        rank = min(in_features, out_features) if rank is None else rank
        super().__init__(in_features, out_features, rank, bias=bias, device=device, dtype=dtype)
        self.register_buffer("active_columns", torch.full((1,), rank, device=device))
        self._active_rank: int | None = None
        self.register_load_state_dict_post_hook(_read_active_columns)

    @property
    def active_rank(self) -> int | None:
        """The columns in use; None for all."""
        return self._active_rank

    @active_rank.setter
    def active_rank(self, rank: int | None) -> None:
        if rank is not None:
            require_positive(type(self).__name__, active_rank=rank)
            if rank > self.rank:
                raise ValueError(
                    f"{type(self).__name__}: active_rank must be at most {self.rank}, got {rank}"
                )
        self._active_rank = rank
        self.active_columns.fill_(self.rank if rank is None else rank)

    def reset_parameters(self) -> None:
        """The SVD of a normal start with variance 1 / i, all columns active; the bias zero."""
        shape = (self.out_features, self.in_features)
        start = torch.randn_like(wide(self.u.detach().new_empty(shape))) / self.in_features**0.5
        with torch.no_grad():
            p, s, qh = torch.linalg.svd(start, full_matrices=False)
            self.u.copy_(p[:, : self.rank] * s[: self.rank].sqrt())
            self.v.copy_(qh[: self.rank].mT * s[: self.rank].sqrt())
            if self.bias is not None:
                self.bias.zero_()
        if "active_columns" in self._buffers:  # not yet in the constructor of the class above
            self.active_rank = None

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The dense matrix of the active columns."""
        b = self.active_rank
        return self.u[:, :b] @ self.v[:, :b].mT

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        b = self.active_rank
        return F.linear(x @ self.v[:, :b], self.u[:, :b], self.bias)


def _read_active_columns(layer: OrderedLowRankLinear, incompatible_keys: object) -> None:
    """After a state was loaded: its number of columns, as the integer that slices."""
    if not layer.active_columns.is_meta:
        columns = int(layer.active_columns)
        layer._active_rank = columns if columns < layer.rank else None


@implements("maestro")
def sample_rank_(
    layers: Sequence[OrderedLowRankLinear], generator: torch.Generator | None = None
) -> tuple[int, int]:
    """Draw one layer and one rank for the next training step; all other layers use all their columns.

    Each layer is as likely as any other, and so is each of its ranks.

    Args:
        layers: the factorised layers of a network.
        generator: source of the two random numbers.

    Raises:
        ValueError: without layers.

    Paper: Maestro: Uncovering Low-Rank Structures via Trainable Decomposition -
    https://arxiv.org/abs/2308.14929

    Differs from the authors' code: there all pairs of a layer and a rank are shuffled and used up before one
    comes again, so a layer of many columns comes more often; and each step adds the loss with all columns to
    that of the drawn rank, whose target is the full model's softmax.

    >>> layers = [OrderedLowRankLinear(3, 3), OrderedLowRankLinear(3, 3)]
    >>> which, rank = sample_rank_(layers)
    >>> [layer.active_rank for layer in layers].count(None), layers[which].active_rank == rank
    (1, True)
    """
    if not layers:
        raise ValueError("sample_rank_: there is no factorised layer to draw a rank for")
    which = int(torch.randint(len(layers), (), generator=generator))
    rank = int(torch.randint(1, layers[which].rank + 1, (), generator=generator))
    for position, layer in enumerate(layers):
        layer.active_rank = rank if position == which else None
    return which, rank


@implements("maestro")
def hierarchical_group_lasso(layers: Iterable[LowRankLinear]) -> Float[Tensor, ""]:
    r"""A penalty on every tail of columns, so that the last columns vanish first.

    .. math:: \sum_i \sum_{b=1}^{r_i} \bigl(\|U_i[:, b{:}]\|_F + \|V_i[:, b{:}]\|_F\bigr)

    Column b and all after it form one group, so the last column is in r groups and the first in one.
    Multiply by :math:`\lambda` and add to the loss.

    Args:
        layers: the factorised layers of a network.

    Paper: Maestro: Uncovering Low-Rank Structures via Trainable Decomposition -
    https://arxiv.org/abs/2308.14929

    Differs from the authors' code: the derivative of the norm of a tail that is all zero is taken as zero
    (there not a number).

    >>> layer = LowRankLinear(2, 2, 2)
    >>> _ = nn.init.eye_(layer.u), nn.init.zeros_(layer.v)
    >>> round(hierarchical_group_lasso([layer]).item(), 3)  # sqrt(2) + 1
    2.414
    """
    total = torch.zeros(())
    for layer in layers:
        for factor in (layer.u, layer.v):
            tails = factor.square().sum(0).flip(0).cumsum(0)
            total = total.to(tails) + torch.where(tails > 0, tails.clamp(min=1e-38).sqrt(), 0).sum()
    return total


@implements("maestro")
@torch.no_grad()
def progressive_shrink_(layer: LowRankLinear, eps: float = 1e-7) -> int:
    r"""Cut off, for good, the longest tail of columns that no longer matters; return the new rank.

    .. math:: r \leftarrow b - 1 \quad\text{for the smallest } b \text{ with}\quad
        \|U[:, b{:}]\|_F\, \|V[:, b{:}]\|_F \le \epsilon

    At least one column stays. The factors become new, smaller parameters, so an optimiser must be made anew.

    Differs from the authors' code: there columns are only masked while training goes on, none need stay, a
    product equal to the bound is kept, and the bound is 1e-5 unless given.

    Args:
        layer: changed in place.
        eps: largest product of the two norms that is cut.

    Raises:
        ValueError: for a negative ``eps``.

    Paper: Maestro: Uncovering Low-Rank Structures via Trainable Decomposition -
    https://arxiv.org/abs/2308.14929

    >>> layer = LowRankLinear(4, 4, 3)
    >>> _ = nn.init.zeros_(layer.u[:, 1:])
    >>> progressive_shrink_(layer), layer.u.shape
    (1, torch.Size([4, 1]))
    """
    require_number("progressive_shrink_", 0, eps=eps)
    tails = [wide(f).square().sum(0).flip(0).cumsum(0).flip(0).sqrt() for f in (layer.u, layer.v)]
    keep = int((tails[0] * tails[1] > eps).sum())  # tails never grow, so the cut is where they reach eps
    layer.rank = max(1, keep)
    layer.u = nn.Parameter(layer.u[:, : layer.rank].clone())
    layer.v = nn.Parameter(layer.v[:, : layer.rank].clone())
    if isinstance(layer, OrderedLowRankLinear):
        active = layer.active_rank
        layer.active_rank = None if active is None or active >= layer.rank else active
    return layer.rank


@implements("maestro")
@torch.no_grad()
def truncate_rank(layer: LowRankLinear, rank: int) -> LowRankLinear | nn.Linear:
    """A copy with the first columns only, or a dense layer where that is cheaper.

    Args:
        layer: a trained factorised layer.
        rank: columns that are kept.

    Raises:
        ValueError: if the layer has fewer columns.

    Paper: Maestro: Uncovering Low-Rank Structures via Trainable Decomposition -
    https://arxiv.org/abs/2308.14929

    >>> truncate_rank(LowRankLinear(6, 6, 6), 2), truncate_rank(LowRankLinear(6, 6, 6), 5)
    (LowRankLinear(6, 6, rank=2, bias=True), Linear(in_features=6, out_features=6, bias=True))
    """
    require_positive("truncate_rank", rank=rank)
    if rank > layer.rank:
        raise ValueError(f"truncate_rank: the layer has {layer.rank} columns, cannot keep {rank}")
    i, o, bias = layer.in_features, layer.out_features, layer.bias is not None
    if i * o < rank * (i + o):
        dense = nn.Linear(i, o, bias=bias).to(layer.u)
        dense.weight.copy_(layer.u[:, :rank] @ layer.v[:, :rank].mT)
    else:
        dense = LowRankLinear(i, o, rank, bias=bias).to(layer.u)
        dense.u.copy_(layer.u[:, :rank])
        dense.v.copy_(layer.v[:, :rank])
    if bias:
        dense.bias.copy_(layer.bias)
    return dense
