"""What several experiments of this chapter share."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.data import load


def flat_digits() -> dict[str, tuple[Tensor, Tensor]]:
    """The digits as vectors of 64 pixels, by split."""
    return {name: (split.x.flatten(1), split.y) for name, split in load("digits").splits.items()}


def batches(data: tuple[Tensor, Tensor], steps: int, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches that go through the data in a fresh order every time."""
    generator, order = torch.Generator().manual_seed(seed), torch.empty(0, dtype=torch.long)
    x, y = data
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(x), generator=generator)
        rows, order = order[:size], order[size:]
        yield x[rows], y[rows]


def learn(model: Any, data: tuple[Tensor, Tensor], *, steps: int, size: int = 64, seed: int) -> Any:
    """The one loop of the chapter: ``train_step`` on batch after batch."""
    for x, y in batches(data, steps, size, seed):
        model.train_step(x, y)
    return model


def accuracy(answers: Tensor, y: Tensor) -> float:
    """Share of right answers."""
    return (answers == y).double().mean().item()


def linear_probe(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """Answers of a linear classifier by least squares: the simple thing to beat, or what a layer knows."""

    def with_one(h: Tensor) -> Tensor:
        return torch.cat([h, h.new_ones(len(h), 1)], dim=1).double()

    a = with_one(train)
    ridge = 1e-2 * torch.eye(a.shape[1], dtype=a.dtype)
    weights = torch.linalg.solve(a.T @ a + ridge, a.T @ F.one_hot(labels, 10).double())
    return (with_one(test) @ weights).argmax(-1)
