"""Runs seeds of experiments: one here, or many in parallel on whatever backend joblib has."""

import contextlib
import importlib
import math
import os
import platform
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.contexts import isolated, one_thread
from course_lib.measure.hashing import code_hash
from course_lib.measure.journal import Journal, Outcome

__all__ = ["Failure", "Task", "place", "run_seed", "run_tasks"]

BACKENDS = ("loky", "dask", "threading")
_LIVES = 3  # a seed during which so many workers have died is not tried again
_RESTARTS = 3 * _LIVES  # of a backend that breaks down with one worker, as loky does
_one_at_a_time = threading.Lock()  # the global generators can serve one experiment only


class Task(NamedTuple):
    """One seed of one experiment, in words that any process can understand."""

    module: str
    name: str
    seed: int
    code: str
    journal: str | None  # folder for the finished seed

    @property
    def function(self) -> Callable:
        """The experiment, imported where the task is run."""
        return getattr(importlib.import_module(self.module), self.name)


class Failure(NamedTuple):
    """A task that raised, with its traceback."""

    task: Task
    text: str


def run_seed(function: Callable, seed: int) -> Outcome:
    """Run one seed here, on one thread and with all global generators seeded; they are put back afterwards.

    Its ``seconds`` are core-seconds: the processor time of this process, which other processes on the
    machine do not lengthen.

    Raises:
        ValueError: if the experiment returns anything but a small dictionary of numbers.
    """
    from threadpoolctl import threadpool_limits

    # A page must read the same if it had to measure.
    with _one_at_a_time, isolated(seed), one_thread(), threadpool_limits(limits=1):
        start = time.process_time()
        values = _checked(function(seed), function.__name__)
        seconds = time.process_time() - start
    return Outcome(seed=seed, values=values, seconds=float(f"{seconds:.3g}"), **place())


def place() -> dict[str, str]:
    """Versions and kind of machine, as far as they decide about arithmetic; no name of a host."""
    import torch

    kind = [platform.machine(), _processor(), torch.backends.cpu.get_cpu_capability()]
    return {
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": ", ".join([*filter(None, kind), f"{os.cpu_count()} processors"]),
    }


def run_tasks(
    tasks: list[Task], *, backend: str | None = None, jobs: int = -1
) -> Iterator[tuple[Task, Outcome | Failure]]:
    """Run all tasks in parallel and yield each as it finishes; a worker that dies costs its own seed only.

    Args:
        tasks: what to run, in this order as far as workers are free.
        backend: one of ``BACKENDS``; None for that of a surrounding ``joblib.parallel_config``.
        jobs: processes on this machine, -1 for one per processor; a cluster has its own size.
    """
    from joblib import Parallel, delayed

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which read it when they start
    left = dict.fromkeys(tasks)
    for task in tasks:
        if task.journal:
            Journal(Path(task.journal)).end(task.seed)  # what an earlier run left when it was killed
    for restart in range(_RESTARTS + 1):
        try:
            with _backend(backend, jobs):
                parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")
                for task, outcome in parallel(delayed(_run_task)(task) for task in list(left)):
                    del left[task]
                    yield task, outcome
            return
        except Exception as error:
            if not _lost_a_worker(error) or restart == _RESTARTS:
                raise
            print(
                f"A worker died ({type(error).__name__}); going on with {len(left)} seeds.", file=sys.stderr
            )


def _run_task(task: Task) -> tuple[Task, Outcome | Failure]:
    """What a worker does. It never raises: one experiment that fails must not stop the others."""
    try:
        function = task.function
        here = code_hash(function)
        if here != task.code:  # another version on a cluster's machine, or a file saved during the run
            raise RuntimeError(
                f"this worker has other code of {task.name} ({here}) than the run ({task.code})"
            )
        return task, _journalled(function, task) if task.journal else run_seed(function, task.seed)
    except Exception:
        return task, Failure(task, traceback.format_exc())


def _journalled(function: Callable, task: Task) -> Outcome:
    """Run a seed unless a worker finished it and died before it could hand it over, and keep it at once."""
    journal = Journal(Path(task.journal))
    finished = journal.read(place()["torch"]).get(task.seed)
    if finished:
        return finished
    deaths = journal.begin(task.seed)
    try:
        if deaths >= _LIVES:
            raise RuntimeError(f"{deaths} workers died during seed {task.seed}: out of memory, or a crash?")
        outcome = run_seed(function, task.seed)
        journal.write(outcome)
    finally:
        journal.end(task.seed)
    return outcome


def _checked(values: Any, name: str) -> dict[str, float]:
    """The numbers that an experiment returned, floats in nine digits: all that single precision has."""
    if not isinstance(values, dict) or not values:
        raise ValueError(
            f"{name} returned {type(values).__name__}: return a dictionary of numbers, {{'gap': 0.1}}"
        )
    checked = {}
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, (bool, int, float)):
            raise ValueError(
                f"{name} returned {key!r}: {value!r}, of type {type(value).__name__}: keys are strings, "
                "values plain numbers (a tensor gives one by .item())"
            )
        if isinstance(value, float) and math.isinf(value):
            raise ValueError(f"{name} returned {key!r}: {value}: return nan where a run diverges")
        checked[key] = value if isinstance(value, (bool, int)) else float(f"{value:.9g}")
    return checked


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _lost_a_worker(error: Exception) -> bool:
    return type(error).__name__ in {"TerminatedWorkerError", "BrokenProcessPool", "KilledWorker"}


@contextlib.contextmanager
def _backend(name: str | None, jobs: int) -> Iterator[None]:
    """The joblib backend of this name; without a cluster, Dask starts processes on this machine."""
    from joblib import parallel_config

    with contextlib.ExitStack() as stack:
        if name == "dask":
            _dask_client(stack, jobs)
        elif name not in (None, *BACKENDS):
            raise ValueError(f"unknown backend {name!r}: use one of {', '.join(BACKENDS)}")
        if name:
            stack.enter_context(parallel_config(name, n_jobs=-1 if name == "dask" else jobs))
        yield


def _dask_client(stack: contextlib.ExitStack, jobs: int) -> None:
    """A Dask client: the one that exists, else that of ``DASK_SCHEDULER_ADDRESS``, else processes here."""
    from distributed import Client, default_client

    try:
        default_client()
    except ValueError:
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        size = {} if address else {"n_workers": jobs if jobs > 0 else os.cpu_count(), "threads_per_worker": 1}
        stack.enter_context(Client(address, dashboard_address=None, **size) if size else Client(address))
