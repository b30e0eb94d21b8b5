"""What rotates comes round, what changed comes first, and the table of times adds up."""

import doctest
import subprocess

import pytest

from tests.house.tree import ROOT, files, inside
from tools import run_tests, turns


def test_the_examples_hold():
    assert doctest.testmod(turns).failed == 0


def test_in_a_round_of_days_everything_has_its_turn_once(monkeypatch):
    names = [f"page{i}" for i in range(300)]
    turned = [{name for name in names if turns.due(name, 7, day)} for day in range(738_000, 738_007)]
    assert sum(map(len, turned)) == len(set().union(*turned)) == 300
    assert all(25 < len(names) < 65 for names in turned)
    monkeypatch.setenv("COURSE_DAY", "738000")
    assert {name for name in names if turns.due(name, 7)} == turned[0]
    monkeypatch.setenv("COURSE_DAY", "all")
    assert all(turns.due(name, 7) for name in names)


@pytest.mark.parametrize(
    ("name", "path", "is_about"),
    [
        ("tests/layers/test_norm.py::test_a", "course_lib/layers/norm/entropy.py", True),
        ("tests/layers/test_norm_folded.py::test_a", "course_lib/layers/norm.py", True),
        ("tests/layers/test_norm.py::test_a", "course_lib/experiments/layers/norm/peri_ln.json", True),
        ("tests/browser/test_site.py::test_a_page[layers/norm]", "solutions/layers/norm.md", True),
        ("tests/browser/test_site.py::test_a_page[layers/normal]", "solutions/layers/norm.md", False),
        ("build/notebooks/layers/norm.ipynb", "book/layers/norm.md", True),
        ("build/notebooks/exercises/layers/norm.ipynb", "tests/layers/test_norm.py", True),
        ("tests/house/test_text.py::test_a", "tests/house/test_text.py", True),
        ("build/notebooks/layers/normal.ipynb", "book/layers/norm.md", False),
        ("tests/layers/test_pool.py::test_a", "course_lib/layers/norm.py", False),
        ("tests/layers/test_pool.py::test_a", "course_lib/registry.py", False),
    ],
)
def test_a_change_touches_what_is_about_the_same_chapter(name, path, is_about):
    assert turns.touches([path])(name) == is_about


