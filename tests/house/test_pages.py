"""The generated pages: complete, deterministic, and true when there is nothing yet."""

import ast
import csv
import dataclasses
import json
import re

import pytest

from course_lib.measure import at_least, paper_claim
from course_lib.measure.claims import find
from course_lib.registry import chapters, papers, public_names
from tests.house.tree import ROOT, assert_none, files, parse
from tools.api import api_page, escape, link_names, plain
from tools.assemble import (
    ContentsError,
    check,
    follow_links,
    insert_below_title,
    navigation,
    only_shows,
    write,
)
from tools.contents import PARTS, Contents, Tried
from tools.ledger import claims_csv, claims_json, ledger
from tools.pages import course_map, descriptions, generate, headlines, numbers, prerequisites, tomllib
from tools.papers import bibtex, page, papers_csv
from tools.papers import index as paper_index
from tools.search import document

PAGES = [
    {
        "file": "layers/norm",
        "sections": [{"file": "exercises/layers/norm", "sections": [{"file": "solutions/layers/norm"}]}],
    }
]


def contents(pages: list | None = None, claims: list[Tried] = ()) -> Contents:
    """The course with this table of contents and these claims, whatever has been executed."""
    toc = {"format": "jb-book", "root": "index", "parts": [{"caption": "Layers", "chapters": pages or []}]}
    made = Contents(ROOT, toc)
    made.__dict__["claims"] = list(claims)  # a cached property
    return made


def tried(verdict: str, text: str = "grows", kind: str = "paper", **fields) -> Tried:
    """A statement on peri-ln as a notebook reports it."""
    said = paper_claim(text, where="Table 2", paper="peri-ln", value=[1.9, 2.1], expect=at_least(0.0))
    data = find(said).data | {"kind": kind, "verdict": verdict, "found": "2 ± 0.1", "expect": "at least 1"}
    return Tried("layers/norm", data | fields)


