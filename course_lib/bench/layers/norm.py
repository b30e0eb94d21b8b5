"""Normalisation against torch's own layers."""

import torch
from torch import nn

from course_lib.compare import Case, Contest, copy_parameters
from course_lib.layers.norm import BatchNorm, LayerNorm, RMSNorm

__all__ = ["CASES"]


def layer_norm(width: int) -> Contest:
    """64 sequences of 32 tokens."""
    ours, peer = LayerNorm(width), nn.LayerNorm(width)
    copy_parameters(ours, peer)
    return Contest(ours, {"torch.nn.LayerNorm": peer}, (torch.randn(64, 32, width),))


def rms_norm(width: int) -> Contest:
    """64 sequences of 32 tokens."""
    ours, peer = RMSNorm(width), nn.RMSNorm(width)
    copy_parameters(ours, peer)
    return Contest(ours, {"torch.nn.RMSNorm": peer}, (torch.randn(64, 32, width),))


def batch_norm(width: int) -> Contest:
    """A batch of 2048 vectors, in training mode."""
    ours, peer = BatchNorm(width), nn.BatchNorm1d(width)
    copy_parameters(ours, peer)
    return Contest(ours, {"torch.nn.BatchNorm1d": peer}, (torch.randn(2048, width),))


WHY = "the same kernel; checking the width and one more Python call cost a few microseconds"
SIZES = (32, 128, 512, 2048)
CASES = [
    Case("LayerNorm", layer_norm, sizes=SIZES, axis="width", why=WHY),
    Case("RMSNorm", rms_norm, sizes=SIZES, axis="width", why=WHY),
    Case("BatchNorm", batch_norm, sizes=SIZES, axis="width", why=WHY),
]
