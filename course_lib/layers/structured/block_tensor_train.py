"""Block Tensor-Train matrices: two batched products with a shuffle between, and Monarch, their thinnest
case.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, einsum, nn

from course_lib.layers._half import wide
from course_lib.layers._shapes import require_positive, require_width
from course_lib.layers.structured._factors import require_factors
from course_lib.layers.structured.scaling import structured_init_std
from course_lib.registry import implements


def block_tensor_train_naive(
    left: Float[Tensor, "o g j r"], right: Float[Tensor, "g j i r"]
) -> Float[Tensor, "m n"]:
    r"""The dense matrix of a Block Tensor-Train, entry by entry.

    .. math:: W_{(i_1 i_2),(j_1 j_2)} = \sum_{s=1}^{r} L_{i_1 i_2 j_1 s}\, R_{i_2 j_1 j_2 s}

    >>> left, right = torch.full((1, 1, 1, 2), 3.0), torch.full((1, 1, 1, 2), 5.0)
    >>> block_tensor_train_naive(left, right)
    tensor([[30.]])
    """
    m1, m2, n1, rank = left.shape
    n2 = right.shape[2]
    weight = left.new_zeros(m1 * m2, n1 * n2)
    for i1 in range(m1):
        for i2 in range(m2):
            for j1 in range(n1):
                for j2 in range(n2):
                    entry = sum(left[i1, i2, j1, s] * right[i2, j1, j2, s] for s in range(rank))
                    weight[i1 * m2 + i2, j1 * n2 + j2] = entry
    return weight


@implements(
    "block-tensor-train",
    example=lambda: (BlockTensorTrainLinear((2, 3), (5, 2), 2), torch.randn(3, 4, 6)),
    permutation_equivariant=True,
)
class BlockTensorTrainLinear(nn.Module):
    r"""A linear layer of two batched small products: more blocks than a Kronecker product, and a rank to
    choose.

    .. math:: z_{i_2 j_1 s} = \sum_{j_2} R_{i_2 j_1 j_2 s}\, x_{j_1 j_2}, \qquad
        y_{i_1 i_2} = \sum_{j_1 s} L_{i_1 i_2 j_1 s}\, z_{i_2 j_1 s} + b_{i_1 i_2}

    Input and output are read row by row as matrices of shape ``in_shape`` and ``out_shape``. At width d on
    both sides, factored as :math:`\sqrt d \times \sqrt d`, it costs :math:`2 r d^{3/2}` parameters and
    multiplications. Rank 1 is Monarch, which contains the Kronecker product; rank r contains every matrix
    of rank r; rank :math:`\min(m_1, n_2)` contains every matrix.

    Args:
        in_shape: :math:`(n_1, n_2)`; the input width is their product.
        out_shape: :math:`(m_1, m_2)`; the output width is their product.
        rank: the rank r, at most :math:`\min(m_1, n_2)`.
        bias: add a learned bias.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a rank above :math:`\min(m_1, n_2)`, or an input of the wrong width.
        TypeError: for shapes that are no pairs, or an input of another type than the parameters.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248

    Differs from the paper: the normalisation of each factor by its root mean square with a learned scale,
    which it uses in transformers, is left out. Outputs are read row by row; the authors' code reads them
    column by column, a fixed permutation. There, too: more than two factors, a choice of the most even
    shapes, and zeros for the last factor of a residual branch.

    >>> layer = BlockTensorTrainLinear((8, 8), (8, 8), 2, bias=False)
    >>> sum(p.numel() for p in layer.parameters()), layer(torch.randn(5, 64)).shape
    (2048, torch.Size([5, 64]))
    """

    def __init__(
        self,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        rank: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        n1, n2 = require_factors(name, in_shape=in_shape)
        m1, m2 = require_factors(name, out_shape=out_shape)
        require_positive(name, rank=rank)
        if rank > min(m1, n2):
            raise ValueError(
                f"{name}: rank must be at most {min(m1, n2)} between in_shape={in_shape} and "
                f"out_shape={out_shape}, got {rank}"
            )
        factory = {"device": device, "dtype": dtype}
        self.in_shape, self.out_shape, self.rank = (n1, n2), (m1, m2), rank
        self.in_features, self.out_features = n1 * n2, m1 * m2
        self.left = nn.Parameter(torch.empty(m1, m2, n1, rank, **factory))
        self.right = nn.Parameter(torch.empty(m2, n1, n2, rank, **factory))
        self.bias = nn.Parameter(torch.empty(m1 * m2, **factory)) if bias else None
        self.reset_parameters()

    def factor_fans(self) -> dict[str, tuple[int, int]]:
        """Fan-in and fan-out of one block of each factor: what start and learning rate depend on."""
        (n1, n2), (m1, m2) = self.in_shape, self.out_shape
        return {"left": (n1 * self.rank, m1), "right": (n2, m2 * self.rank)}

    def reset_parameters(self) -> None:
        """Each factor normal, scaled by its own fans; the bias zero."""
        for name, fans in self.factor_fans().items():
            nn.init.normal_(getattr(self, name), std=structured_init_std(*fans))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "o i"],
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        rank: int = 1,
        *,
        bias: Float[Tensor, "o"] | None = None,
    ) -> "BlockTensorTrainLinear":
        """The nearest matrix of this family to a dense one.

        For fixed :math:`i_2` and :math:`j_1` the entries form a matrix of rank r that shares no entry and no
        parameter with the others: one truncated SVD for each of them is the best there is.
        """
        layer = BlockTensorTrainLinear(in_shape, out_shape, rank, bias=bias is not None).to(weight)
        if weight.shape != (layer.out_features, layer.in_features):
            raise ValueError(
                f"{cls.__name__}.from_dense: {tuple(weight.shape)} is not {out_shape} by {in_shape}, "
                "multiplied out"
            )
        blocks = rearrange(weight.detach(), "(p q) (i j) -> q i p j", p=out_shape[0], i=in_shape[0])
        with torch.no_grad():
            u, s, vh = torch.linalg.svd(wide(blocks), full_matrices=False)
            root = s[..., None, :rank].sqrt()
            layer.left.copy_(rearrange(u[..., :rank] * root, "q i p s -> p q i s"))
            layer.right.copy_(vh[..., :rank, :].mT * root)
            if bias is not None:
                layer.bias.copy_(bias)
        return layer

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The dense matrix, with gradients to both factors."""
        return rearrange(einsum("pqis,qijs->pqij", self.left, self.right), "p q i j -> (p q) (i j)")

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        z = einsum("...ij,qijs->...qis", x.unflatten(-1, self.in_shape), self.right)
        y = einsum("...qis,pqis->...pq", z, self.left).flatten(-2)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_shape}, {self.out_shape}, rank={self.rank}, bias={self.bias is not None}"


