"""The pools against values of the authors' own code (``tests/vectors``)."""

import math

import pytest
import torch

from course_lib.layers.pool import (
    AttentionPool,
    ClassQueryPool,
    EfficientLayer,
    LargeContextTransposedConv2d,
    ParameterFreeBottleneck,
    PatchConvNet,
    PolarizedSelfAttention,
    SoftPool2d,
    SpatialPyramidPool,
)
from tests.vectors import fill, vector


def windows(x):
    """The four values of each 2 x 2 window, in a last axis."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)


def mapped(names):
    """From our names to theirs: the first prefix that fits is exchanged."""

    def find(name):
        ours = next(key for key in names if name.startswith(key))
        return names[ours] + name.removeprefix(ours)

    return find


# -- softpool -----------------------------------------------------------------------------------------


def test_softpool_is_that_of_the_kernel_for_gpus():
    known = vector("softpool", "GPU forward")
    known.check(SoftPool2d(2)(*known.given()))


def test_the_kernel_for_gpus_sends_back_the_weights_alone_where_the_derivative_has_two_terms():
    known = vector("softpool", "GPU backward")
    x, gradient = known.given()
    x.requires_grad_()
    weights = windows(x).softmax(-1)
    held = (weights.detach() * windows(x)).sum(-1)  # the weights as constants
    known.check(*torch.autograd.grad(held, x, gradient))
    (ours,) = torch.autograd.grad(SoftPool2d(2)(x), x, gradient)
    pooled = (weights * windows(x)).sum(-1, keepdim=True)
    slopes = weights * (1 + windows(x) - pooled) * gradient[..., None]
    torch.testing.assert_close(windows(ours), slopes)
    with pytest.raises(AssertionError):
        known.check(ours, tolerance=0.1)


def test_softpool_on_a_cpu_is_another_layer_there():
    known = vector("softpool", "CPU forward")
    (x,) = known.given()
    shared = windows(x).exp().sum(1, keepdim=True)  # one weight per position, summed over the channels
    known.check(((shared * windows(x)).sum(-1) / shared.sum(-1)).clamp(min=0))
    with pytest.raises(AssertionError):
        known.check(SoftPool2d(2)(x), tolerance=0.1)


# -- parameter-free-layers ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_bottleneck_is_that_of_the_authors(mode):
    known = vector("parameter-free-layers", f"MaxBottleneck {mode}")
    block = ParameterFreeBottleneck(4, 2, stride=2).train(mode == "train")
    names = {"reduce": "reduction_block", "expand": "expansion_block", "skip": "downsample"}
    fill(block, known.weights(), mapped(names))
    known.check(block(*known.given()))


def test_the_efficient_layer_is_that_of_the_authors():
    known = vector("parameter-free-layers", "EffLayer")
    layer = EfficientLayer(4, grid=(3, 3))
    fill(layer, known.weights(), mapped({"widen": "qkv", "narrow": "proj"}))
    known.check(layer(*known.given()))


# -- spatial-pyramid-pooling --------------------------------------------------------------------------


def test_regions_are_pooled_as_in_the_release_once_the_cells_are_known():
    known = vector("spatial-pyramid-pooling", "regions")
    (features,) = known.given()
    boxes = [(1, 1, 90, 60), (20, 14, 47, 39), (30, 30, 37, 37)]  # left, top, right, bottom; pixels from 1
    rows, columns = features.shape[1:]

    def cells(low, high, count):
        """Rounded to the nearest cell, counted from 1; one in the middle where there is none."""
        first = math.floor((low - 15 + 6.5) / 12 + 0.5) + 1
        last = math.ceil((high - 15 - 6.5) / 12 - 0.5) + 1
        if first > last:
            first = last = int((first + last) / 2)
        return slice(min(count, max(1, first)) - 1, min(count, max(1, last)))

    pool = SpatialPyramidPool(levels=(3, 2, 1))
    found = [
        pool(features[None, :, cells(top, bottom, rows), cells(left, right, columns)])
        for left, top, right, bottom in boxes
    ]
    known.check(torch.cat(found).relu())  # the maximum starts at zero there: features come from a ReLU


# -- attention-pooling --------------------------------------------------------------------------------

AGGREGATION = {
    "norm_in": "norm1",
    "norm_mlp": "norm2",
    "query": "attn.q",
    "key": "attn.k",
    "value": "attn.v",
    "out": "attn.proj",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
    "scale_attention": "gamma_1",
    "scale_mlp": "gamma_2",
}


@pytest.mark.parametrize(
    ("name", "make"),
    [("single query", lambda: AttentionPool(6)), ("one query per class", lambda: ClassQueryPool(6, 3))],
)
def test_the_query_reads_the_positions_as_there(name, make):
    known, pool = vector("attention-pooling", name), make()
    x, queries = known.given()
    own = {
        key: value
        for key, value in pool.state_dict().items()
        if key.startswith(("norm_out", "score", "bias"))
    }
    names = {"queries": "queries", **{key: key for key in own}, **AGGREGATION}
    fill(pool, known.weights() | own | {"queries": queries}, mapped(names))
    seen = []
    pool.norm_out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    pool(x)
    known.check(*seen)  # theirs ends before the last norm


def test_the_whole_network_is_that_of_the_authors():
    known = vector("attention-pooling", "network")
    net = PatchConvNet(2, 3, dim=8, depth=2)
    names = {f"pool.{ours}": f"blocks_token_only.0.{theirs}" for ours, theirs in AGGREGATION.items()}
    names |= {"pool.norm_out": "norm", "pool.queries": "cls_token", "out": "head"}
    for n in range(4):
        names[f"stem.{2 * n}"] = f"patch_embed.proj.{2 * n}.0"
    for n in range(2):
        names[f"blocks.{n}.norm"] = f"blocks.{n}.norm1"
        names[f"blocks.{n}.scale.weight"] = f"blocks.{n}.gamma_1"
        names[f"blocks.{n}.layers.4.gate.0"] = f"blocks.{n}.attn.qkv_pos.4.conv_reduce"
        names[f"blocks.{n}.layers.4.gate.2"] = f"blocks.{n}.attn.qkv_pos.4.conv_expand"
        names[f"blocks.{n}.layers"] = f"blocks.{n}.attn.qkv_pos"
    fill(net, known.weights(), mapped(names))
    (images,) = known.given()
    known.check(net.features(images).flatten(2).mT, net(images))


# -- polarized-self-attention -------------------------------------------------------------------------

GATES = {
    "channel_query": "conv_q_right",
    "channel_value": "conv_v_right",
    "spatial_query": "conv_q_left",
    "spatial_value": "conv_v_left",
}


def test_the_parallel_gates_are_those_of_the_authors():
    known = vector("polarized-self-attention", "PSA_p")
    layer = PolarizedSelfAttention(8, spatial_softmax="product", norm_layer=None)
    fill(layer, known.weights(), mapped({**GATES, "channel_up.0": "conv_up"}))
    known.check(layer(*known.given()))


def test_the_sequential_gates_are_those_of_the_authors():
    known = vector("polarized-self-attention", "PSA_s")
    layer = PolarizedSelfAttention(16, layout="sequential", spatial_softmax="values", hidden_dim=2)
    fill(layer, known.weights(), mapped({**GATES, "channel_up": "conv_up"}))
    known.check(layer(*known.given()))


# -- large-context-upsampling -------------------------------------------------------------------------


def test_upsampling_with_a_large_kernel_is_that_of_the_first_author():
    known = vector("large-context-upsampling", "7x7 + 3x3")
    weights = known.weights()
    weights["up.bias"] = weights["up.bias"] + weights["small_trans_kernel.bias"]  # two there, their sum here
    layer = LargeContextTransposedConv2d(4, 2, num_groups=2)
    fill(layer, weights, mapped({"large": "up", "small": "small_trans_kernel"}))
    known.check(layer(*known.given()))


def test_a_large_kernel_alone_is_that_of_the_first_author():
    known = vector("large-context-upsampling", "11x11")
    layer = LargeContextTransposedConv2d(4, 2, kernel_size=11, small_kernel_size=0, num_groups=2)
    fill(layer, known.weights(), mapped({"large": "up"}))
    known.check(layer(*known.given()))
