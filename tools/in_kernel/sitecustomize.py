"""In a notebook's kernel: no other machine is reached, and what is read of the library is written down.

Python runs this at start where the folder is on PYTHONPATH. The course promises that no notebook needs the
network; one that breaks the promise fails with a clear message wherever it is built. Sockets on this machine
stay open: the kernel and ``torch.distributed`` need them.
"""

import ipaddress
import os
import socket
import sys

HERE = (None, "", "localhost", socket.gethostname())
LIBRARY = os.path.abspath(os.path.join(__file__, "../../../course_lib")) + os.sep


def is_here(host: object) -> bool:
    """Whether a host is this machine."""
    host = host.decode() if isinstance(host, bytes) else host
    if host in HERE:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def asked_host(event: str, arguments: tuple) -> object:
    """The host that is to be reached by what Python is about to do; None if there is none."""
    if event in ("socket.connect", "socket.sendto"):
        internet = arguments[0].family in (socket.AF_INET, socket.AF_INET6)
        return arguments[-1][0] if internet and isinstance(arguments[-1], tuple) else None
    return arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else None


def stay_here(event: str, arguments: tuple) -> None:
    """Refuse to look for another host or to connect to it."""
    host = asked_host(event, arguments) if event.startswith("socket.") else None
    if not is_here(host):
        raise OSError(
            f"the notebook asked for {host!r}, but the course runs without network; "
            "make notebooks NETWORK=1 permits it"
        )


def record(log: str) -> None:
    """Write to ``log`` each file of the library that is opened, and each listed folder, with a slash."""
    seen: set[str] = set()
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # at once and unbuffered: a fork keeps it

    def note(event: str, arguments: tuple) -> None:
        if event not in ("open", "os.listdir", "os.scandir"):
            return
        path = arguments[0]
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or not isinstance(path, str | os.PathLike):
            return
        path = os.path.abspath(path)
        if event != "open":
            if sys._getframe(1).f_code.co_filename.startswith("<frozen importlib"):
                return  # an import looks for one file; that one is opened
            path += "/"
        if path.startswith(LIBRARY) and path not in seen:
            seen.add(path)
            os.write(file, f"{path}\n".encode())

    sys.addaudithook(note)


if __name__ == "sitecustomize":  # the tests take the functions alone
    if "COURSE_READS" in os.environ:
        record(os.environ["COURSE_READS"])
    if os.environ.get("NETWORK", "") in ("", "0"):
        sys.addaudithook(stay_here)
