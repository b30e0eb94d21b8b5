"""Each check of the contract at the ends of what it asks: ranks, sizes of one and two, both modes."""

import math
import re

import pytest
import torch
from torch import nn

from course_lib.classroom._contract import building
from course_lib.classroom._contract.axes import _dependencies
from course_lib.classroom._contract.gradients import _apart
from course_lib.classroom._contract.subject import Subject
from course_lib.registry import Traits
from tests.classroom.layers_for_checks import (
    Does,
    Embeds,
    Gain,
    LooksAhead,
    LooksAheadInTraining,
    LooksBack,
    Sound,
    SubtractsBatchMean,
    SubtractsBatchMeanInTraining,
    outcome,
    randn,
)

# -- The batch, time, order ----------------------------------------------------------------------------------


def leaks(source, target):
    """Row ``source`` of the input moves row ``target`` of the output, and no other."""
    return lambda y, x: y.index_add(0, torch.tensor([target]), x[source : source + 1])


@pytest.mark.parametrize(
    ("layer", "inputs", "options", "said"),
    [
        (SubtractsBatchMean(), randn(6), {}, "NotApplicable: the first input has no two rows"),
        (SubtractsBatchMean(), randn(1, 6), {}, "NotApplicable: the first input has no two rows"),
        (SubtractsBatchMean(), randn(2, 6), {}, "Failure: .*in evaluation mode; reduce"),
        (Does(leaks(1, 0)), randn(3, 6), {}, "Failure: .*in evaluation mode"),
        (Does(leaks(1, 2)), randn(3, 6), {}, "Failure: .*in evaluation mode"),
        (Does(leaks(1, 2), training=True), randn(3, 6), {}, "Failure: .*in training mode; declare"),
        (Does(leaks(1, 1)), randn(3, 6), {}, "passed"),
        (Does(lambda y, x: y.mean(0)), randn(3, 6), {}, "NotApplicable: the output has no row"),
        (SubtractsBatchMeanInTraining(), randn(3, 6), {"house_rules": False}, "passed"),
        (Sound(), randn(3, 6), {"house_rules": False, "mixes_batch": True}, "Failure: .*drop the decl"),
        (SubtractsBatchMean(), randn(3, 6), {"house_rules": False}, "Failure: .*in evaluation mode"),
    ],
)
def test_rows_of_a_batch(layer, inputs, options, said):
    assert re.match(said, outcome("batch_independent", layer, inputs, **options))


class LooksBackAtIds(Embeds):
    def forward(self, ids):
        return self.embedding(ids).cumsum(1)


class LeaksWithTheBatch(LooksBack):
    """Causal in evaluation; in training the mean over the batch and time lets the future in."""

    def body(self, x):
        return super().body(x - x.mean((0, 1)) if self.training else x)


def looks(ahead, *, at=0):
    """The output at one time depends on the input so many steps later."""
    return lambda y, x: y.index_add(1, torch.tensor([at]), x[:, at + ahead : at + ahead + 1])


NOT_DECLARED = r"NotApplicable: not declared"


@pytest.mark.parametrize(
    ("layer", "inputs", "options", "said"),
    [
        (LooksBack(), randn(3, 6), {}, NOT_DECLARED + ", and"),
        (LooksBack(), randn(3, 4, 5, 6), {}, NOT_DECLARED + ", and"),
        (LooksBack(), randn(3, 5, 6), {}, "Failure: .*declare causal=True"),
        (LooksBack(), randn(3, 5, 6), {"house_rules": False}, NOT_DECLARED + "$"),
        (LooksBackAtIds(), torch.arange(6).reshape(2, 3), {}, "Failure: .*declare causal=True"),
        (LooksBackAtIds(), torch.arange(6).reshape(2, 3), {"causal": True}, "passed"),
        (Embeds(), torch.arange(6).reshape(2, 3), {"causal": True}, "Failure: the output at time 0"),
        (Sound(), randn(3, 5, 6), {}, "passed"),
        (LooksBack(), randn(3, 4, 5, 6), {"causal": True}, "passed"),
        (LooksAhead(), randn(3, 4, 5, 6), {"causal": True}, "Failure: the output at time 0 dep.* time 1"),
        (Sound(), randn(3, 1, 6), {"causal": True}, "Failure: declared, but"),
        (Sound(), randn(3, 1, 6), {}, "NotApplicable: input and output share no axis 1"),
        (Sound(), randn(6), {"causal": True}, "Failure: declared, but"),
        (LooksBack(), randn(3, 2, 6), {}, "Failure: .*declare causal=True"),
        (Does(looks(1)), randn(3, 2, 6), {"causal": True}, "Failure: the output at time 0 .* time 1 in eval"),
        (Does(looks(3, at=1)), randn(3, 5, 6), {"causal": True}, "Failure: .* time 1 depends .* time 4"),
        (Does(looks(0)), randn(3, 5, 6), {"causal": True}, "passed"),
        (Does(looks(39)), randn(2, 40, 6), {"causal": True}, "Failure: .* time 0 depends .* time 39"),
        (Does(looks(1, at=38)), randn(2, 40, 6), {"causal": True}, "Failure: .* time 38 depends .* time 39"),
        (LooksAheadInTraining(), randn(3, 5, 6), {"causal": True}, "Failure: .* in training mode"),
        (LeaksWithTheBatch(), randn(3, 5, 6), {"causal": True}, "Failure: .* in training mode"),
        (LeaksWithTheBatch(), randn(3, 5, 6), {"causal": True, "mixes_batch": True}, "passed"),
    ],
)
def test_time(layer, inputs, options, said):
    assert re.match(said, outcome("causal", layer, inputs, **options))


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 40])
def test_of_a_long_sequence_sixteen_steps_are_tried_both_ends_among_them(length):
    subject = Subject(LooksBack(), (randn(2, length, 6),), Traits())
    tried = {s for _, s in _dependencies(subject, train=False)}
    assert {0, length - 1} <= tried
    assert len(tried) == min(length, 16)


