"""Every guess and rule of the checker of exercises by itself, at the ends of what it asks."""

import math

import pytest
import torch

from course_lib.classroom.answers import (
    normal,
    results,
)
from course_lib.classroom.answers.calls import _seen, argument_changed, axes_of_input, ignored, neutral, sight
from course_lib.classroom.answers.failure import Failure
from course_lib.classroom.answers.outcomes import (
    Case,
    Outcome,
)

ONE, TWO = normal(3, 4), normal(3, 4, seed=1)


def failed(*pairs, given=(), gradient=False):
    """Runs of which the right result and the one that came are given, and perhaps the argument."""
    nothing = lambda *_: None  # noqa: E731
    inputs = given or [torch.zeros(1)] * len(pairs)
    outcome = (lambda x: Outcome(gradients={"x": x} if x is not None else {})) if gradient else Outcome
    return [
        Failure(Case(("x",), (x,), {}), outcome(e), outcome(g), nothing, nothing)
        for x, (e, g) in zip(inputs, pairs, strict=True)
    ]


def said(found):
    """Names of guesses to what is told."""
    return {diagnosis.name: diagnosis.hint for diagnosis in found}


# -- The right result, changed -------------------------------------------------------------------------------

CHANGES = [
    ("sign", "opposite sign", lambda e: -e),
    ("squared", "is the square of", lambda e: e**2),
    ("no square", "is the root of", lambda e: e**0.5),
    ("inverse", "one divided by", lambda e: e**-1),
    ("logarithm", "is the logarithm of", torch.log),
    ("exponential", "is the exponential of", torch.exp),
    ("absolute value", "is the absolute value of", lambda e: e * e.sign()),
    ("clamped", "cut off below zero", torch.relu),
    ("all zero", "zero everywhere", lambda e: 0 * e),
    ("one minus", "one minus the right one", lambda e: -(e - 1)),
    ("reversed", "Axis -1 of your result", lambda e: e[..., [3, 2, 1, 0]]),
    ("reversed", "Axis -2 of your result", lambda e: e[[2, 1, 0]]),
    ("shifted", "Along axis -1 your result", lambda e: e[..., [3, 0, 1, 2]]),
    ("shifted", "Along axis -1 your result", lambda e: e[..., [1, 2, 3, 0]]),
    ("shifted", "Along axis -2 your result", lambda e: e[[2, 0, 1]]),
    ("factor", "3/4 times", lambda e: 0.75 * e),
    ("offset", "plus 0.5.", lambda e: e + 0.5),
    ("another order", "at other places", lambda e: e.flatten()[torch.arange(12).roll(5)].view_as(e)),
]


@pytest.mark.parametrize(("name", "words", "change"), CHANGES)
def test_a_changed_result_is_named_if_the_change_shows_in_every_run(name, words, change):
    positive = name in ("no square", "logarithm")
    pairs = [(e, change(e)) for e in ((ONE.abs(), TWO.abs()) if positive else (ONE, TWO))]
    found = said(results.result_changed(failed(*pairs), {}))
    assert list(found) == [name]
    assert words in found[name]
    assert said(results.result_changed(failed(pairs[0], (TWO, TWO.sin())), {})) == {}


def test_exchanged_axes_are_named_by_number():
    square = normal(3, 3)
    assert "axes -2 and -1 of" in said(results.result_changed(failed((square, square.mT)), {}))["transposed"]
    cube = normal(3, 3, 3)
    swapped = said(results.result_changed(failed((cube, cube.permute(1, 0, 2))), {}))
    assert "axes -3 and -2 of" in swapped["transposed"]


def test_a_change_that_does_not_show_is_none():
    assert not results._everywhere(failed((ONE.abs(), ONE.abs())), torch.abs)
    assert results._everywhere(failed((ONE.abs(), ONE.abs()), (ONE, ONE.abs())), torch.abs)


@pytest.mark.parametrize(
    ("e", "g", "name"),
    [
        ([2.0, 5.0], [3.0, 7.5], None),  # two numbers prove nothing
        ([2.0, 5.0, 7.0], [3.0, 7.5, 10.5], "factor"),
        ([0.0, 5.0, 7.0], [0.0, 7.5, 10.5], "factor"),
        ([0.0, 0.0, 7.0], [0.0, 0.0, 10.5], None),
        ([2.0, 2.0, 2.0], [3.0, 3.0, 3.0], "factor"),
        ([0.0, 0.0, 0.0], [3.0, 3.0, 3.0], None),
        ([2.0, 5.0, 7.0], [3.0, 6.0, 8.0], "offset"),
        ([2.0, 5.0, 7.0], [5.0, 7.0, 2.0], "shifted"),
        ([2j, 5.0, 7.0], [3j, 7.5, 10.5], None),
    ],
)
def test_a_constant_needs_three_numbers(e, g, name):
    found = said(results.result_changed(failed((torch.tensor(e), torch.tensor(g))), {}))
    assert list(found) == ([name] if name else [])


