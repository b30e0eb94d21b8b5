"""Whose turn it is today, what changed, and where the time of the tests went.

What is dear and rarely fails goes round by date: ``due(name, days)`` has it done once in ``days`` days, each
name on a day of its own. What changed always has its turn, and comes first. ``tests/conftest.py`` and
``tools/run_tests.py`` ask here; ``COURSE_DAY`` sets the day, ``COURSE_DAY=all`` gives everything its turn.
"""

import os
import re
import subprocess
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import date
from pathlib import Path

__all__ = [
    "changed_files",
    "due",
    "executed_seconds",
    "in_turn",
    "kind_of",
    "remember_pass",
    "report",
    "touches",
]

PASSED = Path("build/passed.txt")  # the commit at which all tests passed last
CHAPTERS, CORES, LIMIT = 77, 2, 40  # chapters of the whole course; minutes on this many cores

# What a test costs time for, by its id; the first that fits. Those below grow with the chapters.
KINDS = {
    "notebooks, second run": r"\.ipynb(::|$)",
    "browser, chapters": r"^tests/browser/.*\[(?!start/|howto/)\w+/",
    "browser, whole course": r"^tests/browser/",
    "contract of the layers": r"^tests/test_contract",
    "results once more": r"^tests/measure/test_committed",
    "solutions and exercises": r"^tests/house/test_exercises_in_step|^tests/exercises/",
    "machinery": r"^tests/house/test_(build|deps|howto|lab|mutate|turns)",
    "house": r"^tests/house/",
    "oracles of the chapters": r"^tests/(?!measure|compare|classroom|data|specimens|vectors)\w+/",
}
FOLDERS = re.compile(
    r"(book|solutions|exercises|tests|course_lib/(experiments|bench|exercises)|course_lib)/"
    r"(?P<part>\w+)/(?P<chapter>\w+)"
)
EXECUTED = "notebooks, executed"
FIXED = {"browser, whole course", "machinery", "results once more", "start-up"}


def due(name: str, days: int, day: int | None = None) -> bool:
    """Whether what is done once in ``days`` days has its turn; ``day`` is today unless given.

    >>> sum(due("layers/norm", 7, day) for day in range(700))
    100
    """
    if day is None:
        told = os.environ.get("COURSE_DAY", "")
        if told == "all":
            return True
        day = int(told) if told else date.today().toordinal()
    return zlib.crc32(name.encode()) % days == day % days


def changed_files(root: Path) -> set[str]:
    """Files that differ from the last run that passed, else from where this branch left ``main``."""
    base = (root / PASSED).read_text().strip() if (root / PASSED).exists() else ""
    for branch in ("main", "origin/main"):
        base = base or _git(root, "merge-base", "HEAD", branch)
    differ = _git(root, "diff", "--name-only", base) if base else ""
    return {*differ.splitlines(), *_git(root, "ls-files", "--others", "--exclude-standard").splitlines()}


def remember_pass(root: Path) -> None:
    """Let the next run know that everything passes at this commit."""
    if commit := _git(root, "rev-parse", "HEAD"):
        (root / PASSED).write_text(f"{commit}\n")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def touches(changed: Collection[str]) -> Callable[[str], bool]:
    """Tells by the name of a test or notebook whether a change is about its file or its chapter.

    >>> about = touches(["course_lib/layers/norm/entropy.py"])
    >>> about("build/notebooks/layers/norm.ipynb"), about("tests/layers/test_norm_folded.py::test_it")
    (True, True)
    >>> about("build/notebooks/layers/pool.ipynb")
    False
    """
    chapters = {chapter for path in changed if (chapter := _chapter(path))}
    names = "|".join(rf"{re.escape(part)}/(test_)?{re.escape(name)}" for part, name in sorted(chapters))
    of_chapter = re.compile(rf"(^|[/\[])({names})([]_./:]|$)" if names else r"(?!)")
    files = {*changed}
    return lambda name: name.split("::")[0] in files or bool(of_chapter.search(name))


def in_turn(tests: Mapping[str, int | None], changed: set[str]) -> tuple[list[str], list[str], list[str]]:
    """Split tests into what changed, what else is due, and what waits, each in the order given.

    Args:
        tests: ids, each with the days of its round; None for what always runs.
        changed: files.
    """
    first, later, waiting = [], [], []
    is_touched = touches(changed)
    for name, days in tests.items():
        place = first if is_touched(name) else later if days is None or due(name, days) else waiting
        place.append(name)
    return first, later, waiting


def _chapter(path: str) -> tuple[str, str] | None:
    """Part and chapter of a file, as far as its folders tell."""
    found = FOLDERS.match(path)
    return (found["part"], found["chapter"].removeprefix("test_")) if found else None


def kind_of(test: str) -> str:
    """The kind of a test, by its id."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, test)), "machinery")


def executed_seconds(root: Path) -> dict[str, float]:
    """What each notebook took when it was executed last, by its name."""
    folder = root / "build/deps"
    return {
        path.relative_to(folder).with_suffix("").as_posix(): float(path.read_text())
        for path in sorted(folder.rglob("*.seconds"))
    }


def report(spent: Mapping[str, tuple[float, float]], executed: Mapping[str, float], chapters: int) -> str:
    """A table of where the time went, and what the whole course would take.

    Args:
        spent: CPU seconds and seconds by kind of test.
        executed: seconds of each notebook, from a run of all of them.
        chapters: how many chapters are finished.
    """
    costs: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0), spent)
    costs[EXECUTED] = (0.0, sum(executed.values()))
    lines = [
        f"{'where the time went':28}{'CPU s':>9}{'seconds':>9}{'a chapter':>11}{f'{CHAPTERS} chapters':>13}"
    ]
    total = {"fixed": 0.0, "growing": 0.0}
    for kind in [EXECUTED, *KINDS, "start-up"]:
        cpu, wall = costs[kind]
        cost = max(cpu, wall)
        growing = kind not in FIXED
        each = cost / chapters if growing and chapters else 0.0
        whole = each * CHAPTERS if growing else cost
        total["growing" if growing else "fixed"] += whole
        shown = f"{each:11.1f}" if growing else f"{'fixed':>11}"
        lines.append(
            f"{kind:28}{cpu or float('nan'):9.0f}{wall:9.0f}{shown}{whole:11.0f} s".replace("nan", "  –")
        )
    minutes = {name: seconds / CORES / 60 for name, seconds in total.items()}
    whole = sum(minutes.values())
    lines += [
        f"{CHAPTERS} chapters on {CORES} cores, all notebooks executed: {whole:.0f} minutes "
        f"({minutes['growing']:.0f} grow with the chapters, {minutes['fixed']:.0f} are fixed); "
        f"the limit is {LIMIT}: {'kept' if whole <= LIMIT else 'NOT KEPT'}"
    ]
    return "\n".join(lines)
