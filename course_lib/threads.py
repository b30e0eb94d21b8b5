"""How many threads torch computes on: sums in another order give other last digits, and other times."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]
__numerics__ = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread while the context is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
