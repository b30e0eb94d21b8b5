"""The environment in which notebooks run, the same for the book and for its second run in the tests."""

import os
from pathlib import Path

__all__ = ["kernel_environment"]

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def kernel_environment(reads: Path | None = None) -> dict[str, str]:
    """The caller's environment with one thread per process, a fixed hash seed and no network.

    Sums in another order give other last digits, so the number of threads is part of a reproducible output.
    ``NETWORK=1`` in the environment leaves the network open. What is read of the library goes to ``reads``.
    """
    environment = dict(os.environ)
    environment.update(dict.fromkeys(ONE_THREAD, "1"))
    environment["PYTHONHASHSEED"] = "0"
    environment["COURSE_PROGRESS"] = ""  # what the book's own solutions pass is nobody's progress
    environment["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences the debugger's remark on frozen modules
    site = str(Path(__file__).parent.resolve() / "in_kernel")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [site, environment.get("PYTHONPATH", "")]))
    if reads is not None:
        environment["COURSE_READS"] = str(reads)
    return environment
