"""The shape arithmetic of a layer as a type: what it accepts, what it gives, what may stand in its place."""

from dataclasses import dataclass
from itertools import product

from torch import nn

from course_lib.layers._shapes import require_at_least, require_integer, require_positive
from course_lib.registry import implements

# Modules that give back the shape they get, whatever it is.
_SHAPELESS = (
    nn.Identity, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d,
)  # fmt: skip


@implements("neuralarts")
@dataclass(frozen=True)
class SizeMap:
    r"""How a layer changes the length of one axis; closed under composition, so equality is decided exactly.

    .. math:: f(n) = \lfloor (n + c) / s \rfloor + 1, \qquad
        (f_2 \circ f_1): \; s = s_1 s_2, \quad c = c_1 + s_1 (c_2 + 1)

    A convolution has :math:`c = 2p - d(k - 1) - 1`. Two maps agree on all large n if and only if s and c
    agree: s is the slope, and c decides where the steps are.

    Args:
        stride: s.
        offset: c.
        min_size: smallest length that the layer, and every layer inside it, can take.

    Raises:
        ValueError: for a stride or a smallest length below 1; when called with a length below ``min_size``.
        TypeError: for anything but integers.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710

    Differs from the paper, as we understand it: the closed form of a whole chain is ours. It rests on
    :math:`\lfloor (\lfloor x / s \rfloor + a) / t \rfloor = \lfloor (x + a s) / (s t) \rfloor` for integers.

    >>> halve = SizeMap(stride=2, offset=-1, min_size=1)
    >>> halve(7), halve.then(halve)
    (4, SizeMap(stride=4, offset=-1, min_size=1))
    """

    stride: int
    offset: int
    min_size: int = 1

    def __post_init__(self) -> None:
        require_positive("SizeMap", stride=self.stride, min_size=self.min_size)
        require_integer("SizeMap", offset=self.offset)

    def __call__(self, n: int) -> int:
        if n < self.min_size:
            raise ValueError(
                f"{self} takes lengths from {self.min_size}, got {n}; pad or use a smaller kernel"
            )
        return (n + self.offset) // self.stride + 1

    def then(self, after: "SizeMap") -> "SizeMap":
        """The map of both layers, this one first.

        Args:
            after: the map of the layer that follows.
        """
        # The first n at which this map reaches what the next one needs; both are steps that never fall.
        enough = (after.min_size - 1) * self.stride - self.offset
        offset = self.offset + self.stride * (after.offset + 1)
        return SizeMap(self.stride * after.stride, offset, max(self.min_size, enough))


@implements("neuralarts")
@dataclass(frozen=True)
class IOSignature:
    """The type of a layer: the channels it takes and gives, and a :class:`SizeMap` for every further axis.

    Args:
        in_channels: channels that it accepts; None where any number will do.
        out_channels: channels that it gives; None for as many as it gets.
        sizes: one map per axis; none for layers that leave every axis as it is.

    Raises:
        ValueError: when called with too few axes, or composed with a layer that does not fit.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710

    >>> io_signature(nn.Conv2d(3, 8, 3, stride=2))(3, 9, 12)
    (8, 4, 5)
    """

    in_channels: int | None
    out_channels: int | None
    sizes: tuple[SizeMap, ...] = ()

    def __call__(self, channels: int, *size: int) -> tuple[int, ...]:
        if self.in_channels not in (None, channels) or (self.sizes and len(size) != len(self.sizes)):
            raise ValueError(f"{self} does not accept shape {(channels, *size)}")
        maps = self.sizes or [_SAME] * len(size)
        given = channels if self.out_channels is None else self.out_channels
        return given, *(f(n) for f, n in zip(maps, size, strict=True))

    def then(self, after: "IOSignature") -> "IOSignature":
        """The type of both layers one after the other.

        Args:
            after: the type of the layer that follows.
        """
        if None not in (self.out_channels, after.in_channels) and self.out_channels != after.in_channels:
            raise ValueError(f"{self.out_channels} channels come out, {after.in_channels} are expected")
        if self.sizes and after.sizes and len(self.sizes) != len(after.sizes):
            raise ValueError(f"{len(self.sizes)} axes come out, {len(after.sizes)} are expected")
        if self.sizes and after.sizes:
            sizes = tuple(f.then(g) for f, g in zip(self.sizes, after.sizes, strict=True))
        else:
            sizes = self.sizes or after.sizes
        accepts = (
            after.in_channels if self.in_channels is None and self.out_channels is None else self.in_channels
        )
        return IOSignature(
            accepts, self.out_channels if after.out_channels is None else after.out_channels, sizes
        )


