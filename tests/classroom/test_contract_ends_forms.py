"""The contract's checks of narrow types, copies, printing and their own helpers, at their ends."""

import itertools
import math
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import course_lib.classroom.checks as checks
from course_lib.classroom._contract.precision import _relative
from course_lib.classroom._contract.subject import Subject, gap, other_values
from course_lib.classroom._contract.transforms import _has
from course_lib.registry import Traits
from tests.classroom.layers_for_checks import (
    ChannelsFirst,
    Does,
    Gain,
    Raises,
    Sound,
    outcome,
    randn,
    report_of,
)

# -- Narrow types --------------------------------------------------------------------------------------------


def test_relative_error_is_of_root_mean_squares_and_absolute_at_zero():
    wanted = torch.tensor([3.0, 4.0])
    assert _relative(torch.tensor([3.0, 5.0]), wanted) == pytest.approx(0.2)
    assert _relative(torch.tensor([0.0, 0.5]), torch.zeros(2)) == 0.5


def widened(y, x, *more):
    return y.double()


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Sound(), "passed"),
        (Sound().double(), "NotApplicable: the weights are not float32"),
        (Does(widened), "Failure: under autocast to torch.bfloat16 the output has torch.float64"),
        (Does(lambda y, x: y.float() * 1e5), "passed"),  # beyond float16 in float32 too, but finite
        (Does(lambda y, x: (y.float().abs() * 1e4 + 7e4).to(x.dtype)), "passed"),  # none of these fits
        (Does(lambda y, x: x.detach()), "passed"),  # no gradient
        (nn.Tanh(), "passed"),
    ],
)
def test_under_autocast(layer, said):
    dtype = next((p.dtype for p in layer.parameters()), torch.float32)
    assert outcome("autocast", layer, randn(3, 6).to(dtype)).startswith(said)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Does(lambda y, x: 1e4 * x), "NotApplicable: the exact output does not fit into float16"),
        (Does(lambda y, x: x.double().log().to(x.dtype)), "NotApplicable: the exact output does not fit"),
        (Does(lambda y, x: x * 1.05 if x.dtype == torch.float16 else x), "Failure: relative error 0.05"),
        (Does(lambda y, x: x * 1.01 if x.dtype == torch.float16 else x), "passed"),
        (Does(lambda y, x: x / 0 if x.dtype == torch.float16 else x), "Failure: NaN or infinity"),
    ],
)
def test_in_half_precision(layer, said):
    assert outcome("half_precision", layer, randn(3, 6)).startswith(said)


# -- Copies and print ----------------------------------------------------------------------------------------


class ForgetsWhenCopied(Sound):
    """Copies and files of it lose the factor: only one of the two where ``how`` says so."""

    factor = 2.0

    def __init__(self, how):
        super().__init__()
        self.how, self.factor = how, 3.0

    def body(self, x):
        return super().body(x) * self.factor

    def __deepcopy__(self, memo):
        copied = ForgetsWhenCopied(self.how)
        copied.load_state_dict(self.state_dict())
        if self.how == "deepcopy":
            copied.factor = 2.0
        return copied

    def __getstate__(self):
        return {**self.__dict__, **({"factor": 2.0} if self.how == "pickle" else {})}


def test_pickle_that_loses_a_factor_is_seen():
    assert outcome("deepcopy_pickle", ForgetsWhenCopied("neither"), randn(3, 6)) == "passed"
    assert outcome("deepcopy_pickle", ForgetsWhenCopied("pickle"), randn(3, 6)).startswith("Failure: pickle")


def test_on_the_meta_device_the_shape_is_the_same():
    layer = Does(lambda y, x: y[:1] if x.is_meta else y)
    assert outcome("meta_device", layer, randn(3, 6)).startswith("Failure: for meta inputs")
    layer = Does(lambda y, x: torch.zeros(y.shape) if x.is_meta else y)
    assert outcome("meta_device", layer, randn(3, 6)).startswith("Failure: for meta inputs")


class Says(Sound):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def extra_repr(self):
        return self.text


class SaysItself(Says):
    def __repr__(self):
        return self.text


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Says("6" * (300 - len("Says()"))), "Failure: .*shows no size"),  # of 300 characters, none too many
        (Says("6" + "." * (299 - len("Says()"))), "passed"),
        (Says("6" + "." * (300 - len("Says()"))), "Failure: .*is 301 characters long"),
        (SaysItself("6" + "." * 299), "passed"),
        (SaysItself("6" + "." * 300), "Failure: .*is 301 characters long"),
        (SaysItself("a layer"), "Failure: 'a layer' shows no size"),
        (Says("7"), "Failure: .*shows no size"),
        (Gain(), "passed"),
    ],
)
def test_how_it_prints(layer, said):
    assert re.match(said, outcome("repr", layer, randn(3, 6)))


