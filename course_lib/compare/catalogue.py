"""Finds the cases of a chapter by its id."""

import importlib
import pkgutil

from course_lib.compare.contest import Case

__all__ = ["cases"]


def cases(chapter: str, package: str = "course_lib.bench") -> list[Case]:
    """The cases of a chapter, none where it has no file.

    Args:
        chapter: id such as ``layers/norm``.
        package: where to look for its module.
    """
    part, name = chapter.split("/")
    try:
        folder = importlib.import_module(f"{package}.{part}")
    except ModuleNotFoundError as error:
        if error.name != f"{package}.{part}":
            raise
        return []
    if name not in {module.name for module in pkgutil.iter_modules(folder.__path__)}:
        return []
    return list(importlib.import_module(f"{package}.{part}.{name}").CASES)
