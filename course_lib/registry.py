"""Which paper each object of the library implements, and what may be assumed of it.

The decorator :func:`implements` ties a public class or function to its paper(s), gives one tiny example and
declares traits. Contract tests, catalogue, paper index and command line all read from here.
"""

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

__all__ = [
    "Chapter",
    "Entry",
    "Paper",
    "Traits",
    "chapters",
    "entries",
    "find",
    "find_papers",
    "implements",
    "paper",
    "papers",
    "registered",
    "show",
    "suggest",
]


@dataclass(frozen=True)
class Paper:
    """One row of ``papers.toml``."""

    index: int
    id: str
    title: str
    arxiv: str
    year: int
    chapter: str
    role: str
    kind: str
    confidence: str

    @property
    def url(self) -> str:
        """The paper's page on arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True)
class Chapter:
    """One row of ``chapters.toml``: an id such as ``layers/norm``, its title and the question it answers."""

    id: str
    title: str
    question: str

    @property
    def part(self) -> str:
        """The floor on which the chapter stands: ``layers`` for ``layers/norm``."""
        return self.id.split("/")[0]


@dataclass(frozen=True)
class Traits:
    """What holds for a layer; each trait switches a check of ``check_layer`` on or off.

    Attributes:
        causal: output at time t depends on inputs up to t only (axis 1 of the input is time).
        mixes_batch: rows of a batch influence each other in training mode, as in batch normalisation.
        stochastic: training mode draws random numbers.
        permutation_equivariant: permuting axis 1 of the input permutes the output.
    """

    causal: bool = False
    mixes_batch: bool = False
    stochastic: bool = False
    permutation_equivariant: bool = False


@dataclass(frozen=True)
class Entry:
    """One registered object: what it is, which papers it implements, its tiny example and its traits."""

    obj: Any
    paper_ids: tuple[str, ...]
    example: Callable[[], tuple] | None = None
    traits: Traits = field(default_factory=Traits)
    exceptions: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The public name."""
        return self.obj.__name__

    @property
    def module(self) -> str:
        """The module to import it from: ``course_lib.layers.norm``, also where that is a folder of files."""
        return ".".join(self.obj.__module__.split(".")[:3])

    @property
    def chapter(self) -> str:
        """The chapter that it belongs to: ``layers/norm``."""
        return "/".join(self.module.split(".")[1:])

    @property
    def summary(self) -> str:
        """The first sentence of the docstring: all of its first paragraph, on one line."""
        return " ".join((self.obj.__doc__ or "").strip().split("\n\n")[0].split())

    @property
    def is_layer(self) -> bool:
        """True where there is an example module for ``check_layer``."""
        return self.example is not None


_entries: dict[str, Entry] = {}


@cache
def _table(file: str, row: str) -> tuple[dict, ...]:
    return tuple(tomllib.loads(resources.files("course_lib").joinpath(file).read_text("utf-8"))[row])


@cache
def papers() -> dict[str, Paper]:
    """All papers of the course by id.

    >>> papers()["layer-normalization"].year
    2016
    """
    return {row["id"]: Paper(**row) for row in _table("papers.toml", "paper")}


@cache
def chapters() -> dict[str, Chapter]:
    """All chapters of the course by id, in reading order.

    >>> chapters()["layers/norm"].part
    'layers'
    """
    return {row["id"]: Chapter(**row) for row in _table("chapters.toml", "chapter")}


def paper(paper_id: str) -> Paper:
    """The paper with this id; an unknown id raises ``ValueError`` and names the nearest one.

    >>> paper("peri-ln").arxiv
    '2502.02732'
    """
    if paper_id not in papers():
        raise ValueError(f"no paper has the id {paper_id!r}{suggest(paper_id, papers())}")
    return papers()[paper_id]


def implements(
    *paper_ids: str,
    example: Callable[[], tuple] | None = None,
    exceptions: dict[str, str] | None = None,
    **traits: bool,
) -> Callable[[Any], Any]:
    """Register a public class or function as the implementation of one or more papers.

    Args:
        paper_ids: ids from ``papers.toml``.
        example: returns ``(module, *inputs)``, small enough to be built and run in milliseconds; layers only.
        exceptions: checks of ``check_layer`` that this layer cannot pass, ``{check: reason}``; kept strict.
        traits: fields of :class:`Traits`, for instance ``causal=True``.

    Raises:
        ValueError: for an unknown paper, an unknown trait or a public name that is taken.
    """
    if not paper_ids:
        raise ValueError("implements() needs at least one paper id")
    for paper_id in paper_ids:
        paper(paper_id)
    _require_traits(traits)

    def register(obj: Any) -> Any:
        previous = _entries.get(obj.__name__)
        if previous is not None and previous.obj.__module__ != obj.__module__:
            raise ValueError(
                f"the name {obj.__name__!r} is taken by {previous.module}; public names are unique"
            )
        _entries[obj.__name__] = Entry(obj, paper_ids, example, Traits(**traits), dict(exceptions or {}))
        return obj

    return register


