"""Operations, bytes and the roofline.

Operations are multiply-adds (a multiplication and the addition that follows it count once), bytes are what
has to travel between the arithmetic unit and memory if every tensor travels once.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from course_lib.counting import Operation, operations
from course_lib.layers.conv.arithmetic import conv_output_size
from course_lib.registry import implements


@dataclass(frozen=True)
class Cost:
    """What one kernel does: its operations, and the entries that it reads and writes.

    Attributes:
        operations: multiply-adds.
        inputs: entries of all activations that are read.
        weights: entries of all parameters that are read.
        outputs: entries that are written.
        itemsize: bytes of one entry, on average where costs of several types were added.

    >>> sum([Cost(10, 2, 3, 4), Cost(1, 1, 1, 1)]).bytes
    48
    """

    operations: float
    inputs: int
    weights: int
    outputs: int
    itemsize: float = 4

    @property
    def entries(self) -> int:
        """Entries read and written."""
        return self.inputs + self.weights + self.outputs

    @property
    def bytes(self) -> int:
        """Bytes between memory and arithmetic unit, if every entry travels once."""
        return round(self.itemsize * self.entries)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.bytes

    def __add__(self, other: "Cost") -> "Cost":
        entries = self.entries + other.entries
        equal = self.itemsize == other.itemsize or not entries
        return Cost(
            self.operations + other.operations,
            self.inputs + other.inputs,
            self.weights + other.weights,
            self.outputs + other.outputs,
            self.itemsize if equal else (self.bytes + other.bytes) / entries,
        )

    def __radd__(self, other: int) -> "Cost":
        return self if other == 0 else NotImplemented  # so that sum(costs) works


@dataclass(frozen=True)
class Machine:
    """Two numbers that bound every kernel on a machine.

    Attributes:
        peak: multiply-adds per second, at most.
        bandwidth: bytes per second to and from memory, at most.

    >>> Machine(peak=1e12, bandwidth=1e11).balance
    10.0
    """

    peak: float
    bandwidth: float

    def __post_init__(self) -> None:
        if not (self.peak > 0 and self.bandwidth > 0):
            raise ValueError(f"peak and bandwidth must be positive, got {self.peak} and {self.bandwidth}")

    @property
    def balance(self) -> float:
        """Operations per byte at which computing and moving take equal time: the waterline."""
        return self.peak / self.bandwidth


@implements("efficiency-of-convnets")
def conv_cost(
    size: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    kernel_size: int | tuple[int, ...],
    *,
    stride: int = 1,
    padding: int | tuple[int, ...] | None = None,
    dilation: int = 1,
    groups: int = 1,
    batch: int = 1,
) -> Cost:
    r"""Multiply-adds, entries and bytes of one convolution, by formula.

    .. math:: \text{operations} = B\, C'\, \tfrac{C}{g} \prod_a k_a\, o_a, \qquad
        \text{bytes} = 4\,\bigl(B C \textstyle\prod_a i_a + C' \tfrac{C}{g} \prod_a k_a
        + B C' \prod_a o_a\bigr)

    Args:
        size: input size along each axis a of space: one entry for a signal, two for an image.
        in_channels: C.
        out_channels: C'.
        kernel_size: k, the same along all axes or one per axis.
        stride: steps between outputs.
        padding: zeros on each side; None keeps the size at stride 1.
        dilation: distance of neighbouring taps.
        groups: g; equal to both channel counts for a depthwise convolution.
        batch: B.

    Raises:
        ValueError: if groups do not divide both channel counts, or the kernel does not fit.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    Multiplications with padded zeros count, as they do in ``torch.utils.flop_counter``, which counts two
    operations where this counts one. Biases are left out.

    >>> conv_cost((32, 32), 64, 64, 3).operations, conv_cost((32, 32), 64, 64, 3, groups=64).operations
    (37748736, 589824)
    """
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"groups must divide both channel counts, got {groups}, {in_channels}, {out_channels}"
        )
    kernel = _per_axis(kernel_size, len(size))
    pads = [dilation * (k - 1) // 2 for k in kernel] if padding is None else _per_axis(padding, len(size))
    out = [
        conv_output_size(i, k, stride=stride, padding=p, dilation=dilation)
        for i, k, p in zip(size, kernel, pads, strict=True)
    ]
    weights = out_channels * in_channels // groups * math.prod(kernel)
    return Cost(
        operations=batch * weights * math.prod(out),
        inputs=batch * in_channels * math.prod(size),
        weights=weights,
        outputs=batch * out_channels * math.prod(out),
    )


def _per_axis(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    values = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(values) != axes:
        raise ValueError(f"{len(values)} values for {axes} axes of space; give one number or one per axis")
    return values


@implements("efficiency-of-convnets")
def traced_costs(function: Callable[..., Any], *inputs: Any) -> list[tuple[str, Cost]]:
    """The cost of every primitive that torch runs for a call, in order: name and :class:`Cost`.

    Works for any module or function: what counts as a multiply-add is told by
    :func:`course_lib.counting.recording`; element-wise arithmetic counts for its bytes alone.
    ``sum(cost for _, cost in ...)`` is the cost of the whole, unfused.

    Args:
        function: a module, in the mode in which it shall be measured, or a function of tensors.
        inputs: what it is called with.

    Raises:
        ValueError: for what has no fixed number of operations.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617 (the counter
    is ours)

    >>> layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
    >>> [(name, cost.operations, cost.outputs) for name, cost in traced_costs(layer, torch.zeros(1, 3, 8, 8))]
    [('convolution', 13824, 512), ('relu', 0, 512)]
    """
    return [
        (each.name, _cost(each)) for each in operations(function, *inputs) if each.bytes_read and each.outputs
    ]


def _cost(each: Operation) -> Cost:
    entries = each.inputs + each.weights + each.outputs
    itemsize = (each.bytes_read + each.bytes_written) / entries
    return Cost(each.multiply_adds, each.inputs, each.weights, each.outputs, itemsize)


@implements("efficiency-of-convnets")
def fused_cost(costs: Iterable[Cost]) -> Cost:
    """A chain of layers run as one kernel: all operations, all weights, but only the outer activations.

    Args:
        costs: of the layers, in the order in which they are applied.

    Raises:
        ValueError: for an empty chain.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    >>> layer = conv_cost((8, 8), 16, 16, 1)
    >>> fused_cost([layer, layer]).bytes, (layer + layer).bytes
    (10240, 18432)
    """
    chain = list(costs)
    if not chain:
        raise ValueError("a chain needs at least one layer")
    total = sum(chain)
    return Cost(total.operations, chain[0].inputs, total.weights, chain[-1].outputs, total.itemsize)


@implements("efficiency-of-convnets")
def roofline_time(cost: Cost, machine: Machine) -> float:
    r"""Seconds that a kernel takes at least: for its arithmetic or for its memory traffic.

    .. math:: t \ge \max\Bigl(\frac{\text{operations}}{\text{peak}},\;
        \frac{\text{bytes}}{\text{bandwidth}}\Bigr)

    Args:
        cost: of the kernel.
        machine: its two limits.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    >>> roofline_time(Cost(1000, 10, 10, 5), Machine(peak=100.0, bandwidth=10.0))
    10.0
    """
    return max(cost.operations / machine.peak, cost.bytes / machine.bandwidth)


@implements("efficiency-of-convnets")
def waterline_analysis(costs: Mapping[str, Cost], machine: Machine) -> dict[str, dict[str, float]]:
    r"""Where the time of a sequence of kernels goes, and how near each comes to the peak.

    .. math:: e_k = \min\Bigl(1, \frac{\text{intensity}_k}{\text{balance}}\Bigr), \qquad
        e = \frac{\sum_k \text{operations}_k / \text{peak}}{\sum_k t_k}

    Args:
        costs: name to cost, kernel by kernel.
        machine: its peak, bandwidth and so its balance: the waterline.

    Returns: for every kernel, and for ``"all"``, its ``intensity``, its attainable ``efficiency`` and its
    shares of ``operations`` and of ``time``.

    Raises:
        ValueError: without kernels, or with one called "all".

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    Inferred: the paper's analysis is known to us from its abstract and from summaries; shares of time weigh
    the kernels here.

    >>> kernels = {"dense": Cost(1000, 5, 10, 10), "depthwise": Cost(100, 5, 10, 10)}
    >>> waterline_analysis(kernels, Machine(peak=100.0, bandwidth=10.0))["depthwise"]["efficiency"]
    0.1
    """
    if not costs or "all" in costs:
        raise ValueError(f"name one kernel or more, none of them 'all'; got {list(costs)}")
    total = sum(costs.values())
    seconds = {name: roofline_time(cost, machine) for name, cost in costs.items()}
    whole = sum(seconds.values())
    rows = {
        name: {
            "intensity": cost.intensity,
            "efficiency": cost.operations / machine.peak / seconds[name],
            "operations": cost.operations / total.operations if total.operations else 0.0,
            "time": seconds[name] / whole,
        }
        for name, cost in costs.items()
    }
    efficiency = total.operations / machine.peak / whole
    everything = {"intensity": total.intensity, "efficiency": efficiency, "operations": 1.0, "time": 1.0}
    return {**rows, "all": everything}


@implements("efficiency-of-convnets")
def measure_machine(*, size: int = 512, megabytes: int = 64, repeats: int = 5) -> Machine:
    """Peak and bandwidth of the machine at hand: the best of a few matrix products and of a few copies.

    Args:
        size: rows and columns of the matrices.
        megabytes: size of the copied array, more than any cache holds.
        repeats: of each; the fastest counts.

    Paper: On the Efficiency of Convolutional Neural Networks - https://arxiv.org/abs/2404.03617

    >>> measure_machine(size=64, megabytes=1, repeats=1).peak > 1e6
    True
    """
    a, b = torch.rand(2, size, size)
    source = torch.rand(megabytes * 2**18)
    target = torch.empty_like(source)
    product = min(_seconds(lambda: a @ b) for _ in range(repeats + 1))  # the first one warms up
    copy = min(_seconds(lambda: target.copy_(source)) for _ in range(repeats + 1))
    return Machine(peak=size**3 / product, bandwidth=2 * 4 * source.numel() / copy)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
