"""The library on the command line: ``python -m course_lib`` lists, finds and shows what is there."""

import argparse
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import groupby
from pathlib import Path

from course_lib import __version__, registry
from course_lib.registry import Entry, Traits

WIDTH = 100

EXAMPLES = """\
examples:
  python -m course_lib list --chapter layers/norm
  python -m course_lib find "long sequences" --causal
  python -m course_lib show LayerNorm
  python -m course_lib papers entropy
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 where nothing was found, 2 for an unknown name.

    >>> main(["papers", "ReLU's revival"])  # doctest: +ELLIPSIS
    layers/norm: ...
      built   2410.09637  relu-revival
              ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language Models
    1 paper, 1 built
    0
    """
    options = _parser().parse_args(arguments)
    try:
        lines = options.command(options)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"course_lib: {error}", file=sys.stderr)
        return 2
    return _write(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m course_lib",
        description="What is in the library, which paper it comes from, where it is taught and tested.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"course_lib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    listing = commands.add_parser("list", help="all public objects, chapter by chapter")
    listing.set_defaults(command=_list, words="")
    finding = commands.add_parser("find", help="objects by words in name, description or paper")
    finding.set_defaults(command=_find)
    finding.add_argument("words", nargs="+", help="all of them must occur")
    for command in listing, finding:
        command.add_argument("--chapter", help="only this chapter, such as layers/norm")
        traits = command.add_argument_group("traits", "what can have one by an argument counts for both")
        for trait in fields(Traits):
            name = trait.name.replace("_", "-")
            traits.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=f"{name} or not")

    showing = commands.add_parser("show", help="one object: signature, description, papers, chapter, tests")
    showing.set_defaults(command=_show)
    showing.add_argument("name", help="a public name such as LayerNorm")

    paper_list = commands.add_parser("papers", help="the papers of the course, built and planned")
    paper_list.set_defaults(command=_papers)
    paper_list.add_argument("words", nargs="*", help="all of them must occur in title, id, number or year")
    paper_list.add_argument("--chapter", help="only this chapter, such as layers/norm")
    return parser


def _list(options: argparse.Namespace) -> list[str]:
    place = {chapter: position for position, chapter in enumerate(registry.chapters())}
    found = sorted(_chosen("", options), key=lambda e: (place.get(e.chapter, -1), e.chapter, e.name))
    lines = []
    for chapter, group in groupby(found, key=lambda entry: entry.chapter):
        lines += [
            _heading(chapter),
            *_table([(entry.name, _plain_text(entry.summary)) for entry in group]),
            "",
        ]
    return [*lines, _count(len(found), "object")] if found else []


def _find(options: argparse.Namespace) -> list[str]:
    words = " ".join(options.words)
    found = _chosen(words, options)
    lines = []
    for entry in found:
        lines += [f"{entry.name}  ({entry.chapter})", *_wrapped("    " + _plain_text(entry.summary))]
    if not found:
        planned = registry.find_papers(words, chapter=options.chapter)
        print(
            f"course_lib: no object matches {words!r}" + (", but these papers do" if planned else ""),
            file=sys.stderr,
        )
        lines = _paper_lines(planned)
    return lines


def _chosen(words: str, options: argparse.Namespace) -> list[Entry]:
    """The objects that match words, chapter and traits of the command line."""
    if options.chapter is not None:
        registry.find_papers(chapter=options.chapter)  # refuses an unknown chapter
    wanted = {t.name: value for t in fields(Traits) if (value := getattr(options, t.name)) is not None}
    return [entry for entry in registry.find(words, **wanted) if options.chapter in (None, entry.chapter)]


def _show(options: argparse.Namespace) -> list[str]:
    lines: list[str] = []
    for entry in registry.show(options.name):
        lines += [*([""] if lines else []), *_shown(entry)]
    return lines


def _shown(entry: Entry) -> list[str]:
    lines = [f"from {entry.module} import {entry.name}", "", *_signature(entry)]
    lines += ["", *_wrapped(_plain_text(entry.doc))] if entry.doc else []
    if entry.paper_ids:
        lines += ["", "papers"]
    for paper in map(registry.paper, entry.paper_ids):
        lines += [*_wrapped(f"  {paper.title} ({paper.year})"), f"  {paper.url}"]
    taught = entry.chapter in registry.chapters()
    lines += ["", _heading(f"chapter  {entry.chapter}") if taught else f"module   {entry.module}"]
    if taught:
        lines += [f"page     book/{entry.chapter}.md", *(f"tests    {file}" for file in _test_files(entry))]
    if entry.is_layer or entry.can_be:
        lines.append(f"traits   {_names(entry.always)}")
        lines += [f"can be   {_names(entry.can_be)}, by an argument"] if entry.can_be else []
        switched = [trait for trait in entry.traits.holding if trait not in entry.always]
        lines += [f"example  {_names(switched)}"] if switched else []
    return lines


