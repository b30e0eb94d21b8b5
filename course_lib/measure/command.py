"""The experiments on the command line: ``python -m course_lib.experiments status | run | ...``."""

import argparse
import datetime
import difflib
import functools
import importlib
import os
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from course_lib import registry
from course_lib.measure import store
from course_lib.measure.hashing import code_hash, reached
from course_lib.measure.journal import Journal, Outcome
from course_lib.measure.measurement import Measurement
from course_lib.measure.sample import number
from course_lib.tables import Table

__all__ = ["discover", "main", "orphans", "select"]

WIDTH = 100  # of what is printed
BUDGET = 60  # core-seconds a paper, on average in a chapter


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 1 where something failed or does not agree."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        chosen = select(discover(options.package), options.names)
        return options.command(chosen, options)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader stopped reading (``| head``): no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("\nStopped. Finished seeds are kept: the same command goes on from here.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib.experiments", description="What was trained and measured."
    )
    commands = parser.add_subparsers(required=True, metavar="status | run | restamp | verify | claims")
    helps = {
        _status: "which results are fresh, stale, incomplete, edited by hand or missing",
        _run: "measure what is not fresh and store it",
        _restamp: "run one seed of what is stale because code was moved or renamed; if equal, it is fresh",
        _verify: "run a sample of the fresh results again, another one every day",
        _claims: "judge every claim and question by the stored results, or by other seeds",
    }
    parsers = {}
    for command, text in helps.items():
        name = command.__name__[1:]
        parsers[name] = sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        sub.add_argument(
            "names", nargs="*", help="a part, a chapter (layers/norm) or a function; all if none"
        )
        sub.add_argument("--package", default="course_lib.experiments", help=argparse.SUPPRESS)
    parsers["status"].add_argument(
        "--why", action="store_true", help="list the code that each result depends on"
    )
    parsers["status"].add_argument("--check", action="store_true", help="exit with 1 unless all are fresh")
    run, verify = parsers["run"], parsers["verify"]
    run.add_argument(
        "--seeds", type=_seeds, help="10 for 0 to 9, 10-19, or 3,5,8: compared with the stored ones"
    )
    run.add_argument("--store", action="store_true", help="with --seeds: store them too")
    run.add_argument("--force", action="store_true", help="measure again even what is fresh")
    verify.add_argument("--minutes", type=float, default=4.0, help="computing time, about (default 4)")
    verify.add_argument("--date", type=datetime.date.fromisoformat, default=datetime.date.today())
    claims = parsers["claims"]
    claims.add_argument("--seeds", type=_seeds, help="judge by these seeds; nothing is stored")
    claims.add_argument(
        "--moved", action="store_true", help="list only those whose verdict is not the pinned"
    )
    claims.set_defaults(force=False, store=False)
    for sub in (run, parsers["restamp"], verify, claims):
        sub.add_argument("--backend", default="loky", help="loky (default), dask or threading")
        sub.add_argument("--jobs", type=int, default=-1, help="processes; one per processor if not given")
    return parser


def _seeds(text: str) -> tuple[int, ...]:
    try:
        if "-" in text:
            first, last = map(int, text.split("-"))
            seeds = tuple(range(first, last + 1))
        else:
            seeds = tuple(map(int, text.split(","))) if "," in text else tuple(range(int(text)))
    except ValueError:
        seeds = ()
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} names no seeds: write 10 (for 0 to 9), 10-19, or 3,5,8")
    return seeds


# ---------------------------------------------------------------------------------------- status


def _status(chosen: dict[str, Callable], options: argparse.Namespace) -> int:
    rows, notes = [("experiment", "state", "seeds", "core-seconds")], []
    states: Counter[str] = Counter()
    cost: dict[str, list[float]] = {}
    for name, function in chosen.items():
        state = store.state(function)
        result = store.read(function) if state not in ("edited", "missing") else None
        states[state] += 1
        if result:
            cost.setdefault("/".join(name.partition(":")[0].split("/")[:2]), []).append(result.seconds)
            if result.restamped:
                notes.append(f"{name}: {result.restamped}")
            rows.append((name, state, str(len(result.seeds)), f"{result.seconds:.1f}"))
        else:
            rows.append((name, state, "", ""))
    gone = [] if options.names else orphans(chosen, options.package)
    rows += [(f"{file.stem}:{name}", "orphan", "", "") for file, name in gone]
    print(Table(rows[1:], rows[0]))
    print("".join(f"{line}\n" for note in notes for line in _wrapped(note)), end="")
    summary = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none yet"
    print(f"{_count(len(chosen), 'experiment')}: {summary}")
    _costs(cost)
    if options.why:
        for name, function in chosen.items():
            print(f"\n{name}: {code_hash(function)}, the hash of")
            print("\n".join(f"  {definition}" for definition in reached(function)))
    return int(options.check and (bool(gone) or set(states) - {"fresh"} != set()))


