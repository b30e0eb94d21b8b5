"""A linear layer as three integer maps: what an edge reads, where it adds, and which weight it uses."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_pair,
    require_positive,
    require_sequence,
    require_width,
)
from course_lib.registry import implements

_LEGS = ("source", "target", "weight")


@implements("parametric-spans")
@dataclass(frozen=True, eq=False)
class SpanLegs:
    r"""The three legs of a parametric span: for every edge an input, an output and a weight.

    .. math:: s: E \to X, \qquad t: E \to Y, \qquad p: E \to P

    Args:
        sizes: how many inputs, outputs and weights there are.
        source: s, the input that each edge reads.
        target: t, the output that each edge adds to.
        weight: p, the weight that each edge uses.

    Raises:
        ValueError: if the legs differ in length, an index lies outside its set, or a leg is on "meta".
        TypeError: for legs that are no tensors of integers.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Differs from the paper: finite sets with the counting measure; the general theory has measurable spaces
    and integrals.

    >>> tied = SpanLegs((2, 1, 1), torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    >>> tied, tied.sharing
    (SpanLegs(2 inputs, 1 outputs, 1 weights, 2 edges), 2.0)
    """

    sizes: tuple[int, int, int]
    source: Int64[Tensor, "e"]
    target: Int64[Tensor, "_e"]
    weight: Int64[Tensor, "_e"]

    def __post_init__(self) -> None:
        require_sequence("SpanLegs", 3, sizes=self.sizes)
        require_at_least(0, "SpanLegs", **{f"sizes[{i}]": size for i, size in enumerate(self.sizes)})
        for leg in _LEGS:
            seen = getattr(self, leg)
            if not isinstance(seen, Tensor) or seen.dtype != torch.int64 or seen.ndim != 1:
                raise TypeError(f"SpanLegs: {leg} must be a vector of torch.int64, got {seen!r}")
            if seen.is_meta:
                raise ValueError(f"SpanLegs: {leg} is on 'meta' and holds no numbers; make it on 'cpu'")
        lengths = [len(getattr(self, leg)) for leg in _LEGS]
        if len(set(lengths)) > 1:
            raise ValueError(f"SpanLegs: the legs need one entry per edge, got lengths {lengths}")
        for leg, size in zip(_LEGS, self.sizes, strict=True):
            indices = getattr(self, leg)
            if indices.numel() and (indices.min() < 0 or indices.max() >= size):
                raise ValueError(
                    f"SpanLegs: leg {leg!r} goes from {indices.min()} to {indices.max()}, its set has "
                    f"{size} elements"
                )

    @property
    def edges(self) -> int:
        """How many multiplications one row of a batch costs."""
        return len(self.source)

    @property
    def sharing(self) -> float:
        """Edges per weight: 1 for a dense layer, the number of output places for a convolution."""
        return self.edges / self.sizes[2]

    def exchange(self, source: str, target: str, weight: str) -> "SpanLegs":
        """The span on the same edges whose legs have other roles; this is all that backpropagation does.

        ``exchange("target", "source", "weight")`` gives the gradient of the input, and
        ``exchange("source", "weight", "target")`` that of the weights.

        Args:
            source: the leg that is read along from now on, "source", "target" or "weight".
            target: the leg that is summed along.
            weight: the leg that looks up the weights.

        Raises:
            ValueError: unless the three names are the three legs.
        """
        names = (source, target, weight)
        if sorted(names) != sorted(_LEGS):
            raise ValueError(f"exchange needs each of {_LEGS} once, got {names}")
        sizes = tuple(self.sizes[_LEGS.index(name)] for name in names)
        return SpanLegs(sizes, *(getattr(self, name) for name in names))

    def __repr__(self) -> str:
        inputs, outputs, weights = self.sizes
        return f"SpanLegs({inputs} inputs, {outputs} outputs, {weights} weights, {self.edges} edges)"


@implements("parametric-spans")
def span_apply(
    legs: SpanLegs, x: Float[Tensor, "*b i"], weight: Float[Tensor, "... p"]
) -> Float[Tensor, "*b o"]:
    r"""Pull back along two legs, multiply edge by edge, sum along the third.

    .. math:: y_j = \sum_{e:\, t(e) = j} w_{p(e)}\, x_{s(e)}

    Args:
        legs: the three maps.
        x: what is read along the source leg.
        weight: what is read along the weight leg; one row for all of the batch, or one for each.

    Shape: ``(*b, inputs)`` and ``(weights,)`` or ``(*b, weights)`` to ``(*b, outputs)``.

    Raises:
        ValueError: if a last axis has not the size of its set.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_apply(dense_span(2, 1), torch.tensor([3.0, 4.0]), torch.tensor([10.0, 1.0]))
    tensor([34.])
    """
    inputs, outputs, weights = legs.sizes
    require_width(x, inputs, f"span_apply({legs})")
    require_width(weight, weights, f"span_apply({legs})", name="weight")
    return _pull_multiply_push(x, weight, legs.source, legs.target, legs.weight, outputs)


@implements("parametric-spans")
def span_matrix(legs: SpanLegs, weight: Float[Tensor, "p"]) -> Float[Tensor, "o i"]:
    r"""The dense matrix that does the same: edges that are missing leave zeros, tied edges repeat a weight.

    .. math:: W_{ji} = \sum_{e:\, s(e) = i,\, t(e) = j} w_{p(e)}

    Args:
        legs: the three maps.
        weight: w.

    Raises:
        ValueError: if there are more or fewer weights than the legs have.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_matrix(conv1d_span(4, 1, 1, 2), torch.tensor([1.0, 2.0]))
    tensor([[1., 2., 0., 0.],
            [0., 1., 2., 0.],
            [0., 0., 1., 2.]])
    """
    inputs, outputs, weights = legs.sizes
    require_width(weight, weights, f"span_matrix({legs})", name="weight")
    matrix = weight.new_zeros(outputs, inputs)
    return matrix.index_put((legs.target, legs.source), weight[legs.weight], accumulate=True)


@implements("parametric-spans")
def dense_span(in_features: int, out_features: int) -> SpanLegs:
    r"""Every output reads every input with a weight of its own: E is Y x X and p the identity.

    .. math:: s(j, i) = i, \qquad t(j, i) = j, \qquad p(j, i) = j\,|X| + i

    Args:
        in_features: number of inputs.
        out_features: number of outputs.

    Raises:
        ValueError: for a number below 1.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    The weights are in the order of ``torch.nn.Linear(...).weight.flatten()``.

    >>> dense_span(3, 2).source
    tensor([0, 1, 2, 0, 1, 2])
    """
    require_positive("dense_span", in_features=in_features, out_features=out_features)
    edge = torch.arange(in_features * out_features, device="cpu")  # also where modules are built on "meta"
    sizes = (in_features, out_features, in_features * out_features)
    return SpanLegs(sizes, edge % in_features, edge // in_features, edge)


@implements("parametric-spans")
def conv1d_span(
    length: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> SpanLegs:
    r"""Convolution over one axis: the weight depends on the offset only, and far inputs have no edge.

    .. math:: s(j, k) = \text{stride}\cdot j + \text{dilation}\cdot k - \text{padding}, \qquad t(j, k) = j,
        \qquad p(j, k) = k

    Args:
        length: of the input axis.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: entries of the kernel.
        stride: step between two outputs.
        padding: places before the first and after the last input; their edges are left out.
        dilation: step between two entries of the kernel.
        groups: channels fall into so many groups without edges between them.

    Raises:
        ValueError: for a size below 1, if the groups do not divide the channels, or the kernel does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Inputs are ``(channel, place)`` flattened, weights ``torch.nn.Conv1d(...).weight.flatten()``.

    >>> conv1d_span(5, 1, 1, 3, padding=1)
    SpanLegs(5 inputs, 5 outputs, 3 weights, 13 edges)
    """
    name = "conv1d_span"
    require_positive(name, length=length, kernel_size=kernel_size)
    size, kernel = (length,), (kernel_size,)
    return _conv_span(name, size, in_channels, out_channels, kernel, stride, padding, dilation, groups)


@implements("parametric-spans")
def conv2d_span(
    image_size: tuple[int, int],
    in_channels: int,
    out_channels: int,
    kernel_size: tuple[int, int],
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> SpanLegs:
    r"""Convolution over two axes: :func:`conv1d_span` on each, with one weight per pair of offsets.

    .. math:: s(j, k)_a = \text{stride}\cdot j_a + \text{dilation}\cdot k_a - \text{padding}, \qquad a = 1, 2

    Args:
        image_size: rows and columns of the input.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: rows and columns of the kernel.
        stride: step between two outputs.
        padding: places around the input; their edges are left out.
        dilation: step between two entries of the kernel.
        groups: channels fall into so many groups without edges between them.

    Raises:
        ValueError: for a size below 1, if the groups do not divide the channels, or the kernel does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Inputs are ``(channel, row, column)`` flattened, weights ``torch.nn.Conv2d(...).weight.flatten()``.

    >>> conv2d_span((8, 8), 1, 1, (3, 3)).sharing
    36.0
    """
    name = "conv2d_span"
    size = require_pair(name, image_size=image_size)
    kernel = require_pair(name, kernel_size=kernel_size)
    return _conv_span(name, size, in_channels, out_channels, kernel, stride, padding, dilation, groups)


@implements("parametric-spans")
def pooling_span(length: int, channels: int, kernel_size: int, *, stride: int | None = None) -> SpanLegs:
    r"""Average pooling: every edge uses the one weight there is, :math:`1 / k` once it is set.

    .. math:: s(j, k) = \text{stride}\cdot j + k, \qquad t(j, k) = j, \qquad P = \{0\}

    Args:
        length: of the input axis.
        channels: channels, pooled each by itself.
        kernel_size: places in a window.
        stride: step between two windows; ``kernel_size`` by default, as in torch.

    Raises:
        ValueError: for a size below 1, or if the window does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_apply(pooling_span(4, 1, 2), torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([0.5]))
    tensor([2., 6.])
    """
    stride = kernel_size if stride is None else stride
    require_positive("pooling_span", length=length, channels=channels, kernel_size=kernel_size, stride=stride)
    legs = conv1d_span(length, channels, channels, kernel_size, stride=stride, groups=channels)
    inputs, outputs, _ = legs.sizes
    return SpanLegs((inputs, outputs, 1), legs.source, legs.target, torch.zeros_like(legs.weight))


@implements("parametric-spans")
def bias_span(out_features: int, repeat: int = 1) -> SpanLegs:
    r"""A bias: one edge per output, from the one-point set whose only value is 1.

    .. math:: s(j) = 0, \qquad t(j) = j, \qquad p(j) = \lfloor j / r \rfloor

    Args:
        out_features: number of outputs.
        repeat: r, how many outputs in a row share a bias: 1 in a dense layer, the places of a channel in a
            convolution.

    Raises:
        ValueError: if ``repeat`` does not divide the outputs.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_apply(bias_span(4, 2), torch.ones(1), torch.tensor([5.0, 6.0]))
    tensor([5., 5., 6., 6.])
    """
    require_divides("bias_span", out_features=out_features, repeat=repeat)
    place = torch.arange(out_features, device="cpu")
    return SpanLegs(
        (1, out_features, out_features // repeat), torch.zeros_like(place), place, place // repeat
    )


@implements(
    "parametric-spans",
    example=lambda: (ParametricSpan(conv1d_span(6, 1, 2, 3), bias=bias_span(8, 4)), torch.randn(3, 6)),
)
class ParametricSpan(nn.Module):
    r"""The linear layer that three index maps describe: dense, convolution, pooling, tied, or any other.

    .. math:: y_j = \sum_{e:\, t(e) = j} w_{p(e)}\, x_{s(e)} + b_{p'(j)}

    Args:
        legs: the maps, from :func:`dense_span`, :func:`conv1d_span`, ... or your own.
        bias: the maps of the bias, from :func:`bias_span`; none by default.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, inputs)`` to ``(*b, outputs)``; images are flattened.

    Raises:
        ValueError: if the bias has other outputs, or the last axis of the input is not as wide as X.
        TypeError: for arguments and inputs of another type.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Differs from the paper: the sum over edges is one ``index_add``. Weights and bias start as in torch's
    layers, uniform between plus and minus one over the root of the fan-in, the largest number of edges that
    meet in an output. The legs are part of the state: weights mean nothing without the edges that use them.

    >>> layer = ParametricSpan(dense_span(3, 2))
    >>> layer, layer(torch.zeros(4, 3)).shape
    (ParametricSpan(3 inputs, 2 outputs, 6 weights, 6 edges), torch.Size([4, 2]))
    """

    def __init__(
        self,
        legs: SpanLegs,
        *,
        bias: SpanLegs | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for argument, seen in (("legs", legs), ("bias", bias)):
            if not (isinstance(seen, SpanLegs) or seen is bias is None):
                raise TypeError(f"{name}: {argument} must be SpanLegs, got {seen!r}")
        if bias is not None and bias.sizes[:2] != (1, legs.sizes[1]):
            raise ValueError(
                f"{name}: bias must lead from 1 point to {legs.sizes[1]} outputs, got {bias}; see bias_span"
            )
        self.sizes, self.edges = legs.sizes, legs.edges
        self._maps = {f"{leg}_leg": getattr(legs, leg) for leg in _LEGS}
        if bias is not None:
            self._maps |= {f"bias_{leg}_leg": getattr(bias, leg) for leg in _LEGS}
        for leg, index in self._maps.items():
            self.register_buffer(leg, torch.empty(index.shape, device=device, dtype=torch.int64))
        factory = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(legs.sizes[2], **factory))
        self.bias = None if bias is None else nn.Parameter(torch.empty(bias.sizes[2], **factory))
        self.fan_in = int(legs.target.bincount().max()) if legs.edges else 1
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The legs as given; uniform between plus and minus one over the root of the fan-in, as in torch."""
        for leg, index in self._maps.items():
            self.get_buffer(leg).copy_(index)
        bound = self.fan_in**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.sizes[0], self)
        outputs, legs = self.sizes[1], (self.source_leg, self.target_leg, self.weight_leg)
        y = _pull_multiply_push(x, self.weight, *legs, outputs)
        if self.bias is None:
            return y
        legs = self.bias_source_leg, self.bias_target_leg, self.bias_weight_leg
        return y + _pull_multiply_push(x.new_ones(1), self.bias, *legs, outputs)

    def extra_repr(self) -> str:
        inputs, outputs, weights = self.sizes
        bias = "" if self.bias is None else f", {len(self.bias)} biases"
        return f"{inputs} inputs, {outputs} outputs, {weights} weights, {self.edges} edges{bias}"


