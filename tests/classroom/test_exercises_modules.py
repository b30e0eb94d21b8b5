"""``check`` of ``nn.Module`` classes: parameters, both modes, buffers."""

import pytest
import torch
from torch import nn

from course_lib.classroom.exercises import ExerciseError, awkward_tensors, check, check_mistakes, mistake


def standardised(x, eps):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


class Norm(nn.Module):
    def __init__(self, dim, *, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return standardised(x, self.eps) * self.weight + self.bias


OPTIONS = {"against": Norm, "build": (5,), "inputs": awkward_tensors((2, 5)), "mistakes": []}


def error_of(learner, **options) -> ExerciseError:
    """How check refuses the learner's answer."""
    with pytest.raises(ExerciseError) as raised:
        check(learner, **options)
    return raised.value


def test_classes_and_instances_pass(capsys):
    check(Norm, **OPTIONS)
    check(nn.LayerNorm, **OPTIONS)
    check(nn.LayerNorm(5), **OPTIONS)
    check(Norm, against=nn.LayerNorm(5), build={"dim": 5, "eps": 1e-5}, inputs=awkward_tensors((2, 5)))
    assert capsys.readouterr().out.count(": 4 cases, values and gradients agree\n") == 4


def test_the_learners_module_is_left_as_it_was():
    mine = nn.LayerNorm(5)
    check(mine, **OPTIONS)
    assert mine.training
    assert mine.weight.dtype == torch.float32
    assert torch.equal(mine.weight, torch.ones(5))


def test_an_untouched_class_is_asked_for():
    class MyNorm(nn.Module):
        def __init__(self, dim):
            super().__init__()
            ...

        def forward(self, x): ...

    error = error_of(MyNorm, **OPTIONS)
    assert (str(error), error.kind) == ("✗ MyNorm returned None: write its body first", "unwritten")


def test_a_parameter_that_starts_neutral_must_be_used():
    class NoBias(Norm):
        def forward(self, x):
            return standardised(x, self.eps) * self.weight

    assert error_of(NoBias, **OPTIONS).kind == "value"


def test_the_gradient_of_parameters_is_compared():
    class Frozen(Norm):
        def forward(self, x):
            return standardised(x, self.eps) * self.weight.detach() + self.bias

    assert "the gradient of the parameter weight differs" in str(error_of(Frozen, **OPTIONS))


def test_missing_parameters_are_named():
    class Gain(Norm):
        def __init__(self, dim):
            super().__init__(dim)
            self.bias = None

        def forward(self, x):
            return standardised(x, self.eps) * self.weight

    error = error_of(Gain, **OPTIONS)
    assert error.kind == "state"
    assert "{'weight': (5,)}, expected {'weight': (5,), 'bias': (5,)}" in str(error)


def test_a_constructor_that_fails_is_reported():
    error = error_of(nn.LayerNorm, **{**OPTIONS, "against": Norm(5), "build": ()})
    assert "could not be built: TypeError" in str(error)


def test_both_modes_and_the_buffers_are_compared():
    options = {
        "against": nn.BatchNorm1d,
        "build": (3,),
        "inputs": awkward_tensors((5, 3)),
        "mistakes": [],
    }
    check(nn.BatchNorm1d, **options)

    class AlwaysTraining(nn.BatchNorm1d):
        def forward(self, x):
            if not self.training:
                return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True)
            return super().forward(x)

    class Biased(nn.BatchNorm1d):
        def forward(self, x):
            y = super().forward(x)
            if self.training:
                self.running_var = 0.8 * self.running_var
            return y

    error = error_of(AlwaysTraining, **options)
    assert error.kind == "value"
    assert "in evaluation mode (4 of 8 differ)" in str(error)
    error = error_of(Biased, **options)
    assert error.kind == "state"
    assert "the buffer running_var differs" in str(error)


def test_a_mistaken_class_gets_its_hint():
    @mistake("Is the bias added?")
    class NoBias(Norm):
        def forward(self, x):
            return standardised(x, self.eps) * self.weight

    options = {**OPTIONS, "mistakes": [NoBias]}
    check_mistakes(Norm, [NoBias], inputs=OPTIONS["inputs"], build=(5,))
    assert error_of(NoBias, **options).hints == ("Is the bias added?",)
