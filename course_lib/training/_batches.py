"""How ``fit`` and ``evaluate`` get their batches, and what they refuse."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from course_lib.data.dataset import Split

__numerics__ = 1


def seed_of(seed: int, stream: str, step: int) -> int:
    """One seed per step and use: a checksum, since torch keeps 32 bits and neighbours should not be alike."""
    return zlib.crc32(f"{seed} {stream} {step}".encode())


def reseed(seed: int, stream: str, step: int, device: torch.device | str = "cpu") -> None:
    """Seed what a model or a loader draws from in this step."""
    if torch.device(device).type == "cpu":
        # torch.manual_seed looks for every kind of accelerator, which takes longer than a small step.
        torch.default_generator.manual_seed(seed_of(seed, stream, step))
    else:
        torch.manual_seed(seed_of(seed, stream, step))


def batches(data: Any, batch_size: int, seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    """A function from the number of a step to its batch, the same whatever was asked for before."""
    if is_rows(data):
        return _Rows(*check_rows(data), batch_size, seed)
    if callable(data):
        generator = torch.Generator()
        return lambda step: check_pair(data(generator.manual_seed(seed_of(seed, "data", step))))
    if isinstance(data, Iterable):
        return _Stream(data, seed)
    raise ValueError(
        "data must be a split, a pair of tensors, a function batch(generator) such as text.batch, or an "
        f"iterable of pairs; got {data!r}"
    )


class _Rows:
    """Batches of rows, each row once an epoch; the order is drawn on the CPU, so devices do not matter."""

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, seed: int) -> None:
        self.x, self.y, self.seed = x, y, seed
        self.size = min(batch_size, len(x))
        self.epoch, self.order = -1, torch.empty(0)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, i = divmod(step, len(self.x) // self.size)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
            self.epoch, self.order = epoch, torch.randperm(len(self.x), generator=generator).to(self.x.device)
        rows = self.order[i * self.size : (i + 1) * self.size]
        return self.x[rows], self.y[rows]


class _Stream:
    """Pairs from an iterable, again and again; to begin at a later step, the earlier ones are drawn first."""

    def __init__(self, data: Iterable, seed: int) -> None:
        self.data, self.seed, self.drawn = data, seed, 0
        self.pairs, self.pair = iter(()), None

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        while self.drawn <= step:
            reseed(self.seed, "data", self.drawn)  # for a loader that shuffles
            self.pair = next(self.pairs, None)
            if self.pair is None:
                self.pairs = iter(self.data)
                self.pair = next(self.pairs, None)
            if self.pair is None:
                raise ValueError(
                    f"the data ran out after {self.drawn} batches and cannot be gone through again; give a "
                    "list, a data loader, or a function batch(generator)"
                )
            self.drawn += 1
        return check_pair(self.pair)


def is_rows(data: Any) -> bool:
    """Whether these are rows ``x`` and ``y``, and not an iterable of batches."""
    return isinstance(data, Split) or (
        isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(t, Tensor) for t in data)
    )


def check_rows(data: Any) -> tuple[Tensor, Tensor]:
    """``x`` and ``y``, or a ``ValueError`` that says what is wrong with them."""
    x, y = data
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y) or len(x) == 0:
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"x and y need equally many rows, at least one; got {shapes}")
    for name, t in {"x": x, "y": y}.items():
        if t.is_floating_point() and (bad := int((~t.isfinite()).sum())):
            raise ValueError(f"{name} holds {bad} entries that are NaN or infinite; clean them first")
    if x.dtype in (torch.uint8, torch.int8, torch.int16, torch.bool):
        raise ValueError(
            f"x is {x.dtype}: a model takes numbers (x.float(), pixels as x / 255) or tokens (x.long())"
        )
    return x, y


def check_pair(pair: Any) -> tuple[Tensor, Tensor]:
    """A batch from outside, or a ``ValueError`` if it is none."""
    if not is_rows(pair):
        raise ValueError(f"a batch must be a pair of tensors (x, y), got {type(pair).__name__}")
    x, y = pair
    return x, y


def check_scores(output: Tensor, target: Tensor) -> None:
    """Whether these are scores of classes and class numbers."""
    if target.dtype != torch.int64:
        raise ValueError(
            f"targets are {target.dtype}: classes must be int64 (y.long()), values floating-point (y.float())"
        )
    if output.shape[:-1] != target.shape:
        raise ValueError(
            f"scores of shape {tuple(output.shape)} need targets of shape {tuple(output.shape[:-1])}, got "
            f"{tuple(target.shape)}; classes come last, also for sequences"
        )
