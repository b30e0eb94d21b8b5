"""Finds the experiments of a package by their names, such as ``layers/norm:tiny_batches``."""

import difflib
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path

from course_lib.measure import store

__all__ = ["discover", "orphans", "select"]


def discover(package: str = "course_lib.experiments") -> dict[str, Callable]:
    """All experiments in the sub-folders of a package, by chapter, in the order in which they are written."""
    root = _folder(package)
    found = {}
    for file in sorted(root.glob("*/**/*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if any(part.startswith(("_", ".")) for part in parts):
            continue
        module = importlib.import_module(".".join([package, *parts]))
        for function in list(vars(module).values()):
            if hasattr(function, "experiment") and getattr(function, "__module__", "") == module.__name__:
                found[f"{'/'.join(parts)}:{function.__name__}"] = function
    return found


def select(experiments: dict[str, Callable], names: Iterable[str]) -> dict[str, Callable]:
    """The experiments of these names; a name may be a whole chapter or part (``layers/norm``), or a function.

    Raises:
        ValueError: for a name that fits none.
    """
    chosen: dict[str, Callable] = {}
    for wanted in names:
        fitting = {
            name: function
            for name, function in experiments.items()
            if wanted in (name, function.__name__) or name.startswith((f"{wanted}:", f"{wanted}/"))
        }
        if not fitting:
            known = [*experiments, *(function.__name__ for function in experiments.values())]
            close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else "see the status command for all names"
            raise ValueError(f"no experiment is called {wanted!r}; {hint}")
        chosen |= fitting
    return chosen if names else dict(experiments)


def orphans(
    experiments: dict[str, Callable], package: str = "course_lib.experiments"
) -> list[tuple[Path, str]]:
    """Committed results whose experiment is gone, as file and name."""
    known = {(store.results_file(function), function.__name__) for function in experiments.values()}
    files = sorted(_folder(package).glob("*/**/*.json"))
    return [(f, name) for f in files for name in store.stored_names(f) if (f, name) not in known]


def _folder(package: str) -> Path:
    return Path(importlib.import_module(package).__path__[0])
