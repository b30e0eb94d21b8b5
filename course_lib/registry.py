"""Which paper each object of the library implements, and what may be assumed of it.

The decorator :func:`implements` ties a public class or function to its paper(s), gives one tiny example and
declares traits. Contract tests, catalogue, paper index and command line all read from here.
"""

import ast
import difflib
import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

T = TypeVar("T")

# These hold one function for each experiment and each race; their own commands list them.
_NOT_LISTED = ("experiments", "bench")

# Arguments by which an object gets a trait that its example need not have, and those that can take it away.
_GIVEN_BY = {"causal": {"causal"}, "stochastic": {"dropout", "phase_noise"}}
_TAKEN_BY = {
    "permutation_equivariant": {"causal", "mixer", "norm_layer"},
    "mixes_batch": {"mixer", "norm_layer"},
}


@dataclass(frozen=True)
class Paper:
    """One row of ``papers.toml``; authors, aliases and their repository stand there once it is built."""

    index: int
    id: str
    title: str
    arxiv: str
    year: int
    chapter: str
    role: str
    kind: str
    confidence: str
    authors: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    code: str = ""

    @property
    def url(self) -> str:
        """The paper's page on arXiv."""
        return f"https://arxiv.org/abs/{self.arxiv}"


@dataclass(frozen=True)
class Chapter:
    """One row of ``chapters.toml``: an id such as ``layers/norm``, its title, the question it answers.

    ``needs`` has the chapters that it builds on.
    """

    id: str
    title: str
    question: str
    needs: tuple[str, ...] = ()

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

    @property
    def holding(self) -> list[str]:
        """The names of those that hold."""
        return [name for name, holds in asdict(self).items() if holds]


@dataclass(frozen=True)
class Entry:
    """One public object; the registered ones have papers, layers also an example and its traits.

    Attributes:
        obj: the class, the function or the constant.
        name: its public name.
        module: what to import it from: ``course_lib.layers.norm``, also where that is a folder of files.
        paper_ids: the papers that it implements.
        example: returns ``(module, *inputs)`` for ``check_layer``.
        traits: what holds for the example; see :attr:`always` and :attr:`can_be` for the class.
        exceptions: checks that the layer cannot pass, with the reason.
    """

    obj: Any
    name: str
    module: str
    paper_ids: tuple[str, ...] = ()
    example: Callable[[], tuple] | None = None
    traits: Traits = field(default_factory=Traits)
    exceptions: dict[str, str] = field(default_factory=dict)

    @property
    def chapter(self) -> str:
        """The chapter, or the file of the ground, that it belongs to: ``layers/norm``."""
        return "/".join(self.module.split(".")[1:])

    @property
    def doc(self) -> str:
        """Its own docstring, not that of its type; empty where there is none."""
        own = inspect.isclass(self.obj) or inspect.isroutine(self.obj)
        return inspect.cleandoc(self.obj.__doc__ or "") if own else ""

    @property
    def summary(self) -> str:
        """The first sentence of the docstring: all of its first paragraph, on one line."""
        return " ".join(self.doc.split("\n\n")[0].split())

    @property
    def is_layer(self) -> bool:
        """True where there is an example module for ``check_layer``."""
        return self.example is not None

    @property
    def can_be(self) -> list[str]:
        """Traits that hang on an argument of the class or function."""
        if not (inspect.isfunction(self.obj) or hasattr(self.obj, "forward")):
            return []
        arguments = {*inspect.signature(self.obj).parameters}
        given = [t for t in asdict(self.traits) if arguments & _GIVEN_BY.get(t, set())]
        lost = [t for t in self.traits.holding if arguments & _TAKEN_BY.get(t, set())]
        return [*given, *lost]

    @property
    def always(self) -> list[str]:
        """Traits of the class, whatever its arguments."""
        return [trait for trait in self.traits.holding if trait not in self.can_be]


_entries: dict[tuple[str, str], Entry] = {}  # by chapter and name


@cache
def _table(file: str, row: str) -> tuple[dict[str, Any], ...]:
    return tuple(tomllib.loads(resources.files("course_lib").joinpath(file).read_text("utf-8"))[row])


@cache
def papers() -> dict[str, Paper]:
    """All papers of the course by id.

    >>> papers()["layer-normalization"].year
    2016
    """
    lists = ("authors", "aliases")
    return {
        row["id"]: Paper(**row | {name: tuple(row[name]) for name in lists if name in row})
        for row in _table("papers.toml", "paper")
    }