def circular(y, x, *more):
    return y + x.roll(1, 1)


@pytest.mark.parametrize(
    ("layer", "inputs", "said"),
    [
        (Does(circular), (randn(3, 3, 6),), "Failure: permuting"),
        (Does(circular), (randn(3, 2, 6),), "passed"),  # two entries have no other order
        (Does(lambda y, x: y + x.cumsum(1)), (randn(3, 2, 6),), "Failure: permuting"),
        (Sound(), (randn(3, 1, 6),), "Failure: declared, but"),
        (Sound(), (randn(6),), "Failure: declared, but"),
        (Does(lambda y, x, z: y * z), (randn(2, 4, 6), randn(2, 4, 6) + 3), "passed"),
        (Does(lambda y, x, z: y * z[:, None]), (randn(2, 4, 6), randn(2, 6)), "passed"),
        (Does(lambda y, x, z: y * z.mean()), (randn(2, 4, 6), randn(3, 4)), "passed"),
        (Does(lambda y, x: y.mean(1)), (randn(3, 4, 6),), "Failure: declared, but"),
    ],
)
def test_order(layer, inputs, said):
    assert re.match(said, outcome("permutation_equivariant", layer, *inputs, permutation_equivariant=True))


# -- One call ------------------------------------------------------------------------------------------------


def constant(value, training=None):
    """One number for each row: the mean over one row is exact."""
    return Does(lambda y, x: torch.full_like(y[..., :1], value), training)


@pytest.mark.parametrize(
    ("value", "said"),
    [(1e3, "passed"), (1001.0, "Failure"), (1e-3, "passed"), (0.99e-3, "Failure"), (0.0, "Failure")],
)
def test_the_output_scale_is_a_closed_interval(value, said):
    layer = constant(value).double()
    assert outcome("output_scale", layer, randn(1, 6).double()).startswith(said)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_output_that_is_not_finite_in_one_mode_fails(value, training):
    assert outcome("output_scale", constant(value, training), randn(3, 6)).startswith("Failure: NaN or inf")


def test_the_scale_is_asked_for_a_standard_normal_input_whatever_the_example_is():
    assert outcome("output_scale", Sound(), 1e8 * randn(3, 6)) == "passed"
    assert outcome("output_scale", Does(lambda y, x, z: z), randn(3, 6), 1e8 * randn(3, 6)) != "passed"


@pytest.mark.parametrize(
    ("layer", "inputs", "said"),
    [
        (Embeds().double(), torch.arange(6).reshape(2, 3), "passed"),  # as its parameters, no float comes in
        (nn.Flatten(0), torch.arange(6).reshape(2, 3), "Failure: torch.float32 in, torch.int64 out"),
        (Does(lambda y, x: None, training=True), randn(3, 6), "Failure: .*no tensor in training mode"),
        (Does(lambda y, x: [], training=False), randn(3, 6), "Failure: .*no tensor in evaluation mode"),
        (Sound(), randn(3, 6), "passed"),
    ],
)
def test_what_comes_out(layer, inputs, said):
    assert re.match(said, outcome("output_shape_dtype", layer, inputs))


@pytest.mark.parametrize("training", [False, True])
def test_the_second_input_is_looked_at_too_and_nan_is_no_change(training):
    changes = Does(lambda y, x, z: y + z.mul_(2), training)
    assert outcome("input_unmodified", changes, randn(3, 6), randn(3, 6)).startswith("Failure: input 1 is")
    holed = randn(3, 6)
    holed[1, 2] = math.nan
    assert outcome("input_unmodified", Sound(), holed) == "passed"


