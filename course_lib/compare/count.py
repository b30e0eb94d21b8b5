"""What a layer costs before any clock runs: its parameters, and the operations for one example.

Time depends on the machine and on how well a kernel is written; counts do not. Two kinds are kept apart,
because no machine does them at one speed: multiply-adds of matrix products, and elementwise operations.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

__all__ = ["Operations", "count_operations", "count_parameters"]
__numerics__ = 1


@dataclass(frozen=True)
class Operations:
    """How many operations a call took.

    Args:
        multiply_adds: of matrix products, convolutions, attention, distances and Fourier transforms.
        elementwise: of everything else that computes, one for each element of the larger side.
    """

    multiply_adds: int
    elementwise: int

    @property
    def total(self) -> int:
        """Both kinds together."""
        return self.multiply_adds + self.elementwise


def count_parameters(module: nn.Module) -> int:
    """The numbers that training changes; a parameter that is used twice counts once.

    Args:
        module: any module.

    >>> count_parameters(nn.Linear(3, 5))
    20
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_operations(function: Callable[..., Any], *inputs: Any) -> Operations:
    """Run a function once, without gradient, and count what torch computes in it.

    A product of matrices (n, m) and (m, p) counts n m p multiply-adds, and so do a convolution (one for each
    weight that meets an element) and attention, fused or written out (the whole map, also where a causal mask
    lets a kernel skip half of it). A complex Fourier transform of length n counts 2 n log2 n, a real one half
    of that; pairwise distances of n and m vectors of width d count n m d.

    Everything else counts one elementwise operation for each element that it writes, or reads if it reads
    more, as a sum does; pooling counts every element of every window. So a fused GELU counts one where the
    same formula, written out, counts one per step: it is also what it costs in memory traffic. Nothing counts
    what only makes, moves or renames numbers: views, copies, indexing, padding, random draws.

    Args:
        function: a module or a function.
        inputs: its arguments; a batch of one to count the operations for one example.

    >>> count_operations(nn.Linear(3, 5), torch.zeros(1, 3))
    Operations(multiply_adds=15, elementwise=5)
    >>> count_operations(lambda x: x @ x, torch.zeros(4, 4))
    Operations(multiply_adds=64, elementwise=0)
    """
    with torch.no_grad(), _without_fused_networks(), _Counter() as counter:
        function(*inputs)
    return Operations(counter.multiply_adds, counter.elementwise)


@contextmanager
def _without_fused_networks() -> Iterator[None]:
    """Keep torch from running a recurrent network or a transformer layer as one operation."""
    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    fast, fused = mha.get_fastpath_enabled(), mkldnn.enabled
    mha.set_fastpath_enabled(False)
    mkldnn.set_flags(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(fast)
        mkldnn.set_flags(fused)


class _Counter(TorchDispatchMode):
    """Sees every operation on its way to the kernel, below autograd and below composite operations."""

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = self.elementwise = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        name = packet._qualified_op_name.rpartition("::")[2]
        if name in _COMPOSITE:
            with self:
                found = func.decompose(*args, **kwargs)
            if found is not NotImplemented:
                return found
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if name in _PRODUCTS:
            self.multiply_adds += _PRODUCTS[name](args, kwargs, first)
        elif packet in flop_registry:
            self.multiply_adds += flop_registry[packet](*args, **kwargs, out_val=result) // 2
        elif isinstance(first, Tensor) and not func.is_view and name.rstrip("_") not in _MOVES:
            self.elementwise += _elements(name, args, first)
        if _adds_bias(name, args):
            self.elementwise += first.numel()
        return result


# Operations that reach the kernel whole only because autograd is off; they are made of others.
_COMPOSITE = {"linear", "matmul", "einsum", "conv1d", "conv2d", "conv3d"}


def _attention(args: tuple, kwargs: dict, out: Tensor) -> int:
    (*batch, t, d), s, e = args[0].shape, args[1].shape[-2], args[2].shape[-1]
    return math.prod(batch) * t * s * (d + e)


def _fourier(args: tuple, kwargs: dict, out: Tensor) -> int:
    """Cooley and Tukey: half n log2 n butterflies of one complex multiplication and two additions."""
    x, axes = args[0], args[1]
    real = not (x.is_complex() and out.is_complex())
    size = max(x.numel(), out.numel())
    full = x if not x.is_complex() else out  # the longer one, where the other keeps half of its spectrum
    lengths = [full.shape[axis] for axis in axes]
    elements = full.numel() if real else size
    return round(elements * sum(2 * math.log2(n) for n in lengths if n > 1) / (2 if real else 1))


def _distances(args: tuple, kwargs: dict, out: Tensor) -> int:
    return out.numel() * args[0].shape[-1]


def _trilinear(args: tuple, kwargs: dict, out: Tensor) -> int:
    """A bilinear layer: every weight meets a pair of features, for each example."""
    return len(args[0]) * args[1].numel()


def _matrix_vector(args: tuple, kwargs: dict, out: Tensor) -> int:
    matrix = args[1] if args[1].ndim == 2 else args[0]
    return matrix.numel()


_PRODUCTS: dict[str, Callable[[tuple, dict, Tensor], int]] = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_fft_c2c": _fourier,
    "_fft_r2c": _fourier,
    "_fft_c2r": _fourier,
    "_cdist_forward": _distances,
    "_trilinear": _trilinear,
    "dot": lambda args, kwargs, out: args[0].numel(),
    "mv": _matrix_vector,
    "addmv": _matrix_vector,
    "addr": lambda args, kwargs, out: out.numel(),
}

_MOVING = """
_assert_async _efficientzerotensor _local_scalar_dense _reshape_alias _reshape_copy _to_copy _unsafe_index
_unsafe_view alias arange as_strided bernoulli cat channel_shuffle clone constant_pad_nd contiguous copy
detach diag_embed embedding empty empty_like empty_strided expand exponential eye fill flip full full_like
gather im2col index index_put index_select lift_fresh linspace masked_fill new_empty new_full new_ones
new_zeros normal ones ones_like permute pixel_shuffle pixel_unshuffle rand rand_like randint randn
randn_like randperm reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d
replication_pad2d resize roll scalar_tensor scatter select_scatter slice_scatter stack t transpose tril
tril_indices triu triu_indices unfold uniform view where zero zeros zeros_like
"""
_MOVES = frozenset(_MOVING.split())
_WINDOWS = {"max_pool2d_with_indices", "avg_pool2d", "max_pool3d_with_indices", "avg_pool3d"}


def _elements(name: str, args: tuple, out: Tensor) -> int:
    """The larger of what an operation reads and writes; of windows, which overlap, all that they see."""
    if name in _WINDOWS:
        return out.numel() * math.prod(_pair(args[1], 3 if "3d" in name else 2))
    read = [arg.numel() for arg in args if isinstance(arg, Tensor)]
    return max([out.numel(), *read])


def _pair(kernel: Any, axes: int) -> list[int]:
    return list(kernel) if isinstance(kernel, (list, tuple)) and len(kernel) == axes else [kernel[0]] * axes


def _adds_bias(name: str, args: tuple) -> bool:
    if name in ("addmm", "baddbmm", "addmv", "addr"):
        return True
    return name in ("convolution", "_convolution") and args[2] is not None
