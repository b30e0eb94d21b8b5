"""From dense to convolution edge by edge, each step with a random control."""

import torch
from torch import nn

from course_lib.compare.frames import Frame, Variant, compare
from course_lib.layers.dense import (
    InvertedBottleneckBlock,
    ParametricSpan,
    SpanLegs,
    bias_span,
    conv2d_span,
)
from course_lib.measure import at_least, experiment, question

CONV = conv2d_span((8, 8), 1, 8, (3, 3), padding=1)


def _layer(legs: SpanLegs, places: int = 1) -> nn.Module:
    return ParametricSpan(legs, bias=bias_span(legs.sizes[1], places))


def local_legs() -> SpanLegs:
    """The edges of a convolution, each with a weight of its own."""
    inputs, outputs, _ = CONV.sizes
    return SpanLegs((inputs, outputs, CONV.edges), CONV.source, CONV.target, torch.arange(CONV.edges))


def scattered_legs() -> SpanLegs:
    """As many edges into every output as a convolution has, from inputs drawn at random, with own weights."""
    legs = local_legs()
    # inputs in random order, for every output
    elsewhere = torch.rand(legs.sizes[1], legs.sizes[0]).argsort(1)
    rank = torch.arange(legs.edges) - torch.searchsorted(legs.target, legs.target)
    return SpanLegs(legs.sizes, elsewhere[legs.target, rank], legs.target, legs.weight)


def mistied_legs() -> SpanLegs:
    """The edges and the number of weights of a convolution; which edges share a weight is drawn at random."""
    return SpanLegs(CONV.sizes, CONV.source, CONV.target, CONV.weight[torch.randperm(CONV.edges)])


def torch_convolution() -> nn.Module:
    """The same layer, as torch has it."""
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.Flatten())


FRAME = Frame("vectors", (64,), nn.Flatten)  # the layer sees the pixels
SIDE_BY_SIDE = [
    Variant("dense", lambda: nn.Linear(64, 512), "torch.nn.Linear", ("baseline",)),
    Variant("edges of a convolution", lambda: _layer(local_legs()), "ParametricSpan", ("sparse", "local")),
    Variant("as many edges, at random", lambda: _layer(scattered_legs()), "ParametricSpan", ("sparse",)),
    Variant("convolution as a span", lambda: _layer(CONV, 64), "ParametricSpan", ("local", "shared weights")),
    Variant(
        "tied at random", lambda: _layer(mistied_legs(), 64), "ParametricSpan", ("local", "shared weights")
    ),
    Variant("convolution", torch_convolution, "torch.nn.Conv2d", ("local", "shared weights")),
    Variant(
        "inverted bottleneck", lambda: InvertedBottleneckBlock(64), "InvertedBottleneckBlock", ("residual",)
    ),
]


LINEAR = 0.67  # test accuracy of a linear map in this frame, the best of three seeds


@experiment(
    paper=("parametric-spans", "scaling-mlps"),
    seeds=5,
    trained={"*": at_least(LINEAR)},
    claims=[
        question(
            "with the same number of edges, near ones beat random ones",
            of="digits moved by a pixel, eight maps of nine edges an output",
            value=lambda m: m["edges of a convolution"] - m["as many edges, at random"],
            expect=at_least(0.0),
        ),
        question(
            "with 72 weights on the same edges, sharing by offset beats sharing at random",
            of="digits moved by a pixel, eight maps of nine edges an output",
            value=lambda m: m["convolution as a span"] - m["tied at random"],
            expect=at_least(0.0),
        ),
        question(
            "72 shared weights do as well as a weight for each edge",
            of="digits moved by a pixel, eight maps of nine edges an output",
            value=lambda m: m["convolution as a span"] - m["edges of a convolution"],
            expect=at_least(0.0),
            verdict="open",
        ),
    ],
)
def side_by_side(seed: int) -> dict[str, float]:
    """Test accuracy of every variant in the same frame at equal budget."""
    return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)
