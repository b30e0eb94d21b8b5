"""``check`` says what is wrong, and the hints meet the mistakes they are written for."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.classroom.exercises import (
    ExerciseError,
    awkward_tensors,
    check,
    check_mistakes,
    mistake,
    recorded_checks,
)


def right(x, weight, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return weight * centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def inputs(seed):
    generator = torch.Generator().manual_seed(seed)
    tensors = awkward_tensors((1, 7), (5, 3), (2, 3, 5))
    return [(x, torch.randn(x.shape[-1], generator=generator)) for x in tensors]


@mistake("Which variance does torch.var compute?")
def unbiased(x, weight, eps=1e-5):
    return weight * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + eps).sqrt()


@mistake("Where does eps stand: under the root, or outside?")
def eps_outside(x, weight, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return weight * centred / (centred.square().mean(-1, keepdim=True).sqrt() + eps)


@mistake("The gradient has to flow through the statistics, too.")
def detached_statistics(x, weight, eps=1e-5):
    mean = x.mean(-1, keepdim=True).detach()
    variance = x.var(-1, correction=0, keepdim=True).detach()
    return weight * (x - mean) / (variance + eps).sqrt()


MISTAKES = [unbiased, eps_outside, detached_statistics]


def error_of(learner, **options) -> ExerciseError:
    """How check refuses the learner's answer."""
    options = {"against": right, "inputs": inputs, "mistakes": MISTAKES, **options}
    with pytest.raises(ExerciseError) as raised:
        check(learner, **options)
    return raised.value


def plus(x):
    return x + 1


class TestPassing:
    def test_another_way_to_the_same_numbers_passes_with_one_line(self, capsys):
        def my_norm(x, weight, eps=1e-5):
            return weight * nn.functional.layer_norm(x, x.shape[-1:], eps=eps)

        check(my_norm, against=right, inputs=inputs, mistakes=MISTAKES)
        assert capsys.readouterr().out == "✓ my_norm: 12 cases, values and gradients agree\n"

    def test_without_gradients_only_values_are_said_to_agree(self, capsys):
        check(torch.argmax, against=torch.argmax, name="argmax")
        check(lambda n: n + 1, against=lambda n: 1 + n, inputs=[1, 2.5, 3j], name="plus one")
        assert capsys.readouterr().out == (
            "✓ argmax: 12 cases, values agree\n✓ plus one: 3 cases, values agree\n"
        )

    def test_random_numbers_agree_if_drawn_in_the_same_way(self):
        check(lambda x: x + torch.randn(3), against=lambda x: torch.randn(3) + x, inputs=[torch.zeros(3)])
        error = error_of(
            lambda x: x + torch.rand(3), against=lambda x: torch.randn(3) + x, inputs=[torch.zeros(3)]
        )
        assert error.kind == "value"

    def test_the_random_numbers_of_the_notebook_go_on_as_if_nothing_happened(self):
        torch.manual_seed(3)
        expected = torch.randn(2)
        torch.manual_seed(3)
        check(nn.Linear, against=nn.Linear, build=(3, 2), inputs=[torch.randn(2, 3).zero_()])
        torch.manual_seed(3)
        check(nn.Linear, against=nn.Linear, build=(3, 2), inputs=[torch.ones(2, 3)])
        assert torch.equal(torch.randn(2), expected)

    @pytest.mark.parametrize(
        "value",
        [
            3,
            2.5,
            "text",
            None,
            True,
            [1, 2.0, "x"],
            (1, [2, {"a": 3}]),
            {"a": np.arange(3.0), "b": torch.tensor([1, 2])},
            np.array(["a", "b"]),
            torch.tensor([1.0, torch.nan, torch.inf]),
            torch.zeros(0, 3),
            torch.tensor([1 + 2j]),
            torch.tensor([True, False]),
            nn.Linear(2, 3),
        ],
        ids=str,
    )
    def test_every_kind_of_result_can_be_compared(self, value):
        check(lambda: value, against=lambda: value, inputs=[()])
        assert error_of(lambda: {"other": 0}, against=lambda: value, inputs=[()], mistakes=[]).kind in (
            "type",
            "value",
        )

    def test_scalars_are_scalars_and_lists_are_tuples(self):
        check(lambda x: float(x.mean()), against=lambda x: x.mean().item())
        check(lambda x: np.float64(x.mean().item()), against=lambda x: x.mean().item())
        check(lambda x: x.detach().mean(), against=lambda x: x.mean().item())
        check(lambda x: [x, 1], against=lambda x: (x, 1))

    def test_inputs_may_be_given_in_every_form(self):
        forms = [[torch.ones(3)], [(torch.ones(3),)], [{"x": torch.ones(3)}], lambda: [torch.ones(3)]]
        for form in forms:
            check(plus, against=plus, inputs=form)
            assert error_of(lambda x: x + 2, against=plus, inputs=form, mistakes=[]).kind == "value"

    def test_modules_and_nested_tensors_are_inputs_too(self):
        def fold(layer, parts):
            return layer(parts["x"][0]) * parts["scale"]

        cases = [(nn.Linear(3, 2), {"x": [torch.ones(4, 3)], "scale": 2})]
        check(fold, against=fold, inputs=cases)
        error = error_of(
            lambda layer, parts: fold(layer, parts).detach(), against=fold, inputs=cases, mistakes=[]
        )
        assert error.kind == "gradient"
        assert "the gradient of parts['x'][0] differs" in str(error)

    def test_named_tuples_stay_named(self):
        Pair = namedtuple("Pair", "first second")
        check(lambda p: p.first + p.second, against=lambda p: p[0] + p[1], inputs=[(Pair(torch.ones(2), 1),)])