@cache
def chapters() -> dict[str, Chapter]:
    """All chapters of the course by id, in reading order.

    >>> chapters()["layers/norm"].part
    'layers'
    """
    rows = _table("chapters.toml", "chapter")
    return {row["id"]: Chapter(**row | {"needs": tuple(row.get("needs", ()))}) for row in rows}


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
) -> Callable[[T], T]:
    """Register a public class or function as the implementation of one or more papers.

    Args:
        paper_ids: ids from ``papers.toml``.
        example: returns ``(module, *inputs)``, small enough to be built and run in milliseconds; layers only.
        exceptions: checks of ``check_layer`` that this layer cannot pass, ``{check: reason}``; kept strict.
        traits: fields of :class:`Traits`, for instance ``causal=True``.

    A class needs a name that no other class or function has; functions of two chapters may share one.

    Raises:
        ValueError: for an unknown paper, an unknown trait or a public name that is taken.
    """
    if not paper_ids:
        raise ValueError("implements() needs at least one paper id")
    for paper_id in paper_ids:
        paper(paper_id)
    _require_traits(traits)

    def register(obj: T) -> T:
        name, defined = obj.__name__, obj.__module__  # type: ignore[attr-defined]
        module = ".".join(defined.split(".")[:3])
        new = Entry(obj, name, module, paper_ids, example, Traits(**traits), dict(exceptions or {}))
        for old in _entries.values():
            apart = old.chapter != new.chapter and not (inspect.isclass(obj) or inspect.isclass(old.obj))
            if old.name == name and old.obj.__module__ != defined and not apart:
                raise ValueError(
                    f"the name {name!r} is taken by {old.module}; only functions of two chapters share one"
                )
        _entries[new.chapter, name] = new
        return obj

    return register


