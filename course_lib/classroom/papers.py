"""The table that opens a chapter: its papers, and what the library has of each."""

import html
import importlib
from importlib.util import find_spec

from course_lib import registry
from course_lib.classroom.style import Displayed


def papers_table(chapter: str) -> Displayed:
    """The papers of a chapter with year, arXiv link and the objects that implement them.

    Args:
        chapter: id such as ``layers/norm``.

    Returns:
        A table; the last line of a cell shows it.

    Raises:
        ValueError: for an unknown chapter.

    >>> print(str(papers_table("layers/norm")).splitlines()[1])
    2016  Layer Normalization (https://arxiv.org/abs/1607.06450)
    """
    if chapter not in registry.chapters():
        raise ValueError(f"no chapter has the id {chapter!r}{registry.suggest(chapter, registry.chapters())}")
    objects = _objects(chapter)
    papers = [paper for paper in registry.papers().values() if paper.chapter == chapter]
    rows = [(paper, objects.get(paper.id, [])) for paper in sorted(papers, key=lambda p: (p.year, p.title))]
    return Displayed(_as_html(rows), _as_text(rows))


def _objects(chapter: str) -> dict[str, list[str]]:
    """Names of the chapter's objects by paper; only this one chapter is imported."""
    module = "course_lib." + chapter.replace("/", ".")
    if find_spec(module.rpartition(".")[0]) is None or find_spec(module) is None:
        return {}  # planned, not built
    found: dict[str, list[str]] = {}
    importlib.import_module(module)
    for name in registry.public_names(module):
        # Not registry.entries(): that would make every page depend on every chapter.
        if entry := registry.registered(name, chapter):
            for paper_id in entry.paper_ids:
                found.setdefault(paper_id, []).append(name)
    return found


def _as_html(rows: list[tuple[registry.Paper, list[str]]]) -> str:
    body = ""
    for paper, names in rows:
        link = f'<a href="{paper.url}">{html.escape(paper.title)}</a>'
        code = ", ".join(f"<code>{html.escape(name)}</code>" for name in names) or "–"
        body += f'<tr><td>{paper.year}</td><th scope="row">{link}</th><td>{code}</td></tr>'
    head = "".join(f'<th scope="col">{title}</th>' for title in ("Year", "Paper", "In the library"))
    return (
        '<div class="course-table" role="region" aria-label="papers of this chapter" tabindex="0"'
        ' style="overflow-x:auto"><style>.course-table :is(th,td){padding:.25em .75em!important;'
        "text-align:left!important;vertical-align:top;white-space:normal}"
        ".course-table tbody th{font-weight:inherit}</style>"
        f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _as_text(rows: list[tuple[registry.Paper, list[str]]]) -> str:
    lines = ["year  paper"]
    for paper, names in rows:
        lines.append(f"{paper.year}  {paper.title} ({paper.url})")
        lines.append(f"      {', '.join(names) or '-'}")
    return "\n".join(lines)