class TestFindings:
    def test_an_untouched_body_is_asked_for(self):
        def my_norm(x, weight, eps=1e-5):
            """Normalise."""
            ...

        error = error_of(my_norm)
        assert str(error) == "✗ my_norm returned None: write its body first"
        assert error.kind == "unwritten"

    def test_not_implemented_is_the_same(self):
        def my_norm(x, weight):
            raise NotImplementedError("later")

        assert error_of(my_norm).kind == "unwritten"

    def test_a_missing_return_in_one_branch_is_no_missing_body(self):
        def my_norm(x, weight):
            if x.ndim == 2:
                return right(x, weight)

        error = error_of(my_norm)
        assert error.kind == "type"
        assert "returned None\n  in case 9 of 12 (4 of 12 differ)" in str(error)

    def test_an_exception_is_shown_with_the_learners_line(self):
        def my_norm(x, weight):
            y = x.men()
            return y

        error = error_of(my_norm)
        assert error.kind == "exception"
        assert "raised AttributeError: 'Tensor' object has no attribute 'men'" in str(error)
        assert "raised by: y = x.men()" in str(error)
        assert isinstance(error.__cause__, AttributeError)

    @pytest.mark.parametrize(
        ("learner", "kind", "text"),
        [
            (lambda x, w: right(x, w).sum(-1), "shape", "the result has the shape (1,), expected (1, 7)"),
            (lambda x, w: right(x, w)[None], "shape", "the result has the shape (1, 1, 7), expected (1, 7)"),
            (lambda x, w: right(x, w).float(), "dtype", "torch.float32, expected torch.float64"),
            (lambda x, w: right(x, w).detach().numpy(), "type", "is a numpy array, expected a tensor"),
            (lambda x, w: [right(x, w)], "type", "is a list or tuple, expected a tensor"),
            (lambda x, w: right(x, w) * 1.00001, "value", "the result differs by up to"),
            (lambda x, w: right(x, w) * torch.nan, "value", "got nan"),
            (lambda x, w: right(x.detach(), w), "gradient", "no gradient reaches it"),
            (lambda x, w: right(x, w).detach() + w - w.detach(), "gradient", "the gradient of x differs"),
            (lambda x, w: right(x, w) + 2 * (w - w.detach()), "gradient", "the gradient of weight differs"),
        ],
    )
    def test_what_differs_is_said(self, learner, kind, text):
        error = error_of(learner)
        assert error.kind == kind
        assert text in str(error)
        assert "x of shape (1, 7) from " in str(error)

    def test_place_and_size_of_the_largest_difference(self):
        def off(x):
            y = x.clone()
            y[1, 2] += 0.5
            y[0, 0] -= 0.25
            return y

        error = error_of(off, against=lambda x: x + 0, inputs=[torch.zeros(2, 3)], mistakes=[])
        assert "differs by up to 0.5 at [1, 2]: expected 0, got 0.5" in str(error)

    def test_integers_must_be_equal(self):
        big = torch.tensor([10**9])
        error = error_of(lambda x: x + 1, against=lambda x: x, inputs=[big], mistakes=[])
        assert error.kind == "value"

    def test_small_differences_count_in_proportion(self):
        check(lambda x: x * (1 + 1e-8), against=lambda x: x * 1, inputs=[torch.ones(3)])
        assert error_of(
            lambda x: x * (1 + 1e-5), against=lambda x: x * 1, inputs=[torch.ones(3)], mistakes=[]
        )
        check(lambda x: x * (1 + 1e-5), against=lambda x: x * 1, inputs=[torch.ones(3)], rtol=1e-4)

    def test_a_change_in_place_is_found_even_if_the_values_are_right(self):
        def in_place(x, weight, eps=1e-5):
            x -= x.mean(-1, keepdim=True)
            return right(x, weight, eps)

        error = error_of(in_place)
        assert error.kind == "in place"
        assert "the input x was modified in place" in str(error)

    def test_a_change_that_the_right_answer_makes_is_permitted(self):
        def push(stack, item):
            stack.append(item)
            return stack

        check(push, against=push, inputs=[([1], 2)])

    @pytest.mark.parametrize(
        ("value", "wrong", "text"),
        [
            ({"a": 1}, {"b": 1}, "has the keys ['b'], expected ['a']"),
            ([1, 2], [1], "has 1 parts, expected 2"),
            ([1, {"a": 2}], [1, {"a": 3}], "the result[1]['a'] differs by up to 1"),
            ("yes", "no", "is 'no', expected 'yes'"),
        ],
    )
    def test_differences_inside_containers_say_where(self, value, wrong, text):
        assert text in str(error_of(lambda: wrong, against=lambda: value, inputs=[()], mistakes=[]))

    def test_a_result_instead_of_a_function_is_explained(self):
        error = error_of(right(*inputs(0)[0]), name="my_norm")
        assert "✗ my_norm is tensor(" in str(error)
        assert "pass the function itself" in str(error)

    def test_an_error_of_the_right_answer_is_expected_of_the_learner(self):
        def strict(x):
            if x.ndim != 2:
                raise ValueError("two axes, please")
            return x

        cases = [torch.ones(2, 3), torch.ones(3)]
        check(strict, against=strict, inputs=cases)
        error = error_of(lambda x: x, against=strict, inputs=cases, mistakes=[])
        assert "raised nothing, expected ValueError: two axes, please" in str(error)

        def other(x):
            return x if x.ndim == 2 else x.no_such_thing

        assert "expected ValueError" in str(error_of(other, against=strict, inputs=cases, mistakes=[]))

    def test_a_notebook_shows_the_message_alone(self):
        error = error_of(unbiased)
        assert error._render_traceback_() == str(error).splitlines()


