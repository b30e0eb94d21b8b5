"""Every registered layer keeps the contract; and the guards of ``conftest.py`` and ``peers.py`` guard."""

import socket
import zlib
from dataclasses import asdict
from datetime import date, timedelta

import pytest
import torch

from course_lib.classroom import check_layer
from course_lib.classroom._contract import SLOW
from course_lib.registry import entries
from tests import peers

LAYERS = {name: entry for name, entry in entries().items() if entry.is_layer}
SHARE = 10  # days in which the slow checks come round to every layer


def due(name, share, day):
    """Whether a name's turn is on a day; every name has one day in ``share``."""
    return (zlib.crc32(name.encode()) + day.toordinal()) % share == 0


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_layer_keeps_the_contract(entry):
    slow = due(entry.name, SHARE, date.today())
    exceptions = {n: why for n, why in entry.exceptions.items() if slow or n not in SLOW}
    assert check_layer(entry.example, slow=slow, exceptions=exceptions, **asdict(entry.traits)).ok


def test_the_slow_checks_come_round_to_every_layer():
    days = [date(2026, 1, 28) + timedelta(day) for day in range(SHARE)]
    turns = [[name for name in LAYERS if due(name, SHARE, day)] for day in days]
    assert sorted(name for turn in turns for name in turn) == sorted(LAYERS)
    assert max(map(len, turns)) < 3 * len(LAYERS) / SHARE


def test_layers_are_registered():
    assert "LayerNorm" in LAYERS


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_no_test_reaches_another_host(host):
    with pytest.raises(RuntimeError, match="tests work offline"):
        socket.create_connection((host, 80), timeout=0.1)


def test_no_socket_connects_to_another_host():
    with socket.socket() as client, pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):
        client.connect_ex(("192.0.2.1", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_local_server_is_reached(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection((host, server.getsockname()[1]), timeout=5)
        with client:
            assert client.getpeername() == server.getsockname()


def test_the_peers_import_and_compute():
    x = torch.randn(2, 4, 3, 3)
    norm = peers.timm_layers().LayerNorm2d(4)
    torch.testing.assert_close(norm(x).mean(1), torch.zeros(2, 3, 3), atol=1e-6, rtol=0)
    rms = peers.x_transformers().RMSNorm(4)
    torch.testing.assert_close(rms(x.movedim(1, -1)).square().mean(-1), torch.ones(2, 3, 3))
