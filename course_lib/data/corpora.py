"""Text that every Python installation holds: its documentation in English, and the source of its library."""

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from course_lib.data.dataset import Meta, dataset
from course_lib.data.text import TextDataset, text_dataset

__all__ = ["english_topics", "library_modules"]
__numerics__ = 1

ENGLISH = "\n !\"'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz"
PRINTABLE = "\n" + "".join(map(chr, range(32, 127)))

_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "}
)

# Written by hand, without long tables, and in the library from Python 3.10 on.
_MODULES = (
    "ast base64 bdb bisect calendar cmd code colorsys configparser contextlib copy csv dataclasses difflib "
    "enum filecmp fileinput fnmatch fractions functools getopt glob graphlib gzip heapq ipaddress numbers "
    "pprint profile pstats queue random reprlib sched secrets selectors shelve shlex shutil socketserver "
    "statistics string subprocess tempfile textwrap threading timeit tokenize trace traceback types uuid "
    "warnings wave weakref webbrowser zipapp"
)


def english_topics() -> dict[str, list[str]]:
    """The prose of Python's own help topics, by topic: clean paragraphs of one line each, none of them twice.

    Headings, tables, grammar, code and very short paragraphs are left out, and so is every paragraph with a
    character outside a set of 84.

    Raises:
        ImportError: where Python was installed without ``pydoc_data``.

    >>> english_topics()["assert"][0]
    'Assert statements are a convenient way to insert debugging assertions into a program:'
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise ImportError(
            "this Python has no pydoc_data.topics, from which the data set 'english' is made; "
            "system packages may keep it apart (Debian: apt install libpython3-stdlib)"
        ) from error
    seen: set[str] = set()
    clean = {}
    for title in sorted(topics):
        clean[title] = []
        for block in re.split(r"\n\s*\n", topics[title]):
            paragraph = _paragraph(block)
            if paragraph not in seen and _is_prose(paragraph):
                seen.add(paragraph)
                clean[title].append(paragraph)
    return {title: paragraphs for title, paragraphs in clean.items() if paragraphs}


def library_modules() -> dict[str, list[str]]:
    """Source of sixty modules of Python's library: by module, its top-level statements in order.

    A statement is kept with its decorators and without the comments around it; one that holds a character
    other than printable ASCII is left out. Modules that this Python keeps as a folder are left out.

    >>> library_modules()["bisect"][1].splitlines()[0]
    'def insort_right(a, x, lo=0, hi=None, *, key=None):'
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    allowed = set(PRINTABLE)
    modules = {}
    for name in _MODULES.split():
        file = folder / f"{name}.py"
        if file.is_file():
            statements = [s for s in _statements(file.read_text("utf-8")) if allowed.issuperset(s)]
            modules[name] = statements
    if not modules:
        raise FileNotFoundError(
            f"no library source in {folder}: this Python was installed without its .py files"
        )
    return modules


@dataset(
    "english",
    task="language modelling",
    x="text: (n,) int64 numbers of characters, one of 84 (lower and upper case, digits, common signs)",
    y="the next character",
    licence="PSF-2.0 (Python's own documentation)",
    source="help topics of the running Python (pydoc_data.topics), cleaned; differs between versions",
)
def _english(meta: Meta) -> TextDataset:
    return text_dataset(_dated(meta), english_topics().items(), ENGLISH)


@dataset(
    "source_code",
    task="language modelling",
    x="text: (n,) int64 numbers of characters, one of 96 (printable ASCII and line end)",
    y="the next character",
    licence="PSF-2.0 (Python's own library)",
    source="sixty modules of the running Python's library, by statement; differs between versions",
)
def _source_code(meta: Meta) -> TextDataset:
    return text_dataset(_dated(meta), library_modules().items(), PRINTABLE, separator="\n\n", run=100)


def _dated(meta: Meta) -> Meta:
    return replace(meta, versions={"python": sys.version.split()[0]})


def _paragraph(block: str) -> str:
    text = " ".join(block.translate(_TYPOGRAPHY).split())
    text = re.sub(r"^(\* |- |\d+\. )", "", text)  # the sign of a list
    text = re.sub(r"\*\*?(\w[^*]*)\*\*?", r"\1", text)  # emphasis
    return re.sub(r" ?\[\d+\]|`+", "", text)  # footnote marks, back quotes


def _is_prose(text: str) -> bool:
    if len(text) < 40 or text[-1] not in '.:!?)"' or ">>>" in text or "::=" in text:
        return False
    if not (text[0].isupper() or text[0] in '"('):  # most code begins with a small letter
        return False
    letters = sum(c.isalpha() or c == " " for c in text)
    return letters >= 0.85 * len(text) and set(ENGLISH).issuperset(text)


def _statements(source: str) -> Iterator[str]:
    lines = source.splitlines()
    for node in ast.parse(source).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        yield "\n".join(line.rstrip() for line in lines[first - 1 : node.end_lineno])
