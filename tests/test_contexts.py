"""Set inside, what it was before outside, also after an error."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.contexts import evaluating, in_mode, isolated, one_thread


def state(model):
    """All that the contexts set, as something that can be compared."""
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        [part.training for part in model.modules()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("context", ["one_thread", "isolated", "evaluating", "in_mode"])
def test_outside_all_is_as_before_also_after_an_error(context, fails, two_threads):
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()).eval())
    before = state(model)
    make = {
        "one_thread": one_thread,
        "isolated": lambda: isolated(7),
        "evaluating": lambda: evaluating(model),
        "in_mode": lambda: in_mode(model, training=True),
    }[context]
    try:
        with make():
            assert state(model) != before
            torch.rand(1), random.random(), np.random.rand()
            if fails:
                raise ArithmeticError
    except ArithmeticError:
        pass
    inside = {"one_thread", "evaluating", "in_mode"} & {context}  # these leave random numbers alone
    assert state(model)[: 3 if inside else None] == before[: 3 if inside else None]


def test_inside_all_is_as_asked_for(two_threads):
    model = nn.Dropout()
    with one_thread(), evaluating(model):
        assert (torch.get_num_threads(), torch.is_grad_enabled(), model.training) == (1, False, False)
        with in_mode(model, training=True):
            assert model.training
        assert not model.training


def test_one_seed_gives_the_same_numbers_from_every_source():
    def drawn(seed):
        with isolated(seed):
            return torch.rand(1).item(), random.random(), np.random.rand()

    assert drawn(1) == drawn(1)
    assert all(a != b for a, b in zip(drawn(1), drawn(2), strict=True))
