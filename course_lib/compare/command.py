"""The bench on the command line: ``python -m course_lib.bench status | run [names]``."""

import argparse
import difflib
import sys
import time
import traceback
from types import ModuleType
from typing import Any

from course_lib import registry
from course_lib.cache import source_tree
from course_lib.compare import times
from course_lib.compare.catalogue import cases, chapters_side_by_side
from course_lib.compare.contest import Case, measure
from course_lib.compare.rows import time_variants
from course_lib.measure.run import place
from course_lib.optional import how_to_install

SIDE_BY_SIDE = "side by side"
Task = tuple[str, str, Case | ModuleType]  # chapter, name, and a case or all variants of the chapter


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where a case failed, 2 for an unknown name."""
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.bench", description="How fast our objects are beside their peers."
    )
    parser.add_argument("command", choices=["status", "run"], help="show what is stored, or measure it")
    parser.add_argument("names", nargs="*", help="a part, a chapter or a case; all if none")
    parser.add_argument("--stale", action="store_true", help="with run: leave out what is fresh")
    options = parser.parse_intermixed_args(arguments)
    plan, failed = _plan(options.names)
    if options.names and not plan:
        print(f"error: {_unknown(options.names)}", file=sys.stderr)
        return 2
    for chapter, name, what in plan:
        state = _state(chapter, name, what)
        if options.command == "status":
            print(f"{state:8} {chapter}: {name}")
        elif not (options.stale and state == "fresh"):
            failed |= not _run(chapter, name, what)
    if options.command == "run" and source_tree() is None:
        print(f"An installed package is not written to: the times are in {times.folder()}")
    return int(failed)


def _unknown(names: list[str]) -> str:
    known = {word: None for chapter, name, _ in _plan([])[0] for word in (chapter, name)}
    near = {word: None for name in names for word in difflib.get_close_matches(name, known, 3, 0.5)}
    hint = f"did you mean {', '.join(near)}?" if near else "see the status command"
    return f"nothing is called {' or '.join(names)}; {hint}"


def _plan(names: list[str]) -> tuple[list[Task], bool]:
    """All that was asked for; and whether a chapter could not be loaded."""
    found, failed = [], False
    for chapter in registry.chapters():
        try:
            tasks = [(case.name, case) for case in cases(chapter)]
            tasks += [(SIDE_BY_SIDE, module) for module in chapters_side_by_side([chapter]).values()]
        except Exception:  # the other chapters are measured all the same
            traceback.print_exc()
            failed = True
            continue
        for name, what in tasks:
            wanted = (chapter, chapter.split("/")[0], name, f"{chapter}:{name}")
            if not names or set(names) & set(wanted):
                found.append((chapter, name, what))
    return found, failed


def _state(chapter: str, name: str, what: Case | ModuleType) -> str:
    stored = times.load(chapter)
    if isinstance(what, ModuleType):
        return times.variants_state(what, stored.get("side_by_side"))
    return times.case_state(what, stored.get("cases", {}).get(name))


def _run(chapter: str, name: str, what: Case | ModuleType) -> bool:
    """Measure one task and store it at once; False, with the traceback, if it failed."""
    print(f"{chapter}: {name}", end="", flush=True)
    start = time.perf_counter()
    try:
        entry, words = _variants(what) if isinstance(what, ModuleType) else _case(what)
    except ModuleNotFoundError as error:  # a peer; ours need none
        print(f"  FAILED: {how_to_install(error.name or str(error), 'test')}", flush=True)
        return False
    except Exception:
        print("  FAILED", flush=True)
        traceback.print_exc()
        return False
    stored = times.load(chapter)
    if isinstance(what, ModuleType):
        stored["side_by_side"] = entry
    else:
        entries = {**stored.get("cases", {}), name: entry}
        known = [case.name for case in cases(chapter)]
        stored["cases"] = {n: entries[n] for n in known if n in entries}
    times.save(chapter, stored)
    print(f"  {words}  ({time.perf_counter() - start:.1f} s)", flush=True)
    return True


def _variants(module: ModuleType) -> tuple[dict[str, Any], str]:
    found = {
        name: {mode: times.four_digits(ratio) for mode, ratio in row.items()}
        for name, row in time_variants(module).items()
    }
    entry = {"code": times.code_of_variants(module), **_place(), "variants": found}
    return entry, f"{len(found)} variants"


def _case(case: Case) -> tuple[dict[str, Any], str]:
    sizes, words = {}, []
    for size in case.sizes:
        found = measure(case.contest(size))
        sizes[str(size)] = {name: times.to_entry(lap) for name, lap in found.items()}
        peers = [lap for name, lap in found.items() if name != "ours"]
        ratios = [max(lap.ratio_forward for lap in peers)]
        ratios += [max(lap.ratio_both for lap in peers)] if peers[0].ratio_both else []
        words.append(f"{size}: {' and '.join(f'{ratio.value:.2f}' for ratio in ratios)}")
    entry = {"code": times.code_of_case(case), **_place(), "sizes": sizes}
    return entry, f"forward, and with backward, relative to the fastest peer: {', '.join(words)}"


def _place() -> dict[str, str]:
    return {key: value for key, value in place().items() if key != "python"}
