"""The how-to pages are followed to the letter: what they say is printed, what they build keeps the rules."""

import doctest
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from course_lib.__main__ import main
from tests.house import (
    test_chapters,
    test_five_folders,
    test_floors,
    test_modules,
    test_notebooks,
    test_oracles,
    test_text,
    test_time,
)
from tests.house.test_docstrings import failures
from tests.house.tree import ROOT, assert_none, cells

PAGE = "book/howto/contributors.md"
NEEDED = ("course_lib", "tests", "tools", "book", "solutions", "exercises", "pyproject.toml", "_toc.yml")
BLOCK = re.compile(
    r"^   (`{3,})\{code-block\} \w+\n   :caption: ([^\n]+)\n\n(.*?)^   \1$", re.MULTILINE | re.DOTALL
)
APPENDED = " (add at the end)"

GUARDS = [
    test_floors.upward_imports,
    test_five_folders.incomplete_chapters,
    test_five_folders.stray_files,
    test_modules.unclear_publics,
    test_modules.repeated_names,
    test_modules.crowded_constructors,
    test_oracles.unnamed,
    test_oracles.toothless,
    test_chapters.owed_papers,
    test_chapters.bare_front_matter,
    test_chapters.unlinked_exercises,
    test_notebooks.silent_figures,
    test_notebooks.network_uses,
    test_notebooks.empty_phrases,
    test_text.private_words,
    test_time.clock_readings,
]


def prompts(page) -> doctest.DocTest:
    """The prompts of all Python blocks of a page, in one namespace, in order."""
    blocks = re.findall(r"^```(?:python|pycon)\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    text = "\n".join(block for block in blocks if ">>>" in block)
    return doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)


def miniature() -> dict[str, str]:
    """The blocks of the page by the file that they stand for."""
    blocks = BLOCK.findall((ROOT / PAGE).read_text("utf-8"))
    return {file: re.sub(r"^   ", "", text, flags=re.MULTILINE) for _, file, text in blocks}


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A copy of the tree in which the page has been followed."""
    root = tmp_path_factory.mktemp("followed")
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, root / name)
    for caption, text in miniature().items():
        path = root / caption.removesuffix(APPENDED)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text("utf-8") if caption.endswith(APPENDED) else ""
        path.write_text(before + text, "utf-8")
    follow(root, "-m", "course_lib.experiments", "run", "layers/practice", "--jobs", "1")
    follow(root, "tools/exercises.py")
    return root


def follow(root, *command: str) -> str:
    """Run Python in the copy; a failure shows what it printed."""
    done = subprocess.run([sys.executable, *command], cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "book/howto/learners.md"])
def test_the_examples_of_a_page_print_what_they_say(page):
    examples = prompts(ROOT / page)
    assert any("course_lib" in example.source for example in examples.examples)
    assert any(example.want for example in examples.examples)
    if report := failures([examples]):
        pytest.fail(report, pytrace=False)


def test_a_wrong_example_on_a_page_is_found(tmp_path):
    text = "```python\n>>> x = 2\n```\n\nThen\n\n```pycon\n>>> x + 1\n4\n```\n\n```sh\nmake book\n```\n"
    (tmp_path / "README.md").write_text(text, "utf-8")
    assert "Expected:\n    4\nGot:\n    3" in failures([prompts(tmp_path / "README.md")])
    (tmp_path / "README.md").write_text(text.replace("\n4\n", "\n3\n"), "utf-8")
    assert failures([prompts(tmp_path / "README.md")]) == ""


@pytest.mark.parametrize("page", ["README.md", "book/howto/learners.md", "book/howto/contributors.md"])
def test_every_command_line_of_a_page_works(page, capsys):
    text = (ROOT / page).read_text("utf-8")
    commands = re.findall(r"python -m course_lib ((?:list|find|show|papers)\b[^\n`]*?)(?:  .*)?[\n`]", text)
    assert commands
    for command in commands:
        assert main(shlex.split(command)) == 0, command
    assert capsys.readouterr().err == ""


def test_every_import_of_the_learners_page_works():
    text = (ROOT / "book/howto/learners.md").read_text("utf-8")
    lines = re.findall(r"^from course_lib\S* import .*$", text, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        exec(line, {})


@pytest.mark.parametrize("page", ["README.md", "book/howto/learners.md", "book/howto/contributors.md"])
def test_every_make_target_of_a_page_exists(page):
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"\bmake ([a-z]+)\b(?=[ `\n])", (ROOT / page).read_text("utf-8"))
    assert {"book", "lab", "test", "claims"} & set(named)
    assert set(named) <= {*targets, "sure"}


def test_the_page_shows_every_file_of_a_chapter():
    assert list(miniature()) == [
        "course_lib/chapters.toml (add at the end)",
        "course_lib/papers.toml (add at the end)",
        "course_lib/layers/practice.py",
        "tests/layers/test_practice.py",
        "course_lib/experiments/layers/practice/practice_gem.py",
        "course_lib/experiments/layers/practice/__init__.py",
        "solutions/layers/practice.md",
        "course_lib/exercises/layers/practice.py",
        "tests/exercises/layers/practice.py",
        "book/layers/practice.md",
        "_toc.yml (add at the end)",
    ]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
def test_the_miniature_keeps_every_rule(followed, guard):
    assert_none([found for found in guard(followed) if found not in guard(ROOT)])


def test_what_it_says_to_run_leaves_the_exercise_and_the_result(followed):
    assert "# Write your code here." in (followed / "exercises/layers/practice.md").read_text("utf-8")
    assert '"order"' in (followed / "course_lib/experiments/layers/practice/practice_gem.json").read_text(
        "utf-8"
    )


def test_its_answers_get_their_verdicts(followed):
    said = follow(
        followed,
        "-c",
        "from tests.exercises.layers.practice import corpus\n"
        "from course_lib.exercises.layers.practice import exercises\n"
        "exercises.verify()\n"
        "assert all(exercises.judge(answer, name).right for name, answer in corpus.right_answers)\n"
        "for name, answer, said in corpus.wrong_answers:\n"
        "    verdict = exercises.judge(answer, name)\n"
        "    assert {d.name for d in verdict.diagnoses} & set(said), verdict\n"
        "print(len(corpus.wrong_answers))",
    )
    assert said == "2\n"


def test_its_files_have_the_style_of_the_house(followed):
    files = [name for name in miniature() if name.endswith(".py")]
    follow(followed, "-m", "ruff", "check", *files)
    follow(followed, "-m", "ruff", "format", "--check", *files)
    follow(followed, "tools/exercises.py", "--check")


def test_its_page_runs_and_makes_its_claims(followed):
    code = "\n".join(cells(followed / "book/layers/practice.md"))
    said = follow(followed, "-W", "error", "-c", code)
    assert "order 1: distance from the average" in said
    assert "learns an order above its start, 3  ✓ reproduced" in said


@pytest.mark.slow
def test_its_tests_its_contract_its_docstrings_and_its_exercise_pass(followed):
    files = ("layers/test_practice", "test_contract", "house/test_docstrings", "house/test_exercises_in_step")
    chosen = ["-k", "practice or PowerMean or registered_object_has"]
    tests = [
        f"tests/{file}.py" for file in files if (ROOT / f"tests/{file}.py").exists() or "practice" in file
    ]
    said = follow(followed, "-m", "pytest", "-p", "no:cacheprovider", *chosen, *tests)
    assert re.search(r"^(?:[89]|\d\d) passed", said, re.MULTILINE)