def entries() -> dict[str, Entry]:
    """All registered objects by name; loads every chapter of the library.

    >>> entries()["LayerNorm"].paper_ids
    ('layer-normalization',)
    """
    for part in sorted({chapter.part for chapter in chapters().values()}):
        try:
            package = importlib.import_module(f"course_lib.{part}")
        except ModuleNotFoundError as error:
            if error.name != f"course_lib.{part}":
                raise
            continue  # no chapter of this part is built yet
        for module in pkgutil.iter_modules(package.__path__, f"course_lib.{part}."):
            importlib.import_module(module.name)
    return dict(sorted(_entries.items()))


def registered(name: str) -> Entry | None:
    """The entry of a name if a module that is loaded already has registered it; loads nothing."""
    return _entries.get(name)


def show(name: str) -> Entry:
    """The entry of one public name; an unknown name raises ``ValueError`` and suggests the nearest.

    >>> show("LayerNorm").chapter
    'layers/norm'
    """
    everything = entries()
    if name not in everything:
        raise ValueError(f"nothing is called {name!r}{suggest(name, everything)}")
    return everything[name]


def find(words: str, **traits: bool) -> list[Entry]:
    """Objects in which all the words occur (name, docstring, chapter, papers) and whose traits match.

    Case, plural and British or American spelling make no difference; matches in the name come first.

    >>> find("layer norm")[0].name
    'LayerNorm'

    Raises:
        ValueError: for an unknown trait.
    """
    _require_traits(traits)
    ranked = []
    for entry in entries().values():
        if any(getattr(entry.traits, trait) != value for trait, value in traits.items()):
            continue
        titles = " ".join([*entry.paper_ids, *(papers()[paper_id].title for paper_id in entry.paper_ids)])
        rank = _rank(words, entry.name, entry.summary, titles, f"{entry.chapter} {entry.obj.__doc__}")
        if rank is not None:
            other = entry.name.lower().replace("_", "") != re.sub(r"[\W_]", "", words.lower())
            ranked.append((other, rank, entry.name, entry))
    return [entry for *_, entry in sorted(ranked, key=lambda row: row[:3])]


def find_papers(words: str = "", *, chapter: str | None = None) -> list[Paper]:
    """Papers in which all the words occur (title, id, arXiv number, year), in the order of the chapters.

    >>> [paper.id for paper in find_papers("entropic overload")]
    ['relu-revival']

    Raises:
        ValueError: for an unknown chapter.
    """
    if chapter is not None and chapter not in chapters():
        raise ValueError(f"no chapter has the id {chapter!r}{suggest(chapter, chapters())}")
    place = {chapter_id: position for position, chapter_id in enumerate(chapters())}
    found = [
        row
        for row in papers().values()
        if chapter in (None, row.chapter)
        and _rank(words, f"{row.title} {row.id} {row.arxiv} {row.year}") is not None
    ]
    return sorted(found, key=lambda row: (place[row.chapter], row.year, row.title))


def _rank(words: str, *texts: str) -> int | None:
    """How many of the texts are needed until every word has occurred; None if some word never does."""
    wanted = {re.sub(r"(?<=\w{3})(ies|s)$", "", word) for word in re.findall(r"[^\W_]+", _spelling(words))}
    seen = ""
    for rank, text in enumerate(texts):
        seen += _spelling(text) + " "
        if all(word in seen for word in wanted):
            return rank
    return None


def _spelling(text: str) -> str:
    """Lower case, one spelling: normalisation as normalization, colour as color."""
    return text.lower().replace("is", "iz").replace("our", "or")


def _require_traits(traits: dict[str, bool]) -> None:
    known = {f.name for f in fields(Traits)}
    for trait in traits:
        if trait not in known:
            raise ValueError(
                f"unknown trait {trait!r}{suggest(trait, known) or f'; known are {sorted(known)}'}"
            )


def suggest(name: str, known: Any) -> str:
    """The end of an error message: ``; did you mean ...?`` with the nearest known names, or nothing.

    >>> suggest("layernorm", ["LayerNorm", "GPT"])
    '; did you mean LayerNorm?'
    """
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(by_lower[c] for c in close)}?" if close else ""
