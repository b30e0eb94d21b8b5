"""Claims, questions and identities on a page: one quiet table each, whose verdicts are guarded.

What a statement is, and how it is judged, stands in :mod:`course_lib.measure.claims`. Here it is shown, and
its data are left in the notebook for the ledger.
"""

import html
import sys
from collections.abc import Callable, Iterable
from typing import Any

from course_lib.measure import findings
from course_lib.measure.claims import (
    SIGNS,
    ClaimDrift,
    Expectation,
    Finding,
    Statement,
    find,
)
from course_lib.measure.sample import Sample
from course_lib.registry import paper
from course_lib.tables import Displayed, Table

__all__ = [
    "MIME",
    "collect",
    "identities",
    "show_claims",
]

MIME = "application/vnd.course-lib.claims+json"


def show_claims(*sources: Callable | Statement | Iterable[Statement], first: int = 3) -> None:
    """Show what was found for claims and questions, one row each, and guard their verdicts.

    Args:
        sources: experiments, whose statements are judged by their stored results; or statements that were
            computed on the page, with ``paper=`` and a number as ``value=``.
        first: how many rows stand on the page; the others, if they are two or more, are folded behind a line.

    Raises:
        ClaimDrift: if a verdict is not the pinned one; the table is shown first.
        ValueError: for an experiment without statements, or a statement without paper.

    >>> from course_lib.measure import at_most, paper_claim
    >>> row = paper_claim(
    ...     "ignores the batch", where="abstract", paper="peri-ln", value=2.4e-07, expect=at_most(1e-6)
    ... )
    >>> show_claims(row)
    claim              verdict       measured  expected      said in
    ignores the batch  ✓ reproduced  2.4e-7    at most 1e-6  abstract
    """
    found: list[Finding] = []
    for source in sources:
        if callable(source):
            if not (new := findings(source)):
                raise ValueError(f"{source.__name__} states nothing: give @experiment(claims=[...])")
            found += new
        else:
            found += [find(s) for s in ([source] if isinstance(source, Statement) else source)]
    if len(found) == first + 1:
        first += 1  # a line that unfolds one row saves nothing
    shown, rest = found[:first], found[first:]
    data = [finding.data for finding in found]
    _show(_table(shown), data, more=_table(rest) if rest else None, words=f"{len(rest)} more")
    for finding in found:
        finding.confirm()


def identities(
    paper_id: str | None, rows: Iterable[tuple[str, Any, Expectation]], caption: str = "Exact"
) -> None:
    """Show exact statements about mathematics or code, folded away, and require that they hold.

    Args:
        paper_id: id of the paper that they belong to, or None.
        rows: for each its text, the number or truth value computed here, and what is expected.
        caption: a line above the table.

    Raises:
        ClaimDrift: naming those that do not hold; the table is shown first.
        ValueError: for an unknown paper, a value that is no number, or no expectation.

    >>> from course_lib.measure import equal
    >>> identities("peri-ln", [("2 + 2", 2 + 2, equal(4))])
    Exact
    identity  computed  expected
    2 + 2            4  equal to 4
    """
    if paper_id is not None:
        paper(paper_id)
    shown, data, broken = [], [], []
    for text, value, expect in rows:
        finding = find(Statement("identity", text, value, expect, "holds", None), paper=paper_id or "")
        held = (
            expect.holds(finding.measured)
            if not isinstance(finding.measured, Sample)
            else all(map(expect.holds, finding.measured))
        )
        shown.append([_anchored(finding), finding.found, str(expect)])
        data.append({**finding.data, "verdict": "holds" if held else "does not hold"})
        broken += [] if held else [f"{text}: computed {finding.found}, expected {expect}"]
    table = Table(shown, ["identity", "computed", "expected"], caption, align="lrl")
    hold = "1 statement holds" if len(shown) == 1 else f"{len(shown)} statements hold"
    if broken:
        _show(table, data)
    else:
        _show(None, data, more=table, words=f"{caption}: {hold}")
    if broken:
        raise ClaimDrift("does not hold\n  " + "\n  ".join(broken))


def collect(notebook_json: dict[str, Any]) -> list[dict[str, Any]]:
    """The data of all statements in an executed notebook (the content of an ``.ipynb`` file), in order."""
    found = []
    for cell in notebook_json.get("cells", []):
        for output in cell.get("outputs", []):
            found += output.get("data", {}).get(MIME, [])
    return found


def _table(found: list[Finding]) -> Table:
    kinds = {finding.statement.kind for finding in found}
    papers = {finding.paper for finding in found}
    # A setting that several rows share stands before the first of them.
    before = [None, *(finding.statement.of for finding in found)]
    rows = [
        [
            _anchored(finding, short=finding.statement.of == above),
            _verdict(finding),
            finding.found or "–",
            str(finding.statement.expect or "–"),
            _said(finding, len(papers) > 1),
        ]
        for finding, above in zip(found, before, strict=False)
    ]
    head = {"paper": "claim", "question": "question"}.get(*kinds) if len(kinds) == 1 else "claim or question"
    return Table(rows, [head, "verdict", "measured", "expected", "said in"], align="lllll", label="claims")


def _anchored(finding: Finding, *, short: bool = False) -> Displayed:
    """The statement, with the name by which a link finds its row; short without its setting."""
    said = finding.statement.text if short else finding.statement.whole
    text = html.escape(said)
    name = html.escape(finding.id)
    link = f'<a class="claim-link" href="#{name}" aria-label="link to this row">#</a>'
    return Displayed(f'<span id="{name}">{text}</span> {link}', said)


def _verdict(finding: Finding) -> Displayed:
    text = f"{SIGNS[finding.verdict]} {finding.verdict}"
    reason = f": {finding.reason}" if finding.reason else ""
    kind = finding.verdict.replace(" ", "-")
    return Displayed(
        f'<span class="verdict verdict-{kind}">{text}</span>{html.escape(reason)}', f"{text}{reason}"
    )


def _said(finding: Finding, several: bool) -> Displayed:
    """Where the paper says it, as a link to the paper."""
    if finding.statement.kind == "question":
        return Displayed("<em>our question</em>", "our question")
    source, where = paper(finding.paper), finding.statement.where
    name = f"{where}, {finding.paper}" if several else where
    title = html.escape(f"{source.title} ({source.year})")
    return Displayed(f'<a href="{source.url}" title="{title}">{html.escape(name)}</a>', name)


def _show(
    table: Table | None, data: list[dict[str, Any]], *, more: Table | None = None, words: str = ""
) -> None:
    """One output with text, a table, one more behind some words, and data inside IPython; elsewhere text."""
    plain = "\n".join(str(part) for part in (table, more) if part is not None)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        page = table.html_text if table else ""
        if more:
            summary = f"<summary>{html.escape(words)}</summary>"
            page += f'<details class="folded-rows">{summary}{more.html_text}</details>'
        display({"text/html": page, "text/plain": plain, MIME: data}, raw=True)
    else:
        print(plain)
