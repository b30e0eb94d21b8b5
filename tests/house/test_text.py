"""The repository speaks of the course: not of a machine it was written on, nor of how it came about."""

import re

import pytest

from tests.house.tree import ROOT, assert_none, files, inside

TEXT = (".py", ".md", ".toml", ".yml", ".yaml", ".json", ".css", ".js", ".txt", ".cff", ".mk")

# Written in pieces, so that this file does not find itself.
FORBIDDEN = [
    re.compile(pattern)
    for pattern in (
        r"(?<![\w.:/])/(work|root|home/\w+|Users/\w+)" + r"/",
        r"/tmp" + r"/(?!<)\w",
        r"(?i)\bsub-?" + r"agents?\b",
        r"(?i)\b(this|the current|an earlier|the previous) " + r"(coding )?session\b",
        r"(?i)\bas an ai " + r"(language )?model\b",
    )
]


def private_words(root) -> list[str]:
    """Lines that name a checkout on some machine, or the way the work was organised."""
    found = []
    for path in [*files(root, *TEXT), *(p for p in (root / "Makefile", root / "LICENSE") if p.exists())]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found += [f"{inside(path, root)}:{number}: {m[0]!r}" for p in FORBIDDEN if (m := p.search(line))]
    return found


def test_no_file_speaks_of_a_machine_or_of_its_making():
    assert_none(private_words(ROOT))


@pytest.mark.parametrize(
    "line",
    [
        "see /work" + "/main/course_lib",
        "open('/home" + "/ada/data.csv')",
        "in /tmp" + "/build_1",
        "written by a sub" + "agent",
        "as found in an earlier " + "session",
    ],
)
def test_each_kind_of_private_word_is_found(plant, line):
    root = plant({"book/layers/toy.md": f"First line.\n{line}\n"})
    assert len(private_words(root)) == 1
    assert private_words(root)[0].startswith("book/layers/toy.md:2:")


@pytest.mark.parametrize(
    "line", ["https://arxiv.org/work/1", "a training session", "course_lib/home.py", "the root/ of the tree"]
)
def test_ordinary_words_pass(plant, line):
    assert private_words(plant({"book/layers/toy.md": line})) == []
