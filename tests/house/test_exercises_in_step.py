"""Solutions and exercises: in step, solvable, unsolved as delivered, and with hints that meet their mistake.

The notebooks run in this process, cell by cell: seconds instead of a kernel for each.
"""

import linecache
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

from course_lib.classroom.exercises import (
    CheckCall,
    ExerciseError,
    check,
    check_mistakes,
    recorded_checks,
)
from tests.house.tree import ROOT, assert_none
from tools.exercises import FormatError, cut, generate, update

SOLUTIONS = sorted((ROOT / "solutions").rglob("*.md"))
UNWRITTEN = "returned None: write its body first"


def run(text: str) -> Iterator[tuple[str, Exception | None, list[CheckCall]]]:
    """Run a text notebook: the code of every cell, how it ended, and the checks that it made."""
    namespace = {"__name__": "__main__"}
    dtype = torch.get_default_dtype()
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(jupytext.reads(text, fmt="md:myst").cells):
            if cell.cell_type != "code":
                continue
            file = f"<cell {number} of {id(namespace)}>"
            linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(True), file)
            error = None
            with recorded_checks() as calls:
                try:
                    exec(compile(cell.source, file, "exec"), namespace)
                except Exception as raised:
                    error = raised
            yield cell.source, error, calls
    plt.close("all")
    torch.set_default_dtype(dtype)


@cache
def solved(text: str) -> tuple[list[str], list[CheckCall]]:
    """The faults and the checks of a solution."""
    faults, calls = [], []
    for code, error, made in run(text):
        calls += made
        if error is not None:
            shown = "".join(traceback.format_exception(error)[-3:])
            faults.append(f"the solution fails in the cell\n{code}\n{shown}")
    if not calls:
        faults.append("the solution makes no check")
    return faults, calls


def untouched_faults(text: str) -> list[str]:
    """Cells of an exercise that do not do what a learner should meet before writing the first line."""
    faults, checks = [], 0
    for code, error, calls in run(text):
        checks += len(calls)
        if calls and not (isinstance(error, ExerciseError) and UNWRITTEN in str(error)):
            faults.append(f"an untouched exercise must fail with {UNWRITTEN!r}, got {error!r} in\n{code}")
        if not calls and error is not None:
            faults.append(f"{error!r} in the untouched exercise, in\n{code}")
    return faults if checks else ["the exercise makes no check"]


def mistake_faults(calls: list[CheckCall]) -> list[str]:
    """Mistakes that pass, that get no hint or another one's, and checks that know no mistake at all."""
    faults = []
    for call in calls:
        if not call.mistakes:
            faults.append(f"check({call.name}, ...) has no mistakes to recognise")
        try:
            check_mistakes(call.against, call.mistakes, **call.options)
        except ValueError as error:
            faults.append(f"check({call.name}, ...): {error}")
            continue
        for wrong in call.mistakes:
            with pytest.raises(ExerciseError) as raised:
                check(wrong, against=call.against, mistakes=call.mistakes, **call.options)
            if raised.value.hints != (wrong.hint,):
                faults.append(f"{wrong.__name__} gets the hints {raised.value.hints}, not its own")
    return faults


def test_exercises_are_those_of_the_solutions():
    assert_none([f"run make exercises: {change}" for change in update(ROOT, write=False)])


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
class TestNotebook:
    def test_the_solution_passes(self, path):
        assert_none(solved(path.read_text("utf-8"))[0])

    def test_the_untouched_exercise_says_what_to_do(self, path):
        assert_none(untouched_faults(generate(path.read_text("utf-8"))))

    def test_every_mistake_fails_and_gets_its_own_hint(self, path):
        assert_none(mistake_faults(solved(path.read_text("utf-8"))[1]))


EXAMPLE = '''---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Solutions: Centring

```{code-cell} ipython3
import torch

from course_lib.classroom import check, mistake
```

## Centre the features

*5 minutes · ●○○*

Subtract the mean of the last axis.

```{code-cell} ipython3
def centre(x):
    """Return x minus its mean over the last axis."""
    # solution
    mean = x.mean(-1, keepdim=True)
    return x - mean


def centre_right(x):
    return x - x.mean(-1, keepdim=True)
```

```{code-cell} ipython3
:tags: [hide-input]

# The usual mistakes: open this after your own attempt.
@mistake("Over which axis is the mean taken?")
def over_batch(x):
    return x - x.mean(0, keepdim=True)
```

```{code-cell} ipython3
check(centre, against=centre_right, mistakes=[over_batch])
```

+++ {"tags": ["solution"]}

Centring is a projection.

```{code-cell} ipython3
:tags: [solution]

assert centre(torch.ones(2, 3)).abs().max() == 0
```

+++

Read on in the next chapter.
'''


