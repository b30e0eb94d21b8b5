"""Solutions and exercises: in step, solvable, and unsolved as delivered.

The notebooks run in this process, cell by cell: seconds instead of a kernel for each.
"""

import json
import linecache
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from course_lib.classroom.answers import ExerciseError, Exercises, case, exercises
from tests.house.tree import ROOT, assert_none
from tools.exercises import FormatError, answers, cut, generate, update

SOLUTIONS = sorted((ROOT / "solutions").rglob("*.md"))


def run(text: str) -> Iterator[tuple[str, Exception | None]]:
    """Run a text notebook: the code of every cell, and how it ended."""
    namespace = {"__name__": "__main__"}
    dtype = torch.get_default_dtype()
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(jupytext.reads(text, fmt="md:myst").cells):
            if cell.cell_type != "code":
                continue
            file = f"<cell {number} of {id(namespace)}>"
            linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(True), file)
            error = None
            try:
                exec(compile(cell.source, file, "exec"), namespace)
            except Exception as raised:
                error = raised
            yield cell.source, error
    plt.close("all")
    torch.set_default_dtype(dtype)


def solved_faults(text: str, chapter: Exercises) -> list[str]:
    """Cells of a solution that fail, and exercises that it does not pass."""
    faults = []
    chapter.passed.clear()
    for code, error in run(text):
        if error is not None:
            shown = "".join(traceback.format_exception(error)[-3:])
            faults.append(f"the solution fails in the cell\n{code}\n{shown}")
    faults += [f"{name} is never checked" for name in chapter.exercises if name not in chapter.passed]
    return faults + [f"no answer to {name}" for name in chapter.exercises if name not in answers(text)]


def untouched_faults(text: str, chapter: Exercises) -> list[str]:
    """Cells of an exercise that do not do what a learner should meet before writing the first line."""
    faults, checks = [], 0
    faulty = {name for name in chapter.exercises if not _is_empty(text, name)}  # there is a bug to be found
    for code, error in run(text):
        if "check(" not in code:
            faults += [f"{error!r} in the untouched exercise, in\n{code}"] if error is not None else []
            continue
        checks += 1
        if not isinstance(error, ExerciseError):
            faults.append(f"an untouched exercise must fail, got {error!r} in\n{code}")
        elif error.verdict.kind != "unwritten" and not any(f"check({name})" in code for name in faulty):
            faults.append(f"an untouched exercise must ask for its body, got {error} in\n{code}")
    return faults if checks else ["the exercise makes no check"]


def _is_empty(text: str, name: str) -> bool:
    """Whether the body of a function is still to be written."""
    body = text.split(f"def {name}(", 1)[-1].split("\n```", 1)[0].split("\ndef ", 1)[0]
    return "# Write your code here." in body


def test_exercises_are_those_of_the_solutions():
    assert_none([f"run make exercises: {change}" for change in update(ROOT, write=False)])


def of(path: Path) -> Exercises:
    return exercises.of_chapter(path.relative_to(ROOT / "solutions").with_suffix("").as_posix())


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
class TestNotebook:
    def test_the_solution_passes(self, path):
        assert_none(solved_faults(path.read_text("utf-8"), of(path)))

    def test_the_untouched_exercise_says_what_to_do(self, path):
        assert_none(untouched_faults(generate(path.read_text("utf-8")), of(path)))

    def test_an_answer_to_every_exercise_comes_with_the_package(self, path, capsys):
        chapter = of(path)
        for name in chapter.exercises:
            chapter.solution(name)
            assert re.search(rf" {name}\b", capsys.readouterr().out)


EXAMPLE = '''---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Solutions: Centring

```{code-cell} ipython3
import torch

from tests.house.test_exercises_in_step import TOY

check = TOY.check
```

## Centre the features

*5 minutes · ●○○*

Subtract the mean of the last axis.

```{code-cell} ipython3
def my_centre(x):
    """Return x minus its mean over the last axis."""
    # solution
    mean = x.mean(-1, keepdim=True)
    return x - mean


def centre_right(x):
    return x - x.mean(-1, keepdim=True)
```

```{code-cell} ipython3
check(my_centre)
```

+++ {"tags": ["solution"]}

Centring is a projection.

```{code-cell} ipython3
:tags: [solution]

assert my_centre(torch.ones(2, 3)).abs().max() == 0
```

+++

## Find the bug

*5 minutes · ●○○*

It should double.

```{code-cell} ipython3
def my_double(x):
    return 3 * x
```

```{code-cell} ipython3
:tags: [solution]

def my_double(x):
    return 2 * x
```

```{code-cell} ipython3
check(my_double)
```

Read on in the next chapter.
'''

TOY = Exercises("layers/toy")


@TOY.add(cases=[case("a row", torch.tensor([1.0, 3.0]))])
def my_centre(x):
    return x - x.mean(-1, keepdim=True)


@TOY.add(cases=[case("a row", torch.tensor([1.0, 3.0]))])
def my_double(x):
    return x + x


def test_the_example_meets_every_rule():
    assert solved_faults(EXAMPLE, TOY) + untouched_faults(generate(EXAMPLE), TOY) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("return x - mean", "return x + mean", "the solution fails"),
        ("check(my_centre)", "print(my_centre)", "my_centre is never checked"),
        ("def my_double(x):\n    return 2 * x", "my_double = lambda x: 2 * x", "no answer to my_double"),
    ],
)
def test_a_faulty_solution_is_found(old, new, fault):
    assert old in EXAMPLE
    assert fault in "\n".join(solved_faults(EXAMPLE.replace(old, new), TOY))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("    # Write your code here.\n    ...", "    return x - x.mean(-1, keepdim=True)", "must fail"),
        (
            "    # Write your code here.\n    ...",
            "    return x  # Write your code here.",
            "must ask for its body",
        ),
        ("    return 3 * x", "    return 2 * x", "must fail"),
        ("Read on", "```{code-cell}\nmy_centre(torch.ones(3)).sum()\n```\n\nRead on", "AttributeError"),
    ],
)
def test_a_faulty_exercise_is_found(old, new, fault):
    exercise = generate(EXAMPLE)
    assert old in exercise
    assert fault in "\n".join(untouched_faults(exercise.replace(old, new), TOY))


