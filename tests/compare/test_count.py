"""What the tables show of a layer's costs; tests/test_counting.py has the closed forms."""

import torch
from torch import nn

from course_lib.compare.count import Operations, count_operations, count_parameters


def test_operations_are_the_sums_of_what_a_module_runs():
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2, bias=False))
    found = count_operations(model, torch.zeros(1, 3))
    assert found == Operations(multiply_adds=15 + 10, elementwise=5 + 5)
    assert found.total == 35


def test_counts_grow_with_the_batch():
    one, two = (count_operations(nn.Conv2d(2, 3, 3), torch.zeros(b, 2, 6, 6)).total for b in (1, 2))
    assert two == 2 * one


def test_parameters_count_once_and_only_if_they_are_trained():
    layer = nn.Linear(4, 4)
    shared = nn.Sequential(layer, nn.ReLU(), layer)
    assert count_parameters(shared) == 20
    layer.bias.requires_grad_(False)
    assert count_parameters(shared) == 16
