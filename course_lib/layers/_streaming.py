"""Layers that run token by token, and the state that they keep between two calls."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from course_lib.layers._shapes import require_at_least

__numerics__ = 1

State = Any  # a tensor, or a tuple of states; the batch is axis 0 of every tensor


class _Kept(NamedTuple):
    """What a cache holds. It is replaced, never changed, so that a refused call leaves no trace."""

    length: int
    state: State


class StateCache:
    """The state of one recurrent layer after all tokens seen so far: its size does not grow with them.

    It stands where attention has its :class:`~course_lib.layers.attention.KVCache`: hand the same cache to
    the layer at every call. What a layer refuses leaves the cache as it was.

    >>> cache = StateCache()
    >>> cache.append(3, torch.zeros(2, 4))  # a layer does this: three more tokens, and the state behind them
    >>> len(cache), cache.state.shape, cache.nbytes
    (3, torch.Size([2, 4]), 32)
    """

    def __init__(self) -> None:
        self._held: _Kept | None = None

    @property
    def state(self) -> State | None:
        """The state behind the last token; None before the first."""
        return None if self._held is None else self._held.state

    def append(self, tokens: int, state: State) -> None:
        """Count new tokens, and keep the state behind the last of them.

        Raises:
            ValueError: if a gradient would have to flow through it.
        """
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tree_leaves(state)):
            raise ValueError("a StateCache keeps no gradients; decode inside torch.no_grad()")
        self._held = _Kept(len(self) + tokens, state)

    def reset(self) -> None:
        """Forget everything; the next batch may have another size."""
        self._held = None

    def crop(self, length: int) -> None:
        """Keep all tokens or none: a state does not hold its own past.

        Raises:
            ValueError: for any length in between, or outside.
            TypeError: for anything but an integer.
        """
        require_at_least(0, "StateCache.crop", length=length)
        if length not in (0, len(self)):
            raise ValueError(
                f"StateCache.crop: the state behind {len(self)} tokens cannot be taken back to {length}; "
                "keep a state from then, or reset and run the first tokens again"
            )
        if length == 0:
            self.reset()

    def reorder(self, rows: Int[Tensor, "n"]) -> None:
        """Let row i of the batch continue what row ``rows[i]`` was: the step from beam to beam.

        Raises:
            ValueError: for an index outside the batch, an empty cache, or anything but one axis.
            TypeError: for indices that are no integers.
        """
        if self._held is None:
            raise ValueError("StateCache.reorder: the cache is empty, there are no rows to choose from")
        require_rows("StateCache.reorder", rows, len(tree_leaves(self._held.state)[0]))
        state = tree_map(lambda leaf: leaf.index_select(0, rows.to(leaf.device)), self._held.state)
        self._held = _Kept(len(self), state)

    def to(self, *args: Any, **kwargs: Any) -> "StateCache":
        """Move the state, as ``torch.Tensor.to`` does, to a device or another type."""
        if self._held is not None:
            self._held = _Kept(len(self), tree_map(lambda leaf: leaf.to(*args, **kwargs), self._held.state))
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of the state."""
        return sum(leaf.nbytes for leaf in tree_leaves(self.state) if leaf is not None)

    def __len__(self) -> int:
        return 0 if self._held is None else self._held.length

    def __repr__(self) -> str:
        return f"StateCache({len(self)} tokens, {self.nbytes} bytes)"


class Streaming(nn.Module):
    r"""A layer of sequences that can also run token by token, with a state between the tokens.

    .. math:: (y_t, s_t) = \mathrm{step}(x_t, s_{t-1}), \qquad s_0 = \text{None}

    A subclass writes :meth:`step`, and :meth:`prefill` where many tokens at once are faster than one after
    the other; both give the same numbers. The rest follows, and ``GPT.generate`` runs it with its state
    instead of all tokens again.

    >>> class Sum(Streaming):
    ...     def step(self, x, state=None):
    ...         state = x if state is None else state + x
    ...         return state, state
    >>> Sum()(torch.ones(1, 3, 1)).flatten()
    tensor([1., 2., 3.])
    """

    def step(self, x: Float[Tensor, "b d"], state: State | None = None) -> tuple[Float[Tensor, "b d"], State]:
        """One token and the state before it to the output and the state behind it; neither is changed.

        Args:
            x: the token.
            state: from the step before; None at the start.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method step(x, state)")

    def prefill(
        self, x: Float[Tensor, "b t d"], state: State | None = None
    ) -> tuple[Float[Tensor, "b t d"], State]:
        """Many tokens at once, from a state to the state behind the last of them.

        Args:
            x: the tokens.
            state: from the tokens before; None at the start.
        """
        outputs = []
        for token in x.unbind(1):
            y, state = self.step(token, state)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def forward(
        self, x: Float[Tensor, "b t d"], *, cache: StateCache | None = None
    ) -> Float[Tensor, "b t d"]:
        if cache is None:
            return self.prefill(x)[0]
        y, state = self.prefill(x, cache.state)
        cache.append(x.shape[1], state)
        return y

    def new_cache(self) -> StateCache:
        """What :class:`~course_lib.models.transformers.GPT` keeps for this layer while it writes."""
        return StateCache()


def require_rows(where: str, rows: Any, batch: int) -> None:
    """Raise unless ``rows`` is a vector of indices into a batch.

    >>> require_rows("StateCache.reorder", torch.tensor([0, 2]), 2)
    Traceback (most recent call last):
    ValueError: StateCache.reorder: rows must be a vector of numbers from 0 to 1, got [0, 2]
    """
    if not isinstance(rows, Tensor) or rows.dtype not in (torch.int32, torch.int64):
        raise TypeError(
            f"{where}: rows must be a tensor of int64, got {getattr(rows, 'dtype', type(rows).__name__)}"
        )
    if rows.ndim != 1 or not rows.numel() or rows.min() < 0 or rows.max() >= batch:
        raise ValueError(
            f"{where}: rows must be a vector of numbers from 0 to {batch - 1}, got {rows.tolist()}"
        )
