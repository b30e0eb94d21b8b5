"""The ledger: every claim, question and identity of the course with its verdict, as a page, JSON and CSV."""

import csv
import io
import json
from collections import Counter

import api
from api import escape
from contents import Contents, Tried
from table import facet, filterable, table

from course_lib import registry
from course_lib.measure.claims import PAPER_VERDICTS, QUESTION_VERDICTS, SIGNS

__all__ = ["claims_csv", "claims_json", "counts", "ledger", "totals", "verdict"]

COLUMNS = [
    *("id", "kind", "headline", "verdict", "reason", "text", "measured", "spread", "seeds", "expect"),
    *("paper", "title", "arxiv", "where", "page", "experiment"),
]


def verdict(word: str) -> str:
    """A verdict with its sign, in its colour."""
    return f'<span class="verdict verdict-{word.replace(" ", "-")}">{SIGNS[word]} {word}</span>'


def counts(contents: Contents) -> dict[str, dict[str, int]]:
    """How many statements of each kind have which verdict; headlines are counted once more, apart."""
    found = {"headline": Counter(), "paper": Counter(), "question": Counter(), "identity": Counter()}
    for tried in contents.claims:
        found[tried.kind][tried.verdict] += 1
        if tried.headline:
            found["headline"][tried.verdict] += 1
    words = {"identity": ("holds",), "question": QUESTION_VERDICTS}
    return {kind: {word: n[word] for word in words.get(kind, PAPER_VERDICTS)} for kind, n in found.items()}


def totals(found: dict[str, int]) -> str:
    """The verdicts of one kind in words."""
    return ", ".join(f"{count} {word}" for word, count in found.items())


def ledger(contents: Contents) -> str:
    """Every statement of the course with its verdict, first the totals."""
    found = counts(contents)
    claims = [tried for tried in contents.claims if tried.kind == "paper"]
    questions = [tried for tried in contents.claims if tried.kind == "question"]
    identities = [tried for tried in contents.claims if tried.kind == "identity"]
    papers = sum(found["headline"].values())
    lines = [
        "# The claims, tried",
        "",
        f"**Headline claims of papers: {papers}. {totals(found['headline']).capitalize()}.**",
        "",
        "Three kinds of statement, counted apart. A **claim** is what a paper says, tried at a size that",
        "a laptop computes. *Not reproduced* says that it did not show at this size, no more;",
        "*inconclusive* that the seeds disagree; *not tested* that an arm was not trained, or that the",
        "regime is not the paper's.",
        "A **question** is the course's own. An **identity** is exact, and a page on which one fails is not",
        "built. Numbers after ± are the spread over seeds. Verdicts are pinned: a build in which one of them",
        "changes fails. As data: <a href='claims.json'>JSON</a>, <a href='claims.csv'>CSV</a>.",
        "",
        f"## Claims of papers: {len(claims)}",
        "",
        f"{totals(found['paper']).capitalize()}.",
        "",
        _statements("claim-table", claims, "Claim") if claims else "No chapter has made a claim yet.",
        "",
    ]
    if questions:
        lines += [
            f"## Questions of ours: {len(questions)}",
            "",
            f"{totals(found['question']).capitalize()}.",
            "",
            _statements("question-table", questions, "Question"),
            "",
        ]
    if identities:
        rows = [
            [escape(t.data["text"]), escape(t.data["found"]), escape(t.data["expect"]), _page(t)]
            for t in identities
        ]
        lines += [
            f"## Identities: {len(identities)}",
            "",
            "All of them hold.",
            "",
            filterable("identity-table", table(["Identity", "Computed", "Expected", "Page"], rows)),
            "",
        ]
    return "\n".join(lines)


def _statements(name: str, found: list[Tried], title: str) -> str:
    rows = [
        [
            escape(tried.data["text"]),
            verdict(tried.verdict),
            "<br>".join(escape(tried.data[key]) for key in ("found", "reason") if tried.data[key]) or "–",
            escape(tried.data["expect"]) or "–",
            "headline" if tried.headline else "",
            api.paper_link(tried.paper, registry.paper(tried.paper).title, page="claims"),
            registry.paper(tried.paper).arxiv,
            _page(tried),
        ]
        for tried in found
    ]
    head = [title, facet("Verdict", "choice"), "Measured", "Expected"]
    head += [facet("Headline", "choice"), "Paper", "arXiv", facet("Page", "choice")]
    if title == "Question":
        rows, head = [[*row[:4], *row[5:]] for row in rows], [*head[:4], *head[5:]]
    return filterable(name, table(head, rows), "sortable")


def _page(tried: Tried) -> str:
    """A link to the row on its page."""
    chapter = registry.chapters().get(tried.page)
    title = escape(chapter.title if chapter else tried.page)
    return f'<a href="{tried.page}.html#{tried.data["id"]}">{title}</a>'


def claims_json(contents: Contents) -> str:
    """The ledger as data."""
    rows = [{**tried.data, **_source(tried)} for tried in contents.claims]
    return json.dumps({"counts": counts(contents), "statements": rows}, indent=1) + "\n"


def claims_csv(contents: Contents) -> str:
    """The ledger as a table for other programs; the seeds of a sample are set apart by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for tried in contents.claims:
        seeds = " ".join(map(str, tried.data["seeds"] or ()))
        writer.writerow({**tried.data, **_source(tried), "seeds": seeds})
    return text.getvalue()


def _source(tried: Tried) -> dict[str, str]:
    if not tried.paper:
        return {"page": tried.page, "title": "", "arxiv": ""}
    paper = registry.paper(tried.paper)
    return {"page": tried.page, "title": paper.title, "arxiv": paper.arxiv}
