"""One name, five folders: whoever knows a chapter knows where everything of it is."""

import pytest

from tests.house.tree import (
    ROOT,
    assert_none,
    chapter_ids,
    chapter_tests,
    experiments,
    files,
    inside,
    library_files,
    pages,
    parse,
    parts,
    rows,
)

# Ground that stands in a part without being a chapter. Each file here is a decision; most code has a chapter.
GROUND = {
    "layers/_shapes.py": "the width check of every layer; private, so that the tests of the layers test it",
    "layers/_half.py": "products and sums beyond the range of half precision; private, as above",
    "layers/_images.py": "channel norm, channel scale and squeeze-and-excitation of three chapters; private",
    "layers/_streaming.py": "what layers that run token by token can do, and their state; private, as above",
    "layers/_scan.py": "the linear recurrence of several chapters, in two forms; private, as above",
    "training/loop.py": "fit and evaluate, which every chapter uses",
    "training/validation.py": "folds and stopping points on top of fit; its paper's page is layers/dense",
    "training/_batches.py": "where fit gets its batches; private, as above",
    "training/hooks.py": "what a run of fit may do beside its updates: keep, stop, validate, show",
}
TOPS = ("experiments", "bench", "exercises")  # folders of the library that hold chapters once more
NO_CHAPTER = {"start", "howto", "_static"}  # folders of the book that teach no paper


def incomplete_chapters(root) -> list[str]:
    """Pages without library, solutions, exercises or tests."""
    found = []
    for chapter in pages(root):
        for folder in ("solutions", "exercises"):
            if not (root / folder / f"{chapter}.md").exists():
                found.append(f"book/{chapter}.md has no {folder}/{chapter}.md")
        if not library_files(root, chapter):
            found.append(f"book/{chapter}.md has no course_lib/{chapter}.py (or folder)")
    return found + untested(root)


def untested(root) -> list[str]:
    """Chapters with a page or a library, and ground files, without tests."""
    found = []
    for part, name in (path.removesuffix(".py").split("/") for path in GROUND):
        there = (root / "course_lib" / part / f"{name}.py").exists() and not name.startswith("_")
        if there and not list((root / "tests" / part).glob(f"test_{name}*.py")):
            found.append(f"course_lib/{part}/{name}.py has no tests/{part}/test_{name}*.py")
    for chapter in chapter_ids(root):
        built = chapter in pages(root) or library_files(root, chapter)
        if built and not chapter_tests(root, chapter):
            part, name = chapter.split("/")
            found.append(f"{chapter} has no tests/{part}/test_{name}*.py")
    return found


def stray_files(root) -> list[str]:
    """Files in the folders of the chapters that belong to no chapter."""
    return [*_stray_library(root), *_stray_experiments(root), *_stray_pages(root), *_stray_tests(root)]


def _stray_library(root) -> list[str]:
    chapters = set(chapter_ids(root))
    found = []
    for part in parts(root):
        for base in [root / "course_lib", *(root / "course_lib" / top for top in TOPS)]:
            for path in sorted((base / part).rglob("*")):
                if path.is_dir() or "__pycache__" in path.parts:
                    continue
                place = path.relative_to(base).as_posix()
                chapter = "/".join(path.relative_to(base).with_suffix("").parts[:2])
                if place != f"{part}/__init__.py" and chapter not in chapters and place not in GROUND:
                    found.append(f"{inside(path, root)}: {chapter} is not in chapters.toml")
    return found


def _stray_experiments(root) -> list[str]:
    """Experiments outside the file of their paper, such as ``experiments/layers/norm/peri_ln.py``."""
    chapter_of = {row["id"].replace("-", "_"): (row["id"], row["chapter"]) for row in rows(root, "paper")}
    found = []
    for path in files(root / "course_lib/experiments", ".py", ".json"):
        *chapter, stem = path.relative_to(root / "course_lib/experiments").with_suffix("").parts
        if len(chapter) != 2 or stem == "side_by_side" or stem.startswith("_"):
            continue
        paper, owner = chapter_of.get(stem, ("", ""))
        if owner != "/".join(chapter):
            found.append(f"{inside(path, root)}: {stem} is no paper of {'/'.join(chapter)}")
        elif path.suffix == ".json" and not path.with_suffix(".py").exists():
            found.append(f"{inside(path, root)} has no experiments beside it")
        elif path.suffix == ".py":
            for name, papers in experiments(parse(path)).items():
                if paper not in papers:
                    found.append(f"{inside(path, root)}: {name} is about {papers}, not about {paper}")
    return found


def _stray_pages(root) -> list[str]:
    chapters, found = set(chapter_ids(root)), []
    for folder in ("book", "solutions", "exercises"):
        for path in files(root / folder, ".md", ".ipynb", ".py"):
            page = path.relative_to(root / folder)
            if (
                len(page.parts) > 1
                and page.parts[0] not in NO_CHAPTER
                and page.as_posix()[:-3] not in chapters
            ):
                found.append(f"{inside(path, root)} belongs to no chapter of chapters.toml")
            elif folder != "book" and not (root / "book" / page).exists():
                found.append(f"{inside(path, root)} has no page book/{page.as_posix()}")
    return found


