"""Trained claims need seeds and time: they are experiments, measured once and shown many times.

An experiment is a function in ``course_lib/experiments/<part>/<chapter>.py`` that takes a seed and returns
a small dictionary of numbers::

    @experiment(paper="peri-ln", seeds=5)
    def variance_growth(seed: int) -> dict[str, float]:
        ...
        return {"slope": slope}

Its results are committed beside it, bound to the code they depend on by a hash. A notebook asks for them with
``measured(variance_growth)["slope"]``: that reads the stored result while it is fresh, and otherwise runs the
experiment. What is said with its numbers stands in its decorator (:mod:`course_lib.measure.claims`). On the
command line::

    python -m course_lib.experiments status       # what is fresh, stale or missing, and what it costs
    python -m course_lib.experiments run          # measures what is not fresh, in parallel, and stores it
    python -m course_lib.experiments restamp      # one seed of each whose code was moved or renamed only
    python -m course_lib.experiments verify       # runs a sample again, another one every day

A result holds raw numbers, ``{"with": 0.91, "without": 0.88}``, and no differences or ratios of them: the
page takes those, ``result["with"] - result["without"]``, paired by seed, and may take others tomorrow
without an hour of computing.

The runs go through joblib, one task per seed. One line points them at a real cluster, whose workers have the
same course_lib installed::

    DASK_SCHEDULER_ADDRESS=tcp://head-node:8786 python -m course_lib.experiments run --backend dask

A worker that dies costs the seed it was at; a
run that is stopped goes on where it was, because every finished seed is kept in a journal.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.measure import store
from course_lib.measure.claims import Expectation as Expectation
from course_lib.measure.claims import Finding as Finding
from course_lib.measure.claims import Statement as Statement
from course_lib.measure.claims import at_least as at_least
from course_lib.measure.claims import at_most as at_most
from course_lib.measure.claims import between as between
from course_lib.measure.claims import equal as equal
from course_lib.measure.claims import near as near
from course_lib.measure.claims import paper_claim as paper_claim
from course_lib.measure.claims import question as question
from course_lib.measure.hashing import code_hash
from course_lib.measure.journal import Outcome
from course_lib.measure.measurement import Measurement as Measurement
from course_lib.measure.sample import Sample as Sample
from course_lib.measure.sample import each as each
from course_lib.registry import paper as _paper


@dataclass(frozen=True)
class Experiment:
    """What :func:`experiment` notes on a function, as its attribute ``experiment``.

    Args:
        papers: ids of the papers whose claims it tries.
        seeds: the seeds that make its committed result.
        claims: what is said with its numbers, claims of papers and questions.
        trained: what an arm must reach before anything is concluded from it.
    """

    papers: tuple[str, ...]
    seeds: tuple[int, ...]
    claims: tuple[Statement, ...] = ()
    trained: Mapping[str, Any] = field(default_factory=dict)


def experiment(
    *,
    paper: str | tuple[str, ...],
    seeds: int = 5,
    claims: Sequence[Statement] = (),
    trained: Mapping[str, Expectation | Callable[[Mapping[str, Sample]], Expectation]] | None = None,
) -> Callable[[Callable], Callable]:
    """Make a module-level function of a seed an experiment, whose results are stored; it stays a function.

    Args:
        paper: id, or ids, from ``papers.toml``.
        seeds: how many seeds make its result: 0, 1, ..., seeds - 1.
        claims: what is said with its numbers: :func:`paper_claim` and :func:`question`, whose ``value`` is a
            function of its :class:`Measurement`. They are no part of the code that is measured.
        trained: which simple thing each arm must beat before anything is concluded from it: a pattern of
            quantities, ``"*_loss"`` or ``"accuracy_*"``, and what is expected of each of them under every
            seed. What the star stands for is the name of the arm; all quantities that carry this name are
            in doubt when it is not trained, and a claim that reckons with them is *not tested*. The
            expectation may be a function of the measurement, ``lambda m: at_most(m["letters"].mean)``.

    Raises:
        ValueError: for an unknown paper, no seeds, or a function inside another or in a notebook.
    """
    papers = (paper,) if isinstance(paper, str) else tuple(paper)
    for paper_id in papers:
        _paper(paper_id)
    if not papers or seeds < 1:
        raise ValueError(f"an experiment needs a paper and at least one seed, got {papers} and {seeds}")

    def register(function: Callable) -> Callable:
        if "." in function.__qualname__ or function.__module__ == "__main__":
            raise ValueError(
                f"{function.__qualname__} of {function.__module__} is not at the top level of a module file: "
                "put it into course_lib/experiments/<part>/<chapter>.py, so that its code can be hashed"
            )
        function.experiment = Experiment(papers, tuple(range(seeds)), tuple(claims), dict(trained or {}))
        return function

    return register


def findings(experiment: Callable) -> list[Finding]:
    """Every claim and question of an experiment, judged; no verdict is compared with the pinned one.

    Args:
        experiment: a function decorated with :func:`experiment`.
    """
    return measured(experiment).judge(experiment.experiment)


# Seeds run in this process, by module, name, code and seed, so that a page runs each once.
_live: dict[tuple[str, str, str, int], Outcome] = {}


def measured(
    experiment: Callable, rerun: bool = False, seeds: int | Iterable[int] | None = None
) -> Measurement:
    """The stored result of an experiment while it is fresh; what is not, is run here, with a progress bar.

    Nothing is written: the committed results change by ``python -m course_lib.experiments run`` only.

    Args:
        experiment: a function decorated with :func:`experiment`.
        rerun: run all seeds live. So does ``COURSE_RERUN=1`` in the environment, for every call.
        seeds: how many seeds, or which; those of the decorator unless given.

    Raises:
        EditedResult: if the stored result was changed by hand.
        ValueError: if the function is no experiment.
    """
    if not isinstance(getattr(experiment, "experiment", None), Experiment):
        raise ValueError(
            f"{experiment!r} is no experiment: decorate it with @experiment(paper=..., seeds=...)"
        )
    if seeds is None:
        seeds = experiment.experiment.seeds
    wanted = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    rerun = rerun or os.environ.get("COURSE_RERUN") == "1"
    code = code_hash(experiment)
    stored = None if rerun else store.read(experiment)
    found = {o.seed: o for o in stored.outcomes} if stored is not None and stored.code == code else {}
    missing = [seed for seed in wanted if seed not in found]
    for seed, outcome in _run_here(experiment, code, missing, rerun):
        found[seed] = outcome
    result = store.Result(code, tuple(found[seed] for seed in wanted))
    return Measurement(experiment.__name__, result, not missing, experiment.experiment.trained)


def _run_here(function: Callable, code: str, seeds: list[int], rerun: bool) -> Iterator[tuple[int, Outcome]]:
    if not seeds:
        return
    from tqdm import tqdm

    from course_lib.measure.run import run_seed

    for seed in tqdm(seeds, desc=f"{function.__name__}, seeds", leave=False):
        key = (function.__module__, function.__name__, code, seed)
        if rerun or key not in _live:
            _live[key] = run_seed(function, seed)
        yield seed, _live[key]