_SAME = SizeMap(1, -1)


@implements("neuralarts")
def io_signature(layer: nn.Module) -> IOSignature:
    r"""Read the type of a layer, or of a chain of layers, off its attributes; nothing is run.

    .. math:: c = 2p - d(k - 1) - 1, \qquad n_{\min} = \max(1, -c)

    Args:
        layer: convolution, pooling, linear layer on channels, an elementwise or norm layer, or an
            ``nn.Sequential`` of such.

    Raises:
        ValueError: for a layer whose arithmetic is not known, such as ``padding="same"`` or ``ceil_mode``.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710

    >>> io_signature(nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.MaxPool1d(2)))
    IOSignature(in_channels=1, out_channels=4, sizes=(SizeMap(stride=2, offset=-4, min_size=4),))
    """
    if isinstance(layer, nn.Sequential):
        signature = IOSignature(None, None)
        for inner in layer:
            signature = signature.then(io_signature(inner))
        return signature
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        if isinstance(layer.padding, str):
            raise ValueError(f"padding={layer.padding!r} depends on the kernel; write it as a number")
        channels = layer.in_channels, layer.out_channels
        return IOSignature(*channels, _size_maps(layer, len(layer.kernel_size), layer.dilation))
    if isinstance(layer, nn.MaxPool1d | nn.MaxPool2d | nn.AvgPool1d | nn.AvgPool2d):
        if layer.ceil_mode:
            raise ValueError("ceil_mode=True rounds up; this arithmetic knows rounding down only")
        axes = 1 if isinstance(layer, nn.MaxPool1d | nn.AvgPool1d) else 2
        return IOSignature(None, None, _size_maps(layer, axes, getattr(layer, "dilation", 1)))
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return IOSignature(layer.num_features, layer.num_features)
    if isinstance(layer, nn.GroupNorm):
        return IOSignature(layer.num_channels, layer.num_channels)
    if isinstance(layer, _SHAPELESS):
        return IOSignature(None, None)
    raise ValueError(
        f"the shape arithmetic of {type(layer).__name__} is not known; give an IOSignature yourself"
    )


@implements("neuralarts")
def type_equivalent(a: nn.Module | IOSignature, b: nn.Module | IOSignature, *size: int) -> bool:
    r"""Whether b gives the shapes that a gives: for all inputs that both accept, or for one size only.

    .. math:: a \sim b \iff f_a(n) = f_b(n) \text{ for all } n \iff (s_a, c_a) = (s_b, c_b)

    Args:
        a: a layer or its type.
        b: another one.
        size: without it, the types are compared; with it, only the shapes at this size ("instant"
            equivalence), which two layers of stride 2 can share by chance.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710 (the exact definitions are inferred from summaries)

    >>> a, b = nn.Conv1d(1, 1, 3, stride=2), nn.Conv1d(1, 1, 2, stride=2)
    >>> type_equivalent(a, b), type_equivalent(a, b, 9), type_equivalent(a, b, 10)
    (False, True, False)
    """
    a, b = _as_signature(a), _as_signature(b)
    if (a.in_channels, a.out_channels) != (b.in_channels, b.out_channels):
        return False
    if size:
        channels = a.in_channels or 1
        return a(channels, *size) == b(channels, *size)
    axes = max(len(a.sizes), len(b.sizes))
    maps = [[(f.stride, f.offset) for f in s.sizes or [_SAME] * axes] for s in (a, b)]
    return maps[0] == maps[1]


