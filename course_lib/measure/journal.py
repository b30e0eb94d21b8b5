"""Finished seeds on their way into the results."""

import contextlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from course_lib.cache import write_atomically

__all__ = ["Journal", "Outcome", "to_json"]


@dataclass(frozen=True)
class Outcome:
    """What one seed of one experiment gave, the core-seconds that it took, and where."""

    seed: int
    values: dict[str, float]
    seconds: float
    torch: str
    python: str
    machine: str


class Journal:
    """The finished seeds of one experiment with one version of its code, a file per seed.

    Args:
        folder: where the files are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, torch: str) -> dict[int, Outcome]:
        """The seeds finished under this version of torch; a file that cannot be read counts as not there."""
        found = {}
        for file in sorted(self.folder.glob("*.json")):
            try:
                record = json.loads(file.read_text("utf-8"))
                values = {k: math.nan if v is None else v for k, v in record["values"].items()}
                outcome = Outcome(**{**record, "values": values})
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue
            if outcome.torch == torch:
                found[outcome.seed] = outcome
        return found

    def write(self, outcome: Outcome) -> bool:
        """Keep one seed; False if the folder cannot be written: then a run that is stopped starts over."""
        record = {**asdict(outcome), "values": {k: to_json(v) for k, v in outcome.values.items()}}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / f"{outcome.seed}.json", json.dumps(record, allow_nan=False))
        except OSError:
            return False
        return True

    def begin(self, seed: int) -> int:
        """Note that a worker begins this seed; returns how often others began it in this run, and died."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{seed}.begun").open("ab") as file:
                before = file.tell()
                file.write(b".")
            return before
        return 0

    def end(self, seed: int) -> None:
        """Note that the worker has lived through this seed, whatever came of it."""
        with contextlib.suppress(OSError):
            (self.folder / f"{seed}.begun").unlink(missing_ok=True)

    def start_over(self) -> None:
        """Forget all seeds, unless a run that began by starting over was stopped: that one goes on."""
        if not self._started_over.exists():
            self.clear(int(file.stem) for file in self.folder.glob("*.json"))
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                self._started_over.touch()

    def clear(self, seeds: Iterable[int] = ()) -> None:
        """End a run, and forget these seeds, which are in the committed results now."""
        with contextlib.suppress(OSError):  # a folder that cannot be written holds nothing of this run
            for file in [self._started_over, *(self.folder / f"{seed}.json" for seed in seeds)]:
                file.unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    @property
    def _started_over(self) -> Path:
        return self.folder / "started-over"


def to_json(value: float) -> float | None:
    """NaN as null: JSON has no word for it."""
    return None if math.isnan(value) else value
