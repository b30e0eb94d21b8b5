"""The table that opens a chapter: its papers, and what the library has of each."""

import html
import importlib
from importlib.util import find_spec

from course_lib import registry
from course_lib.tables import Displayed, Table


def papers_table(chapter: str) -> Table:
    """The papers of a chapter with year, arXiv link and the objects that implement them.

    Args:
        chapter: id such as ``layers/norm``.

    Returns:
        A table; the last line of a cell shows it.

    Raises:
        ValueError: for an unknown chapter.

    >>> print(str(papers_table("layers/norm")).splitlines()[1][:60])
    2016  Layer Normalization (https://arxiv.org/abs/1607.06450)
    """
    if chapter not in registry.chapters():
        raise ValueError(f"no chapter has the id {chapter!r}{registry.suggest(chapter, registry.chapters())}")
    objects = _objects(chapter)
    papers = [paper for paper in registry.papers().values() if paper.chapter == chapter]
    rows = [
        [paper.year, _link(paper), _code(objects.get(paper.id, []))]
        for paper in sorted(papers, key=lambda paper: (paper.year, paper.title))
    ]
    columns = ["Year", "Paper", "In the library"]
    return Table(rows, columns, label="papers of this chapter", align="lll", head=1)


def _link(paper: registry.Paper) -> Displayed:
    link = f'<a href="{paper.url}" style="font-weight:normal">{html.escape(paper.title)}</a>'
    return Displayed(link, f"{paper.title} ({paper.url})")


def _code(names: list[str]) -> Displayed | None:
    if not names:
        return None
    code = ", ".join(f"<code>{html.escape(name)}</code>" for name in names)
    return Displayed(code, ", ".join(names))


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
