"""``check`` says what is wrong, in the learner's words, and meets the mistake that was made."""

import json
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom.answers import (
    ExerciseError,
    Exercises,
    case,
    normal,
)
from course_lib.exercises.__main__ import main as exercises_command
from tests.classroom.answers_for_tests import names, single


@pytest.fixture
def norm():
    exercises = Exercises("layers/toy")

    @exercises.add(
        cases=[
            case("one row", normal(1, 2), normal(2, seed=1)),
            case("rows that differ in length from the batch", normal(5, 3), normal(3, seed=1)),
            case("far from zero", 1000 + normal(2, 3, 5), normal(5, seed=1)),
        ],
        hints=("First hint.", "Second hint."),
    )
    def my_norm(x, weight, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], weight, eps=eps)

    @my_norm.mistakes(
        unbiased="Which variance does torch.var compute?",
        eps_outside="Where does eps stand: under the root, or outside?",
        no_weight="The weight is missing.",
    )
    def copied(x, weight, eps=1e-5, *, wrong):
        centred = x - x.mean(-1, keepdim=True)
        variance = x.var(-1, keepdim=True, correction=int(wrong.unbiased))
        root = variance.sqrt() + eps if wrong.eps_outside else (variance + eps).sqrt()
        return centred / root * (1 if wrong.no_weight else weight)

    @my_norm.mistake("The gradient has to flow through the statistics, too.")
    def detached(x, weight, eps=1e-5):
        mean = x.mean(-1, keepdim=True).detach()
        variance = x.var(-1, correction=0, keepdim=True).detach()
        return weight * (x - mean) / (variance + eps).sqrt()

    return exercises


def right_norm(x, weight):
    return F.layer_norm(x, x.shape[-1:], weight)


