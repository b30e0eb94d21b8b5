"""A finished chapter gives each of its papers what the course promises: code, and a claim that was tried."""

import ast
import re

import pytest
import yaml

from course_lib.classroom.claims import at_least, claim
from tests.house.tree import ROOT, assert_none, called, cells, pages, prose, registered, rows

VERDICTS = ("reproduced", "not reproduced", "inconclusive")
FRONT_MATTER = {"title": str, "minutes": int, "prerequisites": (str, list)}


def claim_calls(page) -> list[ast.Call]:
    """The calls of ``claim(...)`` in the code cells of a page."""
    trees = [ast.parse(code) for code in cells(page)]
    return [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call) and called(n) == "claim"]


def claimed_paper(call: ast.Call) -> str | None:
    """The paper's id, if it is written out; a claim that a reader can search for writes it out."""
    values = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "paper_id")]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def owed_papers(root) -> list[str]:
    """Papers of finished chapters without an object or without a claim."""
    implemented = {paper_id for item in registered(root) for paper_id in item.paper_ids}
    claimed = {
        chapter: {claimed_paper(c) for c in claim_calls(page)} for chapter, page in pages(root).items()
    }
    found = []
    for row in rows(root, "paper"):
        if row["chapter"] in claimed:
            if row["id"] not in implemented:
                found.append(f"{row['chapter']}: nothing in course_lib implements {row['id']}")
            if row["id"] not in claimed[row["chapter"]]:
                found.append(f"{row['chapter']}: no claim({row['id']!r}, ...) on its page")
    return found


def faulty_claims(root) -> list[str]:
    """Claims that name no known paper, expect nothing, or pin an unknown verdict."""
    known = {row["id"] for row in rows(root, "paper")}
    found = []
    for page in sorted((root / "book").rglob("*.md")):
        for call in claim_calls(page):
            paper_id, given = claimed_paper(call), {k.arg: k.value for k in call.keywords}
            where = f"{page.relative_to(root).as_posix()}: claim({paper_id!r}, ...)"
            if paper_id not in known:
                found.append(f"{where} names no paper of papers.toml")
            if not {"measured", "expect"} <= set(given):
                found.append(f"{where} needs measured= and expect=")
            if "verdict" in given and getattr(given["verdict"], "value", None) not in VERDICTS:
                found.append(f"{where} must pin one of the verdicts {', '.join(VERDICTS)}")
    return found


def bare_front_matter(root) -> list[str]:
    """Pages that teach without title, minutes or prerequisites at the top."""
    found = []
    lessons = [*pages(root).values(), *sorted((root / "book/start").glob("*.md"))]
    for page in lessons:
        text = page.read_text("utf-8")
        head = yaml.safe_load(text.split("\n---", 1)[0]) if text.startswith("---\n") else {}
        for key, kind in FRONT_MATTER.items():
            if not isinstance(head.get(key), kind) or not head[key]:
                found.append(f"{page.relative_to(root).as_posix()} does not say its {key}")
        if head.get("title") and f"\n# {head['title']}" not in text:
            found.append(f"{page.relative_to(root).as_posix()}: the title above is not the heading below")
    return found


def unlinked_exercises(root) -> list[str]:
    """Chapters whose page does not lead to their exercises."""
    return [
        f"book/{chapter}.md does not link to its exercises (exercises/{chapter}.md)"
        for chapter, page in pages(root).items()
        if not re.search(rf"\]\([./]*exercises/{chapter}(\.md)?\)", prose(page))
    ]


def test_every_paper_of_a_finished_chapter_is_implemented_and_claimed():
    assert_none(owed_papers(ROOT))


def test_every_claim_names_a_known_paper_and_pins_a_known_verdict():
    assert_none(faulty_claims(ROOT))


def test_every_lesson_says_its_title_minutes_and_prerequisites():
    assert_none(bare_front_matter(ROOT))


def test_every_chapter_links_to_its_exercises():
    assert_none(unlinked_exercises(ROOT))


