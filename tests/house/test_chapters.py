"""A finished chapter gives each of its papers what the course promises: code, and a claim that was tried."""

import re
from collections import Counter

import pytest
import yaml

from tests.house.tree import ROOT, assert_none, pages, prose, registered, rows
from tools.contents import Contents

FRONT_MATTER = {"title": str, "minutes": int, "prerequisites": (str, list)}


def owed_papers(root) -> list[str]:
    """Papers of finished chapters without an object."""
    implemented = {paper_id for item in registered(root) for paper_id in item.paper_ids}
    return [
        f"{row['chapter']}: nothing in course_lib implements {row['id']}"
        for row in rows(root, "paper")
        if row["chapter"] in pages(root) and row["id"] not in implemented
    ]


def faulty_statements(statements: list[dict], owed: set[str]) -> list[str]:
    """Papers without exactly one headline, headlines without a word on our scale, rows with one name."""
    headlines = Counter(row["paper"] for row in statements if row["headline"])
    found = [
        f"{paper} has {headlines[paper]} headline claims"
        for paper in sorted(owed | {*headlines})
        if headlines[paper] != 1
    ]
    found += [
        f"{row['id']}: say how far our scale is from theirs (scale=...)"
        for row in statements
        if row["headline"] and not row["scale"] and row["verdict"] != "not tested"  # its reason says it
    ]
    names = Counter(row["id"] for row in statements)
    return found + [f"{name}: {count} rows have this name" for name, count in names.items() if count > 1]


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


def test_every_paper_of_a_finished_chapter_is_implemented():
    assert_none(owed_papers(ROOT))


def test_every_paper_of_a_finished_chapter_has_one_headline_claim():
    course = Contents.read(ROOT)
    executed = {tried.page for tried in course.claims}
    if not executed:
        pytest.skip("no page was executed: make notebooks")
    owed = {paper.id for paper in course.built if paper.chapter in executed}
    assert_none(faulty_statements([tried.data for tried in course.claims], owed))


def test_every_lesson_says_its_title_minutes_and_prerequisites():
    assert_none(bare_front_matter(ROOT))


def test_every_chapter_links_to_its_exercises():
    assert_none(unlinked_exercises(ROOT))


HEAD = "---\ntitle: Toys\nminutes: 20\nprerequisites: none\n---\n\n# Toys\n"
LIBRARY = "@implements('toy-paper')\nclass Toy: ..."


def chapter(*code: str) -> dict[str, str]:
    """A chapter with these code cells."""
    page = HEAD + "".join(f"\n```{{code-cell}} ipython3\n:tags: [hide-input]\n{c}\n```\n" for c in code)
    return {"book/layers/toy.md": page, "course_lib/layers/toy.py": LIBRARY}


def test_a_full_chapter_passes(plant):
    root = plant(chapter("import torch\n%matplotlib inline", "x = 1"))
    assert owed_papers(root) == bare_front_matter(root) == []


def test_a_chapter_without_a_page_owes_nothing(plant):
    assert owed_papers(plant({})) == []


def test_a_paper_without_object_is_found(plant):
    root = plant({**chapter("x = 1"), "course_lib/layers/toy.py": "class Toy: ..."})
    assert owed_papers(root) == ["layers/toy: nothing in course_lib implements toy-paper"]


def statement(name: str, paper: str = "toy-paper", **fields) -> dict:
    """A row of the ledger."""
    return {"id": name, "paper": paper, "headline": False, "scale": "", "verdict": "open", **fields}


@pytest.mark.parametrize(
    ("statements", "faults"),
    [
        ([statement("a", headline=True, scale="tiny"), statement("b")], []),
        ([statement("a")], ["toy-paper has 0 headline claims"]),
        ([statement(n, headline=True, scale="tiny") for n in "ab"], ["toy-paper has 2 headline claims"]),
        ([statement("a", headline=True)], ["a: say how far our scale is from theirs (scale=...)"]),
        ([statement("a", headline=True, scale="x"), statement("a")], ["a: 2 rows have this name"]),
    ],
)
def test_each_fault_of_the_statements_is_found(statements, faults):
    assert faulty_statements(statements, {"toy-paper"}) == faults


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
