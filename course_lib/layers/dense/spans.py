"""A linear layer as three integer maps: what an edge reads, where it adds, and which weight it uses."""

from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = [
    "ParametricSpan",
    "SpanLegs",
    "bias_span",
    "conv1d_span",
    "conv2d_span",
    "dense_span",
    "pooling_span",
    "span_apply",
    "span_matrix",
]

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
        ValueError: if the legs differ in length or an index lies outside its set.

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
        lengths = [len(getattr(self, leg)) for leg in _LEGS]
        if len(set(lengths)) > 1:
            raise ValueError(f"the legs need one entry per edge, got lengths {lengths}")
        for leg, size in zip(_LEGS, self.sizes, strict=True):
            indices = getattr(self, leg)
            if indices.numel() and (indices.min() < 0 or indices.max() >= size):
                raise ValueError(
                    f"leg {leg!r} goes from {indices.min()} to {indices.max()}, its set has {size} elements"
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
    require_width(weight, weights, f"the weight of span_apply({legs})")
    return _pull_multiply_push(x, weight, legs.source, legs.target, legs.weight, outputs)


@implements("parametric-spans")
def span_matrix(legs: SpanLegs, weight: Float[Tensor, "p"]) -> Float[Tensor, "o i"]:
    r"""The dense matrix that does the same: edges that are missing leave zeros, tied edges repeat a weight.

    .. math:: W_{ji} = \sum_{e:\, s(e) = i,\, t(e) = j} w_{p(e)}

    Args:
        legs: the three maps.
        weight: w.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_matrix(conv1d_span(4, 1, 1, 2), torch.tensor([1.0, 2.0]))
    tensor([[1., 2., 0., 0.],
            [0., 1., 2., 0.],
            [0., 0., 1., 2.]])
    """
    inputs, outputs, _ = legs.sizes
    matrix = weight.new_zeros(outputs, inputs)
    return matrix.index_put((legs.target, legs.source), weight[legs.weight], accumulate=True)


@implements("parametric-spans")
def dense_span(in_features: int, out_features: int) -> SpanLegs:
    r"""Every output reads every input with a weight of its own: E is Y x X and p the identity.

    .. math:: s(j, i) = i, \qquad t(j, i) = j, \qquad p(j, i) = j\,|X| + i

    Args:
        in_features: number of inputs.
        out_features: number of outputs.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    The weights are in the order of ``torch.nn.Linear(...).weight.flatten()``.

    >>> dense_span(3, 2).source
    tensor([0, 1, 2, 0, 1, 2])
    """
    edge = torch.arange(in_features * out_features)
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
        ValueError: if the channels do not fall into groups or the kernel does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Inputs are ``(channel, place)`` flattened, weights ``torch.nn.Conv1d(...).weight.flatten()``.

    >>> conv1d_span(5, 1, 1, 3, padding=1)
    SpanLegs(5 inputs, 5 outputs, 3 weights, 13 edges)
    """
    return _conv_span((length,), in_channels, out_channels, (kernel_size,), stride, padding, dilation, groups)


@implements("parametric-spans")
def conv2d_span(
    size: tuple[int, int],
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
        size: rows and columns of the input.
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: rows and columns of the kernel.
        stride: step between two outputs.
        padding: places around the input; their edges are left out.
        dilation: step between two entries of the kernel.
        groups: channels fall into so many groups without edges between them.

    Raises:
        ValueError: if the channels do not fall into groups or the kernel does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Inputs are ``(channel, row, column)`` flattened, weights ``torch.nn.Conv2d(...).weight.flatten()``.

    >>> conv2d_span((8, 8), 1, 1, (3, 3)).sharing
    36.0
    """
    return _conv_span(size, in_channels, out_channels, kernel_size, stride, padding, dilation, groups)


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
        ValueError: if the window does not fit.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    >>> span_apply(pooling_span(4, 1, 2), torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([0.5]))
    tensor([2., 6.])
    """
    legs = conv1d_span(length, channels, channels, kernel_size, stride=stride or kernel_size, groups=channels)
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
    if repeat < 1 or out_features % repeat:
        raise ValueError(f"{out_features} outputs do not fall into runs of {repeat}")
    place = torch.arange(out_features)
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

    Shape: ``(*b, inputs)`` to ``(*b, outputs)``; images are flattened.

    Raises:
        ValueError: if the bias has other outputs, or the last axis of the input is not as wide as X.

    Paper: Neural network layers as parametric spans - https://arxiv.org/abs/2208.00809

    Differs from the paper: the sum over edges is one ``index_add``. Weights and bias start as in torch's
    layers, uniform between plus and minus one over the root of the fan-in, the largest number of edges that
    meet in an output. The legs are no part of the state, as the strides of a convolution are none; so
    ``to_empty`` loses them: build the layer on its device, not on "meta".

    >>> layer = ParametricSpan(dense_span(3, 2))
    >>> layer, layer(torch.zeros(4, 3)).shape
    (ParametricSpan(3 inputs, 2 outputs, 6 weights, 6 edges), torch.Size([4, 2]))
    """

    def __init__(self, legs: SpanLegs, *, bias: SpanLegs | None = None) -> None:
        super().__init__()
        if bias is not None and bias.sizes[:2] != (1, legs.sizes[1]):
            raise ValueError(
                f"the bias must lead from 1 point to {legs.sizes[1]} outputs, got {bias}; see bias_span"
            )
        self.sizes, self.bias_sizes = legs.sizes, None if bias is None else bias.sizes
        for leg in _LEGS:
            self.register_buffer(f"{leg}_leg", getattr(legs, leg), persistent=False)
            self.register_buffer(
                f"bias_{leg}_leg", None if bias is None else getattr(bias, leg), persistent=False
            )
        self.weight = nn.Parameter(torch.empty(legs.sizes[2]))
        self.bias = None if bias is None else nn.Parameter(torch.empty(bias.sizes[2]))
        self.fan_in = int(legs.target.bincount().max()) if legs.edges else 1
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform between plus and minus one over the root of the fan-in, as torch's layers start."""
        bound = self.fan_in**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.sizes[0], f"ParametricSpan({self.extra_repr()})")
        outputs, legs = self.sizes[1], (self.source_leg, self.target_leg, self.weight_leg)
        y = _pull_multiply_push(x, self.weight, *legs, outputs)
        if self.bias is None:
            return y
        legs = self.bias_source_leg, self.bias_target_leg, self.bias_weight_leg
        return y + _pull_multiply_push(x.new_ones(1), self.bias, *legs, outputs)

    def extra_repr(self) -> str:
        inputs, outputs, weights = self.sizes
        bias = "" if self.bias is None else f", {len(self.bias)} biases"
        return f"{inputs} inputs, {outputs} outputs, {weights} weights, {len(self.source_leg)} edges{bias}"


def _pull_multiply_push(
    x: Tensor, weight: Tensor, source: Tensor, target: Tensor, index: Tensor, outputs: int
) -> Tensor:
    messages = x[..., source] * weight[..., index]
    return messages.new_zeros(*messages.shape[:-1], outputs).index_add(-1, target, messages)


def _conv_span(
    size: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
) -> SpanLegs:
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(f"{in_channels} and {out_channels} channels do not fall into {groups} groups")
    outputs = tuple(
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(size, kernel, strict=True)
    )
    if min(outputs) < 1:
        raise ValueError(
            f"a kernel of {kernel} with dilation {dilation} does not fit into {size}, padded by {padding}"
        )
    per_group = in_channels // groups
    # Every edge there could be, as its coordinates: output channel and place, channel in its group, offset.
    ranges = (out_channels, *outputs, per_group, *kernel)
    out_channel, *rest = torch.unravel_index(torch.arange(prod(ranges)), ranges)
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
