"""Attention and decoding with a cache against torch and x-transformers."""

import warnings
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest
from course_lib.layers.attention import (
    GroupedQueryAttention,
    KVCache,
    MultiHeadAttention,
    MultiQueryAttention,
)

__all__ = ["CASES"]

DIM, HEADS, BATCH = 128, 8, 4


def multi_head(tokens: int) -> Contest:
    """Four sequences of width 128 in eight heads; the biases of ours and torch's are zero."""
    ours = MultiHeadAttention(DIM, HEADS).eval()
    return Contest(ours, {**_torch_layer(ours), **_peers(ours)}, (torch.randn(BATCH, tokens, DIM),))


def multi_query(tokens: int) -> Contest:
    """As above, causal, with one head of keys and values."""
    ours = MultiQueryAttention(DIM, HEADS, bias=False, causal=True).eval()
    return Contest(ours, _peers(ours), (torch.randn(BATCH, tokens, DIM),))


def grouped_query(tokens: int) -> Contest:
    """As above, causal, with two heads of keys and values."""
    ours = GroupedQueryAttention(DIM, HEADS, 2, bias=False, causal=True).eval()
    return Contest(ours, _peers(ours), (torch.randn(BATCH, tokens, DIM),))


def decoding(tokens: int) -> Contest:
    """Token by token, with the keys and values of all before in a cache."""
    ours = MultiHeadAttention(DIM, HEADS, bias=False, causal=True).eval()
    peers = {
        f"x_transformers.Attention{words}": _StepByStep(_x_transformers(ours, flash=flash))
        for words, flash in (("", False), (", flash", True))
    }
    inputs = (torch.randn(BATCH, tokens, DIM),)
    return Contest(_OursStepByStep(ours), peers, inputs, backward=False)


class _OursStepByStep:
    def __init__(self, layer: MultiHeadAttention) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        cache = KVCache()
        return torch.cat([self.layer(x_t, cache=cache) for x_t in x.split(1, dim=1)], dim=1)


class _StepByStep:
    """x-transformers hands the keys and values of a call to the next."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        cache, steps = None, []
        for x_t in x.split(1, dim=1):
            y, cache = self.layer(x_t, cache=cache, return_intermediates=True)
            steps.append(y)
        return torch.cat(steps, dim=1)


class _Fused(nn.Module):
    """The shortest way to write it with torch's fused function: four linear maps around it."""

    def __init__(self, layer: MultiHeadAttention) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(part.in_features, part.out_features, bias=part.bias is not None)
            for part in (layer.query, layer.key, layer.value, layer.out)
        )
        for mine, part in zip(self.layers, (layer.query, layer.key, layer.value, layer.out), strict=True):
            mine.load_state_dict(part.state_dict())
        self.head_dim, self.causal = layer.head_dim, layer.causal
        self.grouped = layer.num_heads != layer.num_kv_heads

    def forward(self, x: Tensor) -> Tensor:
        query, key, value, out = self.layers
        q, k, v = (f(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for f in (query, key, value))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=self.grouped)
        return out(y.transpose(1, 2).flatten(2))


def _peers(ours: MultiHeadAttention) -> dict[str, nn.Module]:
    return {
        "torch scaled_dot_product_attention": _Fused(ours),
        "x_transformers.Attention": _x_transformers(ours),
        "x_transformers.Attention, flash": _x_transformers(ours, flash=True),
    }


@torch.no_grad()
def _torch_layer(ours: MultiHeadAttention) -> dict[str, Any]:
    """In evaluation, without gradient, torch runs a whole layer as one operation."""
    layer = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval()
    parts = (ours.query, ours.key, ours.value)
    layer.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    layer.in_proj_bias.zero_()
    layer.out_proj.load_state_dict(ours.out.state_dict())
    return {"torch.nn.MultiheadAttention": _SelfAttention(layer)}


class _SelfAttention(nn.Module):
    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.layer = layer.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x, x, need_weights=False)[0]


@torch.no_grad()
def _x_transformers(ours: MultiHeadAttention, *, flash: bool = False) -> nn.Module:
    """There head h reads group h mod G, here (as in torch) the h G / H th."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from x_transformers import Attention

    groups, e = ours.num_kv_heads, ours.head_dim
    peer = Attention(
        DIM, dim_head=e, heads=ours.num_heads, kv_heads=groups, causal=ours.causal, flash=flash
    ).eval()
    peer.to_q.weight.copy_(rearrange(ours.query.weight, "(g r e) d -> (r g e) d", g=groups, e=e))
    peer.to_out.weight.copy_(rearrange(ours.out.weight, "d (g r e) -> d (r g e)", g=groups, e=e))
    peer.to_k.weight.copy_(ours.key.weight)
    peer.to_v.weight.copy_(ours.value.weight)
    return peer


WHY = "the same kernel; the function around it, with its checks, takes about ten microseconds a call"
SIZES = (8, 32, 128, 512)
CASES = [
    Case("MultiHeadAttention", multi_head, sizes=SIZES, axis="tokens", why=WHY),
    Case("MultiQueryAttention", multi_query, sizes=SIZES, axis="tokens", why=WHY),
    Case("GroupedQueryAttention", grouped_query, sizes=SIZES, axis="tokens", why=WHY),
    Case("KVCache", decoding, sizes=(8, 32, 128, 256), axis="tokens"),
]
