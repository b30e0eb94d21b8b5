"""What holds for every test: fixed seeds, one thread, no network; what changed first, and times."""

import os
import random
import sys

import numpy as np
import pytest
import torch

from tools import turns
from tools.in_kernel.sitecustomize import asked_host, is_here


class NetworkUsed(RuntimeError):
    """A test reached for another host. No OSError: code that survives a missing network must not hide it."""


def _stay_here(event: str, arguments: tuple) -> None:
    host = asked_host(event, arguments) if event.startswith("socket.") else None
    if not is_here(host):
        raise NetworkUsed(f"a test tried to reach {host!r}; tests work offline, use a server on 127.0.0.1")


sys.addaudithook(_stay_here)  # in this process, not in its children


os.environ["COURSE_PROGRESS"] = ""  # a check that passes here is nobody's progress


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


# -- turns and times (tools/turns.py) -----------------------------------------------------------------------

_spent: dict[str, list[float]] = {}
_cpu = 0.0


def _cpu_since_last() -> float:
    """CPU seconds of this process and of those that it has waited for, since the last call."""
    global _cpu
    before, _cpu = _cpu, sum(os.times()[:4])
    return _cpu - before


def pytest_configure(config):
    """A marker for tests that are dear and rarely fail."""
    config.addinivalue_line(
        "markers", "rotates(days): in `make test` once in so many days, or after a change"
    )


def pytest_collection_modifyitems(config, items):
    """What changed comes first; in ``make test`` what rotates waits for its turn."""
    markers = {item.nodeid: item.get_closest_marker("rotates") for item in items}
    days = {name: marker.args[0] if marker else None for name, marker in markers.items()}
    first, _, waiting = turns.in_turn(days, turns.changed_files(config.rootpath))
    place = dict.fromkeys(first, 0) | (dict.fromkeys(waiting, 2) if os.environ.get("COURSE_ROTATES") else {})
    config.hook.pytest_deselected(items=[item for item in items if place.get(item.nodeid) == 2])
    items[:] = sorted((i for i in items if place.get(i.nodeid) != 2), key=lambda i: place.get(i.nodeid, 1))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Note the CPU time of each phase of a test."""
    outcome = yield
    outcome.get_result().user_properties.append(("cpu", _cpu_since_last()))


def pytest_collection_finish(session):
    """What was needed until here is start-up."""
    _spend("start-up", _cpu_since_last(), 0.0)
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["start-up"] = _spent["start-up"][0]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """A parallel process is done: its start-up counts too."""
    _spend("start-up", getattr(node, "workeroutput", {}).get("start-up", 0.0), 0.0)


def pytest_runtest_logreport(report):
    """Add up, where all reports arrive."""
    cpu = dict(report.user_properties).get("cpu", 0.0)
    _spend(turns.kind_of(report.nodeid), cpu, report.duration)


def _spend(kind: str, cpu: float, seconds: float) -> None:
    so_far = _spent.setdefault(kind, [0.0, 0.0])
    so_far[0] += cpu
    so_far[1] += seconds


def pytest_terminal_summary(terminalreporter, config):
    """At the end of ``make test``: where the time went."""
    if os.environ.get("COURSE_ROTATES"):
        executed = turns.executed_seconds(config.rootpath)
        chapters = sum(name.startswith("solutions/") for name in executed)
        terminalreporter.section("time")
        terminalreporter.write_line(turns.report(_spent, executed, chapters))
