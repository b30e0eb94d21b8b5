"""Multi-head, grouped-query and multi-query attention."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import layer_name, require_divides, require_fraction, require_tokens
from course_lib.layers.attention._common import head_width, reset_projections
from course_lib.layers.attention.cache import KVCache, unchanged_on_error
from course_lib.layers.attention.dot_product import (
    Mask,
    attention_weights,
    require_mask,
    scaled_dot_product,
)
from course_lib.registry import implements

torch.fx.wrap("attention_weights")
torch.fx.wrap("scaled_dot_product")


@implements(
    "multi-query-attention",
    example=lambda: (MultiHeadAttention(8, 2), torch.randn(2, 5, 8)),
    permutation_equivariant=True,
)
class MultiHeadAttention(nn.Module):
    r"""Attention in H subspaces at once, each with queries, keys and values of its own.

    .. math:: y_t = b^O + \sum_h W^O_h \sum_s a_{hts}\, v_{hs}, \qquad
        a_{hts} = \mathrm{softmax}_s\Bigl(\frac{q_{ht} \cdot k_{hs}}{\sqrt{d_h}}\Bigr), \qquad
        q_{ht} = W^Q_h x_t, \quad k_{hs} = W^K_h c_s, \quad v_{hs} = W^V_h c_s

    with the context c = x unless another one is given. Beside x, ``forward`` takes a ``context`` ``(b, s,
    d)``, a ``mask`` as :func:`scaled_dot_product` does, a ``cache`` (:class:`KVCache`) and
    ``return_weights``.

    Args:
        dim: width d of input, context and output.
        num_heads: heads H.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        causal: mask the future.
        bias: give queries, values and output a bias; for keys the softmax would cancel it.
        dropout: probability with which an attention weight is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also the weights ``(b, h, t, s)``.

    Raises:
        ValueError: for sizes or inputs that do not fit, or options that exclude each other.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150 (its
    baseline; attention in heads is from https://arxiv.org/abs/1706.03762)

    Differs from ``torch.nn.MultiheadAttention``: batch first, weights per head and only on request, a causal
    flag, a cache for decoding; no bias of the keys, whose gradient would always be zero; each projection is
    drawn Xavier-uniform by its own shape, where torch draws q, k and v as one matrix. The weights of torch's
    layer are taken over by :func:`course_lib.models.transformers.foreign_state`. Variants override
    :meth:`project` (who makes q, k, v) or :meth:`attend` (how they meet).

    >>> y, weights = MultiHeadAttention(8, 2, causal=True)(torch.randn(1, 3, 8), return_weights=True)
    >>> y.shape, weights[0, :, 0]
    (torch.Size([1, 3, 8]), tensor([[1., 0., 0.],
            [1., 0., 0.]], grad_fn=<SelectBackward0>))
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        require_fraction(type(self).__name__, dropout=dropout)
        self.dim, self.num_heads, self.num_kv_heads = dim, num_heads, num_heads
        self.head_dim = head_width(type(self).__name__, dim, num_heads, head_dim)
        self.causal, self.dropout = causal, dropout
        width = num_heads * self.head_dim
        self.query = nn.Linear(dim, width, bias=bias, **factory)
        self.key = nn.Linear(dim, width, bias=False, **factory)  # a bias would add q . b to all scores alike
        self.value = nn.Linear(dim, width, bias=bias, **factory)
        self.out = nn.Linear(width, dim, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections, biases zero."""
        reset_projections(self.query, self.key, self.value, self.out)

    def project(
        self, x: Float[Tensor, "b t d"], context: Float[Tensor, "b s d"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Who makes q, k and v: queries ``(b, h, t, e)`` from x, keys and values ``(b, g, s, e)`` from c."""
        q, k, v = self.query(x), self.key(context), self.value(context)
        return tuple(part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in (q, k, v))

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Mask | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """How they meet: outputs of the heads ``(b, h, t, e)``, and weights ``(b, h, t, s)`` if asked for."""
        dropout = self.dropout if self.training else 0.0
        if not return_weights:  # the fused kernel never stores the weights
            return scaled_dot_product(q, k, v, mask=mask, causal=self.causal, dropout=dropout), None
        weights = attention_weights(q, k, mask=mask, causal=self.causal)
        v = v.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)
        return F.dropout(weights, dropout) @ v, weights

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        context: Float[Tensor, "b s d"] | None = None,
        *,
        mask: Mask | None = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
    ) -> Float[Tensor, "b t o"] | tuple[Float[Tensor, "b t o"], Float[Tensor, "b h t _"]]:
        self._require_inputs(x, context, cache)
        q, k, v = self.project(x, x if context is None else context)
        if mask is not None:
            sources = k.shape[2] + (0 if cache is None else len(cache))
            require_mask(mask, (*q.shape[:-1], sources), layer_name(self))
        if cache is None:
            heads, weights = self.attend(q, k, v, mask=mask, return_weights=return_weights)
        else:
            with unchanged_on_error(cache):
                k, v = cache.append(k, v)
                heads, weights = self.attend(q, k, v, mask=mask, return_weights=return_weights)
        y = self.out(heads.transpose(1, 2).flatten(2))
        return (y, weights) if return_weights else y

    def _require_inputs(self, x: Tensor, context: Tensor | None, cache: KVCache | None) -> None:
        require_tokens(x, self.dim, self)
        if context is not None:
            require_tokens(context, self.dim, self, name="context")
        if self.causal and context is not None:
            raise ValueError(
                f"{layer_name(self)} compares positions of one sequence; for a context build it with "
                "causal=False"
            )
        if cache is not None and not self.causal:
            raise ValueError(
                f"{layer_name(self)}: a cache needs causal=True, else earlier tokens would have to see "
                "later ones"
            )

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, head_dim={self.head_dim}, causal={self.causal}"