class TestRight:
    def test_a_right_answer_passes_with_one_line_and_is_kept(self, norm, capsys, tmp_path, monkeypatch):
        monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "here/progress.json"))
        norm.check(right_norm, "my_norm")
        assert capsys.readouterr().out == "✓ my_norm: 3 cases, values and gradients agree\n"
        assert norm.passed == {"my_norm"}
        kept = json.loads((tmp_path / "here/progress.json").read_text())
        assert list(kept["layers/toy"]) == ["my_norm"]

    def test_progress_is_kept_beside_that_of_others_and_a_broken_file_is_no_obstacle(
        self, norm, tmp_path, monkeypatch
    ):
        path = tmp_path / "progress.json"
        monkeypatch.setenv("COURSE_PROGRESS", str(path))
        path.write_text('{"layers/other": {"my_other": "2026-01-02"}}')
        norm.check(right_norm, "my_norm")
        assert sorted(json.loads(path.read_text())) == ["layers/other", "layers/toy"]
        path.write_text("{")
        norm.check(right_norm, "my_norm")
        assert list(json.loads(path.read_text())) == ["layers/toy"]
        monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path / "progress.json/no/folder"))
        norm.check(right_norm, "my_norm")

    def test_the_table_of_what_was_passed_takes_chapters_and_refuses_others(self, capsys):
        assert exercises_command(["layers/norm"]) == 0
        assert capsys.readouterr().out.startswith("layers/norm  ○")
        assert exercises_command(["training"]) == 0
        assert {line.split("/")[0] for line in capsys.readouterr().out.splitlines()} == {"training"}
        assert exercises_command(["layers/nrom"]) == 2
        said = "error: no chapter with exercises is called 'layers/nrom'; there is layers/norm"
        assert capsys.readouterr().err.startswith(said)

    def test_a_name_or_a_number_is_no_answer(self, norm):
        with pytest.raises(ValueError, match=r"the function itself, without quotes: check\(my_norm\)"):
            norm.check("my_norm")
        with pytest.raises(ValueError, match="the function itself, got int: 3"):
            norm.check(3)

    def test_buffers_of_the_default_type_do_not_matter(self, norm):
        def my_norm(x, weight):
            out = torch.zeros(x.shape)
            out[...] = right_norm(x, weight)
            return out

        assert norm.judge(my_norm).text == "3 cases, values and gradients agree"

    def test_single_precision_passes_and_is_mentioned(self):
        exercise = single(lambda x: x.tanh(), (normal(2, 3),))
        assert "single precision" in exercise.judge(lambda x: x.float().tanh()).text

    def test_without_gradients_only_values_are_said_to_agree(self):
        exercise = single(lambda n: n + 1, (1,), (2.5,), (3j,))
        assert exercise.judge(lambda n: 1 + n).text == "3 cases, values agree"

    def test_random_numbers_agree_if_drawn_in_the_same_way(self):
        exercise = single(lambda x: x + torch.randn(3), (torch.zeros(3),))
        assert exercise.judge(lambda x: torch.randn(3) + x).right
        assert not exercise.judge(lambda x: x + torch.rand(3)).right

    @pytest.mark.parametrize(
        "value",
        [
            *(3, 2.5, "text", True, [1, 2.0, "x"], (1, [2, {"a": 3}])),
            {"a": np.arange(3.0), "b": torch.tensor([1, 2])},
            *(np.array(["a", "b"]), torch.zeros(0, 3), torch.tensor([1 + 2j]), torch.tensor([True, False])),
            nn.Linear(2, 3),
        ],
        ids=str,
    )
    def test_every_kind_of_result_can_be_compared(self, value):
        exercise = single(lambda: value, ())
        assert exercise.judge(lambda: value).right
        assert exercise.judge(lambda: {"other": 0}).kind in ("type", "value")

    def test_scalars_are_scalars_and_lists_are_tuples(self):
        number = single(lambda x: x.mean().item(), (normal(3),))
        assert number.judge(lambda x: np.float64(x.mean().item())).right
        assert number.judge(lambda x: x.detach().mean()).right
        assert single(lambda x: x.detach().mean(), (normal(3),)).judge(lambda x: float(x.mean())).right
        assert single(lambda x: (x, 1), (normal(3),)).judge(lambda x: [x, 1]).right

    def test_named_tuples_stay_named(self):
        Pair = namedtuple("Pair", "first second")
        exercise = single(lambda p: p[0] + p[1], (Pair(torch.ones(2), 1),))
        assert exercise.judge(lambda p: p.first + p.second).right

    def test_complex_results_have_gradients_conjugated_or_not(self):
        z = torch.view_as_complex(normal(3, 2))
        exercise = single(lambda z: z.conj() * 2, (z,))
        assert exercise.judge(lambda z: (z + z).conj()).right
        assert exercise.judge(lambda z: 2 * z).kind == "value"

    def test_modules_and_nested_tensors_are_inputs_too(self):
        def fold(layer, parts):
            return layer(parts["x"][0]) * parts["scale"]

        exercise = single(fold, (nn.Linear(3, 2), {"x": [torch.ones(4, 3)], "scale": 2}))
        assert exercise.judge(lambda a, b: a(b["x"][0]) * 2).right
        verdict = exercise.judge(lambda layer, parts: fold(layer, parts).detach())
        assert (verdict.kind, names(verdict)) == ("gradient", ["no gradient"])


