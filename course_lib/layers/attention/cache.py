"""The keys and values that a layer keeps while it decodes: what it holds, and how many bytes that is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.layers._shapes import require_at_least
from course_lib.layers._streaming import StateCache, require_rows
from course_lib.registry import implements


class _Held(NamedTuple):
    """The whole state of a cache. It is replaced, never changed, so that a refused call leaves no trace."""

    length: int
    keys: Tensor  # with spare room behind the first `length` tokens
    values: Tensor


class KVCache:
    """Keys and values of all tokens seen so far: what one attention layer keeps while it decodes.

    Hand the same cache to the layer at every step; each call appends the new tokens and attends to all.
    Memory is allocated by doubling, so that most steps copy nothing of the past. Whatever is refused, here or
    by the layer, leaves the cache as it was.

    >>> from course_lib.layers.attention import MultiQueryAttention
    >>> layer, cache = MultiQueryAttention(16, 4, causal=True), KVCache()
    >>> with torch.no_grad():
    ...     steps = [layer(torch.randn(1, 1, 16), cache=cache) for _ in range(3)]
    >>> len(cache), cache.keys.shape, cache.nbytes
    (3, torch.Size([1, 1, 3, 4]), 96)
    >>> cache.crop(2)  # take the last token back
    >>> len(cache)
    2
    """

    def __init__(self) -> None:
        self._held: _Held | None = None

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t v"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s v"]]:
        """Keep the newest keys and values; returns those of all tokens so far, oldest first.

        Raises:
            ValueError: if a gradient would have to flow through it, if keys and values are not equally many,
                or if batch, heads, width, dtype or device are not those of what the cache holds.
        """
        self._require_fit(k, v)
        start = len(self)
        length = start + k.shape[-2]
        held = self._held or _Held(0, k[..., :0, :], v[..., :0, :])
        keys, values = (_grown(buffer, start, length) for buffer in (held.keys, held.values))
        keys[..., start:length, :] = k
        values[..., start:length, :] = v
        self._held = _Held(length, keys, values)
        return self.keys, self.values

    def reset(self) -> None:
        """Forget everything; the next batch may have another size."""
        self._held = None

    def crop(self, length: int) -> None:
        """Keep the first ``length`` tokens and forget the newer ones.

        What :meth:`append` returned before is a view of the same memory: the next tokens overwrite it.

        Raises:
            ValueError: for a length that is negative or above that of the cache.
            TypeError: for anything but an integer.
        """
        require_at_least(0, "KVCache.crop", length=length)
        if length > len(self):
            raise ValueError(f"KVCache.crop: length={length}, but the cache holds {len(self)} tokens")
        if self._held is not None:
            self._held = self._held._replace(length=length)

    def reorder(self, rows: Int[Tensor, "n"]) -> None:
        """Let row i of the batch continue what row ``rows[i]`` was: the step from beam to beam.

        Args:
            rows: indices into the batch, each as often as wanted; their number is the new batch size.

        Raises:
            ValueError: for an index outside the batch, an empty cache, or anything but one axis.
            TypeError: for indices that are no integers.
        """
        if self._held is None:
            raise ValueError("KVCache.reorder: the cache is empty, there are no rows to choose from")
        require_rows("KVCache.reorder", rows, len(self._held.keys))
        rows = rows.to(self._held.keys.device)
        keys, values = (buffer.index_select(0, rows) for buffer in self._held[1:])
        self._held = _Held(len(self), keys, values)

    def to(self, *args: Any, **kwargs: Any) -> "KVCache":
        """Move keys and values, as ``torch.Tensor.to`` does, to a device or another floating-point type.

        Raises:
            TypeError: for a type that is no floating-point one.
        """
        probe = torch.empty(0).to(*args, **kwargs)
        if not probe.is_floating_point():
            raise TypeError(f"KVCache.to: keys are floating-point numbers, got {probe.dtype}")
        if self._held is not None:
            keys, values = (buffer.to(*args, **kwargs) for buffer in self._held[1:])
            self._held = _Held(len(self), keys, values)
        return self

    @property
    def keys(self) -> Float[Tensor, "b g s d"] | None:
        """All keys so far, oldest first; None before the first step."""
        return None if self._held is None else self._held.keys[..., : len(self), :]

    @property
    def values(self) -> Float[Tensor, "b g s v"] | None:
        """All values so far, oldest first; None before the first step."""
        return None if self._held is None else self._held.values[..., : len(self), :]

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values held, without the spare room."""
        return 0 if self._held is None else self.keys.nbytes + self.values.nbytes

    def __len__(self) -> int:
        return 0 if self._held is None else self._held.length

    def __repr__(self) -> str:
        return f"KVCache({len(self)} tokens, {self.nbytes} bytes)"

    def _require_fit(self, k: Tensor, v: Tensor) -> None:
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise ValueError("a KVCache keeps no gradients; decode inside torch.no_grad()")
        if k.ndim != 4 or v.ndim != 4 or k.shape[:3] != v.shape[:3]:
            raise ValueError(
                "KVCache.append: every key needs one value, (b, g, t, d) and (b, g, t, v); got keys "
                f"{tuple(k.shape)} and values {tuple(v.shape)}"
            )
        if self._held is None:
            return
        for name, new, old in (("keys", k, self._held.keys), ("values", v, self._held.values)):
            if (new.shape[:2], new.shape[-1]) != (old.shape[:2], old.shape[-1]):
                raise ValueError(
                    f"the cache holds {name} of (b, g, *, d) = {tuple(old.shape)}, got {tuple(new.shape)}; "
                    "use one new KVCache per layer and per batch"
                )
            if (new.dtype, new.device) != (old.dtype, old.device):
                raise ValueError(
                    f"the cache holds {name} of {old.dtype} on {old.device}, got {new.dtype} on "
                    f"{new.device}; move it with cache.to(...)"
                )


# What a layer keeps while a model writes.
Cache = KVCache | StateCache


@contextmanager
def unchanged_on_error(*caches: Cache) -> Iterator[None]:
    """Give every cache back its state if the body raises, so that the call can be repeated."""
    before = [cache._held for cache in caches]
    try:
        yield
    except BaseException:
        for cache, held in zip(caches, before, strict=True):
            cache._held = held
        raise


def _grown(buffer: Tensor, used: int, needed: int) -> Tensor:
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
        TypeError: for a size that is no integer.

    Paper: Fast Transformer Decoding: One Write-Head is All You Need - https://arxiv.org/abs/1911.02150

    >>> kv_cache_bytes(4096, 8, 8), kv_cache_bytes(4096, 1, 8)
    (2097152, 262144)
    """
    require_at_least(
        0,
        "kv_cache_bytes",
        length=length,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        num_layers=num_layers,
        batch_size=batch_size,
    )
    return 2 * length * num_kv_heads * head_dim * num_layers * batch_size * dtype.itemsize
