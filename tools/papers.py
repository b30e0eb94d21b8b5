"""The paper index, and one page for each paper that is built: is it here, did it reproduce, what says so."""

import csv
import io
import json
import re

import api
from api import chapter_link, escape
from contents import Contents, Tried
from ledger import verdict
from table import facet, filterable, table

from course_lib import registry
from course_lib.registry import Paper

__all__ = ["all_bibtex", "bibtex", "index", "page", "page_name", "papers_csv", "state"]

PLANNED = "planned"


def page_name(paper: Paper) -> str:
    """The page of a paper: ``papers/1607.06450``."""
    return f"papers/{paper.arxiv.replace('/', '-')}"


def headline(contents: Contents, paper: Paper) -> Tried | None:
    """The headline claim of a paper, if its chapter has tried it."""
    return next((t for t in contents.claims_of(paper) if t.headline), None)


def state(contents: Contents, paper: Paper) -> str:
    """One word or two: the verdict of the headline, ``built`` without one, else ``planned``."""
    found = headline(contents, paper)
    return found.verdict if found else "built" if contents.is_built(paper) else PLANNED


def index(contents: Contents) -> str:
    """All papers with chapter, objects and verdict; those that are built stand first."""
    found = sorted(
        registry.papers().values(), key=lambda p: (not contents.is_built(p), p.title.lower(), p.id)
    )
    rows = [_row(contents, paper) for paper in found]
    head = ["Paper", "arXiv", facet("Year", "choice"), facet("Chapter", "choice"), "Objects"]
    head += [facet("Headline claim", "choice")]
    lines = [
        "# The papers",
        "",
        f"{len(contents.built)} of {len(rows)} papers are built; the others are planned. The title of",
        "a built paper leads to its page: what it claims, what came out when it was tried, the code, the",
        "chapter, how to cite it. Words narrow the list: a name, `1607.06450`, `rope`; the menus do so too.",
        "The same list",
        "as data: <a href='papers.csv'>CSV</a>, <a href='papers.bib'>BibTeX</a>.",
        "",
        filterable("paper-table", table(head, rows), "sortable"),
    ]
    return "\n".join(lines)


def _row(contents: Contents, paper: Paper) -> list[str]:
    built = contents.is_built(paper)
    title = f"[{escape(paper.title)}]({f'/{page_name(paper)}' if built else paper.url})"
    names = [", ".join(paper.authors), ", ".join(paper.aliases)]
    below = "".join(f'<br><span class="paper-names">{escape(text)}</span>' for text in names if text)
    word = state(contents, paper)
    return [
        f'<span id="{paper.id}"></span>{title}{below}',
        f"[{paper.arxiv}]({paper.url})",
        str(paper.year),
        chapter_link(contents, paper.chapter),
        ", ".join(api.link(entry.obj) for entry in contents.entries_of_paper[paper.id]),
        word if word in (PLANNED, "built") else verdict(word),
    ]


def page(contents: Contents, paper: Paper) -> str:
    """The page of a paper."""
    main = headline(contents, paper)
    others = [t for t in contents.claims_of(paper) if t is not main]
    authors = f"{', '.join(map(escape, paper.authors))}, " if paper.authors else ""
    lines = [
        "---",
        "orphan: true",
        "---",
        "",
        f"# {escape(paper.title)}",
        "",
        f"{authors}{paper.year}, [arXiv:{paper.arxiv}]({paper.url})",
        "",
    ]
    if paper.aliases:
        lines += [f"Looked for as {', '.join(map(escape, paper.aliases))}.", ""]
    lines += _headline(main)
    lines += ["## Where it is", "", *_places(contents, paper), ""]
    lines += ["## The authors' code", "", *_authors_code(contents, paper), ""]
    for kind, title in (
        ("paper", "Other claims of the paper"),
        ("question", "What else the course asked"),
        ("identity", "What is exact"),
    ):
        if rows := [_statement(t) for t in others if t.kind == kind]:
            shown = table(["Statement", "Verdict", "Measured", "Expected"], rows)
            lines += [f"## {title}", "", ":::{div} statements", shown, ":::", ""]
    lines += ["## Cite it", "", "```bibtex", bibtex(paper), "```", ""]
    return "\n".join(lines)


