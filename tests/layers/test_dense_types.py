"""Types of shapes against what torch does, and types of meaning against their algebra."""

import random
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import nn

from course_lib.layers.dense import (
    AxisType,
    ElementType,
    IOSignature,
    NeuralType,
    NeuralTypeComparison,
    NeuralTypeError,
    SizeMap,
    forward_compatible,
    generate_type_equivalent,
    io_signature,
    type_equivalent,
    typecheck,
    typecheck_disabled,
)

GRID = list(product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 4), (1, 2, 3)))  # kernel, stride, padding, dilation


def shape_of(layer, *shape):
    """What torch makes of the shape, without computing it; None where torch refuses."""
    try:
        with torch.device("meta"):
            return tuple(layer.to("meta")(torch.empty(2, *shape)).shape[1:])
    except RuntimeError:
        return None


def random_conv(generator, channels_in, channels_out, axes):
    """A convolution of one or two axes with random arguments."""
    kind = nn.Conv1d if axes == 1 else nn.Conv2d
    draw = lambda *values: tuple(generator.choice(values) for _ in range(axes))  # noqa: E731
    sizes = {"stride": draw(1, 2, 3), "padding": draw(0, 1, 2), "dilation": draw(1, 2)}
    return kind(channels_in, channels_out, draw(1, 2, 3, 4), **sizes)


@pytest.mark.parametrize("axes", [1, 2])
def test_signature_of_a_layer_equals_torch_on_every_size_or_both_refuse(axes):
    generator = random.Random(axes)
    for _ in range(20):
        conv = random_conv(generator, 2, 3, axes)
        for n in (1, 2, 5, 8, 13, 16):
            shape = (2, *(n + a for a in range(axes)))
            expected = shape_of(conv, *shape)
            if expected is None:
                with pytest.raises(ValueError, match="takes lengths from"):
                    io_signature(conv)(*shape)
            else:
                assert io_signature(conv)(*shape) == expected


def test_signature_of_a_chain_equals_torch_and_the_composition_of_its_parts():
    generator = random.Random(0)
    for _ in range(12):
        parts = [random_conv(generator, 1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), random_conv(generator, 2, 3, 2)]
        chain, last = nn.Sequential(*parts), io_signature(parts[3])
        for n in (1, 3, 6, 7, 12, 13, 20, 29):
            expected = shape_of(chain, 1, n, n + 2)
            if expected is None:
                with pytest.raises(ValueError, match="takes lengths from"):
                    io_signature(chain)(1, n, n + 2)
            else:
                assert io_signature(chain)(1, n, n + 2) == expected
                between = io_signature(nn.Sequential(*parts[:3]))(1, n, n + 2)
                assert last(*between) == expected


def test_size_map_refuses_a_chain_that_shrinks_to_nothing_inside():
    chain = nn.Sequential(nn.Conv1d(1, 1, 9), nn.Conv1d(1, 1, 1, padding=5))
    assert shape_of(chain, 1, 8) is None
    assert io_signature(chain).sizes[0].min_size == 9
    assert io_signature(chain)(1, 9) == shape_of(chain, 1, 9)


@pytest.mark.parametrize(
    "layer", [nn.AvgPool1d(3, 2), nn.MaxPool1d(3, 1, 1, 2), nn.BatchNorm1d(4), nn.GELU()]
)
def test_signatures_of_layers_without_weights_equal_torch(layer):
    for n in (6, 7, 12):
        assert io_signature(layer)(4, n) == shape_of(layer.eval(), 4, n)


def test_type_equivalence_is_equality_at_every_size_that_both_accept():
    generator = random.Random(1)
    found = 0
    for first, second in (generator.sample(GRID, 2) for _ in range(400)):
        a, b = (
            SizeMap(s, 2 * p - d * (k - 1) - 1, max(1, d * (k - 1) + 1 - 2 * p))
            for k, s, p, d in (first, second)
        )
        common = range(max(a.min_size, b.min_size), 60)
        everywhere = all(a(n) == b(n) for n in common)
        assert type_equivalent(IOSignature(1, 1, (a,)), IOSignature(1, 1, (b,))) == everywhere
        found += everywhere
    assert 5 < found < 200


