"""The linear recurrence, by halving and one token after the other."""

import pytest
import torch

from course_lib.layers._scan import linear_scan, linear_scan_recurrent


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("started", [False, True])
def test_a_scan_is_the_recurrence_in_value_and_gradient(length, dtype, started):
    a, b = (torch.randn(2, length, 3, dtype=dtype, requires_grad=True) for _ in range(2))
    initial = torch.randn(2, 3, dtype=dtype, requires_grad=True) if started else None
    inputs = (a, b, initial)[: 2 + started]
    states = [scan(a, b, initial) for scan in (linear_scan, linear_scan_recurrent)]
    by_hand = initial if started else torch.zeros(2, 3, dtype=dtype)
    for t in range(length):
        by_hand = a[:, t] * by_hand + b[:, t]
    torch.testing.assert_close(states[0][:, -1], by_hand)
    torch.testing.assert_close(*states)
    weights = torch.randn(2, length, 3, dtype=dtype)
    gradients = [
        torch.autograd.grad((weights * h).sum().real, inputs, allow_unused=True, materialize_grads=True)
        for h in states
    ]
    torch.testing.assert_close(*gradients)


def test_a_scan_takes_one_rate_for_all_times_and_rates_of_zero():
    rate, x = torch.tensor([0.0, 1.0], dtype=torch.float64), torch.ones(1, 6, 2, dtype=torch.float64)
    states = linear_scan(rate, x)
    torch.testing.assert_close(states[0, :, 0], torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(states[0, :, 1], torch.arange(1.0, 7, dtype=torch.float64))
    torch.testing.assert_close(states, linear_scan_recurrent(rate, x))
