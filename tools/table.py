"""Tables of the generated pages, with what ``filter.js`` needs to filter and sort them."""

from collections.abc import Iterable

from course_lib.tables import Table

__all__ = ["facet", "filterable", "table"]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; cells must not hold line breaks."""
    return Table(map(list, rows), head).markdown


def facet(title: str, kind: str) -> str:
    """The head of a column with a menu of its values (``choice``) or a limit (``most``, ``least``)."""
    return f'<span data-facet="{kind}">{title}</span>'


def filterable(name: str, content: str, *classes: str) -> str:
    """A block that ``filter.js`` gives a filter box; without JavaScript it is simply all there.

    The class ``facets-2`` says how many controls will come beside the words: custom.css keeps their place.
    """
    names = " ".join(["filterable", f"facets-{content.count('data-facet=')}", *classes])
    return f":::{{div}} {names}\n:name: {name}\n\n{content}\n:::\n"
