"""Scaled dot-product attention: the one equation of this chapter, written out and fused."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from course_lib.counting import recording
from course_lib.registry import implements

Mask = Bool[Tensor, "..."] | Float[Tensor, "..."]


def causal_mask(queries: int, sources: int, *, device: torch.device | None = None) -> Bool[Tensor, "t s"]:
    """True where a query may look: the last query sees every source, the one before it all but the last, ...

    Queries are the *newest* of the sources, so that one rule serves training (as many queries as sources) and
    decoding with a cache (one query, many sources).

    Args:
        queries: number of queries t.
        sources: number of keys s, at least t.
        device: where the mask lives.

    Raises:
        ValueError: if there are more queries than sources.

    Differs from torch: ``is_causal=True`` aligns the *first* query with the first key.

    >>> causal_mask(2, 3).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    if queries > sources:
        raise ValueError(
            f"{queries} causal queries over {sources} keys: the first {queries - sources} would see no key; "
            "pass the keys of every query"
        )
    return torch.ones(queries, sources, dtype=torch.bool, device=device).tril(sources - queries)


def attention_weights(
    q: Float[Tensor, "*b h t d"],
    k: Float[Tensor, "*b g s d"],
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*b h t s"]:
    r"""How much of each source every query takes, head by head.

    .. math:: a_{hts} = \mathrm{softmax}_s\bigl(\beta\, q_{ht} \cdot k_{g(h)s} + m_{ts}\bigr), \qquad
        g(h) = \lfloor h G / H \rfloor

    Args:
        q: queries.
        k: keys; their number of heads G divides that of the queries.
        mask: as for :func:`scaled_dot_product`.
        causal: mask the future, see :func:`causal_mask`.
        scale: :math:`\beta`, :math:`1/\sqrt d` unless given.

    Shape: ``(*b, h, t, d)`` and ``(*b, g, s, d)`` to ``(*b, h, t, s)``; rows sum to one. A query that may
    see no source at all has the weight zero everywhere.

    Raises:
        ValueError: for heads, widths or a mask that do not fit; also a mask of integers, which could be meant
            either way.
        TypeError: for anything but real numbers of one dtype.

    >>> attention_weights(torch.ones(1, 2, 4), torch.ones(1, 2, 4), causal=True)
    tensor([[[1.0000, 0.0000],
             [0.5000, 0.5000]]])
    """
    _require_fit("attention_weights", q, k, mask)
    heads, queries, width = q.shape[-3:]
    scale = width**-0.5 if scale is None else scale
    scores = scale * q @ _per_head(k, heads).mT  # (*b, h, t, s)
    if causal:
        scores = scores.masked_fill(~causal_mask(queries, k.shape[-2], device=q.device), -torch.inf)
    if mask is not None:
        scores = masked(scores, mask)
    blind = (scores == -torch.inf).all(-1, keepdim=True)  # softmax would divide 0 by 0
    return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)