def test_the_exercise_holds_the_task_but_not_the_answer():
    exercise = generate(EXAMPLE, "layers/toy.md")
    assert exercise.startswith(EXAMPLE[: EXAMPLE.index("# Solutions")])
    assert "# Exercises: Centring\n\n<!-- Generated from solutions/layers/toy.md by" in exercise
    assert 'last axis."""\n    # Write your code here.\n    ...\n\n\ndef centre_right' in exercise
    assert exercise.endswith("\n```\n\nRead on in the next chapter.\n")
    assert "return 3 * x" in exercise
    assert "projection" not in exercise
    assert "assert" not in exercise
    assert "return 2 * x" not in exercise


def test_answers_are_the_last_definitions_without_the_marker():
    found = answers(EXAMPLE)
    assert list(found) == ["my_centre", "my_double"]
    assert found["my_double"] == "def my_double(x):\n    return 2 * x\n"
    assert "# solution" not in found["my_centre"]


def test_options_may_be_written_as_a_block():
    block = EXAMPLE.replace(":tags: [solution]", "---\ntags: [solution]\n---")
    assert block != EXAMPLE
    assert generate(block) == generate(EXAMPLE)


def test_a_solutions_text_may_not_swallow_the_next_statement():
    added = '+++ {"tags": ["solution"]}\n\nThat was it.\n\n## Scale\n\n*5 minutes · ●○○*\n\nWrite more.\n'
    with pytest.raises(FormatError, match=r"swallows '## Scale'"):
        generate(f"{EXAMPLE.rstrip()}\n\n{added}")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("# Solutions: Centring", "# Centring", "line 1: there must be one title '# Solutions: ...'"),
        ("*5 minutes · ●○○*", "*5 minutes*", "must go on with a line like '*10 minutes · ●○○*'"),
        ("*5 minutes · ●○○*", "*5 minutes · ○●○*", "found '*5 minutes · ○●○*'"),
        ("check(my_centre", "print(my_centre", "line 18: '## Centre the features' must end with a code cell"),
        ("    # solution\n    mean", "    mean", "leaves nothing to do"),
        ("    return x - mean", "    return x - (mean", "'(' was never closed"),
        (
            "    mean = x.mean(-1, keepdim=True)\n    return x - mean\n",
            "",
            "line 25: nothing follows the marker",
        ),
    ],
)
def test_a_solution_that_breaks_a_rule_is_refused(old, new, complaint):
    assert old in EXAMPLE
    with pytest.raises(FormatError) as raised:
        generate(EXAMPLE.replace(old, new), "layers/toy.md")
    assert str(raised.value).startswith("solutions/layers/toy.md, line ")
    assert complaint in str(raised.value)


CODE = '''class Scale(nn.Module):
    def __init__(self, dim):
        """Keep dim."""
        super().__init__()
        # solution
        self.dim = dim
        if dim > 3:
            text = """
no indent here"""
        # a last word

    @torch.no_grad()
    def forward(self, x):
        if self.dim:
            # solution
            y = x

            return y
        else:
            return None

# solution
scale = Scale(3)
# the end
'''

CUT = '''class Scale(nn.Module):
    def __init__(self, dim):
        """Keep dim."""
        super().__init__()
        # Write your code here.
        ...

    @torch.no_grad()
    def forward(self, x):
        if self.dim:
            # Write your code here.
            ...
        else:
            return None

# Write your code here.'''


def test_a_cut_ends_with_its_block():
    assert cut(CODE) == CUT
    compile(CUT, "cut", "exec")


def test_update_writes_what_changed_and_removes_what_lost_its_solution(tmp_path):
    solution, exercise = tmp_path / "solutions/layers/toy.md", tmp_path / "exercises/layers/toy.md"
    packed = tmp_path / "course_lib/exercises/layers/toy.json"
    both = ["exercises/layers/toy.md", "course_lib/exercises/layers/toy.json"]
    solution.parent.mkdir(parents=True)
    solution.write_text(EXAMPLE, "utf-8")
    assert update(tmp_path, write=False) == both
    assert not exercise.exists()
    assert update(tmp_path) == both
    assert exercise.read_text("utf-8") == generate(EXAMPLE, "layers/toy.md")
    assert json.loads(packed.read_text("utf-8")) == answers(EXAMPLE)
    assert update(tmp_path) == []
    exercise.write_text("edited by hand", "utf-8")
    assert update(tmp_path) == ["exercises/layers/toy.md"]
    solution.unlink()
    removed = [f"{name} (there is no such solution: removed)" for name in sorted(both)]
    assert sorted(update(tmp_path)) == removed
    assert not exercise.exists()
    assert not packed.exists()


def test_notebooks_leave_no_trace(tmp_path: Path):
    text = "```{code-cell}\nimport torch\ntorch.set_default_dtype(torch.float64)\n```\n"
    size = list(mpl.rcParams["figure.figsize"])
    text += "```{code-cell}\nfrom course_lib.classroom.style import use_style\nuse_style()\n```\n"
    assert [error for _, error in run(text)] == [None, None]
    assert torch.get_default_dtype() == torch.float32
    assert list(mpl.rcParams["figure.figsize"]) == size
