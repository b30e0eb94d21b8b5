"""The generated pages: papers, catalogue, ledger, notation, map of the parts, measurements.

Everything is read from the registry and from the executed notebooks, nothing is typed by hand, and equal
contents give equal text. ``generate`` returns the files of the site by path.
"""

import importlib
import json
import re
from dataclasses import asdict
from itertools import groupby

import api
import ledger
import papers
import yaml
from api import chapter_link, escape
from contents import PARTS, Contents
from table import filterable, table

from course_lib import registry
from course_lib.classroom.drawing import COLUMN, Drawing

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

__all__ = ["generate"]

# What belongs to no chapter: page -> title and modules.
TOOLS = {
    "catalogue/classroom": (
        "The tools of the classroom",
        [
            "course_lib.classroom.checks",
            "course_lib.classroom.claims",
            "course_lib.classroom.drawing",
            "course_lib.classroom.picture",
            "course_lib.classroom.by_seed",
            "course_lib.classroom.sliders",
            "course_lib.classroom.predict",
            "course_lib.classroom.answers",
            "course_lib.classroom.source",
            "course_lib.classroom.style",
            "course_lib.classroom.papers",
        ],
    ),
    "catalogue/ground": (
        "Training, data, experiments, registry",
        [
            "course_lib.training.loop",
            "course_lib.training.validation",
            "course_lib.data",
            "course_lib.measure",
            "course_lib.counting",
            "course_lib.registry",
        ],
    ),
}

# Descriptions of the pages that have no question of their own.
_FIXED = {
    "papers": "Every paper of the course: is it built, what does it claim, what came out when it was tried.",
    "catalogue": "All layers and methods of the course, ordinary PyTorch modules and functions, in one list.",
    "claims": "Every claim that was tried, with the number that was measured, the seeds and the verdict.",
    "notation": "The letters of shapes and formulas, and the names of arguments, each with one meaning.",
    "bench": "How fast the layers of the course are beside their peers, measured on one machine.",
    "which_layer": "Layers side by side: what they cost and what they brought, to be filtered and sorted.",
    "start/first_steps": "From a tensor to a trained network: a layer, a contract, a loop and a claim.",
    "howto/learners": "Three ways to use the course: read the pages, do the exercises, import the library.",
    "howto/contributors": "How a chapter is added: its five files, the rules that they keep, the commands.",
}


def generate(contents: Contents) -> dict[str, str]:
    """Path of each generated file, relative to the site's source, and its text."""
    files = {
        "papers.md": papers.index(contents),
        "catalogue.md": catalogue(contents),
        "claims.md": ledger.ledger(contents),
        "notation.md": notation(contents),
        "_generated/map.md": course_map(contents),
        "_generated/numbers.md": numbers(contents),
        "_generated/headlines.md": headlines(contents),
        "_generated/prerequisites.md": prerequisites(contents),
        "descriptions.json": json.dumps(descriptions(contents), indent=1) + "\n",
        "_extra/claims.json": ledger.claims_json(contents),
        "_extra/claims.csv": ledger.claims_csv(contents),
        "_extra/papers.csv": papers.papers_csv(contents),
        "_extra/papers.bib": papers.all_bibtex(),
    }
    files |= {f"{papers.page_name(p)}.md": papers.page(contents, p) for p in contents.built}
    if {"bench", "which_layer"} & set(contents.pages):
        import clocks  # only here: it loads the bench, which a course of other layers need not have

        files |= {"bench.md": clocks.bench_page(), "which_layer.md": clocks.which_layer(contents)}
    for chapter in _chapters_with_code(contents):
        files[f"catalogue/{chapter}.md"] = api.api_page(contents, chapter)
    for page, (title, modules) in _existing_tools(contents).items():
        files[f"{page}.md"] = api.module_page(contents, page, title, modules)
    return files


def _chapters_with_code(contents: Contents) -> list[str]:
    found = {entry.chapter for entry in contents.entries.values()}
    return [name for name in registry.chapters() if name in found]


def _existing_tools(contents: Contents) -> dict[str, tuple[str, list[str]]]:
    """The tool pages, as far as their modules exist in this tree."""
    found = {}
    for page, (title, modules) in TOOLS.items():
        existing = [m for m in modules if _source_of(contents, m)]
        if existing:
            found[page] = (title, existing)
    return found


