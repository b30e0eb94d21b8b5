"""Packages that only parts of the library need, and what to say where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager


def how_to_install(package: str, extra: str = "book") -> str:
    """The sentence that says what is missing and what brings it.

    >>> how_to_install("matplotlib")
    'matplotlib is not installed: pip install ".[book]" in the source tree of the course brings it'
    """
    # The source tree and not course-lib: nobody says whose package has that name in the package index.
    return f'{package} is not installed: pip install ".[{extra}]" in the source tree of the course brings it'


@contextmanager
def needs(extra: str = "book") -> Iterator[None]:
    """Around imports: a package that is missing is reported with what brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "course_lib"):
            raise
        raise ModuleNotFoundError(how_to_install(package, extra), name=error.name) from error