def rows(page: str) -> list[str]:
    """The rows of a page's tables, without the heads."""
    return [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| ---")][1:]


def test_every_paper_has_its_row():
    found = rows(paper_index(contents(PAGES)))
    assert len(found) == len(papers()) == 421
    for paper in papers().values():
        (row,) = [row for row in found if f'<span id="{paper.id}"></span>' in row]
        assert paper.url in row
        assert f"[{paper.arxiv}](" in row
        assert str(paper.year) in row


def test_a_paper_is_built_when_its_chapter_is_there_and_planned_before():
    with_page, without = contents(PAGES), contents()
    of_norm = [paper for paper in papers().values() if paper.chapter == "layers/norm"]
    assert {paper.id for paper in with_page.built} == {paper.id for paper in of_norm}
    assert without.built == []
    assert "0 of 421 papers are built" in paper_index(without)
    assert f"{len(of_norm)} of 421 papers are built" in paper_index(with_page)
    (row,) = [row for row in rows(paper_index(with_page)) if 'id="peri-ln"' in row]
    assert "](/layers/norm)" in row
    assert "TransformerBlock" in row
    assert "planned" not in row


def test_without_claims_the_pages_say_so():
    made = contents()
    assert "Claims of papers: 0" in ledger(made)
    assert "No chapter has made a claim yet" in ledger(made)
    data = json.loads(claims_json(made))
    assert data["statements"] == []
    assert {count for kind in data["counts"].values() for count in kind.values()} == {0}
    assert "headline" not in numbers(made)


STATEMENTS = [
    tried("not reproduced", "wins | always", headline=True, scale="tiny"),
    tried("reproduced"),
    tried("not tested", "on ImageNet", reason="no ImageNet", found="", expect=""),
    tried("open", "is it so", kind="question"),
    tried("holds", "is exact", kind="identity"),
]


def test_kinds_are_counted_apart():
    made = contents(PAGES, STATEMENTS)
    text = ledger(made)
    assert (
        "**Headline claims of papers: 1. 0 reproduced, 1 not reproduced, 0 inconclusive, 0 not tested.**"
        in text
    )
    assert "1 reproduced, 1 not reproduced, 0 inconclusive, 1 not tested." in text
    assert "0 as expected, 0 not as expected, 1 open." in text
    titles = ["Claims of papers: 3", "Questions of ours: 1", "Identities: 1"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == titles
    assert r"wins \| always" in text
    assert "headline claims [tried](/claims): 0 reproduced, 1 not reproduced" in numbers(made)


def test_a_row_of_the_index_has_one_verdict_and_what_people_search_for():
    (row,) = [row for row in rows(paper_index(contents(PAGES, STATEMENTS))) if 'id="peri-ln"' in row]
    assert row.count("verdict-") == 1
    assert "not reproduced" in row
    assert "[2502.02732](https://arxiv.org/abs/2502.02732)" in row
    assert "](/papers/2502.02732)" in row


def test_verdicts_and_pages_have_menus_and_lead_to_their_row():
    text = ledger(contents(PAGES, STATEMENTS))
    assert '<span data-facet="choice">Verdict</span>' in text
    assert '<a href="layers/norm.html#peri-ln.grows">' in text


def test_the_ledger_as_data():
    made = contents(PAGES, STATEMENTS)
    assert json.loads(claims_json(made))["statements"][0]["arxiv"] == "2502.02732"
    table = list(csv.DictReader(claims_csv(made).splitlines()))
    assert [row["verdict"] for row in table] == [t.verdict for t in STATEMENTS]
    assert table[1]["seeds"] == "0 1"
    papers_table = {row["id"]: row for row in csv.DictReader(papers_csv(made).splitlines())}
    assert papers_table["peri-ln"]["headline"] == "not reproduced"
    assert papers_table["peri-ln"]["page"] == "papers/2502.02732.html"
    assert papers_table["noprop"]["headline"] == "planned"


def test_the_page_of_a_paper_answers_what_one_asks():
    text = page(contents(PAGES, STATEMENTS), papers()["peri-ln"])
    for part in (
        "orphan: true",
        "(the paper, Table 2)",
        "not reproduced",
        "Our scale and theirs: tiny",
        "](/layers/norm)",
        "](/exercises/layers/norm)",
        "`TransformerBlock",
        "no ImageNet",
        "## What is exact",
        "@misc{peri-ln,",
    ):
        assert part in text
    assert "No headline claim has been tried yet" in page(contents(PAGES), papers()["peri-ln"])


def test_where_the_authors_code_was_run_its_page_says_which():
    text = page(contents(PAGES), papers()["slab-prepbn"])
    assert "](https://github.com/xinghaochen/SLAB/blob/" in text


def test_the_front_page_shows_results_of_both_kinds():
    other = tried("reproduced", "wins on peri", headline=True, scale="tiny")
    shown = headlines(contents(PAGES, [*STATEMENTS, dataclasses.replace(other, page="layers/attention")]))
    assert [row.split(" | ")[1].split(">")[1].split("<")[0] for row in rows(shown)] == [
        "✓ reproduced",
        "✗ not reproduced",
    ]
    assert "made a claim yet" in headlines(contents(PAGES))


def test_the_map_shows_what_builds_on_what():
    pages = [{"file": f"layers/{name}"} for name in ("dense", "norm", "attention")]
    page = prerequisites(contents(pages))
    found = {
        name: float(y)
        for name, y in re.findall(r'href="\.\./layers/(\w+)\.html"><rect x="\S+" y="(\S+)"', page)
    }
    assert found["dense"] < found["norm"] < found["attention"]
    assert page.count("<polygon") == 2
    assert "Attention and its relatives after Normalization" in page
    assert "No chapter" in prerequisites(contents())


def test_what_chapters_build_on_are_chapters_without_a_circle():
    known = chapters()
    for chapter in known.values():
        assert set(chapter.needs) <= set(known)
        seen, below = set(), set(chapter.needs)
        while below:
            assert chapter.id not in below
            seen |= below
            below = {need for name in below for need in known[name].needs} - seen


def test_every_page_that_teaches_has_a_sentence_to_share():
    found = descriptions(contents(PAGES, STATEMENTS))
    assert found["layers/norm"]
    assert found["papers/2502.02732"].endswith("(2025), not reproduced: wins | always")
    assert max(map(len, found.values())) <= 300


SITE_PAGE = """<html><body><nav>menu words</nav><article><h1>Norms<a class="headerlink">#</a></h1>
<p>Some prose.</p><section id="one"><h2>First &lt;one&gt;</h2><pre>import torch</pre>
<ul><li><p>in a list</p></li></ul>
<svg><text>axis</text></svg></section></article></body></html>"""


def test_the_search_knows_titles_sections_and_prose_and_no_code():
    text = document("layers/norm", SITE_PAGE)
    assert '<h1 data-pagefind-weight="10">Norms</h1>' in text
    assert chapters()["layers/norm"].question in text
    assert '<h2 id="one" data-pagefind-weight="5">First &lt;one&gt;</h2>' in text
    assert '<p data-pagefind-weight="1">Some prose.</p>' in text
    assert text.count("in a list") == 1
    for word in ("menu", "torch", "axis", "#"):
        assert word not in text.replace('"#', "")


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("catalogue/layers/norm", 2.0),
        ("exercises/layers/norm", 4.0),
        ("papers", 3.0),
        ("papers/2502.02732", 8.0),
    ],
)
def test_pages_that_list_things_weigh_less_than_chapters(name, weight):
    assert f'<h1 data-pagefind-weight="{weight:g}">' in document(name, SITE_PAGE)


