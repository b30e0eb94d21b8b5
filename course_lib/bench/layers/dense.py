"""Dense layers and spans against torch's layers, and the inverted bottleneck against timm's parts."""

import torch
from torch import nn

from course_lib.compare import Case, Contest
from course_lib.layers.dense import (
    InvertedBottleneckBlock,
    ParametricSpan,
    bias_span,
    conv1d_span,
    dense_span,
)

__all__ = ["CASES"]


class _Flat(nn.Module):
    """A convolution whose places are flattened, as those of a span are."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x[:, None]).flatten(1)


class _PreNorm(nn.Module):
    """Norm, inside, skip, as timm's blocks have them round their Mlp."""

    def __init__(self, width: int, inside: nn.Module) -> None:
        super().__init__()
        self.norm, self.inside = nn.LayerNorm(width), inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inside(self.norm(x))


def _take(span: ParametricSpan, peer: nn.Module) -> None:
    """The peer's parameters; the legs of the span stay its own."""
    span.load_state_dict({"weight": peer.weight.flatten(), "bias": peer.bias}, strict=False)


def dense_as_span(width: int) -> Contest:
    """A batch of 16 vectors."""
    ours, peer = ParametricSpan(dense_span(width, width), bias=bias_span(width)), nn.Linear(width, width)
    _take(ours, peer)
    return Contest(ours, {"torch.nn.Linear": peer}, (torch.randn(16, width),))


def convolution_as_span(length: int) -> Contest:
    """A batch of 16 signals, four kernels of five places."""
    peer = nn.Conv1d(1, 4, 5, padding=2)
    ours = ParametricSpan(conv1d_span(length, 1, 4, 5, padding=2), bias=bias_span(4 * length, length))
    _take(ours, peer)
    return Contest(ours, {"torch.nn.Conv1d": _Flat(peer)}, (torch.randn(16, length),))


def inverted_bottleneck(width: int) -> Contest:
    """A batch of 256 vectors, expansion 4."""
    from timm.layers import Mlp

    ours, peer = InvertedBottleneckBlock(width), _PreNorm(width, Mlp(width, 4 * width))
    for theirs, name in ((peer.inside.fc1, "expand"), (peer.inside.fc2, "contract")):
        theirs.load_state_dict(getattr(ours, name).state_dict())
    return Contest(ours, {"timm.layers.Mlp": peer}, (torch.randn(256, width),))


SCATTER = "one product per edge is written and summed, where a matrix product keeps sums in registers"
CASES = [
    Case("ParametricSpan, dense", dense_as_span, sizes=(16, 32, 64), axis="width", why=SCATTER),
    Case(
        "ParametricSpan, convolution", convolution_as_span, sizes=(64, 256, 1024), axis="length", why=SCATTER
    ),
    Case("InvertedBottleneckBlock", inverted_bottleneck, sizes=(32, 64, 128), axis="width"),
]
