"""Pooling and its relatives against torch and timm, where they compute the same."""

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest
from course_lib.layers.pool import (
    AttentionPool,
    LargeContextTransposedConv2d,
    SoftPool2d,
    SpatialPyramidPool,
    generalized_mean,
    soft_pool2d_naive,
)

__all__ = ["CASES"]


def generalized(tokens: int) -> Contest:
    """16 sequences of positive tokens, width 64, order 3."""
    order = torch.full((64,), 3.0)
    return Contest(
        lambda x: generalized_mean(x, order),
        {"torch lp_pool1d": lambda x: F.lp_pool1d(x.mT, 3.0, tokens)[..., 0] / tokens ** (1 / 3)},
        (torch.rand(16, tokens, 64) + 0.1,),
    )


def soft(side: int) -> Contest:
    """16 square images of 16 channels, windows of 2 x 2; the peer is the quotient, which overflows."""
    return Contest(
        SoftPool2d(2),
        {"two average pools": lambda x: soft_pool2d_naive(x, 2)},
        (torch.randn(16, 16, side, side),),
    )


def pyramid(side: int) -> Contest:
    """16 square maps of 32 channels, levels 1, 2 and 4."""
    peers = [nn.AdaptiveMaxPool2d(n) for n in (1, 2, 4)]
    return Contest(
        SpatialPyramidPool(),
        {"torch.nn.AdaptiveMaxPool2d": lambda x: torch.cat([peer(x).flatten(1) for peer in peers], 1)},
        (torch.randn(16, 32, side, side),),
    )


def attention(tokens: int) -> Contest:
    """The attention alone, 16 sequences of width 64; the peer has one head and the learned query."""
    ours, peer = AttentionPool(64), nn.MultiheadAttention(64, 1, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
        query = ours.norm_in(ours.queries)[None]

    def theirs(x: torch.Tensor) -> torch.Tensor:
        asking = query.expand(len(x), -1, -1)
        n = torch.cat([asking, ours.norm_in(x)], 1)  # the query is its own first key
        z = ours.queries + ours.scale_attention * peer(asking, n, n)[0]
        return ours.norm_out(z + ours.scale_mlp * ours.mlp(ours.norm_mlp(z)))[:, 0]

    return Contest(ours, {"torch.nn.MultiheadAttention": theirs}, (torch.randn(16, tokens, 64),))


def large_context(side: int) -> Contest:
    """8 square maps, 16 channels to 16; the peer has both kernels folded into one."""
    ours = LargeContextTransposedConv2d(16, 16)
    peer = nn.ConvTranspose2d(16, 16, 7, 2, 3, output_padding=1)
    with torch.no_grad():
        peer.weight.copy_(ours.large.weight + F.pad(ours.small.weight, (2, 2, 2, 2)))
        peer.bias.copy_(ours.large.bias)
    return Contest(ours, {"torch.nn.ConvTranspose2d": peer}, (torch.randn(8, 16, side, side),))


CASES = [
    Case(
        "generalized_mean",
        generalized,
        sizes=(16, 64, 256),
        axis="tokens",
        why="logarithms and exponentials, so that no power underflows or overflows",
    ),
    Case(
        "SoftPool2d",
        soft,
        sizes=(8, 16, 32),
        axis="side",
        why="the maximum of each window is found and subtracted first; the plain quotient overflows",
    ),
    Case("SpatialPyramidPool", pyramid, sizes=(8, 16, 32), axis="side"),
    Case("AttentionPool", attention, sizes=(16, 64, 256), axis="tokens"),
    Case(
        "LargeContextTransposedConv2d",
        large_context,
        sizes=(4, 8, 16),
        axis="side",
        why="two kernels, as in training; folding the small one into the large one makes them equal",
    ),
]