def _stray_tests(root) -> list[str]:
    found = []
    for part in parts(root):
        known = {
            path for c in chapter_ids(root) if c.startswith(f"{part}/") for path in chapter_tests(root, c)
        }
        ground = [
            f"test_{place.split('/')[1][:-3].lstrip('_')}" for place in GROUND if place.startswith(f"{part}/")
        ]
        for path in files(root / "tests" / part, ".py"):
            is_ground = any(path.stem == name or path.stem.startswith(f"{name}_") for name in ground)
            if path.stem.startswith("test_") and path not in known and not is_ground:
                found.append(f"{inside(path, root)} tests no chapter of chapters.toml")
    return found


def test_every_page_has_library_solutions_exercises_and_tests():
    assert_none(incomplete_chapters(ROOT))


def test_no_file_is_astray():
    assert_none(stray_files(ROOT))


def test_every_ground_file_exists():
    assert [path for path in GROUND if not (ROOT / "course_lib" / path).exists()] == []


COMPLETE = {
    "book/layers/toy.md": "",
    "course_lib/layers/toy.py": "",
    "solutions/layers/toy.md": "",
    "exercises/layers/toy.md": "",
    "tests/layers/test_toy.py": "",
}


EXPERIMENTS = """
@experiment(paper="toy-paper")
def first(seed): ...

@experiment(paper=("other", "toy-paper"), seeds=3)
def second(seed): ...
"""


def test_a_complete_chapter_passes(plant):
    root = plant(COMPLETE)
    assert incomplete_chapters(root) == stray_files(root) == []


def test_a_chapter_may_be_a_folder_and_have_several_tests(plant):
    files_of_it = {
        name: text for name, text in COMPLETE.items() if "course_lib" not in name and "tests" not in name
    }
    root = plant(
        {
            **files_of_it,
            "course_lib/layers/__init__.py": "",
            "course_lib/layers/toy/__init__.py": "",
            "course_lib/layers/toy/one.py": "",
            "course_lib/exercises/layers/toy.py": "",
            "course_lib/experiments/layers/toy/__init__.py": "",
            "course_lib/experiments/layers/toy/_shared.py": "",
            "course_lib/experiments/layers/toy/side_by_side.json": "{}",
            "course_lib/experiments/layers/toy/toy_paper.py": EXPERIMENTS,
            "course_lib/experiments/layers/toy/toy_paper.json": "{}",
            "tests/layers/test_toy_one.py": "",
        }
    )
    assert incomplete_chapters(root) == stray_files(root) == []


@pytest.mark.parametrize("missing", [name for name in COMPLETE if not name.startswith("book/")])
def test_each_missing_file_of_a_chapter_is_found(plant, missing):
    root = plant({name: text for name, text in COMPLETE.items() if name != missing})
    assert len(incomplete_chapters(root)) == 1
    assert "layers/toy" in incomplete_chapters(root)[0]


def test_a_library_before_its_page_needs_tests(plant):
    root = plant({"course_lib/models/cars.py": ""})
    assert incomplete_chapters(root) == ["models/cars has no tests/models/test_cars*.py"]


def test_a_ground_file_needs_tests(plant):
    root = plant({"course_lib/training/loop.py": ""})
    assert untested(root) == ["course_lib/training/loop.py has no tests/training/test_loop*.py"]


def test_the_tests_of_a_chapter_with_a_longer_name_do_not_count(plant):
    root = plant({"course_lib/layers/toy.py": "", "tests/layers/test_toy_two.py": ""})
    assert untested(root) == ["layers/toy has no tests/layers/test_toy*.py"]


@pytest.mark.parametrize(
    "stray",
    [
        "course_lib/layers/helpers.py",
        "course_lib/layers/notes.txt",
        "course_lib/layers/unknown/one.py",
        "course_lib/experiments/layers/helpers.py",
        "course_lib/experiments/layers/helpers.json",
        "course_lib/experiments/layers/toy/helpers.py",
        "course_lib/experiments/layers/toy/toy_paper.json",
        "course_lib/experiments/layers/toy_two/toy_paper.py",
        "course_lib/bench/layers/helpers.py",
        "course_lib/exercises/layers/helpers.py",
        "book/layers/unknown.md",
        "book/extras/anything.md",
        "solutions/layers/toy.md",
        "exercises/layers/unknown.md",
        "tests/layers/test_unknown.py",
    ],
)
def test_each_kind_of_stray_file_is_found(plant, stray):
    root = plant({stray: ""})
    assert len(stray_files(root)) == 1
    assert stray in stray_files(root)[0]


def test_an_experiment_in_the_file_of_another_paper_is_found(plant):
    name = "course_lib/experiments/layers/toy/toy_paper.py"
    root = plant({name: "@experiment(paper='other')\ndef first(seed): ..."})
    assert stray_files(root) == [f"{name}: first is about ('other',), not about toy-paper"]


def test_start_and_howto_need_no_chapter(plant):
    root = plant({"book/index.md": "", "book/start/first_steps.md": "", "book/howto/learners.md": ""})
    assert stray_files(root) == incomplete_chapters(root) == []
