"""Finds what a chapter compares: its cases, and its variants side by side."""

import importlib
from collections.abc import Iterable
from types import ModuleType

from course_lib.compare.contest import Case


def cases(chapter: str) -> list[Case]:
    """The cases of a chapter, none where it has no file.

    Args:
        chapter: id such as ``layers/norm``.
    """
    module = _module("course_lib.bench", chapter)
    return list(module.CASES) if module else []


def experiments_of(chapter: str) -> ModuleType | None:
    """The module with a chapter's variants; None where it has none.

    Args:
        chapter: id such as ``layers/norm``.
    """
    return _module("course_lib.experiments", f"{chapter}/side_by_side")


def chapters_side_by_side(chapters: Iterable[str]) -> dict[str, ModuleType]:
    """The modules of those chapters that have variants, by chapter.

    Args:
        chapters: ids in reading order.
    """
    found = {chapter: experiments_of(chapter) for chapter in chapters}
    return {chapter: module for chapter, module in found.items() if module is not None}


def _module(package: str, path: str) -> ModuleType | None:
    name = f"{package}.{path.replace('/', '.')}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):  # something that it imports is missing
            raise
        return None