def _pull_multiply_push(
    x: Tensor, weight: Tensor, source: Tensor, target: Tensor, index: Tensor, outputs: int
) -> Tensor:
    messages = x[..., source] * weight[..., index]
    return messages.new_zeros(messages.shape[:-1] + torch.Size([outputs])).index_add(-1, target, messages)


def _conv_span(
    name: str,
    size: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> SpanLegs:
    require_divides(name, in_channels=in_channels, groups=groups)
    require_divides(name, out_channels=out_channels, groups=groups)
    require_positive(name, stride=stride, dilation=dilation)
    require_at_least(0, name, padding=padding)
    outputs = tuple(
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)
    )
    if min(outputs) < 1:
        raise ValueError(
            f"{name}: kernel_size={kernel} with dilation={dilation} does not fit into {size}, padded by "
            f"{padding}"
        )
    per_group = in_channels // groups
    # Every edge there could be, as its coordinates: output channel and place, channel in its group, offset.
    ranges = (out_channels, *outputs, per_group, *kernel)
    out_channel, *rest = torch.unravel_index(torch.arange(prod(ranges), device="cpu"), ranges)
    places, channel, offsets = rest[: len(size)], rest[len(size)], rest[len(size) + 1 :]
    target, weight = out_channel, out_channel * per_group + channel
    source = out_channel // (out_channels // groups) * per_group + channel
    inside = torch.ones_like(channel, dtype=torch.bool)
    for n, m, k, place, offset in zip(size, outputs, kernel, places, offsets, strict=True):
        at = stride * place + dilation * offset - padding
        inside &= (at >= 0) & (at < n)
        source, target, weight = source * n + at, target * m + place, weight * k + offset
    sizes = (in_channels * prod(size), out_channels * prod(outputs), out_channels * per_group * prod(kernel))
    return SpanLegs(sizes, source[inside], target[inside], weight[inside])