def test_the_verdicts_are_those_of_claim():
    measured = {"reproduced": 1.0, "not reproduced": -1.0, "inconclusive": [1.0, -1.0, 0.5]}
    for verdict in VERDICTS:
        row = claim(
            "peri-ln", "is positive", measured=measured[verdict], expect=at_least(0.0), verdict=verdict
        )
        assert row.verdict == verdict
    with pytest.raises(ValueError, match="'proved' is none of"):
        claim("peri-ln", "is positive", measured=1.0, expect=at_least(0.0), verdict="proved")


HEAD = "---\ntitle: Toys\nminutes: 20\nprerequisites: none\n---\n\n# Toys\n"
CLAIM = 'claim("toy-paper", "toys work", measured=1, expect=equal(1))'
LIBRARY = "@implements('toy-paper')\nclass Toy: ..."


def chapter(*code: str) -> dict[str, str]:
    """A chapter with these code cells."""
    page = HEAD + "".join(f"\n```{{code-cell}} ipython3\n:tags: [hide-input]\n{c}\n```\n" for c in code)
    return {"book/layers/toy.md": page, "course_lib/layers/toy.py": LIBRARY}


def test_a_full_chapter_passes(plant):
    root = plant(chapter("import torch\n%matplotlib inline", f"x = 1\n{CLAIM}"))
    assert owed_papers(root) == faulty_claims(root) == bare_front_matter(root) == []


def test_a_chapter_without_a_page_owes_nothing(plant):
    assert owed_papers(plant({})) == []


def test_a_paper_without_object_is_found(plant):
    root = plant({**chapter(CLAIM), "course_lib/layers/toy.py": "class Toy: ..."})
    assert owed_papers(root) == ["layers/toy: nothing in course_lib implements toy-paper"]


@pytest.mark.parametrize(
    "code", ["", f"# {CLAIM}", "claim('peri-ln', '', measured=1, expect=e)", "print('toy-paper')"]
)
def test_a_paper_without_claim_is_found(plant, code):
    assert owed_papers(plant(chapter(code))) == ["layers/toy: no claim('toy-paper', ...) on its page"]


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("claim('toy', 'x', measured=1, expect=equal(1))", "names no paper"),
        ("claim(name, 'x', measured=1, expect=equal(1))", "names no paper"),
        ("claim('toy-paper', 'x', measured=1)", "needs measured= and expect="),
        (CLAIM[:-1] + ", verdict='proved')", "must pin one of the verdicts"),
        (CLAIM[:-1] + ", verdict=verdict)", "must pin one of the verdicts"),
    ],
)
def test_each_fault_of_a_claim_is_found(plant, code, fault):
    found = faulty_claims(plant(chapter(code)))
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_may_be_pinned(plant, verdict):
    assert faulty_claims(plant(chapter(f"{CLAIM[:-1]}, verdict={verdict!r})"))) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("title: Toys\n", "does not say its title"),
        ("minutes: 20\n", "does not say its minutes"),
        ("prerequisites: none\n", "does not say its prerequisites"),
        ("# Toys\n", "the title above is not the heading below"),
    ],
)
def test_each_missing_part_of_the_front_matter_is_found(plant, line, fault):
    root = plant({"book/layers/toy.md": HEAD.replace(line, "", 1)})
    assert bare_front_matter(root) == [f"book/layers/toy.md{':' if 'title above' in fault else ''} {fault}"]


def test_a_chapter_without_a_link_to_its_exercises_is_found(plant):
    assert len(unlinked_exercises(plant(chapter("# [x](../exercises/layers/toy.md)")))) == 1
    linked = plant({"book/layers/toy.md": f"{HEAD}\nNow the [exercises](../exercises/layers/toy.md).\n"})
    assert unlinked_exercises(linked) == []


def test_a_page_without_front_matter_is_found(plant):
    assert len(bare_front_matter(plant({"book/start/first.md": "# Toys\n"}))) == 3