def _costs(cost: dict[str, list[float]]) -> None:
    """What each chapter took to measure, for how many papers, and what the whole course would take so."""
    papers = Counter(paper.chapter for paper in registry.papers().values())
    rows = [("chapter", "experiments", "core-seconds", "papers", f"per paper (budget {BUDGET})")]
    for chapter, seconds in cost.items():
        rate = sum(seconds) / papers[chapter] if papers[chapter] else None
        over = f"{rate:.0f}{' OVER' * (rate > BUDGET)}" if rate is not None else "-"
        rows.append((chapter, str(len(seconds)), f"{sum(seconds):.0f}", str(papers[chapter]), over))
    if not cost:
        return
    print()
    print(Table(rows[1:], rows[0]))
    total, count = sum(map(sum, cost.values())), sum(papers[chapter] for chapter in cost)
    print(f"{_count(len(cost), 'chapter')}: {_duration(total)} on one core")
    if count:
        everything = len(registry.papers())
        print(
            f"at {total / count:.0f} core-seconds a paper, {len(registry.chapters())} chapters with "
            f"{everything} papers take {total / count * everything / 3600:.1f} core-hours"
        )


# ---------------------------------------------------------------------------------------- run


class _Measuring:
    """One experiment on its way: what is stored, what is done, what is left."""

    def __init__(self, name: str, function: Callable, options: argparse.Namespace) -> None:
        self.name, self.function, self.code = name, function, code_hash(function)
        self.before: store.Result | None = None
        if store.state(function) not in ("edited", "missing"):
            self.before = store.read(function)
        self.seeds = options.seeds or function.experiment.seeds
        self.stores = options.store or options.seeds is None
        self.journal: Journal = store.journal(function, self.code)
        if options.force:
            self.journal.start_over()
        self.done: dict[int, Outcome] = self.journal.read(version("torch"))
        if self.before and self.before.code == self.code and not options.force:
            self.done |= {outcome.seed: outcome for outcome in self.before.outcomes}

    @property
    def left(self) -> list[int]:
        """The seeds still to run."""
        return [seed for seed in self.seeds if seed not in self.done]

    @property
    def seconds_per_seed(self) -> float:
        """As it was; unknown ones count as long, and so go first."""
        return self.before.seconds / len(self.before.seeds) if self.before else 60.0

    def result(self) -> store.Result:
        """The seeds asked for; to be stored, with those that the store has of the same code."""
        stored = self.before.seeds if self.stores and self.before else ()
        seeds = {*self.seeds, *stored} & {*self.done}
        outcomes = tuple(self.done[seed] for seed in seeds)
        kept = {*map(id, outcomes)} & {id(o) for o in self.before.outcomes} if self.before else ()
        return store.Result(self.code, outcomes, self.before.restamped if kept else None)

    def finish(self) -> None:
        """Put the result into its file, and the journal away."""
        result = self.result()
        if self.stores:
            store.merge(store.results_file(self.function), {self.function.__name__: result})
        self.journal.clear(result.seeds if self.stores else ())


def _prepare(chosen: dict[str, Callable]) -> set[Path]:
    """Look at the files before any work; tell, and return, the folders outside the source tree."""
    for function in chosen.values():
        for file in (store.results_file(function), store.committed_file(function)):
            store.stored_names(file)  # one that is no JSON is better known before an hour of work
    files = {f: store.results_file(f) for f in chosen.values()}
    elsewhere = {file.parent for f, file in files.items() if file != store.committed_file(f)}
    for folder in elsewhere:
        print(f"This is not the course's source tree, whose results are committed; they go to {folder}")
    return elsewhere


def _run(chosen: dict[str, Callable], options: argparse.Namespace) -> int:
    elsewhere = _prepare(chosen)
    if not options.names and not elsewhere:
        for file, name in orphans(chosen, options.package):
            print(f"{file.name}: {name} has no experiment any more, its result is taken out")
            store.merge(file, {name: None})
    everything = [_Measuring(name, function, options) for name, function in chosen.items()]
    wanted = [m for m in everything if options.force or options.seeds or store.state(m.function) != "fresh"]
    if not wanted:
        print(f"All fresh: {_count(len(chosen), 'result')}." if chosen else "There are no experiments yet.")
        return 0
    start = time.perf_counter()
    failures = _measure(wanted, options)
    finished = [m for m in wanted if not m.left and m.name not in failures]
    _compare(finished)
    print(
        f"{len(finished)} of {len(wanted)} experiments measured in {_duration(time.perf_counter() - start)}"
    )
    for name, text in failures.items():
        print(f"\n{name} failed:\n{text}", file=sys.stderr)
    return int(bool(failures))