class TestMistakes:
    @pytest.mark.parametrize("wrong", MISTAKES, ids=lambda wrong: wrong.__name__)
    def test_every_mistake_gets_its_own_hint(self, wrong):
        error = error_of(wrong)
        assert error.hints == (wrong.hint,)
        assert str(error).endswith(f"\n  Hint: {wrong.hint}")

    def test_another_fault_gets_no_hint(self):
        assert error_of(lambda x, w: right(x, w) + 1).hints == ()

    def test_a_mistake_written_differently_is_recognised(self):
        def my_norm(x, weight):
            n = x.shape[-1]
            centred = x - x.sum(-1, keepdim=True) / n
            return weight * centred / ((centred**2).sum(-1, keepdim=True) / (n - 1) + 1e-5).sqrt()

        assert error_of(my_norm).hints == (unbiased.hint,)

    def test_of_a_mistake_and_its_special_case_the_fitting_one_is_named(self):
        @mistake("Always one more.")
        def always(x):
            return x + 1

        @mistake("One more at positive numbers.")
        def sometimes(x):
            return x + (x > 0)

        options = {
            "against": lambda x: x + 0,
            "mistakes": [sometimes, always],
            "inputs": [torch.ones(2), -torch.ones(2)],
        }
        assert error_of(always, **options).hints == (always.hint,)
        assert error_of(sometimes, **options).hints == (sometimes.hint,)
        check_mistakes(**options)

    def test_a_mistake_that_raises_is_recognised(self):
        @mistake("Which axes does a matrix have?")
        def crash(x):
            return x.transpose(1, 7)

        options = {"against": lambda x: x + 0, "inputs": [torch.ones(2, 3)], "mistakes": [crash]}
        assert error_of(lambda x: x.transpose(4, 5), **options).hints == (crash.hint,)

    def test_a_mistake_that_passes_is_an_error_of_the_exercise(self):
        with pytest.raises(ValueError, match="the mistake unbiased passes as right on all 1 cases"):
            check_mistakes(right, [unbiased], inputs=[(torch.ones(2, 3), torch.ones(3))])

    def test_two_mistakes_alike_are_an_error_of_the_exercise(self):
        @mistake("The same under another name.")
        def unbiased_again(x, weight, eps=1e-5):
            return unbiased(x, weight, eps)

        with pytest.raises(ValueError, match="unbiased cannot be told from unbiased_again"):
            check_mistakes(right, [unbiased, unbiased_again], inputs=inputs)
        check_mistakes(right, MISTAKES, inputs=inputs)

    @pytest.mark.parametrize("hint", ["", "  "])
    def test_a_mistake_needs_a_hint(self, hint):
        with pytest.raises(ValueError, match="needs a hint"):
            mistake(hint)

    def test_an_unmarked_mistake_is_refused_even_if_the_answer_is_right(self):
        with pytest.raises(ValueError, match=r"has no hint: mark it with @mistake"):
            check(right, against=right, inputs=inputs, mistakes=[right])
        with pytest.raises(ValueError, match="has no hint"):
            check_mistakes(right, [right], inputs=inputs)