def _source_of(contents: Contents, module: str) -> bool:
    path = contents.root / module.replace(".", "/")
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def catalogue(contents: Contents) -> str:
    """All registered objects, chapter by chapter, each linked to its full description."""
    chapters = _chapters_with_code(contents)
    rows = []
    for chapter in chapters:
        for entry in contents.entries.values():
            if entry.chapter == chapter:
                rows.append(_catalogue_row(contents, entry))
    lines = [
        "# The catalogue",
        "",
        f"{len(rows)} objects from {len(chapters)} chapters, ordinary `torch.nn.Module`s and functions.",
        "The name leads to signature, formula and example. In a terminal, `python -m course_lib find WORDS`",
        "searches the same list.",
        "",
        filterable("object-table", table(["Object", "What it is", "Chapter", "Papers", "Traits"], rows)),
    ]
    if pages := [*(f"catalogue/{c}" for c in chapters), *_existing_tools(contents)]:
        lines += ["## Everything, page by page", "", *(f"- {{doc}}`/{page}`" for page in pages), ""]
    return "\n".join(lines)


def _catalogue_row(contents: Contents, entry: registry.Entry) -> list[str]:
    papers = ", ".join(api.paper_link(p, p, page="catalogue") for p in entry.paper_ids)
    holding = ", ".join(trait.replace("_", " ") for trait, holds in asdict(entry.traits).items() if holds)
    summary = api.plain(entry.summary)
    return [api.link(entry.obj), summary, chapter_link(contents, entry.chapter), papers, holding]


def notation(contents: Contents) -> str:
    """The letter legend, and what single chapters say of their own letters."""
    legend = tomllib.loads((contents.root / "tools/notation.toml").read_text("utf-8"))
    shapes = table(["Letter", "Axis"], ([f"`{r['letter']}`", r["meaning"]] for r in legend["shape"]))
    formulas = table(["Sign", "Meaning"], ([f"${r['letter']}$", r["meaning"]] for r in legend["formula"]))
    arguments = [[f"`{r['name']}`", r["type"].replace(" | ", ", "), r["meaning"]] for r in legend["argument"]]
    own = [
        [chapter_link(contents, c), words] for c in _chapters_with_code(contents) if (words := _letters(c))
    ]
    return f"""# Notation

Shapes are written in the signatures of the library, one letter for each axis: `Float[Tensor, "b t d"]` is a
batch of sequences of vectors. A star stands for any number of axes, a number for exactly this size. In tests
the letters are checked: one letter has one size within a call.

## Letters in shapes

{shapes}

{table(["Chapter", "Its letters"], own) if own else ""}

## Signs in formulas

{formulas}

## Arguments of layers

One name means one thing in every constructor.

{filterable("argument-table", table(["Name", "Type", "Meaning"], arguments))}
"""


def _letters(chapter: str) -> str:
    """The sentence of a chapter's module on its letters."""
    docs = importlib.import_module("course_lib." + chapter.replace("/", ".")).__doc__ or ""
    found = re.search(r"Letters in shapes: (.+?)(?:\n\n|\.?\s*$)", docs, re.DOTALL)
    return api.plain(" ".join(found[1].split())).rstrip(".") if found else ""


def numbers(contents: Contents) -> str:
    """One honest sentence on how far the course is."""
    found = ledger.counts(contents)
    chapters = f"{len(contents.finished)} of {len(registry.chapters())} chapters"
    built = f"{len(contents.built)} of {len(registry.papers())} papers"
    objects = f"{len(contents.entries)} layers and methods"
    links = f"[{built}](/papers), [{objects}](/catalogue)"
    tried = sum(found["headline"].values())
    by_headline = f"; headline claims [tried](/claims): {ledger.totals(found['headline'])}" if tried else ""
    return f"Today: {chapters}, {links}{by_headline}.\n"


def course_map(contents: Contents) -> str:
    """The parts with their chapters: those that one can read, and the titles of those that will come."""
    lines = ["::::{grid} 1 1 2 2", ":gutter: 3", ":class-container: course-map", ""]
    for part, title in PARTS.items():
        chapters = [chapter for chapter in registry.chapters().values() if chapter.part == part]
        done = [chapter for chapter in chapters if chapter.id in contents.finished]
        done.sort(key=lambda chapter: contents.pages.index(chapter.id))  # as in the table of contents
        planned = " · ".join(escape(chapter.title) for chapter in chapters if chapter not in done)
        lines += [f":::{{grid-item-card}} {title}", f"{len(done)} of {len(chapters)} chapters", ""]
        lines += [
            f"- {chapter_link(contents, chapter.id)}  \n  {escape(chapter.question)}" for chapter in done
        ]
        lines += ["", "```{div} planned", planned, "```"] if planned else []
        lines += [":::", ""]
    return "\n".join([*lines, "::::", ""])