@pytest.mark.parametrize(
    ("name", "page"), [("genindex", SITE_PAGE), ("layers/x", "<html><body></body></html>")]
)
def test_pages_without_words_of_their_own_are_not_searched(name, page):
    assert document(name, page) == ""


def test_the_page_of_a_paper_is_found_by_its_number():
    assert "2502.02732 peri-ln" in document("papers/2502.02732", SITE_PAGE)


def test_bibtex_keeps_capitals_and_escapes():
    paper = dataclasses.replace(
        papers()["peri-ln"], title="50% & more_", authors=("Ada B. See", "Dee E. Eff")
    )
    assert bibtex(paper).splitlines()[1:3] == [
        "  author = {Ada B. See and Dee E. Eff},",
        r"  title = {{50\% \& more\_}},",
    ]


def test_equal_contents_give_equal_files():
    assert generate(contents(PAGES)) == generate(contents(PAGES))


def test_the_map_names_every_chapter_once_and_links_the_finished():
    page = course_map(contents(PAGES))
    assert set(PARTS) == {chapter.part for chapter in chapters().values()}
    for chapter in chapters().values():
        assert page.count(escape(chapter.title)) >= 1
    assert re.findall(r"\]\((/[^)]*)\)", page) == ["/layers/norm"]


def test_every_public_object_of_a_chapter_is_in_the_catalogue():
    from course_lib.layers import norm

    page = api_page(contents(PAGES), "layers/norm")
    for name in public_names(norm.__name__):
        assert f"## {name}\n" in page
    assert ".. autofunction:: course_lib.layers.norm.layer_norm\n" in page
    assert ".. autoclass:: course_lib.layers.norm.LayerNorm\n   :members: forward\n" in page


def test_names_in_docstrings_become_links_or_code():
    lines = ["Like :func:`LayerNorm`, not like", ":class:`~somewhere.Unknown`."]
    link_names(lines)
    assert lines == [
        "Like :py:obj:`LayerNorm <course_lib.layers.norm.LayerNorm>`, not like",
        "``somewhere.Unknown``.",
    ]
    assert plain(":math:`x^2` and ``y`` by :func:`f`") == "$x^2$ and `y` by `f`"


@pytest.mark.parametrize("text", ["a|b", "$x$", "_a_", "<b>", "`c`", "[d](e)"])
def test_titles_are_text_and_no_markup(text):
    assert re.sub(r"\\(.)", r"\1", escape(text)) == text
    assert not re.search(r"(?<!\\)[|$_<>`\[\]]", escape(text))


