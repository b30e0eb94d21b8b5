"""Persistent memory: learned keys and values beside the context take the place of the feed-forward layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from course_lib.layers._shapes import require_at_least, require_fraction, require_positive, require_tokens
from course_lib.layers.attention._common import head_width
from course_lib.layers.attention.cache import KVCache
from course_lib.layers.attention.dot_product import Mask, masked
from course_lib.layers.attention.multi_head import MultiHeadAttention
from course_lib.registry import implements


@implements(
    "all-attention-persistent-memory",
    example=lambda: (AllAttention(8, 2, 3, num_positions=7, causal=True), torch.randn(2, 5, 8)),
    causal=True,
)
class AllAttention(MultiHeadAttention):
    r"""Multi-head attention over the context and over N learned key-value vectors at once.

    .. math:: y_{ht} = \sum_{i=1}^N a_{hti}\, \sqrt N\, v'_{hi} + \sum_s a_{ht,N+s}\, v_{hs}, \qquad
        a_{ht} = \mathrm{softmax}\Bigl(\tfrac{1}{\sqrt{d_h}} \bigl[\, q_{ht} \cdot \sqrt{d_h}\, k'_{hi}
        \;;\; q_{ht} \cdot (k_{hs} + p_{t-s}) \,\bigr]\Bigr)

    One softmax over both sets. Without the context this is a feed-forward layer of N hidden units whose
    activation is a softmax; every position sees all persistent vectors, and no position term applies to
    them.

    Args:
        dim: width d of input and output.
        num_heads: heads H.
        num_slots: persistent vectors N of every head; 4 d gives the parameters of a feed-forward layer of
            width 4 d.
        num_positions: learn the vectors :math:`p_0, p_1, \dots` of so many distances, shared by the heads
            (causal layers only). None: no position term.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        causal: mask the future of the context.
        bias: give queries, values and output a bias, which the paper's have not; for keys the slots could
            absorb it.
        dropout: probability with which an attention weight is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also ``(b, h, t, N + s)``, slots
    first.

    Raises:
        ValueError: for sizes that do not fit, or a context longer than ``num_positions``.

    Paper: Augmenting Self-attention with Persistent Memory - https://arxiv.org/abs/1907.01470

    Differs from the authors' code, whose values the tests hold: there a token does not attend to itself, only
    to those before it (a mask does that here); a query sees a fixed number of tokens back, kept in a cache;
    one table of positions serves all layers (give the layers the same parameter ``positions``); the span of a
    head may be learned; and the projections start as torch's linear layer, not Xavier-uniform. Differs from
    ``torch.nn.MultiheadAttention(add_bias_kv=True)``, which is N = 1: the slots stand *before* the context,
    where the causal mask leaves them visible by itself, and start at unit variance.

    >>> layer = AllAttention(8, 2, 3, causal=True)
    >>> layer(torch.randn(1, 4, 8), return_weights=True)[1].shape
    torch.Size([1, 2, 4, 7])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_slots: int,
        *,
        num_positions: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _require_slots(type(self).__name__, num_slots, num_positions, causal)
        factory = {"device": device, "dtype": dtype}
        super().__init__(
            dim, num_heads, head_dim=head_dim, causal=causal, bias=bias, dropout=dropout, **factory
        )
        self.num_slots, self.num_positions = num_slots, num_positions
        self.slot_keys = nn.Parameter(torch.empty(num_heads, num_slots, self.head_dim, **factory))
        self.slot_values = nn.Parameter(torch.empty(num_heads, num_slots, self.head_dim, **factory))
        if num_positions is not None:
            self.positions = nn.Parameter(torch.empty(num_positions, self.head_dim, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections as usual; k' of variance 1/d_h and v' of 1/N: scaled, both have variance one, as p."""
        super().reset_parameters()
        if not hasattr(self, "slot_keys"):  # called by the parent, which builds its projections first
            return
        nn.init.normal_(self.slot_keys, std=self.head_dim**-0.5)
        nn.init.normal_(self.slot_values, std=max(self.num_slots, 1) ** -0.5)
        if self.num_positions is not None:
            nn.init.normal_(self.positions)

    def slots(self, batch_size: int) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """Persistent keys and values as attention sees them: k' and v' scaled up, for larger steps."""
        keys, values = self.head_dim**0.5 * self.slot_keys, self.num_slots**0.5 * self.slot_values
        return keys.expand(batch_size, -1, -1, -1), values.expand(batch_size, -1, -1, -1)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Mask | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Put the slots before the context; the mask, if there is one, does not concern them."""
        if mask is not None:
            mask = mask.expand(*mask.shape[:-1], k.shape[-2])
        visible = True if mask is not None and mask.dtype == torch.bool else 0.0
        if self.num_positions is not None:
            mask, visible = self._add_positions(q, k, mask), 0.0
        if mask is not None:
            mask = F.pad(mask, (self.num_slots, 0), value=visible)
        slot_keys, slot_values = self.slots(q.shape[0])
        k, v = torch.cat([slot_keys, k], dim=-2), torch.cat([slot_values, v], dim=-2)
        return super().attend(q, k, v, mask=mask, return_weights=return_weights)

    def _add_positions(self, q: Tensor, k: Tensor, mask: Mask | None) -> Float[Tensor, "b h t s"]:
        """The position term of the scores, with the caller's mask worked in."""
        (queries, width), sources = q.shape[-2:], k.shape[-2]
        if not isinstance(q, Proxy) and sources > self.num_positions:
            raise ValueError(
                f"{type(self).__name__}: {sources} tokens exceed num_positions={self.num_positions}; crop "
                "them, or build it longer"
            )
        now = torch.arange(sources - queries, sources, device=q.device)
        distance = now[:, None] - torch.arange(sources, device=q.device)
        distance = distance.clamp(min=0)  # the future is masked
        by_distance = width**-0.5 * q @ self.positions.T  # (b, h, t, num_positions)
        term = by_distance.gather(-1, distance.expand(q.shape[0], q.shape[1], -1, -1))
        return term if mask is None else masked(term, mask)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_slots={self.num_slots}, num_positions={self.num_positions}"


@implements(
    "all-attention-persistent-memory",
    example=lambda: (AllAttentionBlock(8, 2, 3, causal=True), torch.randn(2, 5, 8)),
    causal=True,
)
class AllAttentionBlock(nn.Module):
    r"""A transformer block without a feed-forward sublayer: all-attention, residual, norm.

    .. math:: y = \mathrm{LN}(x + \mathrm{AllAttention}(x))

    The norm stands behind the sum (Post-LN), and no projection has a bias.

    Args:
        dim: width d of the residual stream.
        num_heads: heads.
        num_slots: persistent vectors of every head.
        num_positions: learned distances, see :class:`AllAttention`.
        causal: mask the future.
        dropout: probability with which an attention weight is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: as :class:`AllAttention`.

    Paper: Augmenting Self-attention with Persistent Memory - https://arxiv.org/abs/1907.01470

    >>> AllAttentionBlock(8, 2, 32)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_slots: int,
        *,
        num_positions: int | None = None,
        causal: bool = False,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        name = type(self).__name__
        head_width(name, dim, num_heads, None)
        _require_slots(name, num_slots, num_positions, causal)
        require_fraction(name, dropout=dropout)
        self.dim = dim
        self.attention = AllAttention(
            dim, num_heads, num_slots, num_positions=num_positions, causal=causal, dropout=dropout, **factory
        )
        self.norm_sum = nn.LayerNorm(dim, **factory)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask | None = None, cache: KVCache | None = None
    ) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self)
        return self.norm_sum(x + self.attention(x, mask=mask, cache=cache))

    def extra_repr(self) -> str:
        return f"{self.dim}"


def _require_slots(layer: str, num_slots: int, num_positions: int | None, causal: bool) -> None:
    require_at_least(0, layer, num_slots=num_slots)
    if num_positions is None:
        return
    require_positive(layer, num_positions=num_positions)
    if not causal:
        raise ValueError(f"{layer}: num_positions counts distances into the past; it needs causal=True")
