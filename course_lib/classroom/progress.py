"""Which checks of which chapters a learner has passed: kept in a small file, shown in a table."""

import difflib
import json
import os
from collections.abc import Collection
from contextlib import suppress
from datetime import date
from importlib import resources
from pathlib import Path

from course_lib.cache import cache_folder, write_atomically


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


def of_chapters() -> list[tuple[str, list[str], list[str]]]:
    """Every chapter that has exercises: its name, the checks that were passed, those that were not yet."""
    known, found = read(), []
    for part in sorted(resources.files("course_lib.exercises").iterdir(), key=lambda entry: entry.name):
        for file in sorted(part.iterdir(), key=lambda entry: entry.name) if part.is_dir() else ():
            if file.name.endswith(".json"):
                chapter = f"{part.name}/{file.name.removesuffix('.json')}"
                names, passed = json.loads(file.read_text("utf-8")), known.get(chapter, {})
                done = [name for name in names if name in passed]
                found.append((chapter, done, [name for name in names if name not in passed]))
    return found


def table(names: Collection[str] = ()) -> str:
    """The progress of these chapters or parts, all if none is named, a line each.

    Raises:
        ValueError: for a name that is neither.
    """
    rows = of_chapters()
    known = [chapter for chapter, _, _ in rows]
    for name in names:
        if name not in {*known, *(chapter.split("/")[0] for chapter in known)}:
            near = difflib.get_close_matches(name, known, 3, 0.5) or known
            raise ValueError(f"no chapter with exercises is called {name!r}; there is {', '.join(near)}")
    rows = [row for row in rows if not names or {row[0], row[0].split("/")[0]} & set(names)]
    width = max((len(chapter) for chapter, _, _ in rows), default=0)
    lines = []
    for chapter, done, left in rows:
        bar = "●" * len(done) + "○" * len(left)
        ahead = f"next: {left[0]}" if done and left else "all done" if not left else ""
        lines.append(f"{chapter:{width}}  {bar}  {len(done)} of {len(done) + len(left)}  {ahead}".rstrip())
    return "\n".join(lines)


def note(chapter: str, name: str) -> None:
    """Keep that a check was passed; without a place to keep it, nothing happens."""
    path, known = progress_file(), read()
    if path is None or name in known.get(chapter, {}):
        return
    known.setdefault(chapter, {})[name] = date.today().isoformat()
    with suppress(OSError):  # a home that cannot be written must not stop a check
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known, indent=1, sort_keys=True))
