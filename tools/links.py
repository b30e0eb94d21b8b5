"""Check a built site: local links lead somewhere; a self-contained site asks no other host for anything."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["TO_NOTEBOOK", "problems"]

# Elements that make a browser load something, and the attribute that says what. A plain link loads nothing.
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
LOADING_RELATIONS = {"stylesheet", "preload", "prefetch", "icon", "shortcut icon", "modulepreload"}
# In a text: a link to another text notebook, which on a site, in a lab or on a branch has another ending.
TO_NOTEBOOK = re.compile(r"\]\((?!\w+:|[/#])(?P<path>[^)\s#]+)\.md(?P<anchor>#[^)\s]*)?\)")
CSS_URL = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?P<url>(?:https?:)?//[^"')\s]+)""")


@dataclass
class Page(HTMLParser):
    """What one page refers to, and the anchors that it has."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADING and LOADING[tag] in found:
            self.loads.append(found[LOADING[tag]])
        if tag == "link" and found.get("rel", "").lower() in LOADING_RELATIONS:
            self.loads.append(found.get("href", ""))


def problems(html: Path, *, offline: bool) -> list[str]:
    """One line for each link or file that is not there; offline, also for each request to another host."""
    paths = [path.resolve() for path in sorted(html.rglob("*.html")) if "_static" not in path.parts]
    pages = {path: _read(path) for path in paths}
    found = []
    for path, page in pages.items():
        name = path.relative_to(html.resolve())
        found += [f"{name}: {target} leads nowhere" for target in _dead(path, page, pages)]
        if offline:
            found += [f"{name}: loads {target}" for target in page.loads if _is_remote(target)]
    if offline:
        for path in sorted(html.rglob("*.css")):
            urls = CSS_URL.findall(path.read_text("utf-8", errors="replace"))
            found += [f"{path.relative_to(html)}: loads {url}" for url in urls]
    return found


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def _is_remote(target: str) -> bool:
    return target.startswith(("http://", "https://", "//"))


def _dead(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for target in dict.fromkeys([*page.links, *page.loads]):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or target.startswith("#!"):
            continue
        file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        file = file / "index.html" if file.is_dir() else file
        anchor, page_there = unquote(parts.fragment), pages.get(file)
        if not file.exists() or (anchor and page_there and anchor not in page_there.anchors):
            yield target
