"""Claims of papers, tried: each prints what was measured, and pins its verdict.

A claim that is not reproduced is worth as much as one that is, so both are guarded: when the measured
verdict is no longer the pinned one, :class:`ClaimDrift` stops the notebook. The verdict of a number is
plain. The verdict of a :class:`Sample` (one value per seed) follows the 95 % interval of its mean:
wholly inside the expectation it is ``reproduced``, wholly outside ``not reproduced``, else the seeds
disagree and it is ``inconclusive``. NaN, or no value at all, is never ``reproduced``.
"""

import html
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from course_lib.measure.sample import Sample, number
from course_lib.registry import paper

MIME = "application/vnd.course-lib.claim+json"
_SIGNS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?"}


class ClaimDrift(AssertionError):
    """The measured verdict of a claim is not the pinned one."""


@dataclass(frozen=True)
class Expectation:
    """What a claim expects of a number: that it lies in ``[low, high]``.

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
class Claim:
    """One claim of one paper with what was measured for it.

    Args:
        paper: id of the paper.
        text: the claim in words.
        measured: a number, or a sample over seeds.
        expect: what the claim expects of it.
        verdict: ``reproduced``, ``not reproduced`` (at this scale) or ``inconclusive``; measured, not wished.
    """

    paper: str
    text: str
    measured: float | Sample
    expect: Expectation
    verdict: str

    @property
    def found(self) -> str:
        """What was measured, in words."""
        if not isinstance(self.measured, Sample):
            return number(self.measured)
        return f"{self.measured} ({len(self.measured)} seed{'s' * (len(self.measured) != 1)})"

    @property
    def metadata(self) -> dict[str, Any]:
        """The claim as plain data for the ledger; numbers that are none are None, as JSON wants it."""
        sample = isinstance(self.measured, Sample)
        return {
            "paper": self.paper,
            "text": self.text,
            "measured": _json_number(self.measured),
            "values": [_json_number(v) for v in self.measured.values] if sample else None,
            "seeds": list(self.measured.seeds) if sample else None,
            "spread": _json_number(self.measured.spread) if sample else None,
            "found": self.found,
            "expect": str(self.expect),
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        judged = f"{_SIGNS[self.verdict]} {self.verdict}"
        return f"{judged} | {self.paper}: {self.text} | measured {self.found}, expected {self.expect}"

    def _repr_html_(self) -> str:
        source = paper(self.paper)
        link = f'<a href="{source.url}" title="{html.escape(source.title)}">{html.escape(self.paper)}</a>'
        kind = self.verdict.replace(" ", "-")
        verdict = f'<span class="verdict verdict-{kind}">{_SIGNS[self.verdict]} {self.verdict}</span>'
        cells = [self.text, f"measured {self.found}", f"expected {self.expect}"]
        row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        return (
            '<table class="claim"><tbody>'
            f'<tr><th scope="row">{link}</th>{row}<td>{verdict}</td></tr></tbody></table>'
        )

    def _ipython_display_(self) -> None:
        """Nothing: :func:`claim` has shown the row, and the last value of a cell must not show it again."""


def claim(
    paper_id: str, text: str, *, measured: Any, expect: Expectation, verdict: str = "reproduced"
) -> Claim:
    """Compare what was measured with what a paper claims, show one row, and guard the verdict.

    Args:
        paper_id: id from ``papers.toml``.
        text: the claim, in words.
        measured: a number or truth value (also a tensor of one element); or a :class:`Sample`, list, array or
            tensor with one value per seed.
        expect: :func:`near`, :func:`at_least`, :func:`at_most`, :func:`between` or :func:`equal`.
        verdict: the pinned verdict, what earlier runs found.

    Raises:
        ClaimDrift: if the measured verdict is another one.
        ValueError: for an unknown paper or verdict, or something that is no number.

    >>> row = claim("layer-normalization", "ignores the batch", measured=2.4e-07, expect=at_most(1e-6))
    ✓ reproduced | layer-normalization: ignores the batch | measured 2.4e-7, expected at most 1e-6
    >>> row.verdict
    'reproduced'
    """
    paper(paper_id)
    if verdict not in _SIGNS:
        raise ValueError(f"verdict={verdict!r} is none of {', '.join(map(repr, _SIGNS))}")
    if not isinstance(expect, Expectation):
        raise ValueError(
            f"expect={expect!r} is no expectation: use near, at_least, at_most, between or equal"
        )
    value = _number_or_sample(measured)
    result = Claim(paper_id, text, value, expect, _judge(value, expect))
    _show(result)
    if result.verdict != verdict:
        raise ClaimDrift(_drift(result, verdict))
    return result


def collect(notebook_json: dict[str, Any]) -> list[dict[str, Any]]:
    """The metadata of all claims in an executed notebook (the content of an ``.ipynb`` file), in order."""
    found = []
    for cell in notebook_json.get("cells", []):
        for output in cell.get("outputs", []):
            if MIME in output.get("data", {}):
                found.append(output["data"][MIME])
    return found


def _number_or_sample(measured: Any) -> float | Sample:
    """Python's own number, or a sample where there is one value per seed."""
    if hasattr(measured, "tolist"):  # a tensor or an array
        measured = measured.tolist()
    if isinstance(measured, (bool, int, float, Sample)):
        return measured
    if isinstance(measured, Iterable) and not isinstance(measured, (str, dict)):
        values = list(measured)
        if all(isinstance(value, (bool, int, float)) for value in values):
            return Sample(tuple(values))
    raise ValueError(f"measured={measured!r} is no number and no sequence of one number per seed")


def _judge(value: float | Sample, expect: Expectation) -> str:
    if isinstance(value, Sample):
        low, high = value.interval()
    else:
        low = high = float(value)
    if math.isnan(low) or math.isnan(high):
        return "inconclusive"
    if expect.holds(low) and expect.holds(high):
        return "reproduced"
    return "not reproduced" if high < expect.low or low > expect.high else "inconclusive"


def _drift(result: Claim, pinned: str) -> str:
    detail = ""
    if isinstance(result.measured, Sample):
        low, high = result.measured.interval()
        values = ", ".join(map(number, result.measured.values))
        detail = f"\n  per seed {values}; 95 % interval of the mean {number(low)} to {number(high)}"
    return (
        f"the verdict is pinned as {pinned!r}, but measured is {result.verdict!r}\n"
        f"  {result.paper}: {result.text}\n  measured {result.found}, expected {result.expect}{detail}\n"
        "Find out what changed: the code, a default, the data, or a version (of a trained claim, try ten "
        "other seeds: python -m course_lib.experiments run NAME --seeds 10-19). If the new number is right, "
        f"pin verdict={result.verdict!r} and change the words around it."
    )


def _json_number(value: float | Sample) -> float | None:
    """At most nine significant digits, which is all that single precision has."""
    if isinstance(value, (bool, int)):
        return value
    value = float(value)
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _show(result: Claim) -> None:
    """One output with text, table row and data inside IPython; elsewhere the line."""
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        bundle = {"text/plain": str(result), "text/html": result._repr_html_(), MIME: result.metadata}
        display(bundle, raw=True)
    else:
        print(result)
