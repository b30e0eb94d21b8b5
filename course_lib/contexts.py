"""What is set for a while and put back, also after an error: mode, threads, random numbers."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

__numerics__ = 1


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The model in training or evaluation mode; afterwards each part in the mode that it had.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout().eval())
    >>> with in_mode(model, training=False):
    ...     model.training
    False
    >>> [part.training for part in model.modules()]
    [True, True, False]
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and no gradients."""
    # Not inference_mode: a table that a layer makes and keeps here could not be used in training afterwards.
    with in_mode(model, training=False), torch.no_grad():
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sums in another order give other last digits, and other times."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """Random numbers start from a seed; those outside go on afterwards as if nothing had been drawn.

    >>> outside = torch.get_rng_state()
    >>> with isolated(3):
    ...     drawn = torch.rand(2), random.random(), np.random.rand()
    >>> torch.equal(torch.get_rng_state(), outside)
    True
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            seed_all(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def seed_all(seed: int) -> None:
    """Start all sources of random numbers that a model may draw from."""
    # torch.manual_seed would also queue a formatted stack for a GPU that is never used: up to 3 ms a call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed)