@pytest.mark.parametrize(
    ("x", "text"),
    [(2.0, "2"), (0.5, "1/2"), (-1 / 3, "-1/3"), (1.75, "7/4"), (1 / 12, "1/12"), (1 / 13, "0.076923")],
)
def test_fractions_with_small_denominators_are_written_as_such(x, text):
    assert results._fraction(x) == text


@pytest.mark.parametrize(
    ("name", "words", "form"),
    [
        ("sum for mean", "a sum where a mean is asked", lambda n: n),
        ("mean for sum", "a mean where a sum is asked", lambda n: 1 / n),
        ("unbiased", "n - 1 in the place of n, for", lambda n: n / (n - 1)),
        ("unbiased", "n - 1 in the place of n, for", lambda n: (n - 1) / n),
        ("unbiased", "n - 1 in the place of n, for", lambda n: (n / (n - 1)) ** 0.5),
        ("unbiased", "n - 1 in the place of n, for", lambda n: ((n - 1) / n) ** 0.5),
        ("root of length", "too large by the root", lambda n: n**0.5),
        ("root of length", "too small by the root", lambda n: n**-0.5),
        ("factor of the input", "another factor (", lambda n: 1 + 0.1 * n),
    ],
)
def test_factors_made_of_a_length(name, words, form):
    given = [normal(7, n) for n in (3, 4, 6)]
    pairs = [(normal(5), form(n) * normal(5)) for n in (3, 4, 6)]
    found = said(results.count(failed(*pairs, given=given), {"x": "mine"}))
    assert list(found) == [name]
    assert words in found[name]
    assert ("axis -1 of mine" in found[name]) == (name != "factor of the input")
    assert said(results.count(failed(*pairs[:1], given=given[:1]), {})) == {}  # one length proves nothing
    assert said(results.count(failed(*pairs[:2], (ONE[0], ONE[0].sin()), given=given), {})) == {}


@pytest.mark.parametrize(
    "given", [(normal(7, 2), normal(7, 4)), (normal(2), normal(7, 4)), (normal(7, 2), normal(4))]
)
def test_two_lengths_are_enough_and_axes_that_one_run_lacks_are_left_out(given):
    pairs = [(normal(5), x.shape[-1] * normal(5)) for x in given]
    assert "axis -1 of x" in said(results.count(failed(*pairs, given=list(given)), {}))["sum for mean"]


def at(e, *places):
    changed = e.clone()
    for place in places:
        changed[place] += 1
    return e, changed


@pytest.mark.parametrize(
    ("pair", "name", "words"),
    [
        (at(ONE, (..., 0)), "first place", "of axis -1"),
        (at(ONE, (..., -1)), "last place", "of axis -1"),
        (at(ONE, 0), "first place", "of axis -2"),
        (at(ONE, -1), "last place", "of axis -2"),
        (at(normal(3, 3), *((i, i) for i in range(3))), "diagonal", "stands on the diagonal."),
        (at(normal(3, 3), (0, 1), (0, 2), (1, 2)), "above the diagonal", "stands above the diagonal."),
        (at(normal(3, 3), (1, 0), (2, 0), (2, 1)), "below the diagonal", "stands below the diagonal."),
        (at(normal(3, 4), *((i, i) for i in range(3))), None, ""),
        (at(ONE, (..., 0), (..., -1)), None, ""),
        (at(normal(3, 3), (0, 0), (1, 2), (2, 1)), None, ""),
        (at(normal(1), 0), None, ""),
        ((ONE, ONE[0]), None, ""),
    ],
)
def test_a_fault_at_the_edge(pair, name, words):
    found = said(results.edge(failed(pair), {}))
    assert list(found) == ([name] if name else [])
    assert words in found.get(name, "")


@pytest.mark.parametrize(
    ("expected", "got", "name"),
    [
        ((2, 3), (3, 2), "axes in another order"),
        ((2, 1), (2,), "axis of length 1"),
        ((2,), (2, 1), "axis of length 1"),
        ((2, 3, 4), (2, 4), "axis lost"),
        ((2, 4), (2, 3, 4), "axis left"),
        ((4, 2), (2, 3, 4), None),
        ((2, 4), (2, 5), "off by one"),
        ((2, 4), (2, 3), "off by one"),
        ((2, 4), (2, 6), None),
        ((2, 4), (3, 5), None),
    ],
)
def test_what_would_turn_one_shape_into_the_other(expected, got, name):
    found = said(results.explain_shape(failed((torch.zeros(expected), torch.zeros(got)))))
    assert list(found) == ([name] if name else [])
    if name == "axis of length 1":
        assert ("is missing" in found[name]) == (len(got) < len(expected))


