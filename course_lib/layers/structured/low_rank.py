"""A product of two thin matrices in place of one wide matrix: how to start it, shrink it and measure its
rank.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._half import wide
from course_lib.layers._shapes import require_positive, require_width
from course_lib.layers.structured.scaling import structured_init_std
from course_lib.registry import implements


@implements(
    "block-tensor-train",
    "low-rank-training",
    example=lambda: (LowRankLinear(6, 4, 2), torch.randn(3, 5, 6)),
    permutation_equivariant=True,
)
class LowRankLinear(nn.Module):
    r"""A linear layer whose matrix is the product of two thin ones.

    .. math:: y = U V^\top x + b, \qquad U \in \mathbb R^{o \times r}, \quad V \in \mathbb R^{i \times r}

    It costs :math:`r (i + o)` parameters and as many multiplications, where the dense layer costs
    :math:`i\,o`; its matrix has rank r at most. ``weight`` is the matrix that it stands for, formed when
    asked for.

    Args:
        in_features: input width i.
        out_features: output width o.
        rank: inner width r.
        bias: add a learned bias.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(*b, i)`` to ``(*b, o)``.

    Raises:
        ValueError: for sizes below 1, a rank above the smaller width, or an input of the wrong width.
        TypeError: for an input of another type than the parameters.

    Paper: Compute Better Spent: Replacing Dense Layers with Structured Matrices -
    https://arxiv.org/abs/2406.06248 (the start: every factor by :func:`structured_init_std`);
    Exploring Low Rank Training of Deep Neural Networks - https://arxiv.org/abs/2209.13569 (the layer, and the
    starts of :func:`spectral_init_`)

    >>> layer = LowRankLinear(6, 4, 2)
    >>> layer.weight.shape, torch.linalg.matrix_rank(layer.weight).item()
    (torch.Size([4, 6]), 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_features=in_features, out_features=out_features, rank=rank)
        if rank > min(in_features, out_features):
            raise ValueError(
                f"{name}: rank must be at most {min(in_features, out_features)} for a matrix of "
                f"{out_features} x {in_features}, got {rank}"
            )
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.u = nn.Parameter(torch.empty(out_features, rank, **factory))
        self.v = nn.Parameter(torch.empty(in_features, rank, **factory))
        self.bias = nn.Parameter(torch.empty(out_features, **factory)) if bias else None
        self.reset_parameters()

    def factor_fans(self) -> dict[str, tuple[int, int]]:
        """Fan-in and fan-out of each factor, by its name: what start and learning rate depend on."""
        return {"u": (self.rank, self.out_features), "v": (self.in_features, self.rank)}

    def reset_parameters(self) -> None:
        """Each factor normal, scaled by its own fans; the bias zero."""
        for name, fans in self.factor_fans().items():
            nn.init.normal_(getattr(self, name), std=structured_init_std(*fans))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @classmethod
    def from_dense(
        cls, weight: Float[Tensor, "o i"], rank: int, bias: Float[Tensor, "o"] | None = None
    ) -> "LowRankLinear":
        r"""The layer nearest to a dense matrix: its truncated SVD, with :math:`S^{1/2}` on either side.

        By Eckart and Young no matrix of this rank is nearer.
        """
        layer = cls(weight.shape[1], weight.shape[0], rank, bias=bias is not None).to(weight)
        with torch.no_grad():
            p, s, qh = torch.linalg.svd(wide(weight.detach()), full_matrices=False)
            layer.u.copy_(p[:, :rank] * s[:rank].sqrt())
            layer.v.copy_(qh[:rank].mT * s[:rank].sqrt())
            if bias is not None:
                layer.bias.copy_(bias)
        return layer

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The dense matrix, with gradients to both factors."""
        return self.u @ self.v.mT

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return F.linear(x @ self.v, self.u, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, rank={self.rank}, bias={self.bias is not None}"


@implements("low-rank-training")
def effective_rank(matrix: Float[Tensor, "*b o i"]) -> Float[Tensor, "*b"]:
    r"""How many directions a matrix really uses: the exponential of the entropy of its singular values.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \qquad p_k = \frac{s_k}{\sum_l s_l}

    It is r for r equal singular values and lies between 1 and the rank for any others. A zero matrix has
    effective rank 0. Scaling the matrix changes nothing.

    Args:
        matrix: one matrix, or many along leading axes; half precision gives float32.

    Paper: Exploring Low Rank Training of Deep Neural Networks - https://arxiv.org/abs/2209.13569

    Inferred: the paper's summaries speak of the effective rank of the products; the definition by entropy
    is the usual one, of Roy and Vetterli (2007).

    >>> effective_rank(torch.diag(torch.tensor([3.0, 3.0, 0.0]))).round(decimals=4)
    tensor(2.)
    """
    s = torch.linalg.svdvals(wide(matrix))
    total = s.sum(-1, keepdim=True)
    p = s / torch.where(total > 0, total, 1)
    # ln 1 where p = 0: there the slope of -p ln p is infinite, and a gradient would be NaN.
    entropy = -(p * torch.where(p > 0, p, 1).log()).sum(-1)
    return torch.where(total[..., 0] > 0, entropy.exp(), 0)


@implements("low-rank-training")
@torch.no_grad()
def spectral_init_(
    layer: LowRankLinear,
    weight: Float[Tensor, "o i"] | None = None,
    *,
    ones: bool = False,
    keep_norm: bool = True,
) -> LowRankLinear:
    r"""Start a factorised layer from the leading singular vectors of a full-rank start
    :math:`W_0 = P S Q^\top`.

    .. math:: U = P_r S_r^{1/2}, \quad V = Q_r S_r^{1/2} \qquad\text{or, with ones,}\qquad
        U = \sqrt c\, P_r, \quad V = \sqrt c\, Q_r

    Args:
        layer: its factors are overwritten; the bias is left alone.
        weight: :math:`W_0`; None draws it normal with variance 1 / i.
        ones: replace all singular values by one value c ("spectral ones").
        keep_norm: with ``ones``, choose c so that the product has the Frobenius norm of the spectral start;
            False leaves c = 1.

    Raises:
        ValueError: if ``weight`` has another shape than the layer's.

    Paper: Exploring Low Rank Training of Deep Neural Networks - https://arxiv.org/abs/2209.13569

    Inferred: the scale c of the variant with ones, hence the option.

    >>> layer = spectral_init_(LowRankLinear(6, 4, 2), ones=True, keep_norm=False)
    >>> torch.linalg.svdvals(layer.weight).round(decimals=3).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    shape = (layer.out_features, layer.in_features)
    if weight is None:
        weight = torch.randn_like(wide(layer.u.new_empty(shape))) / math.sqrt(layer.in_features)
    if weight.shape != shape:
        raise ValueError(
            f"spectral_init_: the layer stands for a matrix {shape}, got a start {tuple(weight.shape)}"
        )
    p, s, qh = torch.linalg.svd(wide(weight), full_matrices=False)
    s = s[: layer.rank]
    if ones:
        s = torch.ones_like(s) * (s.square().mean().sqrt() if keep_norm else 1)
    layer.u.copy_(p[:, : layer.rank] * s.sqrt())
    layer.v.copy_(qh[: layer.rank].mT * s.sqrt())
    return layer


@implements("low-rank-training")
def frobenius_decay(u: Float[Tensor, "o r"], v: Float[Tensor, "i r"]) -> Float[Tensor, ""]:
    r"""Half the squared norm of the product, without forming the product.

    .. math:: \tfrac12 \|U V^\top\|_F^2 = \tfrac12 \operatorname{tr}\bigl((U^\top U)(V^\top V)\bigr), \qquad
        \nabla_U = U (V^\top V), \quad \nabla_V = V (U^\top U)

    Multiply by the decay :math:`\lambda` and add to the loss. Plain weight decay would penalise
    :math:`\tfrac12 (\|U\|_F^2 + \|V\|_F^2)` instead, which bounds the sum of the singular values, not of
    their squares, and so pulls towards few of them.

    Args:
        u: left factor.
        v: right factor.

    Paper: Exploring Low Rank Training of Deep Neural Networks - https://arxiv.org/abs/2209.13569

    >>> frobenius_decay(torch.tensor([[2.0]]), torch.tensor([[3.0], [4.0]]))
    tensor(50.)
    """
    return 0.5 * ((u.mT @ u) * (v.mT @ v)).sum()
