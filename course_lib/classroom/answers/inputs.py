"""Inputs that find faults."""

import torch
from torch import Tensor


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal numbers, other ones for each shape and seed.

    >>> normal(2, 3).shape, bool((normal(3) == normal(3)).all())
    (torch.Size([2, 3]), True)
    """
    generator = torch.Generator().manual_seed(1000 * seed + sum(shape))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def awkward_tensors(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Float64 tensors that find faults: of each shape one normal, one far from zero, one tiny, one constant.

    Args:
        shapes: one or more shapes; sizes of 1 and primes are a good choice.
        seed: of the random numbers.

    >>> [round(x.mean().item()) for x in awkward_tensors((200, 3))]
    [0, 1000, 0, 2]
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for shape in shapes:
        normal = torch.randn(shape, generator=generator, dtype=torch.float64)
        tensors += [normal, 1000 + normal.flip(-1), 1e-4 * normal.roll(1, -1), torch.full_like(normal, 2.0)]
    return tensors