def entries() -> dict[str, Entry]:
    """All registered objects by name; loads every chapter of the library.

    The functions that share a name with one of another chapter stand under ``chapter:name``.

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
    times = Counter(name for _, name in _entries)
    return {
        name if times[name] == 1 else f"{chapter}:{name}": entry
        for (chapter, name), entry in sorted(_entries.items(), key=lambda item: item[0][::-1])
    }


def registered(name: str, chapter: str) -> Entry | None:
    """The entry of a name if the module of the chapter, once loaded, has registered it; loads nothing."""
    return _entries.get((chapter, name))


@cache
def public_names(module: str) -> tuple[str, ...]:
    """What a module offers, in its order, read from its text and not by importing it.

    That is its ``__all__`` where it has one; else what it defines without an underscore and what it imports
    under its own name (``from a import b as b``).

    >>> public_names("course_lib.cache")
    ('cache_folder', 'source_tree', 'write_atomically')
    """
    file = Path(find_spec(module).origin)  # type: ignore[union-attr, arg-type]
    lazy = file.with_suffix(".pyi")
    body = ast.parse((lazy if lazy.exists() else file).read_text("utf-8")).body
    names: list[str] = []
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List() as listed):
                return tuple(ast.literal_eval(listed))
            case ast.ImportFrom(names=aliases):
                names += [alias.name for alias in aliases if alias.asname == alias.name]
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Assign(targets=targets):
                names += [t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.append(name)
    return tuple(name for name in dict.fromkeys(names) if not name.startswith("_"))


def public() -> list[Entry]:
    """Every public object by name, registered or not; what needs an absent package is left out.

    >>> [entry.module for entry in public() if entry.name == "KVCache"]
    ['course_lib.layers.attention']
    """
    return _offered(lambda name: True, absent=(ModuleNotFoundError,))


def show(name: str) -> list[Entry]:
    """Every public object of this name: one, or a function of several chapters.

    >>> [entry.chapter for entry in show("LayerNorm")]
    ['layers/norm']

    Raises:
        ValueError: for an unknown name; suggests the nearest.
        ModuleNotFoundError: for something that needs an optional package.
    """
    found = _offered(lambda offered: offered == name)
    if not found:
        known = {other for module in _modules() for other in public_names(module)}
        raise ValueError(f"nothing is called {name!r}{suggest(name, sorted(known))}")
    return found


def _offered(wanted: Callable[[str], bool], absent: tuple[type[Exception], ...] = ()) -> list[Entry]:
    """The public objects with a wanted name; only the modules that offer one are imported."""
    found: dict[tuple[str, int], Entry] = {}
    for module in _modules():
        for name in filter(wanted, public_names(module)):
            try:
                obj = getattr(importlib.import_module(module), name)
            except absent:
                continue
            home = getattr(obj, "__module__", None) or module
            if inspect.ismodule(obj) or (callable(obj) and not home.startswith(module)):
                continue  # only passed on
            entry = Entry(obj, name, module)
            found.setdefault((name, id(obj)), _entries.get((entry.chapter, name), entry))
    return sorted(found.values(), key=lambda entry: (entry.name, entry.module))


def _modules() -> Iterator[str]:
    """The modules that users import from, packages before their files."""
    for room in pkgutil.iter_modules(importlib.import_module("course_lib").__path__, "course_lib."):
        if room.name.split(".")[1].startswith("_") or room.name.endswith(_NOT_LISTED):
            continue
        yield room.name
        if room.ispkg:
            inside = find_spec(room.name).submodule_search_locations  # type: ignore[union-attr]
            for file in pkgutil.iter_modules(inside, f"{room.name}."):
                if not file.name.split(".")[2].startswith("_"):
                    yield file.name


def find(words: str, **traits: bool) -> list[Entry]:
    """Public objects in which all the words occur (name, docstring, chapter, papers) and whose traits match.

    A word fits at the start of a word; one of up to three letters only as a whole, and one in capitals only
    in capitals. Plural and British or American spelling make no difference; matches in the name come first.
    What can have a trait, by an argument, is found with it and without it.

    >>> find("layer norm")[0].name
    'LayerNorm'

    Raises:
        ValueError: for an unknown trait.
    """
    _require_traits(traits)
    ranked = []
    for entry in public():
        possible = {*entry.always, *entry.can_be}
        if any(t not in possible if on else t in entry.always for t, on in traits.items()):
            continue
        titles = " ".join([*entry.paper_ids, *(papers()[paper_id].title for paper_id in entry.paper_ids)])
        rank = _rank(words, entry.name, entry.summary, titles, f"{entry.chapter} {entry.doc}")
        if rank is not None:
            other = entry.name.lower().replace("_", "") != re.sub(r"[\W_]", "", words.lower())
            ranked.append((other, rank, entry.name, entry.module, entry))
    return [entry for *_, entry in sorted(ranked, key=lambda row: row[:4])]


def find_papers(words: str = "", *, chapter: str | None = None) -> list[Paper]:
    """Papers in which all the words occur, in the order of the chapters.

    Words are looked for in title, id, arXiv number, year, authors and other names.

    >>> [paper.id for paper in find_papers("entropic overload")], [paper.id for paper in find_papers("MQA")]
    (['relu-revival'], ['multi-query-attention'])

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
        and _rank(
            words, f"{row.title} {row.id} {row.arxiv} {row.year}", " ".join((*row.authors, *row.aliases))
        )
        is not None
    ]
    return sorted(found, key=lambda row: (place[row.chapter], row.year, row.title))


def _rank(words: str, *texts: str) -> int | None:
    """How many of the texts are needed until every word has occurred; None if some word never does."""
    wanted = [_pattern(word) for word in re.findall(r"[^\W_]+", words)]
    seen = ""
    for rank, text in enumerate(texts):
        seen += _STARTS.sub("|", text) + " "
        plain = _spelling(seen)
        if all(pattern.search(seen if capital else plain) for pattern, capital in wanted):
            return rank
    return None


# Where a word starts, also inside of a name: |Layer|Norm|RNN|Cell.
_STARTS = re.compile(r"(?<![^\W_])(?=[^\W_])|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _pattern(word: str) -> tuple[re.Pattern[str], bool]:
    """What finds a word in a text with marked starts, and whether it is one in capitals."""
    capital = len(word) > 1 and word.isupper()
    stem = re.sub(r"(?<=\w{3})(ies|s)$", "", word if capital else _spelling(word))
    letters = r"\|?".join(map(re.escape, stem))  # relu fits |Re|LU
    whole = r"s?(?![^\W_])" if capital or len(stem) <= 3 else ""
    return re.compile(rf"\|{letters}{whole}"), capital


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
