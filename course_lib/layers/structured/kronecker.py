"""Kronecker products as linear layers: one small matrix for the rows of the input, one for its columns."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, einsum, nn

from course_lib.layers._half import wide
from course_lib.layers._shapes import require_positive, require_width
from course_lib.layers.structured._factors import require_factors
from course_lib.layers.structured.scaling import structured_init_std
from course_lib.registry import implements


@implements(
    "block-tensor-train",
    example=lambda: (KroneckerLinear((2, 3), (4, 2), terms=2), torch.randn(3, 5, 6)),
    permutation_equivariant=True,
)
class KroneckerLinear(nn.Module):
    r"""A linear layer whose matrix is a Kronecker product, or a sum of a few.

    .. math:: y = \sum_{k=1}^{K} (A_k \otimes B_k)\, x + b, \qquad
        A_k \in \mathbb R^{o_1 \times i_1}, \quad B_k \in \mathbb R^{o_2 \times i_2}

    Write x row by row as a matrix X of shape :math:`i_1 \times i_2`; then the product is
    :math:`\sum_k A_k X B_k^\top`, again read row by row. One product can have full rank with
    :math:`o_1 i_1 + o_2 i_2` parameters.

    Args:
        in_shape: :math:`(i_1, i_2)`; the input width is their product.
        out_shape: :math:`(o_1, o_2)`; the output width is their product.
        terms: number K of products in the sum.
        bias: add a learned bias.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for a size below 1, or an input of the wrong width.
        TypeError: for shapes that are no pairs, or an input of another type than the parameters.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248

    Differs from the paper: a sum of several products is allowed; there the product is one of a tensor train
    of any rank.

    >>> layer = KroneckerLinear((8, 8), (8, 8))
    >>> sum(p.numel() for p in layer.parameters()) - 64, torch.linalg.matrix_rank(layer.weight).item()
    (128, 64)
    """

    def __init__(
        self,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        *,
        terms: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_shape = require_factors(name, in_shape=in_shape)
        self.out_shape = require_factors(name, out_shape=out_shape)
        require_positive(name, terms=terms)
        factory = {"device": device, "dtype": dtype}
        self.terms = terms
        self.in_features, self.out_features = math.prod(in_shape), math.prod(out_shape)
        self.a = nn.Parameter(torch.empty(terms, out_shape[0], in_shape[0], **factory))
        self.b = nn.Parameter(torch.empty(terms, out_shape[1], in_shape[1], **factory))
        self.bias = nn.Parameter(torch.empty(self.out_features, **factory)) if bias else None
        self.reset_parameters()

    def factor_fans(self) -> dict[str, tuple[int, int]]:
        """Fan-in and fan-out of each factor, by its name: what start and learning rate depend on."""
        (i1, i2), (o1, o2) = self.in_shape, self.out_shape
        return {"a": (i1, o1), "b": (i2, o2)}

    def reset_parameters(self) -> None:
        """Each factor normal, scaled by its own fans and so that the sum counts as one; the bias zero."""
        for name, fans in self.factor_fans().items():
            std = (
                structured_init_std(*fans) * self.terms**-0.25
            )  # twice: the sum of K terms is sqrt(K) larger
            nn.init.normal_(getattr(self, name), std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "o i"],
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        *,
        terms: int = 1,
        bias: Float[Tensor, "o"] | None = None,
    ) -> "KroneckerLinear":
        r"""The nearest sum of Kronecker products to a dense matrix.

        Rearranged so that every block :math:`(o_1, i_1)` becomes one row, a Kronecker product is a matrix of
        rank one (Van Loan and Pitsianis); so the truncated SVD of the rearranged matrix is the best there is.
        """
        layer = cls(in_shape, out_shape, terms=terms, bias=bias is not None).to(weight)
        if weight.shape != (layer.out_features, layer.in_features):
            raise ValueError(
                f"KroneckerLinear.from_dense: {tuple(weight.shape)} is not {out_shape} by {in_shape}, "
                "multiplied out"
            )
        rows = rearrange(weight.detach(), "(p q) (i j) -> (p i) (q j)", p=out_shape[0], i=in_shape[0])
        if terms > min(rows.shape):
            raise ValueError(
                f"KroneckerLinear.from_dense: {min(rows.shape)} terms give any matrix of this size, "
                f"got terms={terms}"
            )
        with torch.no_grad():
            left, s, right = torch.linalg.svd(wide(rows), full_matrices=False)
            root = s[:terms].sqrt()
            layer.a.copy_(rearrange(left[:, :terms] * root, "(p i) k -> k p i", p=out_shape[0]))
            layer.b.copy_(rearrange(right[:terms].mT * root, "(q j) k -> k q j", q=out_shape[1]))
            if bias is not None:
                layer.bias.copy_(bias)
        return layer

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The dense matrix, with gradients to all factors."""
        return rearrange(einsum("kpi,kqj->pqij", self.a, self.b), "p q i j -> (p q) (i j)")

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        z = einsum("...ij,kqj->...kiq", x.unflatten(-1, self.in_shape), self.b)
        y = einsum("...kiq,kpi->...pq", z, self.a).flatten(-2)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_shape}, {self.out_shape}, terms={self.terms}, bias={self.bias is not None}"
