"""What a layer costs before any clock runs: its parameters, and the operations for one example.

Time depends on the machine and on how well a kernel is written; counts do not. Two kinds are kept
apart, because no machine does them at one speed: multiply-adds of matrix products, and elementwise
operations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from course_lib.counting import operations


@dataclass(frozen=True)
class Operations:
    """How many operations a call took.

    Args:
        multiply_adds: of matrix products, convolutions, attention, distances, Fourier transforms.
        elementwise: of everything else that computes, one for each element of the larger side.
    """

    multiply_adds: int
    elementwise: int

    @property
    def total(self) -> int:
        """Both kinds together."""
        return self.multiply_adds + self.elementwise


def count_parameters(module: nn.Module) -> int:
    """The numbers that training changes; a parameter that is used twice counts once.

    Args:
        module: any module.

    >>> count_parameters(nn.Linear(3, 5))
    20
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def count_operations(function: Callable[..., Any], *inputs: Any) -> Operations:
    """Run a function once, without gradient, and count what torch computes in it.

    What counts as what is told by :func:`course_lib.counting.recording`.

    Args:
        function: a module or a function.
        inputs: its arguments; a batch of one to count the operations for one example.

    Raises:
        ValueError: for what has no fixed number of operations, such as an eigenvalue decomposition.

    >>> import torch
    >>> count_operations(nn.Linear(3, 5), torch.zeros(1, 3))
    Operations(multiply_adds=15, elementwise=5)
    >>> count_operations(lambda x: x @ x, torch.zeros(4, 4))
    Operations(multiply_adds=64, elementwise=0)
    """
    found = operations(function, *inputs)
    return Operations(sum(o.multiply_adds for o in found), sum(o.elementwise for o in found))
