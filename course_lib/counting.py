"""What torch computes in a call: every operation with its arithmetic and the bytes that it moves.

There is one counter for the whole course. The operations of a layer, the scores of attention and
the costs under a roofline are sums over the same record.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

__numerics__ = 1


@dataclass(frozen=True)
class Operation:
    """One operation of torch, as it was run.

    Attributes:
        name: as torch calls it, such as ``addmm``.
        multiply_adds: of products of matrices, convolutions, attention, distances, Fourier
            transforms and direct solvers.
        elementwise: everything else that computes, one for each element of the larger side.
        scores: numbers that enter a softmax, in attention or alone.
        inputs: entries of the tensors that are read, without the weights.
        weights: entries that are read of the parameters named to :func:`recording`.
        outputs: entries that are written.
        bytes_read: of inputs and weights.
        bytes_written: of the outputs.
    """

    name: str
    multiply_adds: int
    elementwise: int
    scores: int
    inputs: int
    weights: int
    outputs: int
    bytes_read: int
    bytes_written: int


@contextmanager
def recording(weights: Iterable[Tensor] = ()) -> Iterator[list[Operation]]:
    """The operations that torch runs while the context is open, in their order; views are left out.

    A product of matrices (n, m) and (m, p) counts n m p multiply-adds, of complex ones four times
    as many. So do a convolution (one for each weight that meets an element, padding included) and
    attention, fused or written out (the whole map, also where a causal mask lets a kernel skip
    half of it). A complex Fourier transform of length n counts 2 n log2 n, a real one half of that;
    pairwise distances of n and m vectors of width d count n m d; solving n equations n^3 / 3, the
    leading term of elimination.

    Everything else counts one elementwise operation for each element that it writes, or reads if
    it reads more, as a sum does; pooling counts every element of every window, a softmax inside
    attention every score. So a fused GELU counts one where the same formula, written out, counts
    one per step: it is also what it costs in memory traffic. Nothing counts what only makes, moves
    or renames numbers: copies, indexing, padding, random draws.

    Recurrent networks and transformer layers run step by step while the context is open, not as one
    fused operation. Of an output with several tensors the first counts: the others are statistics
    and indices that only training needs.

    Args:
        weights: what counts as weights where it is read; all else is an input.

    Raises:
        ValueError: where an operation has no fixed count, such as an eigenvalue decomposition.

    >>> with recording() as operations:
    ...     y = torch.ones(2, 3) @ torch.ones(3, 4) + 1
    >>> [(o.name, o.multiply_adds, o.elementwise) for o in operations if o.inputs]
    [('mm', 24, 0), ('add', 0, 8)]
    """
    recorder = _Recorder(weights)
    with _without_fused_networks(), recorder:
        yield recorder.operations


def operations(function: Callable[..., Any], *inputs: Any) -> list[Operation]:
    """The operations of one call without gradient; a module's parameters are its weights.

    Args:
        function: a module, in the mode in which it shall be counted, or a function.
        inputs: its arguments.

    Raises:
        ValueError: as :func:`recording`.

    >>> (linear,) = operations(nn.Linear(3, 5), torch.zeros(1, 3))
    >>> linear.multiply_adds, linear.elementwise, linear.inputs, linear.weights, linear.outputs
    (15, 5, 3, 20, 5)
    """
    weights = function.parameters() if isinstance(function, nn.Module) else ()
    with torch.no_grad(), recording(weights) as found:
        function(*inputs)
    return found


@contextmanager
def _without_fused_networks() -> Iterator[None]:
    """Keep torch from running a recurrent network or a transformer layer as one operation."""
    mha, mkldnn, cudnn = torch.backends.mha, torch.backends.mkldnn, torch.backends.cudnn
    before = mha.get_fastpath_enabled(), mkldnn.enabled, cudnn.enabled
    mha.set_fastpath_enabled(False)
    mkldnn.set_flags(False)
    cudnn.enabled = False
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before[0])
        mkldnn.set_flags(before[1])
        cudnn.enabled = before[2]


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class _Recorder(TorchDispatchMode):
    """Sees every operation on its way to the kernel, below autograd."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        super().__init__()
        self.weights = set(map(_storage, weights))
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            with self:  # in inference mode, what is made of others arrives whole
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        result = func(*args, **kwargs)
        written = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if written and not func.is_view and name not in _VIEWS:
            self.operations.append(self._operation(func, name, args, kwargs, written[0], result))
        return result

    def _operation(
        self, func: Any, name: str, args: tuple, kwargs: dict, out: Tensor, result: Any
    ) -> Operation:
        read = {True: 0, False: 0}
        bytes_read = 0
        for t in tree_leaves((args, kwargs)):
            if isinstance(t, Tensor):
                entries = _entries(t)
                if name in _GATHERS and t is args[0]:  # of a table only the rows asked for
                    entries = min(entries, _elements(name, args, out))
                read[_storage(t) in self.weights] += entries
                bytes_read += entries * t.itemsize
        multiply_adds, scores = (
            _multiply_adds(func, name, args, kwargs, result),
            _scores(name, args, out),
        )
        if multiply_adds is None:
            elementwise = 0 if name.rstrip("_") in _MOVES else _elements(name, args, out)
        else:
            elementwise = scores + _bias(name, args, kwargs, out)
        return Operation(
            name=name,
            multiply_adds=multiply_adds or 0,
            elementwise=elementwise,
            scores=scores,
            inputs=read[False],
            weights=read[True],
            outputs=out.numel(),
            bytes_read=bytes_read,
            bytes_written=out.numel() * out.itemsize,
        )


