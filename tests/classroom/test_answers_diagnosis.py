"""What the checker makes of answers that no list knows, and of rules that values cannot show."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.classroom.answers import at_most_calls, no_tensor_above, normal, without
from tests.classroom.answers_for_tests import names, single


class TestProbes:
    """Answers that no list knows: what a probe says, by its name."""

    @pytest.mark.parametrize(
        ("right", "answer", "name"),
        [
            (lambda x, y: x * y, lambda x, y: -x * y, "sign"),
            (lambda x, y: x * y, lambda x, y: 2 * x * y, "factor"),
            (lambda x, y: x * y, lambda x, y: x * y + 3, "offset"),
            (lambda x, y: x * y, lambda x, y: (x * y) ** 2, "squared"),
            (lambda x, y: x.exp() * y.exp(), lambda x, y: x + y, "logarithm"),
            (lambda x, y: x * y, lambda x, y: (x * y).flip(-1), "reversed"),
            (lambda x, y: x * y, lambda x, y: (x * y).roll(1, -1), "shifted"),
            (lambda x, y: x * y, lambda x, y: x + 0, "ignored y"),
            (lambda x, y: x - y, lambda x, y: y - x, "sign"),
            (lambda x, y: x - y.exp(), lambda x, y: y - x.exp(), "exchanged x and y"),
            (lambda x, y: x * y.exp(), lambda x, y: x * (-y).exp(), "negated y"),
            (lambda x, y: (x * y).mean(-1), lambda x, y: (x * y).sum(-1), "sum for mean"),
            (lambda x, y: (x * y).sum(-1), lambda x, y: (x * y).mean(-1), "mean for sum"),
            (lambda x, y: x.var(-1, correction=0) * y.sum(), lambda x, y: x.var(-1) * y.sum(), "unbiased"),
            (lambda x, y: (x * y).cumsum(-1), lambda x, y: (x * y).sum(-1, keepdim=True) + 0 * x, "future"),
            (lambda x, y: x.exp() * y.exp(), lambda x, y: x.exp() * y.exp().mean(-1, True), "mixes"),
            (lambda x, y: (x * y).softmax(-1), lambda x, y: (x * y).sigmoid(), "does not mix"),
            (
                lambda x, y: x * y,
                lambda x, y: torch.cat([x[..., :-1] * y[..., :-1], x[..., -1:]], -1),
                "last place",
            ),
            (lambda x, y: x * y, lambda x, y: (x * y).sort(-1).values, "another order"),
            (lambda x, y: x.sinh() * (1 + y), lambda x, y: x.sinh() * (1 + y**3), "how y enters"),
        ],
    )
    def test_the_usual_slips_are_recognised(self, right, answer, name):
        cases = [(normal(n), normal(n, seed=1)) for n in (3, 4, 5)]
        if name == "last place":
            cases = [(a, 2 + b.abs()) for a, b in cases]
        assert name in names(single(right, *cases).judge(answer))

    @pytest.mark.parametrize(
        ("answer", "name"),
        [
            (lambda x: x.softmax(0), "wrong axis"),
            (lambda x: x.softmax(-1).mT, "transposed"),
            (lambda x: x.flatten().softmax(0).view_as(x), "mixes"),
        ],
    )
    def test_axes_are_recognised(self, answer, name):
        verdict = single(lambda x: x.softmax(-1), (normal(3, 3),), (normal(4, 4),)).judge(answer)
        assert name in [*names(verdict), *(["mixes"] if "factor of the input" in names(verdict) else [])]

    @pytest.mark.parametrize(
        ("answer", "name"),
        [
            (lambda x: x.sum(-1), "axis of length 1"),
            (lambda x: x.sum(), "axis lost"),
            (lambda x: x + x.sum(-1, keepdim=True), None),
            (lambda x: x.sum(-1, keepdim=True).mT, "axes in another order"),
        ],
    )
    def test_shapes_are_explained(self, answer, name):
        verdict = single(lambda x: x.sum(-1, keepdim=True), (normal(2, 3),), (normal(4, 5),)).judge(answer)
        assert verdict.kind == "shape"
        assert names(verdict) == ([name] if name else [])

    def test_numbers_that_are_not_finite_are_explained(self):
        soft = single(lambda x: x.softmax(-1), (normal(3),), (900 * normal(3),))
        assert names(soft.judge(lambda x: x.exp() / x.exp().sum())) == ["overflow"]
        entropy = single(lambda p: -torch.special.xlogy(p, p + (p == 0)), (torch.tensor([0.0, 0.5]),))
        assert names(entropy.judge(lambda p: -p * p.log())) == ["division by zero"]

    def test_a_scalar_argument_is_tried_in_its_usual_disguises(self):
        cases = [(normal(3), 2.0), (normal(4), 0.5)]
        exercise = single(lambda x, beta: (beta * x).sinh(), *cases)
        assert names(exercise.judge(lambda x, b: (x / b).sinh())) == ["inverse beta"]
        assert names(exercise.judge(lambda x, b: (x * b**2).sinh())) == ["squared beta"]
        assert "As if b were 1 / b." in [
            d.hint for d in exercise.judge(lambda x, b: (x / b).sinh()).diagnoses
        ]

    def test_a_gradient_is_explained(self):
        exercise = single(lambda x: x.relu(), (normal(5),))
        straight = exercise.judge(lambda x: x - (x - x.relu()).detach())
        assert (straight.kind, names(straight)) == ("gradient", ["part of the gradient"])


class TestNotFinite:
    """What is said where numbers are not finite."""

    @pytest.mark.parametrize(
        ("answer", "name"),
        [
            (lambda x: hide(x, 0).softmax(-1), "empty row"),
            (lambda x: hide(x, 1), "infinite"),
            (lambda x: (x - 9).log(), "empty row"),
        ],
    )
    def test_small_inputs_do_not_overflow(self, answer, name):
        cases = [(normal(3, 3),), (normal(4, 4),), (800 + normal(3, 3),)]
        found = names(
            single(lambda x: hide(x, 1).softmax(-1), *cases[: 3 if name != "empty row" else 2]).judge(answer)
        )
        assert list(found) == [name]

    def test_large_inputs_overflow(self):
        right = single(lambda x: x.softmax(-1), (normal(3, 3),), (800 + normal(3, 3),))
        assert "overflow" in names(right.judge(lambda x: x.exp() / x.exp().sum(-1, keepdim=True)))


class TestTheWayBack:
    """What is said where the values are right and the gradient is not."""

    def test_what_was_overwritten(self):
        def answer(x):
            y = x.clone()
            z = y[:2] * y[:2]
            y[:2] = 0
            return z

        verdict = single(lambda x: x[:2] * x[:2], (normal(3),)).judge(answer)
        assert verdict.kind == "gradient"
        assert "overwritten" in names(verdict)


def hide(x, diagonal):
    return x.masked_fill(torch.ones(x.shape, dtype=torch.bool).triu(diagonal), -torch.inf)


class TestRules:
    def test_a_forbidden_function_is_named(self):
        exercise = single(lambda x: x.softmax(-1), (normal(3),), rules=[without("softmax")])
        verdict = exercise.judge(lambda x: F.softmax(x, -1))
        assert verdict.kind == "rule"
        assert "it uses softmax" in verdict.text
        assert exercise.judge(lambda x: x.exp() / x.exp().sum()).right

    @pytest.mark.parametrize("way", ["grad", "backward", "func"])
    def test_autograd_is_noticed_by_every_way(self, way):
        def slope(x):
            leaf = x.detach().requires_grad_()
            if way == "grad":
                return torch.autograd.grad(leaf.square().sum(), leaf)[0]
            if way == "func":
                return torch.func.grad(lambda y: y.square().sum())(leaf.detach())
            leaf.square().sum().backward()
            return leaf.grad

        exercise = single(lambda x: 2 * x.detach(), (normal(3),), rules=[without("autograd")])
        assert exercise.judge(slope).kind == "rule"
        assert exercise.judge(lambda x: 2 * x.detach()).right

    def test_large_tensors_and_many_calls_are_counted(self):
        sizes = no_tensor_above(lambda a, b: a.numel(), "sum first")
        exercise = single(lambda a, b: a @ b, (normal(4, 4), normal(4)), rules=[sizes])
        assert exercise.judge(lambda a, b: a @ b).right
        assert exercise.judge(lambda a, b: (a * b.expand(4, 4)).sum(-1)).right
        verdict = exercise.judge(
            lambda a, b: (a[:, :, None] * b[None, :, None].expand(4, 4, 2)).sum((1, 2)) / 2
        )
        assert "a tensor of 32 numbers, the largest that is needed has 16: sum first" in verdict.text
        calls = single(lambda x: x.cumsum(0), (normal(9),), rules=[at_most_calls(3, "no loop")])
        assert calls.judge(lambda x: x.cumsum(0)).right
        assert calls.judge(lambda x: torch.stack([x[: i + 1].sum() for i in range(9)])).kind == "rule"

    def test_what_the_exercise_itself_calls_is_not_held_against_the_answer(self):
        def run(answer, x):
            return answer(x).softmax(-1)

        exercise = single(lambda x: x + 0, (normal(3),), run=run, rules=[without("softmax")])
        assert exercise.judge(lambda x: x + 0).right