def test_equivalence_at_one_size_is_not_equivalence():
    a, b = nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(1, 2, 2, stride=2)
    sizes = [n for n in range(8, 41) if shape_of(a, 1, n, n) == shape_of(b, 1, n, n)]
    assert [n for n in range(8, 41) if type_equivalent(a, b, n, n)] == sizes
    assert 0 < len(sizes) < 33
    assert not type_equivalent(a, b)
    assert not type_equivalent(a, nn.Conv2d(1, 3, 3, stride=2))
    assert type_equivalent(nn.Identity(), nn.Sequential(nn.ReLU(), nn.Tanh()))


def test_forward_compatible_says_whether_torch_runs_the_chain():
    generator = random.Random(2)
    outcomes = set()
    for _ in range(60):
        a, b = random_conv(generator, 1, 2, 1), random_conv(generator, generator.choice((2, 2, 3)), 1, 1)
        sizes = range(io_signature(a).sizes[0].min_size, 25)
        runs = {n: shape_of(nn.Sequential(a, b), 1, n) is not None for n in sizes}
        assert {n: forward_compatible(a, b, n) for n in sizes} == runs
        assert forward_compatible(a, b) == all(runs.values())
        outcomes.add(forward_compatible(a, b))
    assert outcomes == {True, False}


@pytest.mark.parametrize("seed_layer", [(3, 1, 1), (4, 2, 1)], ids=str)
def test_the_generator_finds_what_trying_every_convolution_finds(seed_layer):
    target = io_signature(nn.Conv1d(1, 1, *seed_layer)).sizes[0]
    tried = set()
    for k, d, p in product(range(1, 6), (1, 2, 3), range(7)):
        conv = nn.Conv1d(1, 1, k, stride=target.stride, padding=p, dilation=d)
        if all(shape_of(conv, 1, n) == (1, target(n)) for n in range(16, 21)):
            tried.add((k, target.stride, p, d))
    found = generate_type_equivalent(
        target, kernel_sizes=tuple(range(1, 6)), dilations=(1, 2, 3), max_padding=6
    )
    assert {tuple(c.values()) for c in found} == tried
    assert len(found) == len(tried) > 3


def test_unknown_arithmetic_and_unfitting_chains_are_named():
    with pytest.raises(ValueError, match="ceil_mode"):
        io_signature(nn.MaxPool1d(2, ceil_mode=True))
    with pytest.raises(ValueError, match="same"):
        io_signature(nn.Conv1d(1, 1, 3, padding="same"))
    with pytest.raises(ValueError, match="LSTM"):
        io_signature(nn.LSTM(3, 3))
    with pytest.raises(ValueError, match="8 channels come out, 4 are expected"):
        io_signature(nn.Sequential(nn.Conv1d(1, 8, 3), nn.Conv1d(4, 1, 3)))
    with pytest.raises(ValueError, match="1 axes come out, 2"):
        io_signature(nn.Sequential(nn.Conv1d(1, 8, 3), nn.Conv2d(8, 1, 3)))
    with pytest.raises(ValueError, match="does not accept"):
        io_signature(nn.Conv1d(1, 8, 3))(2, 9)


# -- Meaning ---------------------------------------------------------------------------------------


class Scores(ElementType):
    """Any numbers per class."""


class Logits(Scores):
    """Scores before the softmax."""


class LogProbs(Scores):
    """Scores after it."""


@dataclass(frozen=True)
class Audio(ElementType):
    """Samples of sound."""

    rate: int | None = 8000


TYPES = [
    NeuralType(axes, element)
    for axes in (
        ("batch", "time"),
        ("time", "batch"),
        ("batch", "channel"),
        ("batch", AxisType("time", 4)),
        ("batch",),
    )
    for element in (ElementType(), Scores(), Logits(), LogProbs(), Audio(), Audio(16000))
]
Result = NeuralTypeComparison
FOUR, FIVE = ("batch", AxisType("time", 4)), ("batch", AxisType("time", 5))
MIRROR = {Result.LESS: Result.GREATER, Result.GREATER: Result.LESS}


def test_comparison_is_reflexive_and_mirrored_when_the_arguments_are_exchanged():
    sizes = lambda t: [axis.size for axis in t.axes]  # noqa: E731
    for a, b in product(TYPES, TYPES):
        if sizes(a) == sizes(b):  # a declared size is not given by an axis without one, but the reverse is
            forth, back = a.compare(b), b.compare(a)
            assert back is MIRROR.get(forth, forth)
    assert all(a.compare(a) is Result.SAME for a in TYPES)