def _measure(wanted: list[_Measuring], options: argparse.Namespace) -> dict[str, str]:
    """Run what is left, store each experiment as soon as its last seed is there; returns the failures."""
    from tqdm import tqdm

    from course_lib.measure.run import Failure, Task, run_tasks

    failures: dict[str, str] = {}
    by_function = {(m.function.__module__, m.function.__name__): m for m in wanted}
    tasks = [
        Task(m.function.__module__, m.function.__name__, seed, m.code, str(m.journal.folder))
        # Long ones first: nobody waits for them at the end.
        for m in sorted(wanted, key=lambda m: -m.seconds_per_seed)
        for seed in m.left
    ]
    _announce(wanted, len(tasks))
    _finish([m for m in wanted if not m.left], failures)
    with tqdm(total=len(tasks), unit="seed", disable=not tasks) as bar:
        for task, outcome in run_tasks(tasks, backend=options.backend, jobs=options.jobs):
            measuring = by_function[task.module, task.name]
            bar.update()
            if isinstance(outcome, Failure):
                failures.setdefault(measuring.name, f"seed {task.seed}\n{outcome.text}")
                continue
            bar.set_postfix_str(f"{measuring.name}, seed {task.seed}")
            measuring.done[task.seed] = outcome
            measuring.journal.write(outcome)  # the worker may be on a machine without this disk
            if not measuring.left:
                _finish([measuring], failures)
    return failures


def _finish(ready: Iterable[_Measuring], failures: dict[str, str]) -> None:
    for measuring in ready:
        try:
            measuring.finish()
        except ValueError as error:  # other keys under other seeds
            failures[measuring.name] = str(error)


def _announce(wanted: list[_Measuring], count: int) -> None:
    known = sum(len(m.seeds) - len(m.left) for m in wanted)
    new = sum(m.before is None and bool(m.left) for m in wanted)
    estimate = _duration(sum(m.seconds_per_seed * len(m.left) for m in wanted))
    time_needed = f"{new} never measured before" if new else f"about {estimate} on one core"
    print(
        f"{_count(len(wanted), 'experiment')}: {_count(count, 'seed')} to run, {known} at hand; {time_needed}"
    )


def _compare(finished: list[_Measuring]) -> None:
    """What was stored beside what is measured now."""
    rows = [("experiment", "quantity", "stored", "now", "seeds")]
    for measuring in finished:
        result = measuring.result().select(measuring.seeds)
        before = measuring.before.samples if measuring.before else {}
        for key, sample in sorted(result.samples.items()):
            old = str(before[key]) if key in before else "-"
            rows.append((measuring.name, key, old, str(sample), str(len(sample))))
    if len(rows) > 1:
        print(Table(rows[1:], rows[0]))


# ---------------------------------------------------------------------------------------- restamp, verify


def _restamp(chosen: dict[str, Callable], options: argparse.Namespace) -> int:
    """One seed of each stale result; where its numbers are the stored ones, the result gets the new hash."""
    from course_lib.measure.verify import moved

    _prepare(chosen)
    stored = {name: store.read(f) for name, f in chosen.items() if store.state(f) == "stale"}
    print(f"{_count(len(stored), 'stale result')}: the first seed of each is run again")
    left = 0
    first = {name: result.seeds[:1] for name, result in stored.items()}
    for name, outcomes, wrong in _again(chosen, first, options):
        before, function = stored[name], chosen[name]
        wrong = wrong or [*moved(before.outcomes[0], outcomes[0]).values()]
        if not wrong:
            by = before.restamped.others_measured_by if before.restamped else before.code
            whole = len(before.seeds) == 1
            stamp = None if whole else store.Restamp(before.seeds[0], by)
            result = store.Result(code_hash(function), tuple(outcomes) if whole else before.outcomes, stamp)
            store.merge(store.results_file(function), {function.__name__: result})
        left += bool(wrong)
        _tell("stays stale" if wrong else "re-stamped", name, first[name], wrong)
    return int(left > 0)


def _verify(chosen: dict[str, Callable], options: argparse.Namespace) -> int:
    from course_lib.measure.run import place, run_seed
    from course_lib.measure.verify import disagreements, plan

    stored = {name: store.read(f) for name, f in chosen.items() if store.state(f) == "fresh"}
    seeds = plan(stored, place(), seconds=60 * options.minutes, day=options.date.toordinal())
    count = _count(sum(map(len, seeds.values())), "seed")
    print(f"Running again {len(seeds)} of {_count(len(stored), 'fresh result')}: {count}")
    left = 0
    for name, outcomes, wrong in _again(chosen, seeds, options):
        again = store.Result(stored[name].code, tuple(outcomes))
        repeat = functools.partial(run_seed, chosen[name])
        wrong = wrong or disagreements(stored[name], again, lambda seed, run=repeat: run(seed).values)
        left += bool(wrong)
        _tell("DIFFERS" if wrong else "agrees", name, seeds[name], wrong)
    return int(left > 0)


