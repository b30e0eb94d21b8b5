"""Committed times: ``course_lib/bench/<part>/<chapter>.json``, one line for each contender.

Times belong to a machine, so each entry names its kind, and torch's version; nothing holds a date.
An entry carries the hash of the code that was timed: when that changes, the page says that its
numbers are old.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from course_lib.cache import cache_folder, source_tree, write_atomically
from course_lib.compare.clock import Median
from course_lib.compare.contest import Case, Lap
from course_lib.measure.hashing import code_hash


def folder() -> Path:
    """Where times are written: beside the cases; by an installed package into the user's cache."""
    tree = source_tree()
    return tree / "course_lib" / "bench" if tree else cache_folder() / "bench"


def load(chapter: str) -> dict[str, Any]:
    """The stored entries of a chapter: ``{"cases": {name: entry}, "side_by_side": entry}``.

    Args:
        chapter: id such as ``layers/norm``.
    """
    for place in (folder(), Path(__file__).parents[1] / "bench"):  # the user's own come first
        file = place / f"{chapter}.json"
        if file.exists():
            return json.loads(file.read_text("utf-8"))
    return {}


def save(chapter: str, entries: dict[str, Any]) -> None:
    """Write the entries of a chapter, as :func:`load` gives them; without entries there is no file.

    Args:
        chapter: id such as ``layers/norm``.
        entries: what is to be in the file.
    """
    file = folder() / f"{chapter}.json"
    entries = {key: value for key, value in sorted(entries.items()) if value}
    if not entries:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, _dumps(entries) + "\n")


def code_of_case(case: Case) -> str:
    """The hash of what a case times: its function and all of the library that this reaches.

    Args:
        case: any case.
    """
    return code_hash(case.make)


def code_of_variants(module: ModuleType) -> str:
    """The hash of a chapter's variants and of the frame that gives them their inputs.

    Args:
        module: the chapter's experiments, with ``SIDE_BY_SIDE`` and ``FRAME`` at its top level.
    """
    tables = (_stand_in(module.__name__, name) for name in ("SIDE_BY_SIDE", "FRAME"))
    return "-".join(map(code_hash, tables))


def _stand_in(module: str, name: str) -> Callable:
    """A function that says it is this table: a table cannot say itself where it is written."""

    def table() -> None: ...

    table.__module__, table.__qualname__ = module, name
    return table


def case_state(case: Case, entry: dict[str, Any] | None) -> str:
    """``fresh``, ``stale`` where the code or the sizes have changed since, or ``missing``.

    Args:
        case: as it is now.
        entry: what is stored of it.
    """
    if entry is None:
        return "missing"
    same_sizes = [int(size) for size in entry["sizes"]] == list(case.sizes)
    return "fresh" if same_sizes and entry["code"] == code_of_case(case) else "stale"


def variants_state(module: ModuleType, entry: dict[str, Any] | None) -> str:
    """``fresh``, ``stale`` where the code of a chapter's variants has changed since, or ``missing``.

    Args:
        module: the chapter's experiments.
        entry: what is stored of them.
    """
    if not entry:
        return "missing"
    return "fresh" if entry["code"] == code_of_variants(module) else "stale"


def to_entry(lap: Lap) -> dict[str, Any]:
    """A lap as plain data, four digits of each time and ratio, without what was not measured.

    Args:
        lap: any lap.
    """
    return {key: four_digits(value) for key, value in asdict(lap).items() if value is not None}


def laps(entry: dict[str, Any]) -> dict[int, dict[str, Lap]]:
    """The laps of a stored case by size and contender.

    Args:
        entry: what :func:`load` gives for a case.
    """
    return {
        int(size): {name: _lap(row) for name, row in contenders.items()}
        for size, contenders in entry["sizes"].items()
    }


def _lap(row: dict[str, Any]) -> Lap:
    return Lap(**{k: Median(*v) if isinstance(v, list) else v for k, v in row.items()})


def four_digits(value: Any) -> Any:
    """Four significant digits of a number, or of each in a list; whole numbers as they are.

    Args:
        value: a number, or a list or tuple of numbers.

    >>> four_digits([1.23456, 2])
    [1.235, 2]
    """
    if isinstance(value, (list, tuple)):
        return [four_digits(number) for number in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _dumps(value: Any, depth: int = 0) -> str:
    """JSON over lines as long as dictionaries hold dictionaries; the innermost keep to one line."""
    if not isinstance(value, dict) or not any(isinstance(item, dict) for item in value.values()):
        return json.dumps(value, allow_nan=False, ensure_ascii=False)
    indent = " " * (depth + 1)
    lines = [f"{indent}{json.dumps(key)}: {_dumps(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