def test_a_more_general_type_accepts_whatever_a_more_special_one_accepts():
    fits = lambda a, b: a.compare(b) in (Result.SAME, Result.GREATER)  # noqa: E731
    for a, b, c in product(TYPES, repeat=3):
        if fits(a, b) and fits(b, c):
            assert fits(a, c)


@pytest.mark.parametrize(
    ("declared", "given", "result"),
    [
        ((("batch", "time"), Scores()), (("batch", "time"), Logits()), Result.GREATER),
        ((("batch", "time"), Logits()), (("batch", "time"), Scores()), Result.LESS),
        ((("batch", "time"), Logits()), (("batch", "time"), LogProbs()), Result.INCOMPATIBLE),
        ((("batch", "time"), Logits()), (("time", "batch"), Logits()), Result.TRANSPOSE_SAME),
        ((("batch", "time"), Scores()), (("time", "batch"), Logits()), Result.INCOMPATIBLE),
        ((("batch", "time"), Logits()), (("batch", "channel"), Logits()), Result.INCOMPATIBLE),
        ((("batch", "any"), Logits()), (("batch", "channel"), Logits()), Result.SAME),
        ((("batch", "channel"), Logits()), (("batch", "any"), Logits()), Result.INCOMPATIBLE),
        ((("batch", "channel"), Logits()), (("batch", "dimension"), Logits()), Result.SAME),
        ((("batch", "time"), Logits()), (("batch",), Logits()), Result.INCOMPATIBLE),
        ((FOUR, Logits()), (("batch", "time"), Logits()), Result.DIM_INCOMPATIBLE),
        ((("batch", "time"), Logits()), (FOUR, Logits()), Result.SAME),
        ((FOUR, Scores()), (FIVE, Logits()), Result.INCOMPATIBLE),
        ((FOUR, Logits()), (FIVE, Logits()), Result.DIM_INCOMPATIBLE),
        ((("batch",), Audio()), (("batch",), Audio(16000)), Result.SAME_TYPE_INCOMPATIBLE_PARAMS),
        ((("batch",), Audio(None)), (("batch",), Audio(16000)), Result.SAME),
        ((("batch",), Audio(16000)), (("batch",), Audio(None)), Result.SAME),
    ],
)  # fmt: skip
def test_the_truth_table(declared, given, result):
    assert NeuralType(*declared).compare(NeuralType(*given)) is result


class Softmax(nn.Module):
    """A checked module: logits in, log-probabilities out, a mask if there is one."""

    input_types = {  # noqa: RUF012
        "logits": NeuralType(("batch", "dimension"), Logits()),
        "mask": NeuralType(("batch",), ElementType(), optional=True),
    }
    output_types = {"logprobs": NeuralType(("batch", "dimension"), LogProbs())}  # noqa: RUF012

    @typecheck
    def forward(self, *, logits, mask=None):
        return logits.log_softmax(-1) if mask is None else logits.log_softmax(-1) * mask[:, None]


def test_a_checked_module_computes_the_same_and_labels_its_output():
    x = torch.randn(3, 4)
    y = Softmax()(logits=x)
    torch.testing.assert_close(y, x.log_softmax(-1))
    assert y.neural_type is Softmax.output_types["logprobs"]
    assert not hasattr(y + 0, "neural_type")
    torch.testing.assert_close(Softmax()(logits=x, mask=torch.ones(3)), y)


def test_a_checked_module_refuses_wrong_names_types_and_shapes():
    layer, x = Softmax(), torch.randn(3, 4)
    for call, message in [
        (lambda: layer(x), "by name"),
        (lambda: layer(), "needs the input 'logits'"),
        (lambda: layer(logit=x), "no input 'logit'"),
        (lambda: layer(logits=x[0]), r"got shape \(4,\)"),
        (lambda: layer(logits=layer(logits=x)), "something else"),
    ]:
        with pytest.raises(NeuralTypeError, match=message):
            call()
    with typecheck_disabled():
        twice = layer(logits=layer(logits=x))
    assert not hasattr(twice, "neural_type")
    with pytest.raises(NeuralTypeError, match="by name"):
        layer(x)


def test_a_general_tensor_is_refused_where_a_special_one_is_declared():
    x = torch.randn(3, 4)
    x.neural_type = NeuralType(("batch", "dimension"), Scores())
    with pytest.raises(NeuralTypeError, match="more general than declared"):
        Softmax()(logits=x)


def test_an_axis_has_a_known_kind():
    with pytest.raises(ValueError, match="got 'tme'"):
        NeuralType(("batch", "tme"), ElementType())