def test_shapes_must_differ_in_one_way_in_all_runs():
    pairs = [(torch.zeros(2, 4), torch.zeros(2, 5)), (torch.zeros(2, 4), torch.zeros(3, 4))]
    assert results.explain_shape(failed(*pairs)) == []
    assert results.explain_shape(failed((ONE, ONE))) == []


@pytest.mark.parametrize(
    ("pairs", "name"),
    [
        ([(ONE, None), (TWO, 0 * TWO)], "no gradient"),
        ([(ONE, None), (TWO, TWO)], "part of the gradient"),
        ([(ONE, -ONE), (TWO, -TWO)], "gradient sign"),
        ([(ONE, -ONE), (TWO, TWO)], "part of the gradient"),
    ],
)
def test_what_is_wrong_with_a_gradient(pairs, name):
    found = said(results.explain_gradient(failed(*pairs, gradient=True), "x", "mine"))
    assert list(found) == [name]
    assert "mine" in found[name]


@pytest.mark.parametrize(
    ("size", "name"), [(80.0, "division by zero"), (80.5, "overflow"), (-80.5, "overflow")]
)
def test_what_overflows_is_large(size, name):
    given = [torch.tensor([0.0, size])]
    spoilt = torch.where(torch.arange(4) == 1, torch.nan, ONE)
    assert list(said(results.explain_nan(failed((ONE, spoilt), given=given)))) == [name]
    nothing = [torch.zeros(0)]
    assert list(said(results.explain_nan(failed((ONE, spoilt), given=nothing)))) == ["division by zero"]


# -- Called again with other arguments -----------------------------------------------------------------------


def wave(x, y=0.3):
    """Nothing that it does looks like another argument."""
    x = x.double() if isinstance(x, torch.Tensor) else torch.tensor([float(x)] * 3, dtype=torch.float64)
    return (x * torch.arange(1.0, x.shape[-1] + 1)).sin() + 0.1 * x**3 + x.exp() * (y + 0.1)


def runs(right, answer, *given):
    """Failures of an answer on some arguments."""
    cases = [Case.of(right, g if isinstance(g, tuple) else (g,)) for g in given]
    return [Failure(c, Outcome(right(*c.args)), Outcome(answer(*c.args)), right, answer) for c in cases]


POSITIVE = normal(3, 3).abs() + 0.3
ARGUMENTS = [
    (3, {"one more": lambda x: x + 1, "one less": lambda x: x - 1, "doubled": lambda x: x + x}),
    (7, {"halved": lambda x: 3}),
    (
        0.3,
        {
            "inverse": lambda x: x**-1,
            "negated": lambda x: -x,
            "squared": lambda x: x**2,
            "root of": lambda x: x**0.5,
            "one minus": lambda x: -x + 1,
            "doubled": lambda x: x + x,
            "halved": lambda x: 0.5 * x,
            "zero for": lambda x: 0.0,
            "one for": lambda x: 1.0,
        },
    ),
    (
        POSITIVE,
        {
            "negated": lambda x: -x,
            "transposed": lambda x: x.T,
            "reversed axis -1 of": lambda x: x[:, [2, 1, 0]],
            "reversed axis -2 of": lambda x: x[[2, 1, 0]],
            "zeros for": lambda x: 0 * x,
            "ones for": lambda x: 0 * x + 1,
            "squared": lambda x: x**2,
            "exponential of": torch.exp,
            "halved": lambda x: 0.5 * x,
            "doubled": lambda x: x + x,
            "root of": lambda x: x**0.5,
        },
    ),
    (normal(3, 4), {"absolute": lambda x: x * x.sign()}),
    (torch.tensor([1, 5, 2]), {"one more": lambda x: x + 1, "one less": lambda x: x - 1}),
    (torch.tensor([True, False, True]), {"negated": lambda x: x.logical_not()}),
    (True, {"negated": lambda x: False}),
]


@pytest.mark.parametrize(
    ("value", "label", "change"), [(v, label, c) for v, table in ARGUMENTS for label, c in table.items()]
)
def test_an_argument_read_as_another_is_named(value, label, change):
    answer = lambda mine: wave(change(mine))  # noqa: E731
    found = said(argument_changed(runs(wave, answer, value), {"x": "mine"}))
    assert list(found) == [f"{label} x"]
    assert "mine" in found[f"{label} x"]
    words = {"one more": "mine + 1", "one less": "mine - 1", "doubled": "2 mine", "halved": "mine / 2"}
    assert words.get(label, "As if mine were") in found[f"{label} x"]