class TestFindings:
    @pytest.mark.parametrize(
        ("answer", "kind", "text"),
        [
            (lambda x, w: None, "unwritten", "returned None: write its body first"),
            (lambda x, w: [right_norm(x, w)], "type", "the result is a list or tuple, expected a tensor"),
            (
                lambda x, w: right_norm(x, w).sum(-1),
                "shape",
                "the result has the shape (1,), expected (1, 2)",
            ),
            (lambda x, w: right_norm(x, w) > 0, "dtype", "the result has the type torch.bool, expected"),
            (lambda x, w: right_norm(x, w) / 0, "nan", "the result is not finite"),
            (lambda x, w: right_norm(x, w) * 1.001, "value", "the result is wrong"),
            (lambda x, w: right_norm(x, w.detach()), "gradient", "the gradient of w is not"),
        ],
    )
    def test_what_differs_is_said(self, norm, answer, kind, text):
        verdict = norm.judge(answer, "my_norm")
        assert verdict.kind == kind
        assert text in verdict.text

    def test_the_smallest_failing_case_is_shown_with_the_learners_names_and_both_results(self):
        exercise = single(lambda x: x + 0, (normal(2, 9),), case("a pair", torch.tensor([1.0, 2.0])))
        lines = exercise.judge(lambda mine: mine.flip(-1)).text.splitlines()
        assert lines == [
            "the result is wrong",
            "  in 2 of 2 cases; the smallest: a pair",
            "    mine = [1, 2]",
            "    expected  [1, 2]",
            "    got       [2, 1]",
        ]

    def test_of_many_numbers_the_largest_difference_is_shown(self):
        exercise = single(lambda x: x + 0, (torch.zeros(3, 5),))
        text = exercise.judge(lambda x: x + F.one_hot(torch.tensor([1, 2, 3]), 5) * torch.tensor(0.5)).text
        assert "3 of 15 numbers differ, most at [0, 1]:" in text
        assert "expected  0\n    got       0.5" in text

    def test_every_number_has_its_own_tolerance(self):
        exercise = single(lambda x: x + 0, (torch.tensor([1.0, 1e6]),))
        assert exercise.judge(lambda x: x * (1 + 1e-8)).right
        assert not exercise.judge(lambda x: x + torch.tensor([1e-4, 0.0])).right
        assert exercise.judge(lambda x: x + torch.tensor([0.0, 1e-4])).right

    def test_integers_must_be_equal(self):
        exercise = single(lambda x: x + 0, (torch.tensor([10**9]),))
        assert exercise.judge(lambda x: x + 1).kind == "value"

    def test_a_change_in_place_is_told_before_wrong_values(self):
        exercise = single(lambda x, y: x - y, (normal(3), normal(3, seed=1)))
        verdict = exercise.judge(lambda left, right: left.mul_(7) - right)
        assert verdict.kind == "in place"
        assert "your input left was modified in place" in verdict.text

    def test_a_change_that_the_right_answer_makes_is_permitted(self):
        def push(stack, item):
            stack.append(item)
            return stack

        assert single(push, ([1], 2)).judge(lambda stack, item: stack.append(item) or stack).right

    def test_an_exception_is_shown_with_the_learners_line(self, norm):
        def my_norm(x, weight):
            return x.men()

        verdict = norm.judge(my_norm)
        assert verdict.kind == "exception"
        assert "raised AttributeError: 'Tensor' object has no attribute 'men'" in verdict.text
        assert "raised by: return x.men()" in verdict.text

    def test_a_missing_return_in_one_branch_is_no_missing_body(self, norm):
        verdict = norm.judge(lambda x, weight: right_norm(x, weight) if x.ndim == 2 else None, "my_norm")
        assert (verdict.kind, verdict.text.split("\n")[0]) == ("type", "returned None")

    def test_a_result_instead_of_a_function_is_explained(self, norm):
        with pytest.raises(ExerciseError, match="pass the function itself"):
            norm.check(normal(3), "my_norm")

    def test_an_error_of_the_right_answer_is_expected_of_the_learner(self):
        def strict(x):
            if x.ndim != 2:
                raise ValueError("two axes, please")
            return x + 0

        exercise = single(strict, (normal(2, 3),), (normal(3),))
        assert "raised nothing, expected ValueError" in exercise.judge(lambda x: x + 0).text
        assert exercise.judge(lambda x: strict(x)).right

    def test_a_notebook_shows_the_message_alone(self, norm):
        with pytest.raises(ExerciseError) as raised:
            norm.check(lambda x, weight: x, "my_norm")
        assert raised.value._render_traceback_() == str(raised.value).splitlines()


