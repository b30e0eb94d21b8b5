"""Committed results: one small JSON file beside each chapter's experiments.

The file is written for eyes and for diffs: sorted, one line per measured quantity. Each experiment carries
the hash of the code that gave its numbers, and a checksum, so that a number changed by hand is noticed.
"""

import contextlib
import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.measure.hashing import code_hash
from course_lib.measure.journal import Journal, Outcome, to_json, working_folder, write_atomically
from course_lib.measure.sample import Sample

__all__ = ["EditedResult", "Result", "journal", "merge", "read", "results_file", "state", "stored_names"]

_PLACE = ("machine", "python", "torch")


class EditedResult(ValueError):
    """A committed result is not what an experiment wrote."""


@dataclass(frozen=True)
class Result:
    """All measured seeds of one experiment, by the code of one hash.

    Args:
        code: see :func:`course_lib.measure.hashing.code_hash`.
        outcomes: one per seed; kept in the order of the seeds.

    Raises:
        ValueError: if the seeds did not all measure the same quantities.
    """

    code: str
    outcomes: tuple[Outcome, ...]

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
        """The time of all seeds together."""
        return sum(outcome.seconds for outcome in self.outcomes)

    def place(self, what: str) -> str:
        """The ``torch``, ``python`` or ``machine`` of the seeds; several are joined by ``and``."""
        return " and ".join(sorted({getattr(outcome, what) for outcome in self.outcomes}))

    def select(self, seeds: Iterable[int]) -> "Result":
        """The result of these seeds only."""
        wanted = set(seeds)
        return Result(self.code, tuple(outcome for outcome in self.outcomes if outcome.seed in wanted))


def results_file(function: Callable) -> Path:
    """The JSON file beside the module of an experiment; for the module of a folder, beside the folder."""
    source = Path(sys.modules[function.__module__].__file__)
    return (source.parent if source.name == "__init__.py" else source).with_suffix(".json")


def journal(function: Callable, code: str) -> Journal:
    """The journal of an experiment for the code of this hash."""
    name = f"{function.__module__}.{function.__name__}"
    return Journal(working_folder(results_file(function)) / "experiments" / name / code)


def read(function: Callable) -> Result | None:
    """The committed result of an experiment, None if there is none.

    Raises:
        EditedResult: if its checksum does not fit, or the file is no JSON.
    """
    file = results_file(function)
    entry = _load(file).get(function.__name__)
    if entry is None:
        return None
    if entry.get("checksum") != _checksum(entry):
        raise EditedResult(
            f"the result of {function.__name__!r} in {file} is not what the experiment wrote: it was changed "
            f"by hand. Measure it again: python -m course_lib.experiments run {function.__name__}"
        )
    return _from_entry(entry)


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

    A lock in the cache folder keeps two runs from writing at the same time.
    """
    with _lock(file):
        entries = _load(file)
        for name, result in results.items():
            entries.pop(name, None)
            if result is not None:
                entries[name] = _to_entry(result)
        if entries:
            write_atomically(file, _dumps(dict(sorted(entries.items()))) + "\n")
        else:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _lock(file: Path) -> Iterator[None]:
    from filelock import FileLock

    folder = working_folder(file) / "experiments"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no cache, no lock: it matters only when two runs end in the same moment
        yield
        return
    with FileLock(folder / f"{file.parent.name}-{file.stem}.lock"):
        yield


def _load(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise EditedResult(
            f"{file} is no JSON ({error}): take one side of the merge, or delete the file and measure again "
            "with python -m course_lib.experiments run"
        ) from None


def _to_entry(result: Result) -> dict[str, Any]:
    entry: dict[str, Any] = {"code": result.code, "seeds": list(result.seeds)}
    for what in _PLACE:  # one word where all seeds agree, as they nearly always do
        each = [getattr(outcome, what) for outcome in result.outcomes]
        entry[what] = each[0] if len(set(each)) == 1 else each
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
    return Result(entry["code"], tuple(outcomes))


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
