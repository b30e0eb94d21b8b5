"""Results: one small JSON file beside each file of experiments, committed with it.

The file is written for eyes and for diffs: sorted, one line per measured quantity. Each experiment
carries the hash of the code that gave its numbers, and a checksum, so that a number changed by hand
is noticed. Only the course's own source tree is written into. Elsewhere what a user measures goes to
the user's cache, and is read from there before what came with the package.
"""

import contextlib
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from course_lib.cache import cache_folder, source_tree, write_atomically
from course_lib.measure.hashing import code_hash
from course_lib.measure.journal import Journal, Outcome, to_json
from course_lib.measure.sample import Sample

__all__ = [
    "EditedResult",
    "Restamp",
    "Result",
    "committed_file",
    "journal",
    "merge",
    "read",
    "results_file",
    "state",
    "stored_names",
]

_PLACE = ("machine", "python", "torch")


class EditedResult(ValueError):
    """A committed result is not what an experiment wrote."""


@dataclass(frozen=True)
class Restamp:
    """Why a result counts as measured by code that has run one of its seeds only.

    Args:
        seed: the one that was run again, and gave equal numbers.
        others_measured_by: hash of the code that measured the other seeds.
    """

    seed: int
    others_measured_by: str

    def __str__(self) -> str:
        return f"seed {self.seed} run again and equal; the others measured by code {self.others_measured_by}"


@dataclass(frozen=True)
class Result:
    """All measured seeds of one experiment, by the code of one hash.

    Args:
        code: see :func:`course_lib.measure.hashing.code_hash`.
        outcomes: one per seed; kept in the order of the seeds.
        restamped: where the code has changed since, in words only.

    Raises:
        ValueError: if the seeds did not all measure the same quantities.
    """

    code: str
    outcomes: tuple[Outcome, ...]
    restamped: Restamp | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", tuple(sorted(self.outcomes, key=lambda o: o.seed)))
        for outcome in self.outcomes[1:]:
            different = sorted(set(outcome.values) ^ set(self.outcomes[0].values))
            if different:
                raise ValueError(
                    f"only one of the seeds {self.outcomes[0].seed} and {outcome.seed} gives {different}: "
                    "return the same keys for every seed, with nan where a run has no number"
                )

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in ascending order."""
        return tuple(outcome.seed for outcome in self.outcomes)

    @property
    def samples(self) -> dict[str, Sample]:
        """Every measured quantity as a sample over the seeds."""
        keys = self.outcomes[0].values if self.outcomes else ()
        return {key: Sample(tuple(o.values[key] for o in self.outcomes), self.seeds) for key in keys}

    @property
    def seconds(self) -> float:
        """The core-seconds of all seeds together."""
        return sum(outcome.seconds for outcome in self.outcomes)

    def place(self, what: str) -> str:
        """The ``torch``, ``python`` or ``machine`` of the seeds; several are joined by ``and``."""
        return " and ".join(sorted({getattr(outcome, what) for outcome in self.outcomes}))

    def select(self, seeds: Iterable[int]) -> "Result":
        """The result of these seeds only."""
        wanted = set(seeds)
        chosen = tuple(outcome for outcome in self.outcomes if outcome.seed in wanted)
        return Result(self.code, chosen, self.restamped)


def committed_file(function: Callable) -> Path:
    """The JSON file beside the module of an experiment; for the module of a folder, beside the folder."""
    source = Path(sys.modules[function.__module__].__file__)
    return (source.parent if source.name == "__init__.py" else source).with_suffix(".json")


def results_file(function: Callable) -> Path:
    """The file into which results go: the committed one, or for an installed package one in the cache."""
    if _tree(committed_file(function)):
        return committed_file(function)
    return cache_folder() / "experiments" / f"{function.__module__}.json"


def journal(function: Callable, code: str) -> Journal:
    """The journal of an experiment for the code of this hash."""
    name = f"{function.__module__}.{function.__name__}"
    return Journal(_working_folder(committed_file(function)) / name / code)


def read(function: Callable) -> Result | None:
    """The result of an experiment: of the present code if there is one, else the last; None if there is none.

    Raises:
        EditedResult: if its checksum does not fit, or the file is no JSON.
    """
    found = []
    for file in dict.fromkeys((results_file(function), committed_file(function))):
        entry = _load(file).get(function.__name__)
        if entry is None:
            continue
        if entry.get("checksum") != _checksum(entry):
            raise EditedResult(
                f"the result of {function.__name__!r} in {file} is not what the experiment wrote: it was "
                f"changed by hand. Measure it again: python -m course_lib.experiments run {function.__name__}"
            )
        found.append(_from_entry(entry))
    fresh = [result for result in found if result.code == code_hash(function)]
    return next(iter([*fresh, *found]), None)


def state(function: Callable) -> str:
    """How the committed result of an experiment stands.

    ``fresh``; ``stale``: the code has changed; ``incomplete``: seeds lack; ``edited``: by hand; ``missing``.
    """
    try:
        result = read(function)
    except EditedResult:
        return "edited"
    if result is None:
        return "missing"
    if result.code != code_hash(function):
        return "stale"
    return "fresh" if set(function.experiment.seeds) <= set(result.seeds) else "incomplete"


def stored_names(file: Path) -> list[str]:
    """The experiments that have a result in a file.

    Raises:
        EditedResult: if the file is no JSON.
    """
    return sorted(_load(file))


def merge(file: Path, results: dict[str, Result | None]) -> None:
    """Put results into a file, each under its name, and take out those that are None; others stay.

    A lock keeps two runs from writing at the same time.

    Raises:
        EditedResult: if the file cannot be read, or is no JSON.
        OSError: if it cannot be locked or written; it is as it was then.
    """
    with _lock(file):
        entries = _load(file)
        for name, result in results.items():
            entries.pop(name, None)
            if result is not None:
                entries[name] = _to_entry(result)
        if entries:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, _dumps(dict(sorted(entries.items()))) + "\n")
        else:
            file.unlink(missing_ok=True)


def _tree(file: Path) -> Path | None:
    """The course's source tree around a file of the package."""
    packages = [folder for folder in file.parents if (folder / "__init__.py").exists()]
    return source_tree(packages[-1]) if packages else None


