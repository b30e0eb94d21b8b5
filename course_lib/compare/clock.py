"""The clock: several functions timed in alternation, and ratios that a busy machine leaves alone.

A machine that slows down for a second slows all contenders of a round alike, so ratios are taken
inside each round, and their median over the rounds is what is reported. Its 95 % interval comes from
the order of the ratios alone: how many of them lie below the true median is a binomial number.
"""

import gc
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple


class Median(NamedTuple):
    """A median with the interval that holds the true one with at least 95 % confidence."""

    value: float
    low: float
    high: float


def median_with_interval(values: list[float]) -> Median:
    """The median of a sample, and its distribution-free 95 % interval between two of the values.

    Args:
        values: independent measurements; of fewer than six, the interval is from least to greatest.

    >>> median_with_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 100.0])
    Median(value=5.0, low=2.0, high=8.0)
    """
    ordered, n = sorted(values), len(values)
    below, tail = 0, 0.5**n
    while tail <= 0.025 and below < (n - 1) // 2:  # tail: P(at most below under the median)
        below += 1
        tail += math.comb(n, below) * 0.5**n
    cut = max(0, below - 1)
    return Median(statistics.median(ordered), ordered[cut], ordered[n - 1 - cut])


def relative(mine: list[float], others: list[float]) -> Median:
    """The median ratio of two contenders' times, round by round, with its interval.

    Args:
        mine: seconds of one, as :func:`race` gives them.
        others: seconds of the other, in the same rounds.
    """
    return median_with_interval([a / b for a, b in zip(mine, others, strict=True)])


def race(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = 31,
    least: float = 1e-3,
    budget: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per call of every contender, one value per round; within a round they take turns.

    Args:
        contenders: functions without arguments, by name.
        rounds: how often each is timed.
        least: seconds that one timing takes at least: it calls short functions several times.
        budget: seconds for everything; slow contenders get fewer rounds, but never fewer than five.
        clock: tells the seconds.

    Returns:
        Lists of equal length by name: the same place in all of them is the same round.
    """
    calls = {name: _calls(function, least, clock) for name, function in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order, start = list(contenders), clock()
    with _without_collector():
        for number in range(rounds):
            if number >= 5 and clock() - start > budget:
                break
            for name in order:
                seconds[name].append(_time(contenders[name], calls[name], clock))
            order.append(order.pop(0))  # nobody always comes after the same one
    return seconds


def _time(function: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        function()
    return (clock() - start) / calls


def _calls(function: Callable[[], Any], least: float, clock: Callable[[], float]) -> int:
    """How many calls take ``least`` seconds; warms the function up."""
    function()
    function()
    once = min(_time(function, 1, clock) for _ in range(3))
    return max(1, math.ceil(least / max(once, 1e-9)))


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _silent_profiler() -> Iterator[None]:
    """The profiler's C++ part writes straight to the error stream that it starts and stops."""
    sys.stderr.flush()
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def peak_bytes(function: Callable[[], Any]) -> int:
    """The most memory that torch gave out beyond what was there before, while a function ran.

    Args:
        function: takes no argument; what it returns is thrown away.

    >>> import torch
    >>> x = torch.zeros(1000)
    >>> peak_bytes(lambda: (x + 1) + 1) // 1000  # both sums of 4000 bytes are there at once
    8
    """
    from torch.profiler import ProfilerActivity, profile

    function()
    measured = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _silent_profiler(), measured as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = peak = 0
    for _, change in changes:
        live += change
        peak = max(peak, live)
    return peak
