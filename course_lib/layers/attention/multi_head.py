"""Multi-head, grouped-query and multi-query attention, and the cache with which they decode."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers.attention._common import head_width, require_tokens, reset_projections
from course_lib.layers.attention.dot_product import Mask, attention_weights, scaled_dot_product
from course_lib.registry import implements

__all__ = ["GroupedQueryAttention", "KVCache", "MultiHeadAttention", "MultiQueryAttention", "kv_cache_bytes"]


class KVCache:
    """Keys and values of all tokens seen so far: what one attention layer keeps while it decodes.

    Hand the same cache to the layer at every step; each call appends the new tokens and attends to all.
    Memory is allocated by doubling, so that most steps copy nothing of the past.

    Raises:
        ValueError: if a gradient would have to flow through it, or if batch, heads or width change.

    >>> layer, cache = MultiQueryAttention(16, 4, causal=True), KVCache()
    >>> with torch.no_grad():
    ...     steps = [layer(torch.randn(1, 1, 16), cache=cache) for _ in range(3)]
    >>> len(cache), cache.keys.shape, cache.nbytes
    (3, torch.Size([1, 1, 3, 4]), 96)
    """

    def __init__(self) -> None:
        self._length = 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t v"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s v"]]:
        """Keep the newest keys and values; returns those of all tokens so far, oldest first."""
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise ValueError("a KVCache keeps no gradients; decode inside torch.no_grad()")
        if self._buffers is None:
            self._buffers = (k[..., :0, :], v[..., :0, :])
        for name, new, old in zip(("keys", "values"), (k, v), self._buffers, strict=True):
            if (new.shape[:2], new.shape[-1]) != (old.shape[:2], old.shape[-1]):
                raise ValueError(
                    f"the cache holds {name} of (b, g, *, d) = {tuple(old.shape)}, got {tuple(new.shape)}; "
                    "use one new KVCache per layer and per batch"
                )
        start, self._length = self._length, self._length + k.shape[-2]
        self._buffers = tuple(_grow(old, start, self._length) for old in self._buffers)
        for new, buffer in zip((k, v), self._buffers, strict=True):
            buffer[..., start : self._length, :] = new
        return self.keys, self.values

    @property
    def keys(self) -> Float[Tensor, "b g s d"] | None:
        """All keys so far, oldest first; None before the first step."""
        return None if self._buffers is None else self._buffers[0][..., : self._length, :]

    @property
    def values(self) -> Float[Tensor, "b g s v"] | None:
        """All values so far, oldest first; None before the first step."""
        return None if self._buffers is None else self._buffers[1][..., : self._length, :]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held, without the spare room."""
        return 0 if self._buffers is None else self.keys.nbytes + self.values.nbytes

    def __len__(self) -> int:
        return self._length


def _grow(buffer: Tensor, used: int, needed: int) -> Tensor:
    """The same buffer, or one of twice the size if it is too short."""
    if needed <= buffer.shape[-2]:
        return buffer
    larger = buffer.new_empty(*buffer.shape[:-2], max(needed, 2 * used), buffer.shape[-1])
    larger[..., :used, :] = buffer[..., :used, :]
    return larger


@implements("multi-query-attention")
def kv_cache_bytes(
    length: int,
    num_kv_heads: int,
    head_dim: int,
    *,
    num_layers: int = 1,
    batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> int:
    r"""Bytes that a decoder keeps for its keys and values.

    .. math:: 2 \cdot L \cdot B \cdot S \cdot G \cdot d_h \cdot \text{bytes per number}

    Args:
        length: tokens S in the cache.
        num_kv_heads: key-value heads G: H for multi-head, 1 for multi-query attention.
        head_dim: width of a head.
        num_layers: layers L, each with a cache of its own.
        batch_size: sequences B that are decoded together.
        dtype: of keys and values.

    Raises:
        ValueError: for a negative size.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150

    >>> kv_cache_bytes(4096, 8, 8), kv_cache_bytes(4096, 1, 8)
    (2097152, 262144)
    """
    sizes = (length, num_kv_heads, head_dim, num_layers, batch_size)
    if min(sizes) < 0:
        raise ValueError(f"sizes cannot be negative, got {sizes} = (length, heads, head_dim, layers, batch)")
    return 2 * length * num_kv_heads * head_dim * num_layers * batch_size * dtype.itemsize


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

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also the weights ``(b, h, t, s)``.

    Raises:
        ValueError: for sizes that do not fit, or options that exclude each other.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150 (its
    baseline; attention in heads is from https://arxiv.org/abs/1706.03762)

    Differs from ``torch.nn.MultiheadAttention``: batch first, weights per head and only on request, a causal
    flag, a cache for decoding; no bias of the keys, whose gradient would always be zero; each projection is
    drawn Xavier-uniform by its own shape, where torch draws q, k and v as one matrix. Variants override
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
    ) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.dim, self.num_heads, self.num_kv_heads = dim, num_heads, num_heads
        self.head_dim = head_width(dim, num_heads, head_dim)
        self.causal, self.dropout = causal, dropout
        width = num_heads * self.head_dim
        self.query = nn.Linear(dim, width, bias=bias)
        self.key = nn.Linear(dim, width, bias=False)  # q . b is the same for all keys: the softmax cancels it
        self.value = nn.Linear(dim, width, bias=bias)
        self.out = nn.Linear(width, dim, bias=bias)
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
    ) -> Float[Tensor, "b t d"] | tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t _"]]:
        self._require_inputs(x, context, cache)
        q, k, v = self.project(x, x if context is None else context)
        if cache is not None:
            k, v = cache.append(k, v)
        heads, weights = self.attend(q, k, v, mask=mask, return_weights=return_weights)
        y = self.out(heads.transpose(1, 2).flatten(2))
        return (y, weights) if return_weights else y

    def _require_inputs(self, x: Tensor, context: Tensor | None, cache: KVCache | None) -> None:
        for tensor in (x,) if context is None else (x, context):
            require_tokens(tensor, self.dim, self)
        if self.causal and context is not None:
            raise ValueError(
                "a causal layer compares positions of one sequence; build it with causal=False for a context"
            )
        if cache is not None and not self.causal:
            raise ValueError(
                "a cache needs causal=True: without it, earlier tokens would have to see later ones"
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
    ) -> None:
        super().__init__(dim, num_heads, head_dim=head_dim, causal=causal, bias=bias, dropout=dropout)
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ValueError(f"num_kv_heads={num_kv_heads} must divide num_heads={num_heads}")
        self.num_kv_heads = num_kv_heads
        self.key = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(dim, num_kv_heads * self.head_dim, bias=bias)
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

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also the weights ``(b, h, t, s)``.

    Raises:
        ValueError: as :class:`MultiHeadAttention`.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150 (which
    has no biases: ``bias=False``)

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
    ) -> None:
        super().__init__(dim, num_heads, 1, head_dim=head_dim, causal=causal, bias=bias, dropout=dropout)