def test_the_example_meets_every_rule():
    faults, calls = solved(EXAMPLE)
    assert [call.name for call in calls] == ["centre"]
    assert faults + untouched_faults(generate(EXAMPLE)) + mistake_faults(calls) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("return x - mean", "return x + mean", "the solution fails"),
        ("check(centre,", "print(centre,", "makes no check"),
        ("return x - x.mean(0, keepdim=True)", "return centre_right(x)", "passes as right on all 12 cases"),
        ("mistakes=[over_batch]", "mistakes=[]", "has no mistakes to recognise"),
        (
            "mistakes=[over_batch]",
            "mistakes=[over_batch, mistake('Another.')(lambda x: over_batch(x))]",
            "cannot be told from <lambda>",
        ),
    ],
)
def test_a_faulty_solution_is_found(old, new, fault):
    faults, calls = solved(EXAMPLE.replace(old, new))
    assert fault in "\n".join(faults + mistake_faults(calls))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("    # Write your code here.\n    ...", "    return x - x.mean(-1, keepdim=True)", "must fail with"),
        ("    # Write your code here.\n    ...", "    return x", "must fail with"),
        ("Read on", "```{code-cell}\ncentre(torch.ones(3)).sum()\n```\n\nRead on", "AttributeError"),
    ],
)
def test_a_faulty_exercise_is_found(old, new, fault):
    exercise = generate(EXAMPLE)
    assert old in exercise
    assert fault in "\n".join(untouched_faults(exercise.replace(old, new)))


def test_the_exercise_holds_the_task_but_not_the_answer():
    exercise = generate(EXAMPLE, "layers/toy.md")
    assert exercise.startswith(EXAMPLE[: EXAMPLE.index("# Solutions")])
    assert "# Exercises: Centring\n\n<!-- Generated from solutions/layers/toy.md by" in exercise
    assert 'last axis."""\n    # Write your code here.\n    ...\n\n\ndef centre_right' in exercise
    assert exercise.endswith("\n```\n\nRead on in the next chapter.\n")
    assert "projection" not in exercise
    assert "assert" not in exercise


def test_the_exercise_folds_the_mistakes_in_jupyterlab():
    cells = jupytext.reads(generate(EXAMPLE), fmt="md:myst").cells
    folded = [c.source for c in cells if c.metadata.get("jupyter") == {"source_hidden": True}]
    assert len(folded) == 1
    assert folded[0].startswith("# The usual mistakes")


def test_options_may_be_written_as_a_block():
    def folded(text: str) -> list:
        return [(c.source, c.metadata) for c in jupytext.reads(generate(text), fmt="md:myst").cells]

    block = EXAMPLE.replace(":tags: [hide-input]", "---\ntags: [hide-input]\n---")
    assert block != EXAMPLE
    assert folded(block) == folded(EXAMPLE)


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
        ("check(centre", "print(centre", "line 16: '## Centre the features' must end with a code cell"),
        ("    # solution\n", "", "leaves nothing to do"),
        (":tags: [hide-input]\n\n", "", "line 35: mistakes give the answer away"),
        ("# The usual mistakes: open this after your own attempt.\n", "", "begin it with a comment"),
        ("    return x - mean", "    return x - (mean", "'(' was never closed"),
        (
            "    mean = x.mean(-1, keepdim=True)\n    return x - mean\n",
            "",
            "line 23: nothing follows the marker",
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
    solution.parent.mkdir(parents=True)
    solution.write_text(EXAMPLE, "utf-8")
    assert update(tmp_path, write=False) == ["exercises/layers/toy.md"]
    assert not exercise.exists()
    assert update(tmp_path) == ["exercises/layers/toy.md"]
    assert exercise.read_text("utf-8") == generate(EXAMPLE, "layers/toy.md")
    assert update(tmp_path) == []
    exercise.write_text("edited by hand", "utf-8")
    assert update(tmp_path) == ["exercises/layers/toy.md"]
    solution.unlink()
    assert update(tmp_path) == ["exercises/layers/toy.md (there is no such solution: removed)"]
    assert not exercise.exists()


def test_notebooks_leave_no_trace(tmp_path: Path):
    text = "```{code-cell}\nimport torch\ntorch.set_default_dtype(torch.float64)\n```\n"
    size = list(mpl.rcParams["figure.figsize"])
    text += "```{code-cell}\nfrom course_lib.classroom.style import use_style\nuse_style()\n```\n"
    assert [error for _, error, _ in run(text)] == [None, None]
    assert torch.get_default_dtype() == torch.float32
    assert list(mpl.rcParams["figure.figsize"]) == size
