"""JupyterLab on the learner's own copy of the exercises, in ``learn/``, which git does not see.

    python tools/lab.py [--copy-only] [options of jupyter lab]

What the learner has written is never overwritten: an exercise that has changed since it was begun is put
beside the old one as ``<chapter>.new.md``. To begin anew, delete the file and start again. Links lead to the
pages of the built book, which JupyterLab shows. Which checks were passed is kept in the user's cache.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path, PurePosixPath

from jupytext_config.labconfig import LabConfig
from links import TO_NOTEBOOK

from course_lib.classroom import progress

ROOT = Path(__file__).resolve().parents[1]
BOOK = "book"  # the built site, as seen from learn/
RECORD = ".delivered.json"  # what each copy looked like when it was made: path -> SHA-256


def deliver(exercises: Path, learn: Path) -> list[str]:
    """Bring the copies up to date without touching anybody's work; returns what happened, in words."""
    record = _read_record(learn)
    news = []
    for source in sorted(exercises.rglob("*.md")):
        name = source.relative_to(exercises).as_posix()
        text = linked(source.read_text("utf-8"), name).encode()
        copy = learn / name
        versions = [
            path for path in record if path == name or path.startswith(name.removesuffix("md") + "new")
        ]
        if not copy.exists():
            news.append(f"new: {name}")
        elif copy.read_bytes() == text:
            record[name] = _digest(text)
            continue
        elif _digest(text) in [record[path] for path in versions]:
            continue  # delivered before, and worked on since
        elif _is_untouched(copy, record.get(name)):
            news.append(f"renewed: {name} (you had not begun it)")
        else:
            copy = _free_place(copy, learn, record)
            news.append(f"changed: {name}; your work is kept, the new version is {copy.name}")
        _write(copy, text)
        record[copy.relative_to(learn).as_posix()] = _digest(text)
    _write(learn / RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
    return news


def linked(text: str, name: str) -> str:
    """The exercise with its links to other pages leading into the built book.

    >>> linked("[the chapter](../../layers/norm.md#how)", "layers/norm.md")
    '[the chapter](../book/layers/norm.html#how)'
    """
    folder = PurePosixPath(name).parent

    def follow(match: re.Match) -> str:
        page = os.path.normpath(PurePosixPath("exercises") / folder / match["path"])
        there = os.path.relpath(f"{BOOK}/{page.removeprefix('book/')}", folder)
        return f"]({there}.html{match['anchor'] or ''})"

    return TO_NOTEBOOK.sub(follow, text)


def show_book(site: Path, learn: Path) -> bool:
    """Let ``learn/book`` be the built site; False if there is none, or no link can be made."""
    place = learn / BOOK
    if not (site / "index.html").exists():
        return False
    try:
        if place.is_symlink() and place.resolve() != site.resolve():
            place.unlink()
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(site.resolve(), target_is_directory=True)
    except OSError:
        return False
    return True


def set_defaults(prefix: Path) -> Path:
    """Let a double click open a text notebook as a notebook, and JupyterLab ask nobody for news.

    These are defaults of this environment: the user's own settings are not touched, and come first.
    """
    settings = prefix / "etc" / "jupyter" / "labconfig" / "default_setting_overrides.json"
    lab = LabConfig(settings_file=settings).read().set_default_viewers(["markdown", "myst"])
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    lab.config.setdefault("@jupyterlab/apputils-extension:notification", {}).update(quiet)
    lab.write()
    return settings


def command(learn: Path, options: list[str]) -> list[str]:
    """What starts JupyterLab; the options come last, and so have the last word."""
    return [sys.executable, "-m", "jupyterlab", f"--notebook-dir={learn}", *options]


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _is_untouched(copy: Path, delivered: str | None) -> bool:
    return delivered is not None and _digest(copy.read_bytes()) == delivered


def _free_place(copy: Path, learn: Path, record: dict[str, str]) -> Path:
    """``chapter.new.md``, or ``chapter.new2.md`` if the learner works in that one, too."""
    number = 1
    while True:
        place = copy.with_suffix(f".new{number if number > 1 else ''}.md")
        if not place.exists() or _is_untouched(place, record.get(place.relative_to(learn).as_posix())):
            return place
        number += 1


def _read_record(learn: Path) -> dict[str, str]:
    try:
        record = json.loads((learn / RECORD).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # every copy then counts as the learner's work
    return record if isinstance(record, dict) else {}


def _write(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text)
    os.replace(partial, path)  # an interruption leaves the old file or the new one


def main(arguments: list[str]) -> int:
    """Copy what is new, then become JupyterLab."""
    parser = argparse.ArgumentParser(description="JupyterLab on your own copy of the exercises, in learn/.")
    parser.add_argument("--copy-only", action="store_true", help="bring learn/ up to date, start nothing")
    options, for_lab = parser.parse_known_args(arguments)
    learn = ROOT / "learn"
    news = deliver(ROOT / "exercises", learn)
    print("\n".join(news) or "learn/ holds every exercise in its newest version")
    if not show_book(ROOT / "build/html", learn):
        print("links to the pages work once the book is built: make book")
    print(f"\nchecks that you have passed:\n{progress.table()}\n", flush=True)
    if options.copy_only:
        return 0
    if importlib.util.find_spec("jupyterlab") is None:
        print("JupyterLab is not installed: pip install jupyterlab", file=sys.stderr)
        return 1
    set_defaults(Path(sys.prefix))
    line = command(learn, for_lab)
    os.execv(line[0], line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
