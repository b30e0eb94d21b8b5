"""Structured layers against torch's own ways to compute the same."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest, copy_parameters
from course_lib.layers.structured import KroneckerLinear, LowRankLinear, MemoryLinear, MonarchLinear

__all__ = ["CASES"]


class _Formed(nn.Module):
    """A structured layer that forms its dense matrix and multiplies by that."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer.weight, self.layer.bias)


def low_rank(width: int) -> Contest:
    """256 vectors, an eighth of the rank."""
    ours = LowRankLinear(width, width, width // 8)
    peer = nn.Sequential(nn.Linear(width, width // 8, bias=False), nn.Linear(width // 8, width))
    with torch.no_grad():
        peer[0].weight.copy_(ours.v.mT)
        peer[1].weight.copy_(ours.u)
        peer[1].bias.copy_(ours.bias)
    return Contest(ours, {"two torch.nn.Linear": peer}, (torch.randn(256, width),))


def kronecker(width: int) -> Contest:
    """256 vectors; the peer forms torch.kron's matrix."""
    side = (math.isqrt(width),) * 2
    ours, other = KroneckerLinear(side, side), KroneckerLinear(side, side)
    copy_parameters(ours, other)
    return Contest(ours, {"the formed matrix": _Formed(other)}, (torch.randn(256, width),))


def monarch(width: int) -> Contest:
    """256 vectors; the peer forms the dense matrix."""
    side = (math.isqrt(width),) * 2
    ours, other = MonarchLinear(side, side), MonarchLinear(side, side)
    copy_parameters(ours, other)
    return Contest(ours, {"the formed matrix": _Formed(other)}, (torch.randn(256, width),))


class _Gathered(nn.Module):
    """A memory layer by indexing, which stores all fetched rows."""

    def __init__(self, layer: MemoryLinear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        row, p = self.layer.address(x)
        return (p[..., None] * self.layer.tables[torch.arange(self.layer.chunks), row]).sum(-2)


def memory(width: int) -> Contest:
    """256 vectors, 8 bits; the peer gathers rows by index."""
    ours, other = MemoryLinear(width, width), MemoryLinear(width, width)
    copy_parameters(ours, other)
    return Contest(ours, {"torch indexing": _Gathered(other)}, (torch.randn(256, width),))


CASES = [
    Case("LowRankLinear", low_rank, sizes=(64, 256, 1024), axis="width"),
    Case("KroneckerLinear", kronecker, sizes=(64, 256, 1024), axis="width"),
    Case("MonarchLinear", monarch, sizes=(64, 256, 1024), axis="width"),
    Case("MemoryLinear", memory, sizes=(64, 128, 256), axis="width"),
]
