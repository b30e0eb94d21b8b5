"""How two processes that want the same file keep out of each other's way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["alone"]


@contextmanager
def alone(file: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """Be the only process that makes this file; the others wait. The system frees the lock of a dead one.

    Yields False, at once, where no lock can be made: then the file cannot be kept either.

    Args:
        file: to be made; the lock lies beside it.
        waiting: called once if another process is at it.
    """
    lock = _acquire(FileLock(file.with_suffix(".lock")), file.parent, waiting)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()


def _acquire(lock: FileLock, folder: Path, waiting: Callable[[], None]) -> FileLock | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except (OSError, NotImplementedError):  # a folder that cannot be written; a file system without locks
        return None
    return lock