@implements("neuralarts")
def forward_compatible(a: nn.Module | IOSignature, b: nn.Module | IOSignature, *size: int) -> bool:
    r"""Whether b can take what a gives: for every size that a accepts, or for one size only.

    .. math:: f_a(n) \ge n_{\min}(b) \quad\text{and}\quad \text{channels}_{\text{out}}(a) =
        \text{channels}_{\text{in}}(b)

    Args:
        a: a layer or its type.
        b: the layer that is to follow.
        size: without it, every size that a accepts; since sizes only grow, its smallest decides.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710 (the exact definitions are inferred from summaries)

    >>> a, b = nn.Conv1d(1, 4, 3), nn.Conv1d(4, 8, 5)
    >>> forward_compatible(a, b), forward_compatible(a, b, 7), forward_compatible(a, b, 6)
    (False, True, False)
    """
    a, b = _as_signature(a), _as_signature(b)
    if None not in (a.out_channels, b.in_channels) and a.out_channels != b.in_channels:
        return False
    if not (a.sizes and b.sizes):
        return True
    if len(a.sizes) != len(b.sizes):
        return False
    at = size or tuple(f.min_size for f in a.sizes)
    return all(f(n) >= g.min_size for f, g, n in zip(a.sizes, b.sizes, at, strict=True))


@implements("neuralarts")
def generate_type_equivalent(
    target: SizeMap,
    *,
    kernel_sizes: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7),
    dilations: tuple[int, ...] = (1, 2, 3, 4),
    max_padding: int = 12,
) -> list[dict[str, int]]:
    r"""All convolutions of a grid that change one axis as the target does, without trying any of them.

    .. math:: p = \tfrac12 \bigl(c + 1 + d(k - 1)\bigr), \quad\text{if that is an integer and } 0 \le p \le
        p_{\max}

    Args:
        target: the map to match; that of a layer is ``io_signature(layer).sizes[0]``.
        kernel_sizes: k to consider.
        dilations: d to consider.
        max_padding: largest p to consider.

    Raises:
        ValueError: for kernels or dilations below 1, or a padding below 0.

    Returns: for each, the arguments ``kernel_size``, ``stride``, ``padding`` and ``dilation``.

    Paper: NeuralArTS: Structuring Neural Architecture Search with Type Theory -
    https://arxiv.org/abs/2110.08710

    >>> same = io_signature(nn.Conv2d(1, 1, 3, padding=1)).sizes[0]
    >>> [tuple(c.values()) for c in generate_type_equivalent(same, kernel_sizes=(1, 2, 3), dilations=(1, 2))]
    [(1, 1, 0, 1), (1, 1, 0, 2), (2, 1, 1, 2), (3, 1, 1, 1), (3, 1, 2, 2)]
    """
    name = "generate_type_equivalent"
    require_at_least(0, name, max_padding=max_padding)
    for k, d in product(kernel_sizes, dilations):
        require_positive(name, kernel_sizes=k, dilations=d)
    found = []
    for k, d in product(kernel_sizes, dilations):
        padding, odd = divmod(target.offset + 1 + d * (k - 1), 2)
        if not odd and 0 <= padding <= max_padding:
            found.append({"kernel_size": k, "stride": target.stride, "padding": padding, "dilation": d})
    return found


def _as_signature(layer: nn.Module | IOSignature) -> IOSignature:
    return io_signature(layer) if isinstance(layer, nn.Module) else layer


def _size_maps(layer: nn.Module, axes: int, dilation: int | tuple[int, ...]) -> tuple[SizeMap, ...]:
    per_axis = [
        v if isinstance(v, tuple) else (v,) * axes for v in (layer.kernel_size, layer.stride, layer.padding)
    ]
    dilations = dilation if isinstance(dilation, tuple) else (dilation,) * axes
    maps = []
    for k, s, p, d in zip(*per_axis, dilations, strict=True):
        offset = 2 * p - d * (k - 1) - 1
        maps.append(SizeMap(s, offset, max(1, -offset)))
    return tuple(maps)