def descriptions(contents: Contents) -> dict[str, str]:
    """One sentence on each page, for search engines and for those with whom it is shared."""
    found = {}
    for name in contents.pages:
        source = contents.root / "book" / f"{name}.md"
        if source.exists() and (text := source.read_text("utf-8")).startswith("---\n"):
            found[name] = yaml.safe_load(text.split("\n---", 1)[0]).get("description", "")
        if name in contents.finished:
            found[name] = found.get(name) or contents.finished[name].question
        folder, _, chapter = name.partition("/")
        if folder in ("exercises", "solutions") and chapter in contents.finished:
            found[name] = f"{folder.title()} of the chapter {contents.finished[chapter].title}."
    for chapter in _chapters_with_code(contents):
        title = registry.chapters()[chapter].title
        found[f"catalogue/{chapter}"] = f"{title}: all layers and functions, with signatures and formulas."
    for page, (title, _) in _existing_tools(contents).items():
        found[page] = f"{title}: functions and classes, with signatures and examples."
    found |= {name: text for name, text in _FIXED.items() if name in contents.pages}
    for paper in contents.built:
        claim = papers.headline(contents, paper)
        tried = f"{claim.verdict}: {claim.data['text']}" if claim else "built and taught"
        found[papers.page_name(paper)] = f"{paper.title} ({paper.year}), {tried}"
    return {name: " ".join(text.split())[:300] for name, text in found.items() if text}


def headlines(contents: Contents) -> str:
    """Up to six headline claims, three that showed and three that did not, each from another chapter."""
    rows: dict[str, list[list[str]]] = {}
    seen: set[str] = set()
    for word in ("not reproduced", "reproduced"):  # the rarer ones choose their chapters first
        fitting = [t for t in contents.claims if t.headline and t.verdict == word and t.page not in seen]
        chosen = list({t.page: t for t in reversed(fitting)}.values())[:3]
        seen |= {t.page for t in chosen}
        rows[word] = []
        for t in chosen:
            paper = registry.paper(t.paper)
            link = f"[{escape(paper.title)}](/{papers.page_name(paper)})"
            rows[word].append([link, ledger.verdict(word), escape(t.data["text"]), escape(t.data["found"])])
    if not any(rows.values()):
        return "No chapter has made a claim yet.\n"
    head = ["Paper", "At our size", "Its claim", "Measured"]
    return table(head, [*rows["reproduced"], *rows["not reproduced"]]) + "\n"


def prerequisites(contents: Contents) -> str:
    """The finished chapters, each below those that it builds on; a click leads to the chapter."""
    chapters, rank = contents.finished, {}

    def depth(name: str) -> int:
        if name not in rank:
            below = [depth(need) for need in chapters[name].needs if need in chapters]
            rank[name] = 1 + max(below, default=-1)
        return rank[name]

    if not chapters:
        return "No chapter is finished yet.\n"
    words = [
        f"{c.title} after {', '.join(chapters[n].title for n in c.needs if n in chapters) or 'nothing'}"
        for c in chapters.values()
    ]
    picture, nodes = Drawing(f"Which chapter builds on which: {'; '.join(words)}."), {}
    ranks = sorted(chapters, key=lambda n: (depth(n), contents.pages.index(n)))
    for row, group in groupby(ranks, key=depth):
        names = list(group)
        # Each below what it builds on, as far as there is room.
        wished = {}
        for name in names:
            above = [nodes[need].x / COLUMN for need in chapters[name].needs if need in nodes]
            wished[name] = sum(above) / len(above) if above else 0.0
        names.sort(key=wished.__getitem__)
        places = [wished[names[0]]]
        for name in names[1:]:
            places.append(max(wished[name], places[-1] + 1.5))
        shift = sum(wished[n] - x for n, x in zip(names, places, strict=True)) / len(names)
        for name, x in zip(names, places, strict=True):
            text = re.sub(r": | (?=and )| (?=a global)| (?=over )", "\n", chapters[name].title)
            role = "input" if name.startswith("layers/") else "output"
            nodes[name] = picture.box(text, at=(x + shift, 1.15 * row), role=role, href=f"../{name}.html")
    for name, chapter in chapters.items():
        for need in chapter.needs:
            if need in nodes:
                picture.arrow(nodes[need], nodes[name])
    return f"```{{raw}} html\n{picture.shown().html_text}\n```\n"