class TestExerciseItself:
    def test_a_right_answer_that_fails_is_no_fault_of_the_learner(self):
        with pytest.raises(ValueError, match="the right answer itself fails on argument 1 of shape"):
            check(right, against=right)  # the default inputs have one tensor, right takes two

    def test_inputs_on_which_the_right_answer_always_refuses_are_useless(self):
        def refuse(x):
            raise ValueError("no")

        with pytest.raises(ValueError, match="the right answer itself fails"):
            check(refuse, against=refuse)

    def test_no_inputs_are_an_error(self):
        with pytest.raises(ValueError, match="has no inputs"):
            check(plus, against=plus, inputs=[])


def test_awkward_tensors_are_what_they_promise():
    normal, far, tiny, constant = awkward_tensors((300, 7))
    assert all(x.dtype == torch.float64 and x.shape == (300, 7) for x in (normal, far, tiny, constant))
    assert abs(normal.mean()) < 0.1
    assert normal.std() == pytest.approx(1, rel=0.1)
    assert far.mean() == pytest.approx(1000, abs=0.1)
    assert 0 < tiny.abs().max() < 1e-3
    assert constant.unique().numel() == 1
    assert all(torch.equal(a, b) for a, b in zip(awkward_tensors((3,)), awkward_tensors((3,)), strict=True))
    assert not torch.equal(awkward_tensors((3,))[0], awkward_tensors((3,), seed=1)[0])


def test_checks_are_recorded_passed_or_not():
    with recorded_checks() as outer:
        check(right, against=right, inputs=inputs, mistakes=MISTAKES, name="first")
        with recorded_checks() as inner, pytest.raises(ExerciseError):
            check(unbiased, against=right, inputs=inputs, rtol=1e-5)
        check(plus, against=plus)
    assert [call.name for call in outer] == ["first", "plus"]
    assert outer[0].mistakes == tuple(MISTAKES)
    assert outer[0].error is None
    (call,) = inner
    assert (call.name, call.against, call.error.kind) == ("unbiased", right, "value")
    assert call.options == {"inputs": inputs, "build": None, "rtol": 1e-5, "atol": 1e-8}
    check(plus, against=plus)
    assert len(outer) == 2
