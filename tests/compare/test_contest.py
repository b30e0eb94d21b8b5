"""A contest is held only between equal functions, and measures what it says."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.compare import Case, Contest, copy_parameters
from course_lib.compare.contest import measure, require_agreement


def pair(width: int) -> Contest:
    """Two equal layers."""
    ours, peer = nn.Linear(width, width), nn.Linear(width, width)
    copy_parameters(ours, peer)
    return Contest(ours, {"peer": peer}, (torch.randn(8, width),))


CASE = Case("Linear", pair, sizes=(3, 6, 12), axis="width")


def test_a_race_gives_every_number(clock):
    contest = pair(32)
    ours, peer = contest.contenders.values()
    timed = Contest(clock.spending(3.0, ours), {"peer": clock.spending(2.0, peer)}, contest.inputs)
    found = measure(timed, rounds=9, budget=1000, clock=clock)
    assert list(found) == ["ours", "peer"]
    assert (found["ours"].forward, found["ours"].both) == (3.0, 3.0)
    assert (found["ours"].ratio_forward, found["ours"].ratio_both) == (None, None)
    assert (found["peer"].forward, found["peer"].both) == (2.0, 2.0)
    assert found["peer"].ratio_forward == found["peer"].ratio_both == (1.5, 1.5, 1.5)


def test_bytes_are_those_of_the_layer_and_its_input(clock):
    found = measure(pair(32), rounds=1, clock=clock.spending(1.0, clock))
    assert {lap.kept for lap in found.values()} == {8 * 32 * 4}  # the input, for the weight's gradient
    assert all(lap.peak >= 8 * 32 * 4 for lap in found.values())


def test_without_backward_only_the_forward_pass_is_timed(clock):
    contest = Contest(lambda x: x.numpy() + 1, {"peer": lambda x: x + 1}, (torch.zeros(4),), backward=False)
    found = measure(contest, rounds=5, clock=clock.spending(1.0, clock))
    assert all(lap.both is None and lap.kept is None for lap in found.values())
    assert found["peer"].ratio_both is None


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (lambda x: 1.01 * x, "output differs"),
        (lambda x: x.detach() + x - x.detach() * 1.0 + 0.0 * x, None),
        (lambda x: x.detach() + 0.0 * x, "gradient of input 0 differs"),
        (lambda x: x[:1], "ours"),
        (lambda x: x * float("nan"), "differs"),
    ],
)
def test_functions_that_differ_are_not_raced(peer, words):
    contest = Contest(lambda x: x * 1.0, {"peer": peer}, (torch.randn(3, 5),))
    if words is None:
        require_agreement(contest)
        return
    with pytest.raises(ValueError, match=words):
        measure(contest, rounds=5)


def test_a_looser_tolerance_lets_small_differences_pass():
    near = {"peer": lambda x: 1.001 * x}
    assert require_agreement(Contest(lambda x: x * 1.0, near, (torch.randn(3),), tolerance=0.01)) is None
    with pytest.raises(ValueError, match="output differs"):
        require_agreement(Contest(lambda x: x * 1.0, near, (torch.randn(3),)))


def test_the_first_output_counts_and_arrays_are_compared_too():
    outputs = {"tuple": lambda x: (x + 1, None), "array": lambda x: x.numpy() + np.float32(1)}
    assert require_agreement(Contest(lambda x: x + 1, outputs, (torch.randn(3),), backward=False)) is None
    outputs["late"] = lambda x: (x, x + 1)
    with pytest.raises(ValueError, match="late"):
        require_agreement(Contest(lambda x: x + 1, outputs, (torch.randn(3),), backward=False))


def test_the_callers_tensors_are_left_as_they_are(clock):
    x = torch.randn(4, 3)
    measure(Contest(F.relu, {"peer": torch.relu}, (x,)), rounds=5, clock=clock.spending(1.0, clock))
    assert x.grad is None
    assert not x.requires_grad


def test_copied_parameters_are_equal_and_not_shared():
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.normal_(a.weight)
    a(torch.randn(7, 3))
    copy_parameters(a, b)
    assert torch.equal(a.weight, b.weight)
    assert torch.equal(a.running_mean, b.running_mean)
    assert b.num_batches_tracked == 0  # a counter is no number of the layer
    with torch.no_grad():
        a.weight.zero_()
    assert b.weight.abs().min() > 0


def test_parameters_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="copy them one by one"):
        copy_parameters(nn.Linear(2, 3), nn.Linear(3, 2))
