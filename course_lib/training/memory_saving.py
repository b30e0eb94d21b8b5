"""How many bytes a computation keeps for its backward pass."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class PeakMeter:
    """Count the bytes that autograd stores for backward while the context is open: now, at most, and in all.

    A storage counts once however many tensors share it, with its full size, from the moment when the first of
    them is saved until the last is freed. Parameters, and views of them, are not counted: they are there
    anyway. Inputs are counted where a layer keeps them.

    Args:
        ignore: tensors that are not counted either, such as a data set of which batches are views.

    Attributes:
        live: bytes stored at this moment.
        peak: the largest ``live`` so far.
        total: bytes of everything stored so far. Equal to ``peak`` for one forward pass; larger where stored
            tensors are freed on the way, as by a training method with a backward pass per layer.

    Differs from a memory profiler: it sees tensors that autograd saves (also through
    ``ctx.save_for_backward``), whatever the allocator does, and on any device. What a ``Function`` puts on
    ``ctx`` by hand escapes it, as do gradients, optimiser states and memory that an operation needs only
    while it runs.

    >>> with PeakMeter() as meter:
    ...     y = nn.Linear(3, 5)(torch.zeros(7, 3))
    >>> meter.live, meter.peak, meter.total  # the input of 7 x 3 numbers, for the gradient of the weight
    (84, 84, 84)
    """

    def __init__(self, *, ignore: Iterable[Tensor] = ()) -> None:
        self.live = self.peak = self.total = 0
        self._ignored = {
            _storage(tensor): tensor for tensor in ignore
        }  # kept, so that no address is given out again
        self._holders: Counter[int] = Counter()  # address of a storage -> saved tensors that share it
        self._hooks: torch.autograd.graph.saved_tensors_hooks | None = None

    def __enter__(self) -> "PeakMeter":
        self._hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: _Saved(tensor, self), lambda saved: saved.tensor
        )
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hooks.__exit__(*exception)

    def _counts(self, tensor: Tensor) -> bool:
        root = (
            tensor._base if tensor._is_view() else tensor
        )  # linear layers save a transposed view of the weight
        return not isinstance(root, nn.Parameter) and _storage(tensor) not in self._ignored

    def _hold(self, tensor: Tensor) -> None:
        address, size = _storage(tensor), tensor.untyped_storage().nbytes()
        self._holders[address] += 1
        if self._holders[address] == 1:
            self.live += size
            self.total += size
            self.peak = max(self.peak, self.live)

    def _release(self, tensor: Tensor) -> None:
        address = _storage(tensor)
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self.live -= tensor.untyped_storage().nbytes()


class _Saved:
    """Stands in the graph for a saved tensor, so that we notice when autograd lets it go."""

    def __init__(self, tensor: Tensor, meter: PeakMeter) -> None:
        # Detached: an operation that saves its own output would otherwise hold itself alive in a circle.
        self.tensor, self.meter = tensor.detach(), meter if meter._counts(tensor) else None
        if self.meter is not None:
            self.meter._hold(self.tensor)

    def __del__(self) -> None:
        if self.meter is not None:
            self.meter._release(self.tensor)


def saved_bytes(fn: Callable[[], Any], *, ignore: Iterable[Tensor] = ()) -> int:
    """Call ``fn`` and return the largest number of bytes that autograd held for backward at any one time.

    Pass a forward pass for what a network stores, or a whole training step for the peak of the step.

    Args:
        fn: takes no argument; what it returns is thrown away.
        ignore: tensors that are not counted, besides parameters.

    See :class:`PeakMeter` for what is counted, and for the total over all that was ever stored.

    >>> model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))
    >>> saved_bytes(lambda: model(torch.zeros(7, 3)))  # three inputs: 7 * (3 + 5 + 5) * 4
    364
    """
    with PeakMeter(ignore=ignore) as meter:
        fn()
    return meter.peak


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
