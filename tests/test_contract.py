"""Every registered layer keeps the contract; and the guards of ``conftest.py`` and ``peers.py`` guard."""

import socket
from dataclasses import asdict

import pytest
import torch

from course_lib.classroom import check_layer
from course_lib.registry import entries
from tests import peers
from tools.turns import due

LAYERS = {name: entry for name, entry in entries().items() if entry.is_layer}
DAYS = 10  # days in which the slow checks come round to every layer


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_layer_keeps_the_contract(entry):
    slow = due(f"contract of {entry.name}", DAYS)
    assert check_layer(entry.example, slow=slow, exceptions=entry.exceptions, **asdict(entry.traits)).ok


def test_layers_are_registered():
    assert "LayerNorm" in LAYERS


# The guard of the tests, or that of the notebooks in a process that runs both.
OFFLINE = r"tests work offline|runs without network"


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org"])
def test_no_test_reaches_another_host(host):
    with pytest.raises((RuntimeError, OSError), match=OFFLINE):
        socket.create_connection((host, 80), timeout=0.1)


def test_no_socket_connects_to_another_host():
    with socket.socket() as client, pytest.raises((RuntimeError, OSError), match=OFFLINE):
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