@implements(
    "block-tensor-train",
    example=lambda: (MonarchLinear((2, 3), (5, 2)), torch.randn(3, 4, 6)),
    permutation_equivariant=True,
)
class MonarchLinear(BlockTensorTrainLinear):
    r"""A Block Tensor-Train of rank one: block diagonal, shuffle, block diagonal, shuffle.

    .. math:: W = P_{\mathrm{out}}^\top\, \mathrm{diag}(L_1, \dots, L_{m_2})\, P\,
        \mathrm{diag}(R_1, \dots, R_{n_1})

    :math:`R_{j_1}` is :math:`m_2 \times n_2` and :math:`L_{i_2}` is :math:`m_1 \times n_1`; P and
    :math:`P_{\mathrm{out}}` exchange the two halves of a double index.

    Args:
        in_shape: :math:`(n_1, n_2)`; the input width is their product.
        out_shape: :math:`(m_1, m_2)`; the output width is their product.
        bias: add a learned bias.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for a size below 1, or an input of the wrong width.
        TypeError: for shapes that are no pairs, or an input of another type than the parameters.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248 (Monarch matrices themselves: https://arxiv.org/abs/2204.00595)

    Differs from the paper's code: there the number of blocks is free, and both factors have as many; equal
    to it where the width is a square and the blocks are its root.

    >>> layer = MonarchLinear((8, 8), (8, 8), bias=False)
    >>> sum(p.numel() for p in layer.parameters()), torch.linalg.matrix_rank(layer.weight).item()
    (1024, 64)
    """

    def __init__(
        self,
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_shape, out_shape, 1, bias=bias, device=device, dtype=dtype)

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "o i"],
        in_shape: tuple[int, int],
        out_shape: tuple[int, int],
        *,
        bias: Float[Tensor, "o"] | None = None,
    ) -> "MonarchLinear":
        """The nearest Monarch matrix to a dense one."""
        layer = cls(in_shape, out_shape, bias=bias is not None).to(weight)
        nearest = BlockTensorTrainLinear.from_dense(weight, in_shape, out_shape, bias=bias)
        layer.load_state_dict(nearest.state_dict())
        return layer

    def extra_repr(self) -> str:
        return f"{self.in_shape}, {self.out_shape}, bias={self.bias is not None}"