def test_pages_lead_to_exercises_and_from_there_to_solutions():
    made = contents(PAGES)
    assert "](/exercises/layers/norm)" in navigation("layers/norm", made)
    assert "solutions" not in navigation("layers/norm", made)
    assert "](/solutions/layers/norm)" in navigation("exercises/layers/norm", made)
    assert "](/layers/norm)" in navigation("solutions/layers/norm", made)
    assert navigation("layers/attention", made) == ""
    notebook = {"cells": [{"cell_type": "markdown", "source": "intro\n\n# Title\n\ntext"}]}
    insert_below_title(notebook, "HERE")
    assert notebook["cells"][0]["source"] == "intro\n\n# Title\n\nHERE\n\n\ntext"


@pytest.mark.parametrize(
    ("code", "hidden"),
    [
        ("show_source(norm.LayerNorm)", True),
        ("show_claims(experiments.growth)\nidentities('peri-ln', [('two', 1 + 1, equal(2))])", True),
        ("runs = measured(experiments.growth)\nruns", True),
        ("x = 3\nshow_claims(x)", False),
        ("print(1)", False),
        ("%matplotlib inline", False),
        ("# a remark", False),
    ],
)
def test_cells_that_only_show_something_have_no_code_to_read(code, hidden):
    assert only_shows(code) == hidden


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("layers/norm.ipynb", "../start/first_steps.md"),
        ("layers/norm.ipynb", "../../book/start/first_steps.md"),
        ("exercises/layers/norm.ipynb", "../../start/first_steps.md"),
        ("exercises/layers/norm.ipynb", "../../book/start/first_steps.md"),
        ("howto/learners.md", "../start/first_steps.md"),
    ],
)
def test_links_to_sources_become_links_to_pages(name, link):
    pages = {"start/first_steps": "start/first_steps.ipynb"}
    assert follow_links(f"see [a]({link}#b) now", name, pages) == "see [a](/start/first_steps.ipynb#b) now"
    for other in ("https://x.org/a.md", "gone.md", "#here", "/start/first_steps"):
        assert follow_links(f"[a]({other})", name, pages) == f"[a]({other})"


def test_the_table_of_contents_and_the_pages_agree():
    made = contents(PAGES)
    check(made, {f"{page}.ipynb" for page in made.pages})
    with pytest.raises(ContentsError, match=r"_toc\.yml names solutions/layers/norm, which does not exist"):
        check(made, {"index.ipynb", "layers/norm.ipynb", "exercises/layers/norm.ipynb"})
    with pytest.raises(ContentsError, match=r"layers/other is in no part of _toc\.yml"):
        check(made, {f"{page}.ipynb" for page in [*made.pages, "layers/other"]})


def test_assembled_files_keep_their_date_unless_they_change(tmp_path):
    assert write(tmp_path, {"a/b.md": "1", "c.md": "2"}) == 2
    before = (tmp_path / "a/b.md").stat().st_mtime_ns
    assert write(tmp_path, {"a/b.md": "1", "c.md": "3"}) == 1
    assert (tmp_path / "a/b.md").stat().st_mtime_ns == before
    assert write(tmp_path, {"c.md": "3"}) == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["c.md"]


ARRAYS = {"Float", "Int", "Bool", "Num", "Shaped", "Complex", "Integer", "Inexact", "Real", "UInt8"}


def shape_letters(root) -> dict[str, str]:
    """Each letter of a shape annotation in the library, and a file that uses it."""
    found = {}
    for path in files(root / "course_lib", ".py"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") in ARRAYS:
                shape = node.slice.elts[-1].value
                for letter in re.findall(r"\*?\b[a-z]\w*", shape):
                    found.setdefault(letter, path.relative_to(root).as_posix())
    return found


def test_every_letter_of_a_shape_is_in_the_notation():
    legend = tomllib.loads((ROOT / "tools/notation.toml").read_text("utf-8"))
    known = {row["letter"] for row in legend["shape"]}
    used = shape_letters(ROOT)
    assert {"*b", "t", "d"} <= set(used)
    unknown = {letter: path for letter, path in used.items() if letter not in known}
    assert_none([f"{path}: tools/notation.toml lacks {letter!r}" for letter, path in unknown.items()])
