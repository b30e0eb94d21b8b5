"""One style sheet for the site: those of the theme and of the extensions, without rules that no page can use.

The theme comes with a framework and an icon font, of which the course needs a tenth; every sheet is asked for
before the first word is painted. A rule goes when each of its selectors names a class or an id that stands on
no page and in no script.
"""

import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SHEETS", "bundle", "slim"]

NAME = "site.css"
# In the order in which the theme and Sphinx would load them; patterns below ``_static``.
SHEETS = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "togglebutton.css",
    "copybutton.css",
    "mystnb.*.css",
    "sphinx-design.min.css",
    "custom.css",
)
_NAMES = re.compile(r"\b(?:class|id)=\"([^\"]*)\"")
_NAMED = re.compile(r"[.#]((?:[\w-]|\\.)+)")
_MARK = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\\.|[{};]|url\([^\"')]*\)")
_COMMENT = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|/\*.*?\*/", re.DOTALL)
_GROUPS = ("@media", "@supports", "@layer", "@container")


def bundle(site: Path) -> int:
    """Write ``_static/site.css`` for the pages that lie in ``site``; returns its bytes.

    Raises:
        FileNotFoundError: if one of the sheets is not there.
    """
    static, texts = site / "_static", []
    for pattern in SHEETS:
        found = sorted(static.glob(pattern), key=lambda path: path.stat().st_mtime)
        if not found:
            raise FileNotFoundError(f"no style sheet {pattern} in {static}")
        texts.append(found[-1].read_text("utf-8"))
    text = slim("\n".join(texts), _known(site))
    (static / NAME).write_text(text, "utf-8")
    return len(text.encode())


def _known(site: Path) -> set[str]:
    """Every class and id of the pages, and every word of the scripts."""
    known: set[str] = set()
    for path in site.rglob("*.html"):
        if not path.is_relative_to(site / "_static"):
            for names in set(_NAMES.findall(path.read_text("utf-8"))):
                known.update(names.split())
    for path in (site / "_static").rglob("*.js"):
        if "mathjax" not in path.parts and path.name != "fontawesome.js":
            known.update(re.findall(r"[\w-]+", path.read_text("utf-8")))
    return known


def slim(text: str, known: set[str]) -> str:
    """The style sheet without comments, fonts, and rules for names that are not ``known``."""
    return "".join(_kept(_COMMENT.sub(lambda found: found[1] or "", text), known))


def _kept(text: str, known: set[str]) -> Iterator[str]:
    for head, body in _rules(text):
        if body is None:
            yield f"{head};" if not head.startswith("@charset") else ""
        elif head.startswith(_GROUPS):
            if inner := "".join(_kept(body, known)):
                yield f"{head}{{{inner}}}\n"
        elif head.startswith("@font-face"):
            continue
        elif head.startswith("@"):
            yield f"{head}{{{_tight(body)}}}\n"
        else:
            wanted = [s for s in _selectors(head) if _needs(s) <= known]
            if wanted and body.strip():
                yield f"{','.join(wanted)}{{{_tight(body)}}}\n"


def _rules(text: str) -> Iterator[tuple[str, str | None]]:
    """Each rule as what stands before its braces and within; ``None`` for a line that has none."""
    start, depth, opened, head = 0, 0, 0, ""
    for mark in _MARK.finditer(text):
        sign = mark[0]
        if sign == "{":
            if depth == 0:
                head, opened = text[start : mark.start()], mark.end()
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield " ".join(head.split()), text[opened : mark.start()]
                start = mark.end()
        elif sign == ";" and depth == 0:
            yield " ".join(text[start : mark.start()].split()), None
            start = mark.end()


def _selectors(head: str) -> list[str]:
    """The alternatives of a rule, split at the commas that stand in no bracket."""
    return [part.strip() for part in re.split(r",(?![^(\[]*[)\]])", head)]


def _needs(selector: str) -> set[str]:
    """The classes and ids without which a selector fits nothing; what stands in brackets may be absent."""
    bare = re.sub(r"\[[^\]]*\]", "", selector)
    while (shorter := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = shorter
    return {re.sub(r"\\(.)", r"\1", name) for name in _NAMED.findall(bare)}


def _tight(body: str) -> str:
    return re.sub(r"\s*\n\s*", "", body).strip()