def _names(traits: list[str]) -> str:
    return ", ".join(traits).replace("_", "-") or "none"


def _papers(options: argparse.Namespace) -> list[str]:
    words = " ".join(options.words)
    found = registry.find_papers(words, chapter=options.chapter)
    if not found:
        print(f"course_lib: no paper matches {words!r}", file=sys.stderr)
    return _paper_lines(found)


def _paper_lines(found: list[registry.Paper]) -> list[str]:
    if not found:
        return []
    built = {paper_id for entry in registry.entries().values() for paper_id in entry.paper_ids}
    lines = []
    for chapter, group in groupby(found, key=lambda paper: paper.chapter):
        lines.append(_heading(chapter))
        for paper in group:
            lines.append(f"  {'built' if paper.id in built else 'planned':7} {paper.arxiv:11} {paper.id}")
            lines += textwrap.wrap(paper.title, WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)
    return [*lines, f"{_count(len(found), 'paper')}, {sum(paper.id in built for paper in found)} built"]


def _heading(chapter: str) -> str:
    """A chapter with its title, as far as it is a chapter and not a file of the ground."""
    known = registry.chapters().get(chapter.split()[-1])
    return _cut(f"{chapter}: {known.title}" if known else chapter)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _table(rows: list[tuple[str, str]]) -> list[str]:
    """Two columns; the second is cut where the line is full."""
    width = max(len(left) for left, _ in rows)
    return [_cut(f"  {left:{width}}  {right}") for left, right in rows]


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3].rstrip() + "..."


def _wrapped(text: str) -> list[str]:
    """The text with its line breaks as they are, except in paragraphs that are too wide."""
    lines = []
    for paragraph in text.split("\n\n"):
        rows = paragraph.splitlines()
        indents = {len(row) - len(row.lstrip()) for row in rows}
        if len(indents) == 1 and ">>>" not in paragraph and max(map(len, rows)) > WIDTH:
            rows = [" " * indents.pop() + " ".join(paragraph.split())]
        for row in rows:
            indent = " " * (len(row) - len(row.lstrip(" .>")))
            lines += textwrap.wrap(row, WIDTH, subsequent_indent=indent, break_on_hyphens=False) or [""]
        lines.append("")
    return lines[:-1]


def _signature(entry: Entry) -> list[str]:
    """The call, one argument per line where it would be too wide."""
    if not callable(entry.obj):
        return [_cut(f"{entry.name} = {entry.obj!r}".splitlines()[0])]
    try:
        signature = inspect.signature(entry.obj)
    except ValueError:  # an exception takes what its base does
        return [entry.name]
    if inspect.isclass(entry.obj):
        signature = signature.replace(return_annotation=signature.empty)
    text = _plain_types(f"{entry.name}{signature}")
    if len(text) <= WIDTH:
        return [text]
    arguments, star = [], False
    for argument in signature.parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and not star:
            arguments.append("*")
        star = star or argument.kind in (argument.KEYWORD_ONLY, argument.VAR_POSITIONAL)
        arguments.append(str(argument))
    result = str(signature.replace(parameters=[]))[2:]
    lines = [f"{entry.name}(", *(f"    {argument}," for argument in arguments), f"){result}"]
    return [part for line in lines for part in _wrapped(_plain_types(line))]


def _plain_types(text: str) -> str:
    """Names as one writes them: Float for jaxtyping.Float, GELU for <class 'torch.nn...GELU'>."""
    text = re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", text)
    return re.sub(r"<class '(\w+)'>|<function (\w+) at \w+>", r"\1\2", text)


def _plain_text(docstring: str) -> str:
    """A docstring without the marks of reStructuredText: LayerNorm for :class:`LayerNorm`."""
    return re.sub(r"(?<!`)(?::\w+:)?(`{1,2})~?([^`]+)\1", r"\2", docstring)


def _test_files(entry: Entry) -> Iterator[str]:
    """Tests of the chapter that name the object, or, where the tests are not installed, where they stand."""
    part, _, chapter = entry.chapter.partition("/")
    root = Path(registry.__file__).resolve().parents[1]
    named = re.compile(rf"\b{entry.name}\b")
    found = [
        file.relative_to(root).as_posix()
        for file in sorted(root.glob(f"tests/{part}/test_{chapter}*.py"))
        if named.search(_text(file))
    ]
    yield from found or [f"tests/{part}/test_{chapter}*.py (in the source tree)"]


@cache
def _text(file: Path) -> str:
    return file.read_text("utf-8")


def _write(lines: list[str]) -> int:
    """Print the lines; a reader that stops reading (``| head``) is no error."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter of a title gets a "?"
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
    return 0 if lines else 1


if __name__ == "__main__":
    sys.exit(main())
