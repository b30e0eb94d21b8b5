"""Layers that are larger and sparse, with as many multiplications as the dense layer that they replace."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_callable,
    require_number,
    require_one_of,
    require_positive,
    require_width,
)
from course_lib.registry import implements

KINDS = ("wide", "parallel", "factorized", "doped")


@implements("sparse-ift")
def sparse_ift_size(in_features: int, out_features: int, sparsity: float, kind: str) -> float | int:
    r"""How large the sparse layer is, for the multiplications of the dense one.

    ============  =============================================  ==========================
    kind          size                                           meaning
    ============  =============================================  ==========================
    "wide"        :math:`1 / \sqrt{1 - s}`                       factor of widths
    "parallel"    :math:`1 / (1 - s)`, rounded                   branches
    "factorized"  :math:`\lceil i o / (1 - s)(i + o) \rceil`     inner width
    "doped"       :math:`\lfloor s i o / (i + o) \rfloor`        rank of the dense part
    ============  =============================================  ==========================

    Args:
        in_features: input width i of the dense layer.
        out_features: output width o of the dense layer.
        sparsity: share s of the weights that are zero.
        kind: see the table.

    Raises:
        ValueError: for an unknown kind or a sparsity outside [0, 1).

    For a k x k convolution i is k k times the channels that enter.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    >>> [sparse_ift_size(64, 64, 0.75, kind) for kind in ("wide", "parallel", "factorized", "doped")]
    [2.0, 4, 128, 24]
    """
    require_one_of("sparse_ift_size", KINDS, kind=kind)
    _require_dense("sparse_ift_size", in_features, out_features, sparsity)
    dense, both = in_features * out_features, in_features + out_features
    return {
        "wide": (1 - sparsity) ** -0.5,
        "parallel": round(1 / (1 - sparsity)),
        "factorized": math.ceil(dense / ((1 - sparsity) * both)),
        "doped": math.floor(sparsity * dense / both),
    }[kind]


def _require_dense(layer: str, in_features: int, out_features: int, sparsity: float) -> None:
    """What describes the dense layer that is replaced; at sparsity 1 nothing would be left."""
    require_positive(layer, in_features=in_features, out_features=out_features)
    require_number(layer, 0, 1, sparsity=sparsity)
    if sparsity == 1:
        raise ValueError(f"{layer}: sparsity must be below 1, got {sparsity}")


@implements("sparse-ift")
def random_mask(
    rows: int, columns: int, active: int, generator: torch.Generator | None = None
) -> Bool[Tensor, "o i"]:
    """A mask with an exact number of ones in random places.

    Args:
        rows: rows of the mask.
        columns: columns of the mask.
        active: number of ones.
        generator: source of randomness.

    Raises:
        ValueError: for more ones than places.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    >>> random_mask(3, 4, 5).sum()
    tensor(5)
    """
    require_at_least(0, "random_mask", rows=rows, columns=columns, active=active)
    if active > rows * columns:
        raise ValueError(f"random_mask: {rows} x {columns} places cannot hold {active} ones")
    places = torch.randperm(rows * columns, generator=generator)[:active]
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[places] = True
    return mask.reshape(rows, columns)


class _SparseLinear(nn.Module):
    """A linear layer with a random fixed mask of exactly so many ones; the start is scaled by the density."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        active: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.active = in_features, out_features, active
        self.dense_weight = nn.Parameter(torch.empty(out_features, in_features, **factory))
        self.bias = nn.Parameter(torch.empty(out_features, **factory)) if bias else None
        self.register_buffer("mask", torch.empty(out_features, in_features, dtype=torch.bool, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A new mask; torch's start of a linear layer whose fan-in is the mean number of active inputs."""
        self.mask.copy_(random_mask(self.out_features, self.in_features, self.active))
        bound = (self.out_features / max(self.active, 1)) ** 0.5
        nn.init.uniform_(self.dense_weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The masked matrix."""
        return self.dense_weight * self.mask

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, active={self.active}"


@implements(
    "sparse-ift",
    example=lambda: (SparseWideLinear(4, 6, 0.75), torch.randn(3, 5, 8)),
    permutation_equivariant=True,
)
class SparseWideLinear(_SparseLinear):
    r"""A layer whose widths are multiplied by :math:`1 / \sqrt{1 - s}`, with the active weights of the
    dense one.

    .. math:: y = (M \odot W) x + b, \qquad W \in \mathbb R^{k o \times k i}, \quad \|M\|_0 = i\,o, \quad
        k = \frac1{\sqrt{1 - s}}

    The mask is random; :func:`rigl_update_` makes it dynamic. The first and last layer of a network keep
    their outer width: the same number of active weights then means a lower sparsity.

    Args:
        in_features: input width i of the dense layer that this replaces.
        out_features: output width o of the dense layer.
        sparsity: s; 0 is the dense layer itself.
        widen_in: multiply the input width; False for the first layer of a network.
        widen_out: multiply the output width; False for the last.
        bias: add a learned bias.
        device: of parameters and mask.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)`` in the widened sizes, which the attributes tell.

    Raises:
        ValueError: for sizes below 1, a sparsity outside [0, 1), or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    Differs from the authors' code: there the first and the last layer of a network are widened and stay
    dense, so that its multiplications grow a little; here the mask of each layer has exactly :math:`i\,o`
    ones. Masks are drawn uniformly; there also by magnitude, by the shape of the layer, or head by head. A
    masked dense product saves no time on a CPU, so count, do not clock.

    >>> layer = SparseWideLinear(4, 6, 0.75)
    >>> layer.in_features, layer.out_features, layer.mask.sum().item()
    (8, 12, 24)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sparsity: float,
        *,
        widen_in: bool = True,
        widen_out: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _require_dense(type(self).__name__, in_features, out_features, sparsity)
        k = sparse_ift_size(in_features, out_features, sparsity, "wide")
        super().__init__(
            round(k * in_features) if widen_in else in_features,
            round(k * out_features) if widen_out else out_features,
            in_features * out_features,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.sparsity = sparsity


@implements(
    "sparse-ift",
    example=lambda: (SparseParallelLinear(4, 6, 0.6), torch.randn(3, 5, 4)),
    permutation_equivariant=True,
)
class SparseParallelLinear(nn.Module):
    r"""Several sparse branches with a nonlinearity each, added up, as the paper writes it.

    .. math:: y = \sum_{j=1}^{k} \phi\bigl((M_j \odot W_j) x + b_j\bigr), \qquad k \approx \frac1{1 - s},
        \quad \sum_j \|M_j\|_0 = i\,o

    Args:
        in_features: input width i.
        out_features: output width o.
        sparsity: s.
        activation: builds :math:`\phi`, anew for every branch.
        bias: add a learned bias in every branch.
        device: of parameters and masks.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a sparsity outside [0, 1), or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    Differs from the paper: the number of branches is rounded and the ones shared out evenly, so that the
    multiplications are exactly those of the dense layer. In the authors' network for small images
    :math:`\phi` is a batch norm, and one ReLU follows the sum: ``activation`` may build that norm.

    >>> layer = SparseParallelLinear(4, 6, 0.75)
    >>> len(layer.branches), sum(branch.mask.sum().item() for branch in layer.branches)
    (4, 24)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sparsity: float,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _require_dense(type(self).__name__, in_features, out_features, sparsity)
        require_callable(type(self).__name__, activation=activation)
        factory = {"bias": bias, "device": device, "dtype": dtype}
        k = sparse_ift_size(in_features, out_features, sparsity, "parallel")
        self.in_features, self.out_features, self.sparsity = in_features, out_features, sparsity
        self.activations = nn.ModuleList(activation() for _ in range(k))
        dense = in_features * out_features
        self.branches = nn.ModuleList(
            _SparseLinear(in_features, out_features, dense * (j + 1) // k - dense * j // k, **factory)
            for j in range(k)
        )

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        pairs = zip(self.activations, self.branches, strict=True)
        return sum(activation(branch(x)) for activation, branch in pairs)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sparsity={self.sparsity}"


@implements(
    "sparse-ift",
    example=lambda: (SparseFactorizedLinear(4, 6, 0.5), torch.randn(3, 5, 4)),
    permutation_equivariant=True,
)
class SparseFactorizedLinear(nn.Module):
    r"""Two sparse layers with a wide middle.

    .. math:: y = (M_2 \odot W_2)(M_1 \odot W_1) x + b, \qquad
        d_f = \Bigl\lceil \frac{i\,o}{(1 - s)(i + o)} \Bigr\rceil

    Args:
        in_features: input width i.
        out_features: output width o.
        sparsity: s.
        bias: add a learned bias at the end.
        device: of parameters and masks.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a sparsity outside [0, 1), or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    Differs from the authors' code: the two masks share exactly :math:`i\,o` ones, in the ratio of the widths;
    batch norm and ReLU between the two, an option there, and its penalty on the product are left out. For a
    convolution see ``svd_conv2d``.

    >>> layer = SparseFactorizedLinear(64, 64, 0.75)
    >>> layer.inner, sum(mask.sum().item() for mask in (layer.first.mask, layer.second.mask))
    (128, 4096)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sparsity: float,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _require_dense(type(self).__name__, in_features, out_features, sparsity)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.sparsity = in_features, out_features, sparsity
        self.inner = sparse_ift_size(in_features, out_features, sparsity, "factorized")
        dense = in_features * out_features
        first = min(dense * in_features // (in_features + out_features), self.inner * in_features)
        second = min(dense - first, self.inner * out_features)
        self.first = _SparseLinear(in_features, self.inner, first, bias=False, **factory)
        self.second = _SparseLinear(self.inner, out_features, second, bias=bias, **factory)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return self.second(self.first(x))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sparsity={self.sparsity}"


@implements(
    "sparse-ift",
    example=lambda: (SparseDopedLinear(6, 6, 0.5), torch.randn(3, 5, 6)),
    permutation_equivariant=True,
)
class SparseDopedLinear(nn.Module):
    r"""A sparse layer plus a dense one of low rank.

    .. math:: y = (M \odot W) x + U V^\top x + b, \qquad r = \Bigl\lfloor \frac{s\, i\,o}{i + o} \Bigr\rfloor,
        \quad \|M\|_0 + r (i + o) = i\,o

    Args:
        in_features: input width i.
        out_features: output width o.
        sparsity: s.
        bias: add a learned bias.
        device: of parameters and mask.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a sparsity outside [0, 1), or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525

    Differs from the authors' code: the mask has what the low-rank part leaves of :math:`i\,o`, to the one
    (there its sparsity is s); the penalty on the product is left out.

    >>> layer = SparseDopedLinear(6, 6, 0.5)
    >>> layer.rank, layer.sparse.mask.sum().item() + layer.rank * 12
    (1, 36)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        sparsity: float,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _require_dense(type(self).__name__, in_features, out_features, sparsity)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.sparsity = in_features, out_features, sparsity
        self.rank = sparse_ift_size(in_features, out_features, sparsity, "doped")
        active = in_features * out_features - self.rank * (in_features + out_features)
        self.sparse = _SparseLinear(in_features, out_features, active, bias=bias, **factory)
        self.u = nn.Parameter(torch.empty(out_features, self.rank, **factory))
        self.v = nn.Parameter(torch.empty(in_features, self.rank, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Both thin factors as torch starts a linear layer of their own fan-in."""
        nn.init.uniform_(self.v, -(self.in_features**-0.5), self.in_features**-0.5)
        bound = max(self.rank, 1) ** -0.5
        nn.init.uniform_(self.u, -bound, bound)

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The dense matrix, formed when asked for."""
        return self.sparse.weight + self.u @ self.v.mT

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return self.sparse(x) + F.linear(x @ self.v, self.u)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, sparsity={self.sparsity}, rank={self.rank}"


@implements("sparse-ift")
@torch.no_grad()
def rigl_update_(layer: nn.Module, gradient: Float[Tensor, "o i"], share: float) -> int:
    """Move part of a mask: drop the smallest active weights, grow where the gradient is largest.

    Args:
        layer: a sparse layer with ``mask`` and ``dense_weight``; changed in place.
        gradient: of the loss by the *masked* weight, at all places, also where the mask is zero.
        share: of the active weights that move; usually decayed by a cosine over training.

    Returns how many weights were dropped, and as many grown. A grown weight starts at zero; one that was
    dropped may return in the same step, and then keeps its value.

    Raises:
        ValueError: for a share outside [0, 1], or a gradient that has another shape or is not finite.

    Paper: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency -
    https://arxiv.org/abs/2303.11525 (the update is that of RigL, https://arxiv.org/abs/1911.11134)

    Differs from the authors' code: weights outside the mask are kept and not set to zero, and the momentum of
    the optimiser is left alone.

    >>> layer = SparseWideLinear(4, 6, 0.75)
    >>> rigl_update_(layer, torch.randn(12, 8), 0.5), layer.mask.sum().item()
    (12, 24)
    """
    mask = layer.mask
    require_number("rigl_update_", 0, 1, share=share)
    if gradient.shape != mask.shape:
        raise ValueError(
            f"rigl_update_: the gradient must be {tuple(mask.shape)}, as the mask, "
            f"got {tuple(gradient.shape)}"
        )
    if not gradient.isfinite().all():
        raise ValueError("rigl_update_: the gradient holds NaN or infinity")
    moved = int(share * int(mask.sum()))
    size = layer.dense_weight.abs().masked_fill(~mask, torch.inf).flatten()
    kept = mask.clone()
    kept.view(-1)[size.topk(moved, largest=False).indices] = False
    slope = gradient.abs().masked_fill(kept, -1).flatten()
    grow = torch.zeros_like(mask)
    grow.view(-1)[slope.topk(moved).indices] = True
    layer.dense_weight[grow & ~mask] = 0
    mask.copy_(kept | grow)
    return moved