def _working_folder(file: Path) -> Path:
    """Where things go that belong to a file of the package but are not committed.

    The ``build`` folder of the source tree, unless ``COURSE_CACHE`` names another; without a tree the cache.
    """
    tree = None if os.environ.get("COURSE_CACHE") else _tree(file)
    return (tree / "build" if tree else cache_folder()) / "experiments"


@contextlib.contextmanager
def _lock(file: Path) -> Iterator[None]:
    from filelock import FileLock

    folder = _working_folder(file)
    lock: contextlib.AbstractContextManager = FileLock(folder / f"{file.parent.name}-{file.stem}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # there is no place for a lock; it matters only when two runs end in the same moment
        lock = contextlib.nullcontext()
    with lock:
        yield


def _load(file: Path) -> dict[str, Any]:
    try:
        entries = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EditedResult(f"{file} cannot be read: {error.strerror}; mend that, and run again") from error
    except ValueError as error:
        raise EditedResult(
            f"{file} is no JSON ({error}): take one side of the merge, or delete the file and measure again "
            "with python -m course_lib.experiments run"
        ) from None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise EditedResult(f"{file} holds no results of experiments: delete it and measure again")
    return entries


def _to_entry(result: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": result.code, "seeds": list(result.seeds)}
    for what in _PLACE:  # one word where all seeds agree, as they nearly always do
        each = [getattr(outcome, what) for outcome in result.outcomes]
        entry[what] = each[0] if len(set(each)) == 1 else each
    if result.restamped:
        entry["restamped"] = asdict(result.restamped)
    entry["seconds"] = [outcome.seconds for outcome in result.outcomes]
    entry["values"] = {
        key: {
            "mean": _summary(sample.mean),
            "spread": _summary(sample.spread),
            "each": [to_json(outcome.values[key]) for outcome in result.outcomes],
        }
        for key, sample in sorted(result.samples.items())
    }
    return {"checksum": _checksum(entry), **entry}


def _from_entry(entry: dict[str, Any]) -> Result:
    outcomes = []
    for i, seed in enumerate(entry["seeds"]):
        values = {key: row["each"][i] for key, row in entry["values"].items()}
        place = {what: entry[what][i] if isinstance(entry[what], list) else entry[what] for what in _PLACE}
        outcomes.append(
            Outcome(
                seed=seed,
                values={key: math.nan if value is None else value for key, value in values.items()},
                seconds=entry["seconds"][i],
                **place,
            )
        )
    restamped = Restamp(**entry["restamped"]) if "restamped" in entry else None
    return Result(entry["code"], tuple(outcomes), restamped)


def _summary(value: float) -> float | None:
    return to_json(float(f"{value:.6g}"))


def _checksum(entry: dict[str, Any]) -> str:
    content = {key: value for key, value in entry.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _dumps(value: Any, depth: int = 0) -> str:
    """JSON spread over lines down to the measured quantities, each of which keeps to one line."""
    if not isinstance(value, dict) or depth > 2 or not value:
        return json.dumps(value, allow_nan=False)
    indent = "  " * (depth + 1)
    lines = [f"{indent}{json.dumps(key)}: {_dumps(item, depth + 1)}" for key, item in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"