class TestMistakes:
    @pytest.mark.parametrize("name", ["unbiased", "eps_outside", "no_weight", "detached"])
    def test_every_mistake_gets_its_own_hint(self, norm, name):
        hint, wrong = norm["my_norm"].known[name]
        with pytest.raises(ExerciseError) as raised:
            norm.check(wrong, "my_norm")
        assert str(raised.value).endswith(f"  Hint: {hint}")

    def test_a_mistake_written_differently_is_recognised(self, norm):
        def my_norm(x, weight):
            return weight * (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt()

        assert names(norm.judge(my_norm)) == ["unbiased"]

    def test_two_mistakes_at_once_are_recognised(self, norm):
        def my_norm(x, weight):
            return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt()

        assert names(norm.judge(my_norm)) == ["unbiased", "no_weight"]

    def test_two_mistakes_in_different_cases_are_recognised(self):
        exercise = single(lambda x: x.abs(), (torch.tensor([-2.0]),), (torch.tensor([3.0]),))
        exercise.mistake("Negative ones.")(lambda x: torch.where(x < 0, x, x))
        low, high = (lambda x: x), (lambda x: torch.where(x > 0, x + 1, -x))
        low.__name__, high.__name__ = "low", "high"
        exercise.known.clear()
        exercise.mistake("Negative ones.")(low)
        exercise.mistake("Positive ones.")(high)
        assert names(exercise.judge(lambda x: torch.where(x > 0, x + 1, x))) == ["low", "high"]

    def test_hints_come_with_the_tries_and_then_the_way_to_a_solution(self, norm):
        def messages():
            for _ in range(4):
                with pytest.raises(ExerciseError) as raised:
                    norm.check(lambda x, weight: x, "my_norm")
                yield str(raised.value)

        first, second, third, fourth = messages()
        assert "First hint." not in first
        assert "First hint." in second
        assert "Second hint." not in second
        assert "Second hint." in third
        assert 'solution("my_norm")' not in third
        assert 'solution("my_norm")' in fourth

    def test_an_empty_body_is_no_try(self, norm):
        for _ in range(3):
            with pytest.raises(ExerciseError, match="✗ my_norm returned None: write its body first"):
                norm.check(lambda x, weight: None, "my_norm")

    def test_a_verified_exercise_is_silent(self, norm):
        assert norm.verify() is None

    @pytest.mark.parametrize(
        ("name", "wrong", "complaint"),
        [
            ("no_mistake", lambda x, weight: right_norm(x, weight), "no_mistake passes as right"),
            (
                "unbiased_again",
                lambda x, weight: (
                    (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt() * weight
                ),
                r"cannot be told from \['unbiased",
            ),
        ],
    )
    def test_mistakes_that_pass_or_look_alike_are_an_error_of_the_exercise(
        self, norm, name, wrong, complaint
    ):
        wrong.__name__ = name
        norm["my_norm"].mistake("A hint.")(wrong)
        with pytest.raises(ValueError, match=complaint):
            norm.verify()

    @pytest.mark.parametrize("hint", ["", "  "])
    def test_a_mistake_needs_a_hint(self, norm, hint):
        with pytest.raises(ValueError, match="needs a hint"):
            norm["my_norm"].mistake(hint)(lambda x, weight: x)
        with pytest.raises(ValueError, match="two mistakes of the name unbiased"):
            norm["my_norm"].mistakes(unbiased="Again.")(lambda x, weight, wrong: x)


class TestForms:
    def test_run_calls_the_answer_and_see_reads_it(self):
        def run(answer, x):
            return [answer(x), answer(-x)]

        exercise = single(lambda x: x.sin(), (normal(3),), run=run, see=lambda both: both[0] - both[1])
        assert exercise.judge(lambda x: x.sin() + 5).right  # the constant cannot be seen
        assert exercise.judge(lambda x: x.cos()).kind == "value"
        assert exercise.judge(lambda x: None).kind == "unwritten"

    def test_an_accepted_answer_is_judged_by_a_function(self):
        exercises = Exercises("layers/toy")

        @exercises.accept(hints=("Try two.",))
        def my_even(result):
            return "" if result % 2 == 0 else f"{result} is odd"

        exercises.verify()
        assert exercises.judge(lambda: 4, "my_even").right
        assert exercises.judge(lambda: 3, "my_even").text == "3 is odd"
        assert exercises.judge(lambda: None, "my_even").kind == "unwritten"
        assert exercises.judge(lambda: "a", "my_even").kind == "type"
        assert exercises.judge(lambda: 1 / 0, "my_even").kind == "exception"
        assert exercises.judge(4, "my_even").kind == "type"

    def test_names_are_looked_up_and_guessed(self, norm):
        with pytest.raises(ValueError, match="no exercise 'my_nrom': did you mean my_norm"):
            norm.check(lambda x: x, "my_nrom")
        with pytest.raises(ValueError, match="two exercises of the name my_norm"):
            norm.add(cases=[])(right_norm_named())


def right_norm_named():
    def my_norm(x, weight):
        return right_norm(x, weight)

    return my_norm


class TestExerciseItself:
    def test_a_right_answer_that_is_not_finite_is_refused(self):
        exercise = single(lambda p: -p * p.log(), case("a zero", torch.tensor([0.0, 1.0])))
        with pytest.raises(ValueError, match="not finite on a zero, p = "):
            exercise.judge(lambda p: p)
        root = single(lambda x: (x * 0).sqrt().sum(), (normal(2),))
        with pytest.raises(ValueError, match="its gradient is not finite"):
            root.judge(lambda x: x)

    def test_a_right_answer_that_fails_is_no_fault_of_the_learner(self):
        with pytest.raises(ValueError, match="the right answer itself fails on a case, x = "):
            single(lambda x: x.nothing, (normal(2),)).judge(lambda x: x)
        with pytest.raises(ValueError, match="has no inputs"):
            single(lambda x: x).judge(lambda x: x)

    def test_cases_need_labels_and_exercises_mistakes(self):
        exercises = Exercises("layers/toy")
        my_tanh = exercises.add(cases=[(normal(3),)])(torch.tanh)
        with pytest.raises(ValueError, match="1 cases have no label"):
            my_tanh.verify()
        with pytest.raises(ValueError, match="my_answer knows no mistake"):
            single(lambda x: x + 0, (normal(3),)).verify()

    def test_a_copy_marked_twice_makes_the_mistakes_of_each_mark(self):
        def copy(x, wrong):
            return (
                x.sin() * (2 if wrong.doubled else 1)
                + (1 if wrong.shifted else 0)
                + (x if wrong.added else 0)
            )

        exercise = single(lambda x: x.sin(), (normal(3),))
        for hints in ({"doubled": "Twice.", "shifted": "By one."}, {"added": "Too much."}):
            exercise.mistakes(**hints)(copy)
        exercise.verify()
        assert names(exercise.judge(lambda x: 2 * x.sin() + 1)) == ["doubled", "shifted"]
        assert list(exercise.pairs) == ["doubled and shifted"]

    def test_a_mistake_without_a_gradient_is_not_one_with_another(self):
        exercise = single(lambda x, y: x * y.detach(), (normal(3), normal(3, seed=1)))
        exercise.mistakes(
            cut="Nothing learns.",
            open="Both learn.",
        )(lambda x, y, wrong: x.detach() * y.detach() if wrong.cut else x * (y if wrong.open else y.detach()))
        exercise.verify()
        assert names(exercise.judge(lambda x, y: x * y)) == ["open"]

    def test_a_copy_that_is_wrong_without_being_asked_is_found(self):
        exercise = single(lambda x: x + 0, (normal(3),))
        exercise.mistakes(doubled="Twice.")(lambda x, wrong: x * 2 if wrong.doubled else x + 1)
        with pytest.raises(ValueError, match="without a mistake is not right"):
            exercise.verify()
