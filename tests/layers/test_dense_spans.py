"""Parametric spans against torch's layers, a loop over edges and the exchange of legs."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.dense import (
    ParametricSpan,
    SpanLegs,
    bias_span,
    conv1d_span,
    conv2d_span,
    dense_span,
    pooling_span,
    span_apply,
    span_matrix,
)
from tests.layers.arguments import as_users_call
from tests.oracles import values_and_gradients

CONVS = [
    {"stride": s, "padding": p, "dilation": d, "groups": g}
    for s, p, d, g in product((1, 2), (0, 1, 3), (1, 2), (1, 2))
]
EXCHANGES = {"input": ("target", "source", "weight"), "weight": ("source", "weight", "target")}


@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (1, 5), (7, 5)], ids=str)
def test_dense_span_equals_linear_in_value_and_gradients(sizes):
    x, w = torch.randn(2, sizes[0]).double(), torch.randn(sizes[0] * sizes[1]).double()
    expected = values_and_gradients(lambda x, w: F.linear(x, w.view(sizes[1], sizes[0])), x, w)
    legs = dense_span(*sizes)
    torch.testing.assert_close(values_and_gradients(lambda x, w: span_apply(legs, x, w), x, w), expected)
    assert legs.sharing == 1


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_conv1d_span_equals_torch_in_value_and_gradients(options):
    legs = conv1d_span(11, 4, 6, 3, **options)
    x, w = torch.randn(2, 4, 11).double(), torch.randn(6, 4 // options["groups"], 3).double()
    expected = values_and_gradients(lambda x, w: F.conv1d(x, w, **options).flatten(1), x, w)
    ours = values_and_gradients(lambda x, w: span_apply(legs, x.flatten(1), w.flatten()), x, w)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("options", CONVS, ids=str)
def test_conv2d_span_equals_torch_in_value_and_gradients(options):
    legs = conv2d_span((7, 5), 2, 4, (2, 3), **options)
    x, w = torch.randn(3, 2, 7, 5).double(), torch.randn(4, 2 // options["groups"], 2, 3).double()
    expected = values_and_gradients(lambda x, w: F.conv2d(x, w, **options).flatten(1), x, w)
    ours = values_and_gradients(lambda x, w: span_apply(legs, x.flatten(1), w.flatten()), x, w)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, 1), (3, 2)])
def test_pooling_span_with_one_over_the_window_equals_average_pooling(kernel, stride):
    legs, x = pooling_span(7, 3, kernel, stride=stride), torch.randn(2, 3, 7).double()
    ours = span_apply(legs, x.flatten(1), torch.tensor([1 / kernel]).double())
    torch.testing.assert_close(ours, F.avg_pool1d(x, kernel, stride).flatten(1))
    assert legs.sizes[2] == 1


def random_legs(generator):
    """Any three maps: repeated edges, inputs nobody reads, outputs nobody feeds, unused weights."""
    sizes = (5, 4, 3)
    return SpanLegs(sizes, *(torch.randint(n, (17,), generator=generator) for n in sizes))


@pytest.mark.parametrize("seed", range(5))
def test_any_legs_equal_a_loop_over_edges_and_the_matrix(seed):
    legs = random_legs(torch.Generator().manual_seed(seed))
    x, w = torch.randn(2, 5).double(), torch.randn(3).double()
    by_hand = torch.zeros(2, 4).double()
    for s, t, p in zip(legs.source, legs.target, legs.weight, strict=True):
        by_hand[:, t] += w[p] * x[:, s]
    torch.testing.assert_close(span_apply(legs, x, w), by_hand)
    torch.testing.assert_close(x @ span_matrix(legs, w).T, by_hand)


@pytest.mark.parametrize("seed", range(5))
def test_both_gradients_are_spans_with_exchanged_legs(seed):
    legs = random_legs(torch.Generator().manual_seed(seed))
    x, w, g = (torch.randn(2, n).double() for n in (5, 3, 4))
    x.requires_grad_()
    w.requires_grad_()
    of_input, of_weight = torch.autograd.grad(span_apply(legs, x, w), (x, w), g)
    torch.testing.assert_close(span_apply(legs.exchange(*EXCHANGES["input"]), g, w), of_input)
    torch.testing.assert_close(span_apply(legs.exchange(*EXCHANGES["weight"]), x, g), of_weight)
    assert torch.autograd.gradcheck(lambda x, w: span_apply(legs, x, w), (x, w))


def test_exchanging_back_gives_the_same_span():
    legs = conv1d_span(5, 1, 2, 3)
    again = legs.exchange(*EXCHANGES["input"]).exchange(*EXCHANGES["input"])
    assert again.sizes == legs.sizes
    assert all(torch.equal(getattr(again, n), getattr(legs, n)) for n in ("source", "target", "weight"))


@pytest.mark.parametrize("padding", [0, 1])
def test_module_equals_conv2d_with_its_bias_and_starts_in_the_same_range(padding):
    peer = nn.Conv2d(2, 3, 3, padding=padding).double()
    legs = conv2d_span((6, 5), 2, 3, (3, 3), padding=padding)
    layer = ParametricSpan(legs, bias=bias_span(legs.sizes[1], legs.sizes[1] // 3)).double()
    bound = 18**-0.5
    assert layer.weight.abs().max() <= bound < 1.3 * layer.weight.abs().max()
    assert layer.bias.abs().max() <= bound
    layer.load_state_dict({"weight": peer.weight.flatten(), "bias": peer.bias}, strict=False)
    x = torch.randn(2, 2, 6, 5).double()
    torch.testing.assert_close(layer(x.flatten(1)), peer(x).flatten(1))


def test_the_legs_travel_with_the_weights_and_come_back_after_meta():
    legs = random_legs(torch.Generator().manual_seed(0))
    layer, x = ParametricSpan(legs), torch.randn(2, 5)
    with torch.device("meta"):
        other = ParametricSpan(conv1d_span(5, 1, 1, 2))
        same = ParametricSpan(legs)
    assert all(t.is_meta for t in same.state_dict().values())
    same.load_state_dict(layer.state_dict(), assign=True)
    torch.testing.assert_close(same(x), layer(x))
    other = other.to_empty(device="cpu")
    other.reset_parameters()
    torch.testing.assert_close(other(x), span_apply(conv1d_span(5, 1, 1, 2), x, other.weight), rtol=0, atol=0)


def test_tying_two_edges_adds_their_gradients():
    legs = SpanLegs((2, 1, 1), torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]))
    w = torch.ones(1, requires_grad=True)
    span_apply(legs, torch.tensor([[3.0, 4.0]]), w).sum().backward()
    assert w.grad.item() == 7


def test_a_layer_without_edges_gives_zeros():
    none = torch.zeros(0, dtype=torch.int64)
    layer = ParametricSpan(SpanLegs((3, 2, 1), none, none, none))
    assert torch.equal(layer(torch.randn(4, 3)), torch.zeros(4, 2))


def test_bad_legs_and_inputs_are_named():
    index = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"lengths \[2, 2, 1\]"):
        SpanLegs((2, 2, 2), index, index, index[:1])
    with pytest.raises(ValueError, match="'target' goes from 0 to 1, its set has 1"):
        SpanLegs((2, 1, 2), index, index, index)
    with pytest.raises(ValueError, match="each of"):
        dense_span(2, 2).exchange("source", "source", "weight")
    with pytest.raises(ValueError, match=r"got shape \(4, 2\)"):
        ParametricSpan(dense_span(3, 2))(torch.randn(4, 2))
    with pytest.raises(ValueError, match="repeat=3 does not divide out_features=4"):
        bias_span(4, 3)
    with pytest.raises(ValueError, match="lead from 1 point to 2 outputs"):
        ParametricSpan(dense_span(3, 2), bias=bias_span(3))
    with pytest.raises(ValueError, match="does not fit"):
        conv1d_span(3, 1, 1, 5)
    with pytest.raises(ValueError, match="groups=2 does not divide in_channels=3"):
        conv2d_span((4, 4), 3, 2, (1, 1), groups=2)
    with pytest.raises(ValueError, match="stride must be an integer of at least 1, got 0"):
        conv1d_span(5, 1, 1, 3, stride=0)
    for span in (
        lambda: dense_span(0, 2),
        lambda: pooling_span(4, 1, 2, stride=0),
        lambda: conv2d_span((4, 0), 1, 1, (1, 1)),
    ):
        with pytest.raises(ValueError, match="must be an integer of at least 1, got 0"):
            span()
    with as_users_call(), pytest.raises(TypeError, match=r"weight must be a vector of torch\.int64"):
        SpanLegs((2, 2, 2), index, index, index.float())
    with pytest.raises(ValueError, match="source is on 'meta'"):
        SpanLegs((2, 2, 2), index.to("meta"), index, index)
    with pytest.raises(ValueError, match="expects 6 entries along axis -1 of weight"):
        span_matrix(dense_span(3, 2), torch.zeros(5))
