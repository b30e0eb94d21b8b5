"""What an answer did: compared, described and counted, at the ends."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.classroom import progress
from course_lib.classroom.answers import (
    at_most_calls,
    case,
    no_tensor_above,
    normal,
    without,
)
from course_lib.classroom.answers.failure import NEAR, near
from course_lib.classroom.answers.outcomes import (
    EXACT,
    Case,
    Difference,
    Given,
    Tolerance,
    _describe,
    _kind,
    beside,
    compare,
    short,
)
from tests.classroom.answers_for_tests import single


def test_near_means_shape_and_number():
    assert near(ONE, ONE * (1 + 0.9e-6))
    assert not near(ONE, ONE * (1 + 1.1e-6))
    assert near(0 * ONE, 0 * ONE + 0.9e-9)
    assert not near(0 * ONE, 0 * ONE + 1.1e-9)
    assert not near(ONE, None)
    assert not near(ONE, ONE[0])
    assert near(
        torch.tensor([1e3, 0.0]).double(), torch.tensor([1e3, 1.9e-6]).double(), Tolerance(0.0, 1e-6, 1e-9)
    )
    assert not near(
        torch.tensor([1e3, 0.0]).double(), torch.tensor([1e3, 2.1e-6]).double(), Tolerance(0.0, 1e-6, 1e-9)
    )


def test_single_precision_widens_what_is_allowed_but_never_narrows_it():
    assert NEAR.widened() == Tolerance(1e-4, 1e-6, 1e-6)
    assert Tolerance(0.1, 0.2).widened() == Tolerance(0.1, 0.2, 1e-6)
    small = 1 + 1e-5
    assert compare(ONE, (ONE * small).float(), "", NEAR) is None
    assert compare(ONE, ONE * small, "", NEAR).kind == "value"
    assert compare(ONE.float(), ONE.float() * small, "", EXACT) is not None


ONE, TWO = normal(3, 4), normal(3, 4, seed=1)


@pytest.mark.parametrize(
    ("e", "g", "kind"),
    [
        ([1.0, math.nan], [1.0, math.nan], None),
        ([1.0, math.inf], [1.0, math.inf], None),
        ([1.0, 2.0], [1.0, math.inf], "nan"),
        ([1.0, math.nan], [1.0, 2.0], "value"),
        ([1.0, math.inf], [1.0, -math.inf], "value"),
        ([1.0, math.inf], [1.1, math.inf], "value"),
        ([], [], None),
    ],
)
def test_numbers_that_are_not_finite(e, g, kind):
    found = compare(torch.tensor(e), torch.tensor(g), "it", NEAR)
    assert (found and found.kind) == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "a bool"), (np.bool_(True), "a bool"), (2, "a number"), (np.float32(2), "a number"),
     (np.zeros(2), "a numpy array"), (np.array(["a"]), "an array of objects"), ({}, "a dict"),
     ((), "a list or tuple"), (None, "None"), ("a", "of type str"), (ONE, "a tensor")],
)  # fmt: skip
def test_kinds_of_values(value, kind):
    assert _kind(value) == kind


def test_arguments_are_known_by_the_names_of_the_signature():
    def f(x, y, *, scale=1): ...

    by_hand = Case.of(f, Given("two", (1, ONE), {"scale": [2, 3]}))
    assert list(by_hand.items) == ["x", "y", "scale"]
    assert by_hand.size == 1 + 12 + 2
    assert by_hand.label == "two"
    assert Case.of(f, {"x": 1}).items == {"x": 1}
    assert Case.of(lambda x: x, [1, 2]).items == {"x": [1, 2]}
    assert Case.of(f, (1,)).items == {"argument 1": 1}  # a wrong call
    assert by_hand.called(lambda p, q: 0) == {"x": "p", "y": "q"}
    changed = by_hand.with_("scale", 5).with_("x", 7)
    assert (changed.items["x"], changed.items["scale"]) == (7, 5)
    assert changed.items["y"] is ONE
    assert Case.of(f, (nn.Linear(2, 3), {"a": [1, 2]})).size == 6 + 3 + 2


def test_short_arguments_share_a_line_of_84_characters():
    given = lambda n: Case(("x", "y"), ("a", "b" * n), {})  # noqa: E731
    fill = 84 - len("x = 'a', y = ''")
    assert given(fill - 30).describe({"y": "w"}) == ["x = 'a', w = '" + "b" * (fill - 30) + "'"]
    names = {"y": "w" * (84 - len("x = 'a',  = 'b'"))}
    assert len(given(1).describe(names)) == 1
    assert len(given(1).describe({"y": names["y"] + "w"})) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.arange(12.0), "= [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"),
        (torch.arange(13.0), "of shape (13,) from 0 to 12"),
        (torch.ones(13), "of shape (13,), 1 everywhere"),
        (torch.ones(13) > 0, "of shape (13,)"),
        (1j * torch.ones(13), "of shape (13,)"),
        (np.arange(2), "= [0, 1]"),
        (np.arange(13), "of shape (13,)"),
        ([1, [2.5, 1 + 2j]], "= [1, [2.5, 1+2j]]"),
        ([[0] * 13, 1], "of 2 items"),
        ("a" * 55, "= '" + "a" * 55 + "'"),
        ("a" * 56, "of type str"),
    ],
)
def test_how_an_argument_is_shown(value, text):
    assert _describe(value) == text


def test_expected_and_got_stand_beside_each_other():
    assert beside(Difference("value", "", 1, 2.5)) == ["expected  1", "got       2.5"]
    few = beside(Difference("value", "", torch.tensor([1.0]), torch.tensor([1.0]).double() + 1e-7))
    assert few == ["expected  ['1']", "got       ['1.0000001']"]
    assert beside(Difference("value", "", torch.arange(12.0), torch.zeros(12)))[0].startswith(
        "expected  [0, 1"
    )
    e = torch.zeros(13)
    assert beside(Difference("value", "", e, e + 1))[0] == "all numbers differ, most at [0]:"
    g = e.clone()
    g[3], g[7] = 1.0, -2.0
    assert beside(Difference("value", "", e, g)) == [
        "2 of 13 numbers differ, most at [7]:", "expected  0", "got       -2"
    ]  # fmt: skip
    g[4] = math.nan
    assert "at [4]:" in beside(Difference("value", "", e, g))[0]
    assert short(0.123456) == "0.1235"


def test_errors_are_compared_by_class():
    def fails(error):
        def f(x):
            if x > 0:
                raise error("no")
            return x

        return f

    exercise = single(fails(ValueError), (1.0,), (-1.0,))
    assert exercise.judge(fails(ValueError)).right
    assert exercise.judge(fails(UnicodeError)).right  # a kind of ValueError
    assert "raised TypeError: no; expected ValueError" in exercise.judge(fails(TypeError)).text
    assert exercise.judge(lambda x: x).text.startswith("raised nothing, expected ValueError: no")
    assert single(lambda x: x, (1.0,)).judge(fails(NotImplementedError)).kind == "unwritten"


# -- Rules and progress --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of torch's own forward mode
@pytest.mark.parametrize(
    "way", ["jacrev", "jacfwd", "vjp", "torch.autograd.functional", "torch.autograd.backward"]
)
def test_autograd_is_noticed_by_the_rarer_ways_too(way):
    def slope(x):
        square = lambda y: y.square()  # noqa: E731
        if way == "vjp":
            return torch.func.vjp(square, x)[1](torch.ones_like(x))[0]
        if way == "torch.autograd.functional":
            return torch.autograd.functional.vjp(square, x, torch.ones_like(x))[1]
        if way == "torch.autograd.backward":
            leaf = x.detach().requires_grad_()
            torch.autograd.backward(square(leaf).sum())
            return leaf.grad
        return getattr(torch.func, way)(square)(x).diagonal()

    exercise = single(lambda x: 2 * x.detach(), (normal(3),), rules=[without("autograd")])
    verdict = exercise.judge(lambda x: slope(x.detach()).detach())
    assert verdict.kind == "rule"
    assert "it uses autograd, and" in verdict.text


def test_calls_and_sizes_are_permitted_up_to_the_limit_itself():
    right = lambda x: x + 0  # noqa: E731
    two = lambda x: (x * 2) / 2  # noqa: E731
    assert single(right, (normal(3),), rules=[at_most_calls(2, "so")]).judge(two).right
    assert single(right, (normal(3),), rules=[at_most_calls(1, "so")]).judge(two).kind == "rule"
    own = [at_most_calls(lambda x: len(x.shape), "so")]
    assert single(right, (normal(3, 3),), rules=own).judge(two).right
    assert single(right, (normal(3),), rules=own).judge(lambda x: two(x[: x.shape[0]])).kind == "rule"
    twice = lambda x: torch.cat([x, x])[: len(x)]  # noqa: E731
    for limit, kind in ((6, "right"), (5, "rule")):
        rule = no_tensor_above(lambda x, limit=limit: limit, "so")
        assert single(right, (normal(3),), rules=[rule]).judge(twice).kind == kind
    part = no_tensor_above(lambda x: 3, "so")  # a view of a large input takes no memory
    assert single(lambda x: x[:3] + 0, (normal(9),), rules=[part]).judge(lambda x: x[:3] * 1).right
    assert single(lambda x: x[:3] + 0, (normal(9),), rules=[part]).judge(lambda x: (x * 1)[:3]).kind == "rule"
    assert "it uses exp and log, and" in single(
        right, (normal(3),), rules=[without("exp", "log")]
    ).judge(lambda x: x.exp().log()).text  # fmt: skip


def test_the_first_day_of_a_pass_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "deep/down/progress.json"
    monkeypatch.setenv("COURSE_PROGRESS", str(path))
    progress.note("layers/toy", "my_norm")  # makes the folders
    path.write_text('{"layers/toy": {"my_norm": "2001-01-01"}}')
    progress.note("layers/toy", "my_norm")
    assert json.loads(path.read_text()) == {"layers/toy": {"my_norm": "2001-01-01"}}
    progress.note("layers/toy", "my_other")
    assert sorted(json.loads(path.read_text())["layers/toy"]) == ["my_norm", "my_other"]
    assert [p.name for p in path.parent.iterdir()] == ["progress.json"]
    path.write_text("[]")
    assert progress.read() == {}


def test_a_label_is_no_argument():
    assert case("one", 1, x=2) == Given("one", (1,), {"x": 2})