class Refuses(Sound):
    """Refuses a width along one axis; what it says is given."""

    def __init__(self, axis, words="expected 6, got {}", error=ValueError):
        super().__init__()
        self.axis, self.words, self.error = axis, words, error

    def forward(self, x):
        if x.shape[self.axis] != self.dim:
            raise self.error(self.words.format(x.shape[self.axis]))
        return x * self.weight.mean() + self.bias.mean()


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (Refuses(-1), (6,), "passed"),
        (Refuses(-1), (3, 6), "passed"),
        (Refuses(0), (6, 3), "Failure: 4 instead of 3 entries along axis -1"),
        (Refuses(-1), (3, 5, 6), "passed"),
        (Refuses(1), (3, 6, 5), "passed"),
        (Refuses(1), (3, 6, 5, 4), "passed"),
        (Refuses(-1), (3, 5, 4, 6), "passed"),
        (Refuses(2), (3, 5, 6, 4), "Failure: 6 instead of 5 entries along axis 1"),
        (Refuses(-1, "got 17"), (3, 6), "Failure: 7 instead of 6 entries along axis -1 raise a ValueError"),
        (Refuses(-1, error=TypeError), (3, 6), "Failure: 7 instead .* raise a TypeError.*compare the widths"),
    ],
)
def test_a_wrong_width_at_every_rank(layer, shape, said):
    assert re.match(said, outcome("wrong_last_dim", layer, randn(*shape)))


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [(Gain(), randn(3, 6)), (nn.Tanh(), randn(3, 6)), (Embeds(), torch.zeros(2, 3).long())],
)
def test_a_width_is_asked_only_of_layers_that_have_one(layer, inputs):
    assert outcome("wrong_last_dim", layer, inputs).startswith("NotApplicable")


# -- Gradients -----------------------------------------------------------------------------------------------


class LeavesItsDomain(Sound):
    """A jittered scale may be negative, where the root has no gradient: no fault at the start."""

    def _add(self):
        self.scale, self.gate = nn.Parameter(torch.empty(64)), nn.Parameter(torch.empty(()))

    def start(self, name, x):
        x.fill_(1e-3 if name == "scale" else 0.0)

    def body(self, x):
        return super().body(x) * self.scale.sqrt().sum() * 1.0 + self.gate**2


def test_a_gradient_that_ends_behind_the_start_is_no_fault_and_at_the_start_it_is():
    assert outcome("gradients", LeavesItsDomain(), randn(3, 6)) == "passed"
    layer = LeavesItsDomain()
    nn.init.zeros_(layer.scale)
    assert outcome("gradients", layer, randn(3, 6)).startswith("Failure: the gradient of scale is not finite")


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [(1.0, 1.0, False), (1.0, 1.002, True), (1.0, 1.0009, False), (0.0, 9e-6, False), (0.0, 1.1e-5, True),
     (-1.0, 1.0, True), (1000.5, 1000.0, False), (math.nan, 1.0, True), (1.0, math.nan, True)],
)  # fmt: skip
def test_when_slopes_are_apart(a, b, apart):
    assert _apart(a, b) is apart


# -- Saving and building -------------------------------------------------------------------------------------


class HasMethods(Sound):
    def grow(self, by=2, *rest, **options): ...
    def load(self, path): ...
    def _hidden(self): ...
    def reset_parameters(self):
        super().reset_parameters()


def test_the_methods_that_are_called_need_no_argument_and_are_its_own():
    found = building._methods(HasMethods())
    assert "grow" in found
    assert not {"load", "_hidden", "reset_parameters", "extra_repr", "forward", "body"} & {*found}


def test_fresh_memory_holds_rubbish_of_every_kind():
    layer = Sound()
    layer.register_buffer("steps", torch.zeros(2, dtype=torch.long))
    layer.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    building._spoil(layer)
    assert layer.weight.isnan().all()
    assert layer.phase.isnan().all()
    assert (layer.steps == building.RUBBISH).all()


def draws(mean=0.0, spread=1.0, seed=0):
    return mean + spread * torch.randn(8, 50, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(
    ("fresh", "again", "said"),
    [
        (draws(), draws(seed=1), ""),
        (draws(), draws(0.6, seed=1), "mean"),
        (draws(), draws(-0.6, seed=1), "mean"),
        (draws(), draws(0.0, 1.6, seed=1), "mean"),
        (draws(), draws(0.0, 0.4, seed=1), "mean"),
        (torch.ones(8, 3), torch.ones(4, 3), ""),
        (torch.ones(8, 3), torch.full((4, 3), 1.1), "it is constant, and another"),
        (torch.arange(3.0).expand(8, 3), torch.arange(3.0).flip(0).expand(4, 3), "it is constant"),
        (torch.zeros(8, 0), torch.zeros(4, 0), ""),
        (torch.ones(8, 3), torch.full((4, 3), math.nan), "it still holds"),
        (torch.zeros(8, 3), torch.full((4, 3), 1.0 * building.RUBBISH), "it still holds"),
        (torch.full((8, 3), math.nan), torch.full((4, 3), math.nan), ""),
        (torch.full((8, 3), 1.0 * building.RUBBISH), torch.full((4, 3), 1.0 * building.RUBBISH), ""),
    ],
)
def test_whether_draws_are_alike(fresh, again, said):
    assert building._unlike(fresh, again).startswith(said)
    assert bool(building._unlike(fresh, again)) == bool(said)


def test_complex_numbers_are_compared_by_both_parts():
    a = torch.tensor([1 + 2j])
    assert building._real(a).tolist() == [[1.0, 2.0]]
    assert building._real(torch.tensor([3])).dtype == torch.float64
