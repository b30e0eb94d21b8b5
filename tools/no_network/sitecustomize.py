"""Refuse connections to other machines; Python runs this at start where the folder is on PYTHONPATH.

The course promises that no notebook needs the network. This makes a notebook that breaks the promise fail
with a clear message wherever it is built, not only on a machine without network. Sockets on this machine stay
open: the kernel and ``torch.distributed`` need them.
"""

import ipaddress
import socket

_connect, _connect_ex, _getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo


def _is_here(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _require_here(host: object) -> None:
    if not _is_here(host):
        raise OSError(
            f"the notebook asked for {host!r}, but the course runs without network; "
            "make notebooks NETWORK=1 permits it"
        )


def _is_internet(sock: socket.socket, address: object) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple)


def connect(self: socket.socket, address: object) -> None:
    if _is_internet(self, address):
        _require_here(address[0])
    return _connect(self, address)


def connect_ex(self: socket.socket, address: object) -> int:
    if _is_internet(self, address):
        _require_here(address[0])
    return _connect_ex(self, address)


def getaddrinfo(host: object, *args: object, **kwargs: object) -> list:
    _require_here(host)
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = connect
socket.socket.connect_ex = connect_ex
socket.getaddrinfo = getaddrinfo