def scaled_dot_product_naive(
    q: Float[Tensor, "*b h t d"],
    k: Float[Tensor, "*b g s d"],
    v: Float[Tensor, "*b g s v"],
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Float[Tensor, "*b h t v"]:
    r"""Attention as written: weights for all pairs, then a weighted mean of the values.

    .. math:: y_{ht} = \sum_s a_{hts}\, v_{g(h)s}, \qquad a = \text{attention_weights}(q, k)

    >>> scaled_dot_product_naive(torch.zeros(1, 1, 2), torch.ones(1, 2, 2), torch.tensor([[[1.0], [3.0]]]))
    tensor([[[2.]]])
    """
    weights = attention_weights(q, k, mask=mask, causal=causal, scale=scale)
    return weights @ _per_head(v, q.shape[-3])


@implements("multi-query-attention")
def scaled_dot_product(
    q: Float[Tensor, "*b h t d"],
    k: Float[Tensor, "*b g s d"],
    v: Float[Tensor, "*b g s v"],
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "*b h t v"]:
    r"""Attention in one fused call, with as many or fewer key-value heads than query heads.

    .. math:: y_{ht} = \sum_s \mathrm{softmax}_s\bigl(\beta\, q_{ht} \cdot k_{g(h)s} + m_{ts}\bigr)\,
        v_{g(h)s}, \qquad g(h) = \lfloor h G / H \rfloor

    Args:
        q: queries of H heads.
        k: keys of G heads, G a divisor of H: H is multi-head, 1 multi-query, else grouped-query attention.
        v: values of G heads; their width may differ from that of the keys.
        mask: broadcasts to ``(*b, h, t, s)``; bool (True: may look) or float (added to the scores).
        causal: mask the future, see :func:`causal_mask`; together with ``mask`` both hold.
        scale: :math:`\beta`, :math:`1/\sqrt d` with d the width of a *head* unless given.
        dropout: probability with which a weight is dropped; pass 0 outside training.

    Shape: ``(*b, h, t, d)``, ``(*b, g, s, d)``, ``(*b, g, s, v)`` to ``(*b, h, t, v)``.

    Raises:
        ValueError: for heads, widths or a mask that do not fit; also a mask of integers, which could be meant
            either way.
        TypeError: for anything but real numbers of one dtype.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150

    Differs from ``torch.nn.functional.scaled_dot_product_attention``: heads are grouped without a flag;
    causal queries are aligned with the newest keys; and where no mask forbids it, heads that share their keys
    are stacked as rows of one product, so that the shared keys are read from memory once.

    >>> q, k, v = torch.randn(4, 3, 8), torch.randn(2, 5, 8), torch.randn(2, 5, 7)
    >>> scaled_dot_product(q, k, v).shape
    torch.Size([4, 3, 7])
    """
    _require_fit("scaled_dot_product", q, k, mask, v)
    (heads, queries, width), (groups, sources) = q.shape[-3:], k.shape[-3:-1]
    if mask is None and not (causal and queries > 1):
        rows = q.reshape(*q.shape[:-3], groups, heads // groups * queries, width)
        y = F.scaled_dot_product_attention(rows, k, v, dropout_p=dropout, scale=scale)
        return y.reshape(*q.shape[:-1], v.shape[-1])
    # bool(): under torch.jit.trace sizes are tensors
    shared = {"dropout_p": dropout, "scale": scale, "enable_gqa": bool(groups != heads)}
    if mask is None and queries == sources:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, **shared)
    if causal:
        visible = causal_mask(queries, sources, device=q.device)
        if mask is None or mask.dtype == torch.bool:
            mask = visible if mask is None else visible & mask
        else:
            mask = mask.masked_fill(~visible, -torch.inf)
    mask = mask if mask.dtype in (torch.bool, torch.float32) else mask.to(q.dtype)  # what torch takes
    return F.scaled_dot_product_attention(q, k, v, attn_mask=torch.atleast_2d(mask), **shared)


def attention_scores(run: Callable[[], Any]) -> int:
    """How many attention scores a piece of code computes: the numbers that enter a softmax.

    Counted where they happen, inside torch's operators, so that it holds for any layer, ours or not. A masked
    score counts if it was computed. Every softmax counts, so leave one over a vocabulary outside.

    Args:
        run: called once, without arguments.

    >>> q = k = v = torch.randn(2, 4, 5, 8)
    >>> attention_scores(lambda: scaled_dot_product(q, k, v)), 2 * 4 * 5 * 5
    (200, 200)
    """
    with recording() as operations:
        run()
    return sum(each.scores for each in operations)


def _per_head(x: Tensor, heads: int) -> Tensor:
    """The keys or values that every head reads: its group's."""
    return x.repeat_interleave(heads // x.shape[-3], dim=-3)


def _shapes(q: Tensor, k: Tensor, v: Tensor | None) -> str:
    """For messages alone: text made of a size binds an exported program to that size."""
    values = "" if v is None else f", values {tuple(v.shape)}"
    return f"queries {tuple(q.shape)}, keys {tuple(k.shape)}{values}"


def _require_fit(name: str, q: Tensor, k: Tensor, mask: Tensor | None, v: Tensor | None = None) -> None:
    _require_numbers(name, q, k, v)
    if torch.jit.is_tracing():  # sizes are tensors there, and every comparison would be a warning
        return
    if min(q.ndim, k.ndim) < 3 or q.shape[:-3] != k.shape[:-3] or q.shape[-1] != k.shape[-1]:
        raise ValueError(
            f"{name}: expected (*b, h, t, d) and (*b, g, s, d) with equal b and d, got {_shapes(q, k, v)}"
        )
    if k.shape[-3] < 1 or q.shape[-3] % k.shape[-3]:
        raise ValueError(
            f"{name}: {k.shape[-3]} key heads do not divide {q.shape[-3]} query heads: {_shapes(q, k, v)}"
        )
    if v is not None and v.shape[:-1] != k.shape[:-1]:
        raise ValueError(f"{name}: every key needs one value, got {_shapes(q, k, v)}")
    require_mask(mask, (*q.shape[:-1], k.shape[-2]), name)


def _require_numbers(name: str, q: Tensor, k: Tensor, v: Tensor | None) -> None:
    for tensor in (q, k) if v is None else (q, k, v):
        if not tensor.is_floating_point():
            raise TypeError(f"{name}: expected real numbers, got {tensor.dtype}; convert them: .float()")
        if tensor.device != q.device:
            raise ValueError(f"{name}: queries are on {q.device}, keys or values on {tensor.device}")
        if tensor.dtype != q.dtype and not torch.is_autocast_enabled(q.device.type):
            raise TypeError(f"{name}: queries are {q.dtype}, keys or values {tensor.dtype}; convert one")


def require_mask(mask: Any, scores: tuple[int, ...], layer: str) -> None:
    """Raise unless a mask, if there is one, is bool or floating-point and broadcasts to the scores."""
    if mask is None:
        return
    if not isinstance(mask, Tensor):
        raise TypeError(f"{layer}: mask must be a tensor, got {type(mask).__name__}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise ValueError(
            f"{layer}: mask must be bool (True: may look) or floating-point (added to the scores), got "
            f"{mask.dtype}; for ones and zeros take mask.bool()"
        )
    try:
        fits = torch.broadcast_shapes(mask.shape, scores) == scores
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{layer}: a mask of shape {tuple(mask.shape)} does not broadcast to {scores} = (*b, h, t, s)"
        )


def masked(scores: Tensor, mask: Mask) -> Tensor:
    """Scores after a mask: minus infinity where a bool one is False, or with a floating-point one added."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask.to(scores.dtype)
