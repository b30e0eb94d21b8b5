"""The bench on the command line: ``python -m course_lib.bench status | run [names]``."""

import argparse
import sys
import time
import traceback
from typing import Any

from course_lib import registry
from course_lib.compare import times as store
from course_lib.compare.catalogue import cases
from course_lib.compare.contest import Case, measure
from course_lib.compare.rows import chapters_side_by_side, time_variants
from course_lib.measure.run import place

__all__ = ["main"]

SIDE_BY_SIDE = "side by side"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where a case failed."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.bench", description=__doc__)
    parser.add_argument("command", choices=["status", "run"], help="what is stored, or measure and store it")
    parser.add_argument("names", nargs="*", help="a part, a chapter (layers/norm) or a case; all if none")
    parser.add_argument("--stale", action="store_true", help="with run: leave out what is fresh")
    options = parser.parse_args(arguments)
    plan, failed = _plan(options.names)
    if options.names and not plan:
        print(
            f"error: nothing is called {' or '.join(options.names)}; see the status command", file=sys.stderr
        )
        return 2
    for chapter, name, task in plan:
        state = _state(chapter, name, task)
        if options.command == "status":
            print(f"{state:8} {chapter}: {name}")
        elif not (options.stale and state == "fresh"):
            failed |= not _run(chapter, name, task)
    return int(failed)


def _plan(names: list[str]) -> tuple[list[tuple[str, str, Any]], bool]:
    """Chapter, name and task of all that was asked for; and whether a chapter could not be loaded."""
    found, failed = [], False
    for chapter in registry.chapters():
        try:
            tasks = [(case.name, case) for case in cases(chapter)]
            tasks += [(SIDE_BY_SIDE, m) for m in chapters_side_by_side([chapter]).values()]
        except Exception:  # the other chapters are measured all the same
            traceback.print_exc()
            failed = True
            continue
        for name, task in tasks:
            wanted = (chapter, chapter.split("/")[0], name, f"{chapter}:{name}")
            if not names or set(names) & set(wanted):
                found.append((chapter, name, task))
    return found, failed


def _state(chapter: str, name: str, task: Any) -> str:
    stored = store.load(chapter)
    if isinstance(task, Case):
        return store.case_state(task, stored.get("cases", {}).get(name))
    entry = stored.get("side_by_side")
    if not entry:
        return "missing"
    return "fresh" if entry["code"] == store.code_of_variants(task) else "stale"


def _run(chapter: str, name: str, task: Any) -> bool:
    """Measure one task and store it at once; False, with the traceback, if it failed."""
    print(f"{chapter}: {name}", end="", flush=True)
    start = time.perf_counter()
    try:
        if isinstance(task, Case):
            entry, words = _case_entry(task)
        else:
            times = {
                name: {k: store.four_digits(v) for k, v in row.items()}
                for name, row in time_variants(task).items()
            }
            entry = {"code": store.code_of_variants(task), **_place(), "variants": times}
            words = f"{len(times)} variants"
    except Exception:
        print("  FAILED", flush=True)
        traceback.print_exc()
        return False
    stored = store.load(chapter)
    if isinstance(task, Case):
        known = [case.name for case in cases(chapter)]
        entries = {**stored.get("cases", {}), name: entry}
        stored["cases"] = {n: entries[n] for n in known if n in entries}
    else:
        stored["side_by_side"] = entry
    store.save(chapter, stored)
    print(f"  {words}  ({time.perf_counter() - start:.1f} s)", flush=True)
    return True


def _place() -> dict[str, str]:
    return {key: value for key, value in place().items() if key != "python"}


def _case_entry(case: Case) -> tuple[dict[str, Any], str]:
    sizes, words = {}, []
    for size in case.sizes:
        found = measure(case.contest(size))
        sizes[str(size)] = {name: store.to_entry(lap) for name, lap in found.items()}
        peers = [lap for lap in found.values() if lap.ratio_forward is not None]
        forward = max(lap.ratio_forward.value for lap in peers)
        both = max((lap.ratio_both.value for lap in peers if lap.ratio_both is not None), default=None)
        words.append(f"{size}: {forward:.2f}" + (f" and {both:.2f}" if both is not None else ""))
    entry = {"code": store.code_of_case(case), **_place(), "sizes": sizes}
    return entry, "forward, and with backward, relative to the fastest peer: " + ", ".join(words)
