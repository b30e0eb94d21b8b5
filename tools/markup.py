"""What the theme and Sphinx write that a reader cannot use, mended in the text of a page: things that can be
operated get names, and the side bar folds its parts.

``mended`` is a filter of the template ``layout.html``: pages are written once, as they shall be.
"""

import re
from collections import Counter

__all__ = ["mended"]

# The arrow that folds a part of the side bar has no words: it gets those of the link before it.
_FOLD = re.compile(
    r'(<a class="[^"]*reference internal" href="[^"]*">\s*([^<]+?)\s*</a>\s*<details[^>]*>)\s*<summary>'
)
# What opens a folded cell says so in words; a label that says something else hides them.
_CELL = re.compile(r'<summary aria-label="Toggle hidden content">')
_SEARCH = re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"')
# Sphinx writes long signatures as lists of definitions that define nothing.
_SIGNATURE = re.compile(r"(<dt class=\"sig[^>]*>(?:(?!</dt>).)*?)<dl>\s*((?:(?!</dt>).)*?)</dl>", re.DOTALL)
_SIDE_BAR = re.compile(
    r'(?P<before><nav class="bd-links bd-docs-nav".*?)(?P<parts><p aria-level="2" class="caption".*?)'
    r"(?P<after></div>\s*</nav>)",
    re.DOTALL,
)
_PART = re.compile(r'<p aria-level="2" class="caption"[^>]*>(.*?)</p>\s*(.*)', re.DOTALL)
# These parts of the table of contents are no chapters; the first two stand on top.
OPEN = ("Start here", "Look things up", "Take part")
# A cell that heads nothing is no head.
_EMPTY_HEAD = re.compile(r"<th\b[^>]*>\s*(?:<p>\s*</p>\s*)?</th>")
_LABELLED = re.compile(r'(<div class="course-table" role="region" aria-label=")([^"]*)"')


def mended(text: str) -> str:
    """The same page with a name for everything that can be operated.

    >>> mended('<a class="reference internal" href="x.html">Layers</a><details><summary>')
    '<a class="reference internal" href="x.html">Layers</a><details><summary aria-label="below Layers">'
    """
    text = _FOLD.sub(r'\1<summary aria-label="below \2">', text)
    text = _CELL.sub("<summary>", text)
    text = _SEARCH.sub(r"\1", text)
    text = _SIGNATURE.sub(_signature, text)
    text = _EMPTY_HEAD.sub("<td></td>", text)
    text = _SIDE_BAR.sub(_side_bar, text)
    text = text.replace(
        '<div id="pst-primary-sidebar" class="',
        '<div id="pst-primary-sidebar" role="navigation" aria-label="Site" class="',
    )
    seen: Counter[str] = Counter()

    def numbered(found: re.Match) -> str:
        seen[found[2]] += 1
        again = f" ({seen[found[2]]})" if seen[found[2]] > 1 else ""
        return f'{found[1]}{found[2]}{again}"'

    return _LABELLED.sub(numbered, text)


def _signature(found: re.Match) -> str:
    lines = found[2].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f"{found[1]}{lines}"


def _side_bar(found: re.Match) -> str:
    """Every part of the course folds, and is open where the page belongs to it."""
    parts: dict[str, str] = {}
    for text in re.split(r'(?=<p aria-level="2" class="caption")', found["parts"]):
        if part := _PART.match(text):
            parts[re.sub(r"<[^>]*>", "", part[1])] = part[2]
    top = {name: parts.pop(name) for name in OPEN[:2] if name in parts}
    lines = [found["before"]]
    for name, pages in (top | parts).items():
        caption = f'<span class="caption-text">{name}</span>'
        if name in OPEN:
            lines.append(f'<p aria-level="2" class="caption" role="heading">{caption}</p>\n{pages}')
        else:
            here = " open" if 'class="current nav' in pages else ""
            count = len(re.findall(r'<li class="[^"]*toctree-l1', pages))
            lines.append(
                f'<details class="part"{here}><summary class="caption">{caption} '
                f'<span class="count">{count}</span></summary>\n{pages}</details>\n'
            )
    return "".join([*lines, found["after"]])