def _again(
    chosen: dict[str, Callable], seeds: dict[str, tuple[int, ...]], options: argparse.Namespace
) -> Iterator[tuple[str, list[Outcome], list[str]]]:
    """Run these seeds; yields each experiment when it has all: name, outcomes, and what failed, in words."""
    from course_lib.measure.run import Failure, Task, run_tasks

    functions = {(chosen[name].__module__, chosen[name].__name__): name for name in seeds}
    codes = {name: code_hash(chosen[name]) for name in seeds}
    tasks = [Task(*key, seed, codes[name], None) for key, name in functions.items() for seed in seeds[name]]
    found: dict[str, list[Outcome | Failure]] = {name: [] for name in seeds}
    for task, outcome in run_tasks(tasks, backend=options.backend, jobs=options.jobs) if tasks else ():
        name = functions[task.module, task.name]
        found[name].append(outcome)
        if len(found[name]) == len(seeds[name]):
            failed = [f"seed {o.task.seed}\n{o.text}" for o in found[name] if isinstance(o, Failure)]
            yield name, [o for o in found[name] if isinstance(o, Outcome)], failed


def _tell(verdict: str, name: str, seeds: tuple[int, ...], wrong: list[str]) -> None:
    print(f"{verdict:11} {name}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    print("".join(f"    {line}\n" for line in wrong), end="")


# ---------------------------------------------------------------------------------------- claims


def _claims(chosen: dict[str, Callable], options: argparse.Namespace) -> int:
    """Every statement with its measured verdict beside the pinned one; 1 if one of them moved."""
    wanted = {name: function for name, function in chosen.items() if function.experiment.claims}
    failures: dict[str, str] = {}
    if options.seeds:
        measuring = [_Measuring(name, function, options) for name, function in wanted.items()]
        failures = _measure(measuring, options)
        results = {m.name: m.result().select(m.seeds) for m in measuring if m.name not in failures}
    else:
        results = {name: store.read(f) for name, f in wanted.items() if store.state(f) == "fresh"}
    rows, kept, moved = [], Counter(), Counter()
    for name, result in results.items():
        noted = wanted[name].experiment
        for finding in Measurement(wanted[name].__name__, result, True, noted.trained).judge(noted):
            pinned, kind = finding.statement.verdict, finding.statement.kind
            (kept if finding.verdict == pinned else moved)[kind] += 1
            if finding.verdict != pinned or not options.moved:
                now = finding.verdict if finding.verdict == pinned else f"{finding.verdict}, was {pinned}"
                rows.append((name, finding.statement.whole, (now, finding.found, finding.statement.expect)))
    _print_statements(rows)
    for kind in sorted(kept | moved):
        print(f"{kind}: {kept[kind]} of {kept[kind] + moved[kind]} verdicts as pinned")
    left = len(wanted) - len(results) - len(failures)
    if left:
        print(f"{_count(left, 'experiment')} not judged: no fresh result")
    for name, text in failures.items():
        print(f"\n{name} failed:\n{text}", file=sys.stderr)
    return int(bool(failures or moved))


def _print_statements(rows: list[tuple[str, str, tuple]]) -> None:
    """Experiment by experiment, each statement below its verdict and numbers."""
    head = ("verdict", "measured", "expected")
    lines = str(Table([cells for *_, cells in rows], head, align="lll")).splitlines()
    print(lines[0])
    before = None
    for (name, statement, _), line in zip(rows, lines[1:], strict=True):
        if name != before:
            print(f"\n{name}")
            before = name
        print(line, *_wrapped(f"    {statement}", "    "), sep="\n")


# ---------------------------------------------------------------------------------------- names


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
    known = {(store.committed_file(function), function.__name__) for function in experiments.values()}
    files = sorted(_folder(package).glob("*/**/*.json"))
    return [(f, name) for f in files for name in store.stored_names(f) if (f, name) not in known]


def _folder(package: str) -> Path:
    return Path(importlib.import_module(package).__path__[0])


# ---------------------------------------------------------------------------------------- printing


def _count(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'s' * (number_of != 1)}"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _duration(seconds: float) -> str:
    return f"{number(round(seconds, 1))} s" if seconds < 120 else f"{seconds / 60:.1f} min"