def test_only_arguments_of_one_kind_and_size_are_exchanged():
    right, exchanged = (lambda a, b: a - 2 * b), (lambda a, b: b - 2 * a)
    found = said(argument_changed(runs(right, exchanged, (2.0, 5.0), (3.0, 4.5)), {"a": "p", "b": "q"}))
    assert found == {"exchanged a and b": "As if p and q were exchanged."}
    for one, two in [(2.0, 5), (torch.ones(2) * 2, torch.ones(1) * 5)]:
        assert "exchanged a and b" not in said(argument_changed(runs(right, exchanged, (one, two)), {}))


def test_the_axis_along_which_it_worked_is_named():
    found = said(axes_of_input(runs(lambda x: x.softmax(-1), lambda x: x.softmax(0), normal(2, 3, 4)), {}))
    assert "axes -3 and -1 of x" in found["wrong axis"]


@pytest.mark.parametrize("value", [2, 2.5, True, normal(3), torch.tensor([True, False, True])])
def test_an_argument_on_which_the_answer_does_not_depend(value):
    right = lambda a, b: wave(a) * wave(b).sum()  # noqa: E731
    assert list(said(ignored(runs(right, lambda a, b: wave(a), (normal(3), value)), {}))) == ["ignored b"]
    assert said(ignored(runs(right, lambda a, b: 2 * right(a, b), (normal(3), value)), {})) == {}
    unneeded = lambda a, b: wave(a)  # noqa: E731
    assert said(ignored(runs(unneeded, lambda a, b: 2 * wave(a), (normal(3), value)), {})) == {}


def pattern(*rows):
    return torch.tensor([[c == "x" for c in row] for row in rows])


FULL, LOWER, UPPER = pattern("xxx", "xxx", "xxx"), pattern("x..", "xx.", "xxx"), pattern("xxx", ".xx", "..x")
DIAGONAL, STRICT = pattern("x..", ".x.", "..x"), pattern(".xx", "..x", "...")


@pytest.mark.parametrize(
    ("right", "mine", "name"),
    [
        (UPPER, FULL, "future"),  # row i, column j: place j of the result depends on place i
        (UPPER, LOWER, "future"),
        (FULL, FULL, None),
        (FULL, UPPER, None),
        (DIAGONAL, FULL, "mixes"),
        (DIAGONAL, LOWER, "mixes"),
        (FULL, DIAGONAL, "does not mix"),
        (UPPER, DIAGONAL, "does not mix"),
        (UPPER, STRICT, "not itself"),
        (UPPER, UPPER, None),
        (STRICT, STRICT, None),
    ],
)
def test_patterns_of_what_depends_on_what(right, mine, name):
    found = _seen(right, mine, "mine", -1)
    assert (found and found.name) == name
    assert found is None or ("mine" in found.hint and "axis -1" in found.hint)


def test_patterns_are_looked_for_in_small_runs_of_up_to_twelve_places():
    right, answer = (lambda x: x.cumsum(-1)), (lambda x: x + x.sum(-1, keepdim=True))
    assert list(said(sight(runs(right, answer, normal(12)), {}))) == ["future"]
    assert list(said(sight(runs(right, answer, normal(400 // 4, 4)), {}))) == ["future"]
    for given in (normal(13), normal(101, 4), normal(1)):
        assert said(sight(runs(right, answer, given), {})) == {}


@pytest.mark.parametrize(
    ("value", "enters", "words"),
    [
        (2.5, lambda y: y**2, "is 1:"),
        (2.5, lambda y: math.sin(y) + y, "is 0:"),
        (3, lambda y: y**2, "is 1:"),
        (normal(3), lambda y: y.exp() * y, "is all zeros:"),
        (normal(3), lambda y: y**3, "is all ones:"),
    ],
)
def test_where_an_argument_does_nothing_the_answer_is_right(value, enters, words):
    right, answer = (lambda x, y: wave(x) * (2 + y)), (lambda x, y: wave(x) * (2 + enters(y)))
    assert words in said(neutral(runs(right, answer, (normal(3), value)), {"y": "mine"}))["how y enters"]
    assert "how y enters" not in said(
        neutral(runs(right, lambda x, y: 3 * right(x, y), (normal(3), value)), {})
    )


# -- Two outcomes --------------------------------------------------------------------------------------------
