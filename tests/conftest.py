"""What holds for every test: fixed seeds, one thread, no network."""

import ipaddress
import random
import socket

import numpy as np
import pytest
import torch


class NetworkUsed(RuntimeError):
    """A test reached for another host. No OSError: code that survives a missing network must not hide it."""


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _require_local(host: object) -> None:
    if not _is_local(host):
        raise NetworkUsed(f"a test tried to reach {host!r}; tests work offline, use a server on 127.0.0.1")


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


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connecting to another host, or asking for its address, raises; in this process, not in its children."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guard(original):
        def guarded(self, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _require_local(address[0])
            return original(self, address)

        return guarded

    def guarded_getaddrinfo(host, *args, **kwargs):
        _require_local(host)
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guard(connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guard(connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
