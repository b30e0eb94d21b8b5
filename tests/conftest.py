"""What holds for every test: fixed seeds, one thread, no network."""

import random
import sys

import numpy as np
import pytest
import torch

from tools.in_kernel.sitecustomize import asked_host, is_here


class NetworkUsed(RuntimeError):
    """A test reached for another host. No OSError: code that survives a missing network must not hide it."""


def _stay_here(event: str, arguments: tuple) -> None:
    host = asked_host(event, arguments) if event.startswith("socket.") else None
    if not is_here(host):
        raise NetworkUsed(f"a test tried to reach {host!r}; tests work offline, use a server on 127.0.0.1")


sys.addaudithook(_stay_here)  # in this process, not in its children


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread, as in the book: numbers do not depend on the cores, and parallel tests do not crowd."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds():
    """Every test starts from the same random numbers, whichever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