def _storage(t: Tensor) -> int | None:
    return t.untyped_storage()._cdata if t.layout is torch.strided else None


def _entries(t: Tensor) -> int:
    """Different entries of a tensor: one that was expanded holds fewer than it shows."""
    if t.layout is not torch.strided:
        return _filled(t)
    return min(t.numel(), t.untyped_storage().nbytes() // t.itemsize)


def _filled(t: Tensor) -> int:
    return t.numel() if t.layout is torch.strided else t._nnz()


# -- Products ----------------------------------------------------------------------------------


def _multiply_adds(func: Any, name: str, args: tuple, kwargs: dict, result: Any) -> int | None:
    """Multiply-adds of a product; None for what is none."""
    if name in _ITERATIVE:
        raise ValueError(
            f"{name} repeats its steps until they converge, so it has no fixed number of operations"
        )
    if name.startswith("_scaled_dot_product") and not name.endswith("backward"):
        count = _attention
    elif name in _PRODUCTS:
        count = _PRODUCTS[name]
    elif func.overloadpacket in flop_registry:  # backward passes, kernels of other devices
        return flop_registry[func.overloadpacket](*args, **kwargs, out_val=result) // 2
    else:
        return None
    out = result[0] if isinstance(result, (tuple, list)) else result
    complex_product = out.is_complex() and not name.startswith("_fft")
    return round(count(args, out)) * (4 if complex_product else 1)


def _attention(args: tuple, out: Tensor) -> int:
    query, key, value = args[:3]
    return query[..., 0].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _convolution(args: tuple, out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    # Forwards each output gathers one filter, transposed each input spreads one.
    return (x if transposed else out).numel() * weight[0].numel()


def _fourier(args: tuple, out: Tensor) -> float:
    """Cooley and Tukey: half n log2 n butterflies of one complex multiplication, two additions."""
    x, axes = args[0], args[1]
    real = not (x.is_complex() and out.is_complex())
    full = x if not x.is_complex() else out  # the one that has its whole spectrum
    steps = sum(math.log2(full.shape[axis]) for axis in axes)
    return full.numel() * steps * (1 if real else 2)


def _solve(args: tuple, out: Tensor) -> float:
    n = args[0].shape[-1]
    return args[0].numel() * n / 3 + out.numel() * n


_PRODUCTS: dict[str, Callable[[tuple, Tensor], float]] = {
    "mm": lambda args, out: _filled(args[0]) * args[1].shape[-1],
    "bmm": lambda args, out: out.numel() * args[0].shape[-1],
    "addmm": lambda args, out: _filled(args[1]) * args[2].shape[-1],
    "baddbmm": lambda args, out: out.numel() * args[1].shape[-1],
    "addbmm": lambda args, out: args[1].numel() * args[2].shape[-1],
    "mv": lambda args, out: args[0].numel(),
    "addmv": lambda args, out: args[1].numel(),
    "dot": lambda args, out: args[0].numel(),
    "vdot": lambda args, out: args[0].numel(),
    "addr": lambda args, out: out.numel(),
    "convolution": _convolution,
    "_convolution": _convolution,
    "_trilinear": lambda args, out: len(args[0]) * args[1].numel(),  # a weight for each pair
    "_cdist_forward": lambda args, out: out.numel() * args[0].shape[-1],
    "_euclidean_dist": lambda args, out: out.numel() * args[0].shape[-1],
    "_pdist_forward": lambda args, out: out.numel() * args[0].shape[-1],
    "_fft_c2c": _fourier,
    "_fft_r2c": _fourier,
    "_fft_c2r": _fourier,
    "linalg_cholesky_ex": lambda args, out: out.numel() * out.shape[-1] / 6,
    "linalg_lu_factor_ex": lambda args, out: out.numel() * out.shape[-1] / 3,
    "_linalg_det": lambda args, out: args[0].numel() * args[0].shape[-1] / 3,
    "_linalg_slogdet": lambda args, out: args[0].numel() * args[0].shape[-1] / 3,
    "linalg_inv_ex": lambda args, out: out.numel() * out.shape[-1],
    "_linalg_solve_ex": _solve,
    "cholesky_solve": lambda args, out: out.numel() * args[1].shape[-1],
    "linalg_solve_triangular": lambda args, out: out.numel() * args[0].shape[-1] / 2,
    "triangular_solve": lambda args, out: out.numel() * args[1].shape[-1] / 2,
}
_ITERATIVE = {"_linalg_eigh", "linalg_eig", "_linalg_eigvals", "linalg_eigvals", "_linalg_svd"}
_ITERATIVE |= {"linalg_lstsq", "linalg_qr", "linalg_matrix_exp"}


def _bias(name: str, args: tuple, kwargs: dict, out: Tensor) -> int:
    """Additions of what is added to a product."""
    if name in ("convolution", "_convolution"):
        return 0 if args[2] is None else out.numel()
    added = name.startswith(("addmm", "baddbmm", "addbmm", "addmv", "addr"))
    return out.numel() if added and kwargs.get("beta", 1) else 0


def _scores(name: str, args: tuple, out: Tensor) -> int:
    if name in ("_softmax", "_safe_softmax"):
        return out.numel()
    if name.startswith("_scaled_dot_product") and not name.endswith("backward"):
        return args[0][..., 0].numel() * args[1].shape[-2]
    return 0


# -- Everything else ---------------------------------------------------------------------------

# What torch itself does not call a view, and which moves nothing all the same.
_VIEWING = """
_unsafe_view alias as_strided_ detach_ lift_fresh squeeze_ swapaxes_ swapdims_ t_ transpose_
unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze_
"""
_MOVING = """
_assert_async _efficientzerotensor _local_scalar_dense _pack_padded_sequence _reshape_copy
_to_copy _unsafe_index arange bernoulli cat channel_shuffle clone complex constant_pad_nd
contiguous copy diag_embed embedding empty empty_like empty_strided exponential eye fill flip
full full_like gather im2col index index_fill index_put index_select linspace masked_fill
masked_scatter masked_select new_empty new_empty_strided new_full new_ones new_zeros nonzero
normal ones ones_like pixel_shuffle pixel_unshuffle rand rand_like randint randn randn_like
randperm reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
replication_pad1d replication_pad2d replication_pad3d resize roll scalar_tensor scatter
select_scatter slice_scatter stack take tril tril_indices triu triu_indices uniform
upsample_nearest1d upsample_nearest2d upsample_nearest3d where zero zeros zeros_like
"""
_VIEWS, _MOVES = set(_VIEWING.split()), set(_MOVING.split())
_GATHERS = {"embedding", "_embedding_bag", "_embedding_bag_forward_only", "gather", "index"}
_GATHERS |= {"index_select", "_unsafe_index"}
_WINDOWS = {"max_pool2d_with_indices", "avg_pool2d", "max_pool3d_with_indices", "avg_pool3d"}


def _elements(name: str, args: tuple, out: Tensor) -> int:
    """The larger of what is read and what is written; of windows, which overlap, all they see."""
    if name in _WINDOWS:
        kernel = tuple(args[1])
        axes = 3 if "3d" in name else 2
        return out.numel() * math.prod(kernel if len(kernel) == axes else kernel * axes)
    if name.startswith("_embedding_bag"):  # every row that was looked up is added
        return args[1].numel() * out.shape[-1]
    if name in _GATHERS:
        return out.numel()
    if name.rstrip("_") in ("scatter_add", "index_add", "scatter_reduce", "index_reduce"):
        return args[3].numel()  # what is added, into a tensor that may be larger
    return max([out.numel(), *(t.numel() for t in tree_leaves(args) if isinstance(t, Tensor))])
