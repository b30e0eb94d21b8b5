"""What is said of a paper, and what was measured for it.

There are three kinds of statement, counted apart everywhere. A claim of a **paper** is something that the
paper says, and names where. A **question** is what the course asks beyond it. An **identity** is exact: it
holds, or the page fails (:func:`course_lib.classroom.identities`). Claims and questions stand at the
experiment that measures them::

    @experiment(paper="peri-ln", seeds=3, trained={"*_loss": at_most(2.4)}, claims=[
        paper_claim(
            "activations grow more with Pre-LN than with Peri-LN", where="abstract", headline=True,
            of="16 blocks, 100 steps", value=lambda m: m["pre_rms"] / m["peri_rms"], expect=at_least(1.5),
        ),
    ])

The verdict of a number is plain. The verdict of a :class:`Sample` (one value per seed) follows the 95 %
interval of its mean: wholly inside the expectation it is *reproduced*, wholly outside *not reproduced*, else
the seeds disagree and it is *inconclusive*. Where an arm is not trained, or the regime is not the paper's, it
is *not tested*, with the reason. Verdicts are pinned: a measured verdict that is not the pinned one raises
:class:`ClaimDrift`, so negative results are guarded as well as positive ones.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from course_lib.measure.sample import Sample, number
from course_lib.registry import paper as _paper

__all__ = [
    "ClaimDrift",
    "Expectation",
    "Finding",
    "Statement",
    "at_least",
    "at_most",
    "between",
    "equal",
    "find",
    "json_number",
    "near",
    "number_or_sample",
    "paper_claim",
    "question",
]

PAPER_VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not tested")
QUESTION_VERDICTS = ("as expected", "not as expected", "open")
SIGNS = {
    **dict(zip(PAPER_VERDICTS, "✓✗?–", strict=True)),
    **dict(zip(QUESTION_VERDICTS, "✓✗?", strict=True)),
    "holds": "✓",
}
_AS_QUESTION = {
    "reproduced": "as expected",
    "not reproduced": "not as expected",
    "inconclusive": "open",
    "not tested": "open",
}


class ClaimDrift(AssertionError):
    """The measured verdict of a statement is not the pinned one."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a number: that it lies in ``[low, high]``.

    Args:
        low: the smallest value that fits.
        high: the largest value that fits.
        text: the expectation in words.
    """

    low: float
    high: float
    text: str

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"no number is {self.text}: the ends are {self.low} and {self.high}")

    def holds(self, value: float) -> bool:
        """True if the value fits; NaN never does."""
        return self.low <= float(value) <= self.high

    def __str__(self) -> str:
        return self.text


def near(target: float, rel: float | None = None, abs: float | None = None) -> Expectation:
    """Expect a number close to ``target``: within a share of it, an absolute distance, or the larger of both.

    Args:
        target: the expected value.
        rel: allowed distance as a share of the target, 0.15 for 15 %.
        abs: allowed distance itself.

    Raises:
        ValueError: if no positive distance is given.

    >>> str(near(2.0, rel=0.15)), near(2.0, rel=0.15).holds(2.2), near(0.0, abs=0.1).holds(0.2)
    ('within 15 % of 2', True, False)
    """
    share = (rel or 0.0) * (target if target >= 0 else -target)
    distance = max(share, abs or 0.0)
    if not distance > 0:
        raise ValueError(f"near({target}, rel={rel}, abs={abs}) allows no distance: use equal(), or set abs")
    words = [f"{number(100 * rel)} %" if rel else "", number(abs) if abs else ""]
    text = f"within {' or '.join(word for word in words if word)} of {number(target)}"
    return Expectation(target - distance, target + distance, text)


def at_least(bound: float) -> Expectation:
    """Expect a number that is ``bound`` or more.

    >>> str(at_least(0.9)), at_least(0.9).holds(0.9), at_least(0.9).holds(float("nan"))
    ('at least 0.9', True, False)
    """
    return Expectation(bound, math.inf, f"at least {number(bound)}")


def at_most(bound: float) -> Expectation:
    """Expect a number that is ``bound`` or less.

    >>> str(at_most(1e-6)), at_most(1e-6).holds(0.0)
    ('at most 1e-6', True)
    """
    return Expectation(-math.inf, bound, f"at most {number(bound)}")


def between(low: float, high: float) -> Expectation:
    """Expect a number from ``low`` to ``high``, ends included.

    >>> str(between(1, 2)), between(1, 2).holds(2.5)
    ('between 1 and 2', False)
    """
    return Expectation(low, high, f"between {number(low)} and {number(high)}")


def equal(target: float) -> Expectation:
    """Expect exactly this number, or this truth value.

    >>> equal(3).holds(3), equal(True).holds(False)
    (True, False)
    """
    return Expectation(target, target, f"equal to {number(target)}")


@dataclass(frozen=True)
class Statement:
    """A claim of a paper, or a question of the course, with the verdict that earlier runs found.

    Made by :func:`paper_claim` and :func:`question`, which say what the fields mean.
    """

    kind: str
    text: str
    value: Any
    expect: Expectation | None
    verdict: str
    paper: str | None
    of: str = ""
    where: str = ""
    headline: bool = False
    scale: str = ""
    not_tested: str = ""
    noise: Any = 0.0

    @property
    def whole(self) -> str:
        """The statement as it can be read alone: its setting first, then its text."""
        return f"{self.of}: {self.text}" if self.of else self.text


def paper_claim(
    text: str,
    *,
    where: str,
    value: Any = None,
    expect: Expectation | None = None,
    verdict: str | None = None,
    headline: bool = False,
    of: str = "",
    scale: str = "",
    not_tested: str = "",
    noise: Any = 0.0,
    paper: str | None = None,
) -> Statement:
    """Something that a paper says, to be compared with what was measured.

    Args:
        text: the claim in words, readable without the page.
        where: where the paper says it: ``"abstract"``, ``"Table 2"``, ``"Theorem 1"``.
        value: what was measured: a number, a :class:`Sample` or one number per seed; at an experiment a
            function of its :class:`Measurement`.
        expect: :func:`near`, :func:`at_least`, :func:`at_most`, :func:`between` or :func:`equal`.
        verdict: the pinned verdict, what earlier runs found; ``"reproduced"`` unless given, ``"not tested"``
            where ``not_tested`` is.
        headline: whether this is the paper's headline; each paper has exactly one.
        of: the setting, which stands before the text: ``"16 blocks, 100 steps"``.
        scale: how far our scale is from theirs, for the page of the paper.
        not_tested: why the claim was not tested, where it was not; with ``value`` the number is shown, and
            still counts for nothing.
        noise: what an equivalent rewriting or another order moves ``value`` by, a number or a function of the
            measurement; the interval is that much wider on both sides before it is judged.
        paper: id of the paper, where it is not the one of the experiment.

    Raises:
        ValueError: for an unknown paper or verdict, no place, or a claim with neither number nor reason.

    >>> paper_claim("ignores the batch", where="abstract", paper="peri-ln", value=0.1, expect=at_most(1)).kind
    'paper'
    """
    if not where:
        raise ValueError(f"say where the paper claims {text!r}: where='abstract' is always possible")
    if not not_tested and (value is None or expect is None):
        raise ValueError(f"{text!r} needs value= and expect=, or not_tested= with the reason")
    pinned = verdict or ("not tested" if not_tested else "reproduced")
    _check(text, paper, pinned, PAPER_VERDICTS, expect)
    if not_tested and pinned != "not tested":
        raise ValueError(f"{text!r} was not tested, so its verdict is not {pinned!r}")
    return Statement(
        "paper", text, value, expect, pinned, paper, of, where, headline, scale, not_tested, noise
    )


def question(
    text: str,
    *,
    value: Any,
    expect: Expectation,
    verdict: str = "as expected",
    of: str = "",
    noise: Any = 0.0,
    paper: str | None = None,
) -> Statement:
    """What the course asks beyond the papers: never a verdict on one of them.

    Args:
        text: what is expected, in words, readable without the page.
        value: as for :func:`paper_claim`.
        expect: what is expected of it.
        verdict: the pinned verdict: ``"as expected"``, ``"not as expected"`` or ``"open"``.
        of: the setting, which stands before the text.
        noise: as for :func:`paper_claim`.
        paper: id of the paper that it starts from, where it is not the one of the experiment.

    Raises:
        ValueError: for an unknown paper or verdict.

    >>> question("a wider one is better", value=[0.1, 0.2], expect=at_least(0)).verdict
    'as expected'
    """
    _check(text, paper, verdict, QUESTION_VERDICTS, expect)
    return Statement("question", text, value, expect, verdict, paper, of, noise=noise)


def _check(
    text: str, paper_id: str | None, verdict: str, verdicts: tuple[str, ...], expect: Expectation | None
) -> None:
    if paper_id is not None:
        _paper(paper_id)
    if verdict not in verdicts:
        raise ValueError(f"verdict={verdict!r} of {text!r} is none of {', '.join(map(repr, verdicts))}")
    if expect is not None and not isinstance(expect, Expectation):
        raise ValueError(
            f"expect={expect!r} is no expectation: use near, at_least, at_most, between or equal"
        )


@dataclass(frozen=True)
class Finding:
    """A statement and what was measured for it.

    Args:
        statement: the claim or question.
        paper: id of its paper.
        measured: a number, a sample over seeds, or None where nothing was measured.
        verdict: measured, not wished.
        reason: why it was not tested, or is open for want of a trained arm; else empty.
        experiment: name of the experiment, empty for what was computed on a page.
    """

    statement: Statement
    paper: str
    measured: float | Sample | None
    verdict: str
    reason: str = ""
    experiment: str = ""

    @property
    def id(self) -> str:
        """The name of the row in links: the paper and the words of the statement."""
        words = re.findall(r"[a-z0-9]+", self.statement.whole.lower())
        return f"{self.paper or 'course'}.{'-'.join(words)}"

    @property
    def found(self) -> str:
        """What was measured, in words."""
        if self.measured is None:
            return ""
        if not isinstance(self.measured, Sample):
            return number(self.measured)
        return f"{self.measured} ({len(self.measured)} seed{'s' * (len(self.measured) != 1)})"

    @property
    def data(self) -> dict[str, Any]:
        """The finding as plain data for the ledger; numbers that are none are None, as JSON wants it."""
        said, sample = self.statement, self.measured if isinstance(self.measured, Sample) else None
        return {
            "id": self.id,
            "kind": said.kind,
            "paper": self.paper,
            "headline": said.headline,
            "text": said.whole,
            "where": said.where,
            "scale": said.scale,
            "measured": None if self.measured is None else json_number(self.measured),
            "values": [json_number(v) for v in sample.values] if sample else None,
            "seeds": list(sample.seeds) if sample else None,
            "spread": json_number(sample.spread) if sample else None,
            "found": self.found,
            "expect": str(said.expect or ""),
            "verdict": self.verdict,
            "reason": self.reason,
            "experiment": self.experiment,
        }

    def __str__(self) -> str:
        judged = f"{SIGNS[self.verdict]} {self.verdict}{f' ({self.reason})' if self.reason else ''}"
        numbers = f" | measured {self.found}, expected {self.statement.expect}" if self.found else ""
        return f"{judged} | {self.paper}: {self.statement.whole}{numbers}"

    def confirm(self) -> "Finding":
        """The finding itself, if its verdict is the pinned one.

        Raises:
            ClaimDrift: if it is another one.
        """
        if self.verdict != self.statement.verdict:
            raise ClaimDrift(self._drift())
        return self

    def _drift(self) -> str:
        detail = ""
        if isinstance(self.measured, Sample):
            low, high = self.measured.interval()
            values = ", ".join(map(number, self.measured.values))
            detail = f"\n  per seed {values}; 95 % interval of the mean {number(low)} to {number(high)}"
        reason = f"\n  {self.reason}" if self.reason else ""
        trial = self.experiment or "NAME"
        return (
            f"the verdict is pinned as {self.statement.verdict!r}, but measured is {self.verdict!r}\n"
            f"  {self.paper}: {self.statement.whole}\n  measured {self.found}, expected "
            f"{self.statement.expect}{detail}{reason}\n"
            "Find out what changed: the code, a default, the data, or a version (of a trained claim, try ten "
            f"other seeds: python -m course_lib.experiments claims {trial} --seeds 10-19). If the new number "
            f"is right, pin verdict={self.verdict!r} and change the words around it."
        )


def find(
    statement: Statement,
    measurement: Mapping[str, Sample] | None = None,
    *,
    paper: str | None = None,
    experiment: str = "",
) -> Finding:
    """Judge a statement by what was measured.

    Args:
        statement: the claim or question.
        measurement: what ``value`` and ``noise`` are functions of, for a statement at an experiment.
        paper: id of the experiment's paper.
        experiment: its name.

    Raises:
        ValueError: for a statement without paper, or a value that is no number and no sample.
    """
    paper_id = statement.paper or paper
    if paper_id is None:
        raise ValueError(f"say of which paper: paper_claim({statement.text!r}, paper=...)")
    measured = _resolve(statement.value, measurement)
    value = None if measured is None else number_or_sample(measured)
    doubt = statement.not_tested or (value.doubt if isinstance(value, Sample) else "")
    if doubt:
        verdict = "not tested"
    else:
        noise = abs(float(_resolve(statement.noise, measurement)))
        verdict = _judge(value, statement.expect, noise)
    if statement.kind == "question":
        verdict = _AS_QUESTION[verdict]
    return Finding(statement, paper_id, value, verdict, doubt, experiment)


def _resolve(value: Any, measurement: Mapping[str, Sample] | None) -> Any:
    return value(measurement) if isinstance(value, Callable) else value


def number_or_sample(measured: Any) -> float | Sample:
    """Python's own number, or a sample where there is one value per seed.

    Raises:
        ValueError: for anything else.
    """
    if hasattr(measured, "tolist"):  # a tensor or an array
        measured = measured.tolist()
    if isinstance(measured, (bool, int, float, Sample)):
        return measured
    if isinstance(measured, Iterable) and not isinstance(measured, (str, dict)):
        values = list(measured)
        if all(isinstance(value, (bool, int, float)) for value in values):
            return Sample(tuple(values))
    raise ValueError(f"measured={measured!r} is no number and no sequence of one number per seed")


def _judge(value: float | Sample, expect: Expectation, noise: float) -> str:
    low, high = value.interval() if isinstance(value, Sample) else (float(value), float(value))
    low, high = low - noise, high + noise
    if math.isnan(low) or math.isnan(high):
        return "inconclusive"
    if expect.holds(low) and expect.holds(high):
        return "reproduced"
    return "not reproduced" if high < expect.low or low > expect.high else "inconclusive"


def json_number(value: float | Sample) -> float | None:
    """At most nine significant digits, which is all that single precision has; None for what is no number."""
    if isinstance(value, (bool, int)):
        return value
    value = float(value)
    return float(f"{value:.9g}") if math.isfinite(value) else None
