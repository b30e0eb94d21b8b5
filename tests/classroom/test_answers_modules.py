"""``check`` of ``nn.Module`` classes: parameters, both modes, buffers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom.answers import (
    Exercises,
    awkward_tensors,
    case,
    normal,
)


class Norm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias)


class TestModules:
    @pytest.fixture
    def exercise(self):
        exercises = Exercises("layers/toy")
        cases = [case("rows", x) for x in awkward_tensors((2, 5))]
        return exercises.add(cases=cases, build=(5,))(Norm)

    def test_classes_and_instances_pass_and_stay_as_they_were(self, exercise):
        mine = nn.LayerNorm(5)
        assert exercise.judge(nn.LayerNorm).right
        assert exercise.judge(mine).right
        assert mine.weight.dtype == torch.float32
        assert torch.equal(mine.weight, torch.ones(5))

    def test_an_untouched_class_is_asked_for(self, exercise):
        class Empty(nn.Module):
            def __init__(self, dim):
                super().__init__()

            def forward(self, x): ...

        assert exercise.judge(Empty).text == "returned None: write its body first"

    def test_parameters_that_start_neutral_must_be_used_and_learn(self, exercise):
        class NoBias(Norm):
            def forward(self, x):
                return F.layer_norm(x, x.shape[-1:], self.weight)

        class Frozen(Norm):
            def forward(self, x):
                return F.layer_norm(x, x.shape[-1:], self.weight.detach(), self.bias)

        assert exercise.judge(NoBias).kind == "value"
        assert "the gradient of the parameter weight is not" in exercise.judge(Frozen).text

    def test_missing_parameters_are_named(self, exercise):
        verdict = exercise.judge(nn.RMSNorm)
        assert verdict.kind == "state"
        assert "{'weight': (5,)}, expected {'weight': (5,), 'bias': (5,)}" in verdict.text
        assert "could not be built" in exercise.judge(nn.Linear).text

    def test_both_modes_and_the_buffers_are_compared(self):
        exercises = Exercises("layers/toy")
        exercise = exercises.add(cases=[case("rows", normal(5, 3))], build=(3,))(nn.BatchNorm1d)

        class AlwaysTraining(nn.BatchNorm1d):
            def forward(self, x):
                if not self.training:
                    return F.batch_norm(x, None, None, self.weight, self.bias, training=True)
                return super().forward(x)

        class Biased(nn.BatchNorm1d):
            def forward(self, x):
                y = super().forward(x)
                if self.training:
                    self.running_var = 0.8 * self.running_var
                return y

        assert exercise.judge(nn.BatchNorm1d).right
        assert "in evaluation mode" in exercise.judge(AlwaysTraining).text
        verdict = exercise.judge(Biased)
        assert (verdict.kind, verdict.text.split("\n")[0]) == ("state", "the buffer running_var")


def test_awkward_tensors_are_what_they_promise():
    plain, far, tiny, constant = awkward_tensors((300, 7))
    assert all(x.dtype == torch.float64 and x.shape == (300, 7) for x in (plain, far, tiny, constant))
    assert abs(plain.mean()) < 0.1
    assert far.mean() == pytest.approx(1000, abs=0.1)
    assert 0 < tiny.abs().max() < 1e-3
    assert constant.unique().numel() == 1
    assert not torch.equal(awkward_tensors((3,))[0], awkward_tensors((3,), seed=1)[0])