@implements(
    "multi-query-attention",
    example=lambda: (GroupedQueryAttention(8, 4, 2, causal=True), torch.randn(2, 5, 8)),
    causal=True,
)
class GroupedQueryAttention(MultiHeadAttention):
    r"""Multi-head attention in which groups of query heads share one key and one value head.

    .. math:: k_{gs} = W^K_g c_s, \quad v_{gs} = W^V_g c_s \quad (g < G), \qquad
        a_{hts} = \mathrm{softmax}_s\Bigl(\frac{q_{ht} \cdot k_{g(h)s}}{\sqrt{d_h}}\Bigr), \qquad
        g(h) = \lfloor h G / H \rfloor

    G = H is :class:`MultiHeadAttention`, G = 1 is :class:`MultiQueryAttention`; the cache shrinks by H / G.

    Args:
        dim: width d of input, context and output.
        num_heads: query heads H.
        num_kv_heads: key-value heads G, a divisor of H.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        causal: mask the future.
        bias: give queries, values and output a bias; for keys the softmax would cancel it.
        dropout: probability with which an attention weight is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also the weights ``(b, h, t, s)``.

    Raises:
        ValueError: if G does not divide H, and as :class:`MultiHeadAttention`.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150 (the
    two ends; the family between them is from https://arxiv.org/abs/2305.13245)

    >>> GroupedQueryAttention(8, 4, 2).key.weight.shape
    torch.Size([4, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        *,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_divides(type(self).__name__, num_heads=num_heads, num_kv_heads=num_kv_heads)
        factory = {"device": device, "dtype": dtype}
        super().__init__(
            dim, num_heads, head_dim=head_dim, causal=causal, bias=bias, dropout=dropout, **factory
        )
        self.num_kv_heads = num_kv_heads
        self.key = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False, **factory)
        self.value = nn.Linear(dim, num_kv_heads * self.head_dim, bias=bias, **factory)
        self.reset_parameters()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_kv_heads={self.num_kv_heads}"


@implements(
    "multi-query-attention",
    example=lambda: (MultiQueryAttention(8, 2, causal=True), torch.randn(2, 5, 8)),
    causal=True,
)
class MultiQueryAttention(GroupedQueryAttention):
    r"""Multi-head attention with one key head and one value head for all queries.

    .. math:: y_t = b^O + \sum_h W^O_h \sum_s \mathrm{softmax}_s\Bigl(\frac{q_{ht} \cdot k_s}{\sqrt{d_h}}
        \Bigr) v_s, \qquad k_s = W^K c_s, \quad v_s = W^V c_s

    Args:
        dim: width d of input, context and output.
        num_heads: query heads H.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        causal: mask the future.
        bias: give queries, values and output a bias; for keys the softmax would cancel it.
        dropout: probability with which an attention weight is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also the weights ``(b, h, t, s)``.

    Raises:
        ValueError: as :class:`MultiHeadAttention`.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150 (which
    has no biases: ``bias=False``)

    Differs from the paper: its scores are not divided by :math:`\sqrt{d_h}`. In Mesh TensorFlow, the library
    of its author, whose values the tests hold, the root sits in the start of the query matrix, which is
    smaller by it (and all weights start normal, not Xavier-uniform).

    >>> sum(p.numel() for p in MultiQueryAttention(8, 4, bias=False).parameters())
    160
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            dim,
            num_heads,
            1,
            head_dim=head_dim,
            causal=causal,
            bias=bias,
            dropout=dropout,
            device=device,
            dtype=dtype,
        )
