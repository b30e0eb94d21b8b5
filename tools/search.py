"""The search index of the built site, by Pagefind: titles and chapters weigh more than members of classes.

What is indexed is made from each page here, so that code, captions of buttons and navigation stay out.
"""

import html
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from papers import page_name

from course_lib import registry

__all__ = ["document", "write_index"]

# Not what a reader looks for: code, links to themselves, drawings (their descriptions are read aloud).
SKIPPED = (
    "pre, script, style, svg, button, nav, .headerlink, .cell_input, .filter-box, .claim-link, .page-links"
)
# How much a word of a page counts beside one of a chapter, by the beginning of its name.
WEIGHTS = {
    "papers/": 0.8,
    "howto/": 0.6,
    "exercises/": 0.4,
    "which_layer": 0.4,
    "papers": 0.3,
    "bench": 0.2,
    "catalogue": 0.2,
    "claims": 0.2,
    "solutions/": 0.2,
    "genindex": 0.0,
}
KINDS = {"layers/": "chapter", "training/": "chapter", "papers/": "paper", "catalogue/": "in the library",
         "exercises/": "exercises", "solutions/": "solutions"}  # fmt: skip


def write_index(site: Path, documents: Path) -> int:
    """Index the pages of a built site into its folder ``pagefind``; returns how many there are.

    Args:
        site: the folder of the pages.
        documents: a folder for what is made of them, written anew.
    """
    shutil.rmtree(documents, ignore_errors=True)
    count = 0
    for path in sorted(site.rglob("*.html")):
        name = path.relative_to(site).with_suffix("").as_posix()
        if text := document(name, path.read_text("utf-8")):
            target = documents / f"{name}.html"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
            count += 1
    command = [
        sys.executable,
        "-m",
        "pagefind",
        "--site",
        str(documents),
        "--output-path",
        str(site / "pagefind"),
    ]
    subprocess.run([*command, "--silent"], check=True)
    for unused in site.glob("pagefind/*ui*"):  # its own search boxes
        unused.unlink()
    return count


def document(name: str, page: str) -> str:
    """What of a page is to be found, as HTML with weights; empty for a page without words of its own."""
    soup = BeautifulSoup(page, "html.parser")
    article = soup.select_one("article")
    title = article.select_one("h1") if article else None
    if title is None or name.startswith(("_static/", "search")):
        return ""
    weight = next((w for start, w in WEIGHTS.items() if name.startswith(start)), 1.0)
    if not weight:
        return ""
    for part in article.select(SKIPPED):
        part.decompose()
    heading = _words(title)
    title.decompose()
    lines = [f'<h1 data-pagefind-weight="{10 * weight:g}">{html.escape(heading)}</h1>']
    if known := _also_known_as(name):
        lines.append(f'<p data-pagefind-weight="{8 * weight:g}">{html.escape(known)}</p>')
    kind = next((kind for start, kind in KINDS.items() if name.startswith(start)), "")
    meta = f'<meta data-pagefind-meta="kind[content]" content="{kind}">' if kind else ""
    lines += _blocks(article, weight)
    body = "\n".join(lines)
    return (
        f'<!doctype html><html lang="en"><head><title>{html.escape(heading)}</title>{meta}</head>'
        f"<body><main data-pagefind-body>{body}</main></body></html>"
    )


def _blocks(article: Tag, weight: float) -> Iterator[str]:
    for part in article.find_all(["h2", "h3", "p", "li", "td", "dt", "dd", "figcaption", "summary"]):
        if part.find(["p", "li", "td", "dd"]):
            continue  # its parts come by themselves
        words = html.escape(_words(part))
        if not words:
            continue
        if part.name in ("h2", "h3"):
            section = part.find_parent("section")
            anchor = section.get("id", "") if section else ""
            yield f'<{part.name} id="{anchor}" data-pagefind-weight="{5 * weight:g}">{words}</{part.name}>'
        else:
            yield f'<p data-pagefind-weight="{weight:g}">{words}</p>'


def _words(part: Tag) -> str:
    return " ".join(part.get_text(" ").split())


def _also_known_as(name: str) -> str:
    """Names under which people look for a page: a chapter's question, and its papers' other names."""
    if name in registry.chapters():
        papers = [paper for paper in registry.papers().values() if paper.chapter == name]
        built = [alias for paper in papers for alias in paper.aliases]
        return " ".join([registry.chapters()[name].question, *built])
    if name.startswith("papers/"):
        found = [paper for paper in registry.papers().values() if page_name(paper) == name]
        return " ".join(
            word for paper in found for word in (paper.arxiv, paper.id, *paper.aliases, *paper.authors)
        )
    return ""