def _headline(main: Tried | None) -> list[str]:
    if main is None:
        return ["No headline claim has been tried yet.", ""]
    data = main.data
    lines = [f"**{escape(data['text'])}** (the paper, {escape(data['where'])})", ""]
    reason = f": {escape(data['reason'])}" if data["reason"] else ""
    lines += [f"{verdict(main.verdict)}{reason}", ""]
    if data["found"]:
        lines += [f"Measured {escape(data['found'])}, expected {escape(data['expect'])}.", ""]
    if data["scale"]:
        lines += [f"Our scale and theirs: {escape(data['scale'])}.", ""]
    return [*lines, f'<a href="../{main.page}.html#{data["id"]}">Where it was tried</a>', ""]


def _places(contents: Contents, paper: Paper) -> list[str]:
    chapter = paper.chapter
    lines = [f"- Taught in {chapter_link(contents, chapter)}"]
    if f"exercises/{chapter}" in contents.pages:
        lines += [f"- Practised in [its exercises](/exercises/{chapter})"]
    objects = ", ".join(api.link(entry.obj) for entry in contents.entries_of_paper[paper.id])
    experiments = sorted({t.data["experiment"] for t in contents.claims_of(paper)} - {""})
    lines += [f"- In the library: {objects}"]
    lines += [f"- Measured by `{'`, `'.join(experiments)}`"] if experiments else []
    return lines


def _authors_code(contents: Contents, paper: Paper) -> list[str]:
    file = contents.root / f"tests/vectors/{paper.id}.json"
    if file.exists():
        lines = []
        for entry in json.loads(file.read_text("utf-8")).values():
            repository, commit, call = entry["repository"], entry["commit"], entry["call"].replace("`", "'")
            address = f"https://github.com/{repository}/blob/{commit}/{entry['file']}"
            lines.append(
                f"- [{repository}]({address}) at `{commit[:8]}`: `{call}` was run with the same numbers as "
                "ours; a test compares the values."
            )
        return lines
    if paper.code:
        return [f"[{paper.code}](https://github.com/{paper.code}); no values were compared with it."]
    return ["None was found, or none was looked for; see the chapter."]


def _statement(tried: Tried) -> list[str]:
    text = f'{escape(tried.data["text"])} <a href="../{tried.page}.html#{tried.data["id"]}">#</a>'
    reason = f": {escape(tried.data['reason'])}" if tried.data["reason"] else ""
    found, expected = tried.data["found"], tried.data["expect"]
    return [text, verdict(tried.verdict) + reason, escape(found) or "–", escape(expected) or "–"]


def bibtex(paper: Paper) -> str:
    """An entry for BibTeX; braces keep the capitals of the title."""
    title = re.sub(r"([&%$#_])", r"\\\1", paper.title)
    lines = [
        f"@misc{{{paper.id},",
        *([f"  author = {{{' and '.join(paper.authors)}}},"] if paper.authors else []),
        f"  title = {{{{{title}}}}},",
        f"  year = {{{paper.year}}},",
        f"  eprint = {{{paper.arxiv}}},",
        "  archivePrefix = {arXiv},",
        "}",
    ]
    return "\n".join(lines)


def all_bibtex() -> str:
    """Every paper of the course for BibTeX."""
    return "\n\n".join(map(bibtex, registry.papers().values())) + "\n"


def papers_csv(contents: Contents) -> str:
    """The index as a table for other programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "title", "authors", "aliases", "year", "arxiv", "chapter", "headline", "page"])
    for paper in registry.papers().values():
        authors, aliases = "; ".join(paper.authors), "; ".join(paper.aliases)
        built = f"{page_name(paper)}.html" if contents.is_built(paper) else ""
        row = [paper.id, paper.title, authors, aliases, paper.year, paper.arxiv, paper.chapter]
        writer.writerow([*row, state(contents, paper), built])
    return text.getvalue()
