"""Which checks of which chapters a learner has passed: kept in a small file, shown in a table."""

import json
import os
from datetime import date
from pathlib import Path

from course_lib.cache import cache_folder


def progress_file() -> Path | None:
    """``COURSE_PROGRESS``, or a file in the user's cache; None where that variable is empty."""
    named = os.environ.get("COURSE_PROGRESS")
    if named is None:
        return cache_folder() / "progress.json"
    return Path(named) if named else None


def read() -> dict[str, dict[str, str]]:
    """The day on which each check was first passed, by chapter; what cannot be read counts as empty."""
    path = progress_file()
    try:
        found = json.loads(path.read_text("utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def note(chapter: str, name: str) -> None:
    """Keep that a check was passed; without a place to keep it, nothing happens."""
    path, known = progress_file(), read()
    if path is None or name in known.get(chapter, {}):
        return
    known.setdefault(chapter, {})[name] = date.today().isoformat()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")
        os.replace(partial, path)  # an interruption leaves the old file or the new one
    except OSError:
        partial.unlink(missing_ok=True)  # a read-only home must not stop a check