def git(root, *arguments: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
    subprocess.run(command, cwd=root, check=True, capture_output=True)


def test_what_changed_since_the_last_pass_or_on_this_branch(tmp_path):
    assert turns.changed_files(tmp_path) == set()  # no repository
    git(tmp_path, "init", "-b", "main")
    for name in ("a", "b"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert turns.changed_files(tmp_path) == set()
    git(tmp_path, "checkout", "-b", "work")
    (tmp_path / "a").write_text("2")
    git(tmp_path, "commit", "-am", "second")
    (tmp_path / "c").write_text("new")
    assert turns.changed_files(tmp_path) == {"a", "c"}
    (tmp_path / "build").mkdir()
    turns.remember_pass(tmp_path)
    assert turns.changed_files(tmp_path) == {
        "c",
        "build/passed.txt",
    }  # the course's build/ is not seen by git


def test_every_test_file_has_its_kind():
    kinds = {inside(path, ROOT): turns.kind_of(inside(path, ROOT)) for path in files(ROOT / "tests", ".py")}
    assert kinds["tests/layers/test_norm.py"] == "oracles of the chapters"
    assert kinds["tests/house/test_build.py"] == "machinery"
    assert kinds["tests/house/test_text.py"] == "house"
    assert kinds["tests/classroom/test_claims.py"] == "machinery"
    assert turns.kind_of("build/notebooks/layers/norm.ipynb::Cell 3") == "notebooks, second run"


def test_the_table_projects_what_grows_and_keeps_what_does_not():
    spent = {"house": (7.7, 5.0), "machinery": (60.0, 120.0)}
    table = turns.report(spent, {"layers/norm": 15.0, "solutions/layers/norm": 5.0}, chapters=10)
    rows = {line[:28].strip(): line[28:].split() for line in table.splitlines()}
    assert rows["house"] == ["8", "5", "0.8", "59", "s"]
    assert rows["machinery"] == ["60", "120", "fixed", "120", "s"]
    assert rows["notebooks, executed"] == ["–", "20", "2.0", "154", "s"]
    assert "2 cores, all notebooks executed: 3 minutes (2 grow with the chapters, 1 are fixed)" in table
    assert "the limit is 40: kept" in table
    assert "NOT KEPT" in turns.report({"house": (10_000.0, 0.0)}, {}, chapters=10)


def test_notebooks_have_their_second_run_in_turn_or_after_a_change(monkeypatch):
    monkeypatch.setattr(run_tests, "changed_files", lambda root: {"course_lib/layers/pool/learned.py"})
    rounds = []
    for day in range(run_tests.DAYS):
        monkeypatch.setenv("COURSE_DAY", str(day))
        rounds.append({*run_tests.second_runs(ROOT)})
        assert "build/notebooks/layers/pool.ipynb" in rounds[-1]
    everything = set().union(*rounds)
    assert {"build/notebooks/index.ipynb", "build/notebooks/solutions/layers/norm.ipynb"} <= everything
    assert not [name for name in everything if "exercises" in name]
    assert all(rounds[0] != other for other in rounds[1:])


def test_what_changed_comes_first_and_what_rotates_waits_but_for_a_change(monkeypatch):
    monkeypatch.setenv("COURSE_DAY", "738000")
    pages = {f"tests/browser/test_site.py::test_a_page[p{i}]": 5 for i in range(50)}
    touched = {"tests/layers/test_norm.py::test_dear": 5}
    tests = {"tests/house/test_text.py::test_cheap": None, **pages, **touched}
    first, later, waiting = turns.in_turn(tests, {"course_lib/layers/norm.py"})
    assert first == [*touched]
    assert {*later, *waiting} == {*tests} - {*touched}
    assert "tests/house/test_text.py::test_cheap" in later
    assert 30 <= len(waiting) < 50
    assert later == [name for name in tests if name in {*later}]  # in the order in which they stand
    monkeypatch.setenv("COURSE_DAY", "all")
    assert turns.in_turn(tests, set()) == ([], [*tests], [])


def test_the_pieces_of_the_tests_are_all_of_them():
    pieces = run_tests.shards(ROOT)
    assert {"ground", "layers", "training", "browser"} <= {*pieces}
    assert run_tests.tests_of("layers", ROOT) == ["tests/layers"]
    ground = run_tests.tests_of("ground", ROOT)
    assert {*ground[1:]} == {f"--ignore=tests/{piece}" for piece in pieces if piece != "ground"}


def test_every_notebook_belongs_to_one_piece(monkeypatch):
    monkeypatch.setenv("COURSE_DAY", "all")
    found = [name for piece in run_tests.shards(ROOT) for name in run_tests.second_runs(ROOT, piece)]
    assert sorted(found) == sorted(run_tests.second_runs(ROOT))
    assert "build/notebooks/start/first_steps.ipynb" in run_tests.second_runs(ROOT, "ground")


def test_make_executes_the_notebooks_of_one_piece(tmp_path):
    def wanted(piece: str) -> set[str]:
        command = ["make", "-n", "-f", ROOT / "tools/notebooks.mk", "PY=python", f"PART={piece}", "notebooks"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return {*done.stdout.split()} & {*products}

    folder = tmp_path / "build"
    folder.mkdir()
    names = ["index", "layers/norm", "solutions/layers/norm", "exercises/layers/norm", "solutions/models/a"]
    products = [f"build/notebooks/{name}.ipynb" for name in names]
    rules = "".join(f"{name}:\n\t@$(PY) {name}\n" for name in products)
    (folder / "deps.mk").write_text(f"NOTEBOOKS := {' '.join(products)}\n{rules}")
    assert wanted("") == wanted("browser") == {*products}
    assert wanted("ground") == {products[0]}
    assert wanted("layers") == {*products[1:4]}
    assert wanted("theory") == set()


@pytest.mark.parametrize(
    ("test", "kind"),
    [
        ("test_site.py::test_a_page[layers/norm]", "browser, chapters"),
        ("test_site.py::test_a_page[solutions/training/local_learning]", "browser, chapters"),
        ("test_site.py::test_a_page[catalogue/layers/norm]", "browser, chapters"),
        ("test_site.py::test_a_page[papers]", "browser, whole course"),
        ("test_site.py::test_a_page[start/first_steps]", "browser, whole course"),
        ("test_lab.py::test_an_exercise", "browser, whole course"),
    ],
)
def test_what_the_browser_does_once_does_not_grow_with_the_chapters(test, kind):
    assert turns.kind_of(f"tests/browser/{test}") == kind
    assert (kind in turns.FIXED) == (kind == "browser, whole course")