def test_a_size_held_as_an_attribute_may_be_the_one_shown():
    layer = Says("12")
    assert outcome("repr", layer, randn(3, 6)).startswith("Failure")
    layer.heads = 12
    assert outcome("repr", layer, randn(3, 6)) == "passed"
    one = Says("1")
    one.heads = 1  # every layer has ones
    assert outcome("repr", one, randn(3, 6)).startswith("Failure")


# -- Inputs changed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x", [torch.arange(6), randn(3, 4), torch.tensor([1, 2]), torch.ones(5)])
def test_other_values_differ_everywhere_and_are_of_the_same_kind(x):
    other = other_values(x)
    assert (other != x).all()
    assert other.dtype == x.dtype
    if len(x.unique()) > 1:
        assert {*other.flatten().tolist()} <= {*x.flatten().tolist()}


def test_a_constant_integer_tensor_stays():
    assert torch.equal(other_values(torch.full((3,), 2)), torch.full((3,), 2))


def test_the_gap_is_zero_where_both_are_missing_and_infinite_where_one_is():
    a = torch.tensor([1.0, math.nan, math.inf, math.inf, math.nan, 2.0])
    b = torch.tensor([1.5, math.nan, math.inf, -math.inf, 1.0, math.inf])
    assert gap(a, b)[:3].tolist() == [0.5, 0.0, 0.0]
    assert (gap(a, b)[3:] > 1e300).all()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_outputs_differ_when_they_do_by_more_than_rounding_of_the_largest(size):
    subject = Subject(Sound(), (randn(3, 6),), Traits())
    for dtype, allowed in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        a = torch.tensor([size, 0.0], dtype=dtype)
        assert not subject.differ(a, a + 0.8 * allowed * size).any()
        assert subject.differ(a, a + torch.tensor([0.0, 1.3 * allowed * size], dtype=dtype)).tolist() == [
            False,
            True,
        ]
    assert subject.differ(torch.zeros(0), torch.zeros(0)).tolist() == []


def test_only_inputs_that_share_the_leading_sizes_are_changed():
    x, state, table = randn(3, 5), randn(3, 4), randn(2, 4)
    changed = Subject(Sound(), (x, (state, table)), Traits()).changed(0, 1)
    assert (changed[0] != x).all(1).tolist() == [False, True, False]
    assert (changed[1][0] != state).all(1).tolist() == [False, True, False]
    assert torch.equal(changed[1][1], table)


@pytest.mark.parametrize(("p", "random"), [(0.0, False), (0.5, True), (1e-3, False)])
def test_whether_a_layer_draws_is_seen_in_training_only(p, random):
    subject = Subject(nn.Dropout(p), (torch.ones(3, 6),), Traits())
    assert subject.draws_random is random
    assert ChannelsFirst  # a sound layer of images draws nothing
    assert not Subject(ChannelsFirst(), (randn(2, 6, 5),), Traits()).draws_random


# -- How it looks --------------------------------------------------------------------------------------------


def test_the_callers_inputs_stay_although_the_layer_changes_its_own():
    x = randn(3, 6)
    before = x.clone()
    for check in ("input_unmodified", "output_shape_dtype", "batch_independent", "dtypes", "half_precision"):
        outcome(check, Does(lambda y, x: y + x.mul_(2)), x)
        assert torch.equal(x, before), check


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_gradients_are_compared_at_the_size_of_the_output(scale):
    wrong = Does(lambda y, x: scale * (y.detach() + 0.5 * (y - y.detach())))
    assert outcome("gradcheck", wrong, randn(3, 6)).startswith("Failure: backward disagrees")
    assert outcome("gradcheck", Does(lambda y, x: scale * y), randn(3, 6)) == "passed"


def test_which_inputs_have_an_axis_of_the_first():
    subject = Subject(Sound(), (randn(2, 3, 6),), Traits())
    assert [_has(subject, x, 1) for x in (randn(2, 3), randn(2, 4), randn(2, 5, 6), randn(3))] == [
        True,
        False,
        True,
        False,
    ]
    assert _has(subject, randn(7), 0)


def test_every_result_holds_the_seconds_between_two_looks_at_the_clock(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(checks, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    report = report_of(Sound(), randn(3, 6))
    ran = [r for r in report.results.values() if r.status == "passed"]
    assert {r.seconds for r in ran} == {1.0}
    assert report.seconds == sum(result.seconds for result in report.results.values())
    assert report_of(Raises(), randn(3, 6)).results["output_shape_dtype"].seconds == 1.0
