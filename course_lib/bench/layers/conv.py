"""Convolution layers against torch, timm and masked kernels."""

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest
from course_lib.layers.conv import (
    InceptionDWConv2d,
    MlpConv2d,
    TopologicalPointwise,
    conv2d_im2col,
    merge_to_single_depthwise,
)

__all__ = ["CASES"]


def im2col(channels: int) -> Contest:
    """Eight images of 16 x 16 pixels, a 3 x 3 kernel."""
    x, weight = torch.randn(8, channels, 16, 16), torch.randn(channels, channels, 3, 3)
    return Contest(
        lambda x, w: conv2d_im2col(x, w, padding=1),
        {"torch.nn.functional.conv2d": lambda x, w: F.conv2d(x, w, padding=1)},
        (x, weight),
        tolerance=1e-3,
    )


def mlp_conv(channels: int) -> Contest:
    """Eight images of 16 x 16 pixels; the peer is torch's layers in a row."""
    ours = MlpConv2d(channels, (channels,) * 3, 3)
    return Contest(ours, {"torch.nn.Sequential": nn.Sequential(*ours)}, (torch.randn(8, channels, 16, 16),))


def inception_depthwise(channels: int) -> Contest:
    """Eight images of 16 x 16 pixels; the peer is the one 11 x 11 depthwise kernel that computes the same."""
    ours = InceptionDWConv2d(channels)
    x = torch.randn(8, channels, 16, 16)
    return Contest(ours, {"torch.nn.Conv2d 11 x 11": merge_to_single_depthwise(ours)}, (x,))


def topological(channels: int) -> Contest:
    """Four images of 16 x 16 pixels, a quarter of the connections; the peer is the masked projection."""
    side = int(channels**0.5)
    ours = TopologicalPointwise(channel_grid=(side, side), kernel_size=(side // 2, side // 2))
    peer = nn.Conv2d(channels, channels, 1, bias=False)
    peer.weight.data = ours.dense_weight().detach()[:, :, None, None].clone()
    return Contest(ours, {"torch.nn.Conv2d 1 x 1": peer}, (torch.randn(4, channels, 16, 16),), tolerance=1e-3)


CASES = [
    Case(
        "conv2d_im2col",
        im2col,
        sizes=(4, 16, 64),
        axis="channels",
        why="the patches are written to memory and read again; torch's kernel forms them on the fly",
    ),
    Case(
        "MlpConv2d",
        mlp_conv,
        sizes=(4, 16, 64),
        axis="channels",
        why="the same kernels; checking the channels costs a few microseconds",
    ),
    Case("InceptionDWConv2d", inception_depthwise, sizes=(8, 32, 128), axis="channels"),
    Case(
        "TopologicalPointwise",
        topological,
        sizes=(4, 16, 64),
        axis="channels",
        why="a quarter of the operations, but gathering the connected channels moves many more bytes",
    ),
]
