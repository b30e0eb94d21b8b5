"""Make the exercises from the solutions: ``solutions/<part>/<chapter>.md`` to ``exercises/...``.

    python tools/exercises.py           write what has changed
    python tools/exercises.py --check   write nothing, fail if something would change

In a code cell, what follows the line ``# solution`` is cut, to the end of the block in which the line stands.
Cells tagged ``solution`` are dropped. Each ``##`` heading is an exercise: its first line says
``*10 minutes · ●○○*``, and its last code cell calls ``check(...)``. Where a bug is to be found, the faulty
function stands in a cell of its own and the mended one in a cell tagged ``solution``.

What ``solution("my_function")`` prints is written to ``course_lib/exercises/<part>/<chapter>.json``.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import quick_import  # noqa: F401

# isort: split
import jupytext
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
MARKER = "# solution"
NOTE = "<!-- Generated from solutions/{} by `make exercises`: change that file, not this one. -->"
HEADER = re.compile(r"\A---\n.*?^---\n", re.MULTILINE | re.DOTALL)
EFFORT = re.compile(r"\*\d+ minutes · (●○○|●●○|●●●)\*")


class FormatError(ValueError):
    """A solution notebook that breaks one of the rules; says which one, and where."""


def cut(code: str) -> str:
    """The code without what follows each marker in its block.

    >>> print(cut("def double(x):\\n    # solution\\n    return 2 * x\\n\\nprint(double(2))"))
    def double(x):
        # Write your code here.
        ...
    <BLANKLINE>
    print(double(2))
    """
    lines = code.splitlines()
    nodes = list(ast.walk(ast.parse(code)))
    bodies = [
        b for n in nodes for f in ("body", "orelse", "finalbody") if isinstance(b := getattr(n, f, 0), list)
    ]
    for marker in reversed([i for i, line in enumerate(lines) if line.strip() == MARKER]):
        indent = lines[marker][: -len(MARKER)]
        after = [[s for s in body if s.lineno > marker and s.col_offset == len(indent)] for body in bodies]
        block = min((b for b in after if b), key=lambda b: b[0].lineno, default=None)
        if block is None or any(x and not x.startswith(indent) for x in lines[marker : block[0].lineno]):
            raise FormatError(f"nothing follows the marker {MARKER!r} in its block")
        end = block[-1].end_lineno
        while end < len(lines) and (lines[end].startswith(f"{indent}#") or (not indent and lines[end])):
            end += 1  # comments at the end of the block
        lines[marker:end] = [f"{indent}# Write your code here.", *([f"{indent}..."] if indent else [])]
    return "\n".join(lines)


def generate(text: str, name: str = "part/chapter.md") -> str:
    """The exercise notebook of a solution notebook; ``name`` is its path inside ``solutions``."""
    notebook, place = jupytext.reads(text, fmt="md:myst"), 0
    try:
        kept = []
        for cell in notebook.cells:
            place = max(place, text.find(cell.source, place))
            cell.metadata["line"] = text.count("\n", 0, place) + 1
            if "solution" not in cell.metadata.get("tags", []):
                kept.append(_without_solution(cell))
            elif cell.cell_type == "markdown" and (swallowed := [line for _, line in _headings(cell)]):
                # A text lasts until the next `+++` or code cell; a statement in it would be dropped with it.
                raise FormatError(f"the solution's text swallows {swallowed[0]!r}: end it with a line '+++'")
        mended = answers(text)
        if sum(_retitle(cell, name) for cell in kept) != 1:
            place = 0
            raise FormatError("there must be one title '# Solutions: ...'")
        for heading, line, section in _sections(kept):
            place = _start_of(line, text)
            _require_exercise(
                heading, section, any(f"def {name}(" in code for name in mended for _, code in section)
            )
    except (SyntaxError, ValueError) as error:
        line = text.count("\n", 0, place) + 1
        raise FormatError(f"solutions/{name}, line {line}: {error}") from error
    for cell in kept:
        del cell.metadata["line"]
    notebook.cells = kept
    header = HEADER.match(text)
    body = HEADER.sub("", jupytext.writes(notebook, fmt="md:myst"))
    title = re.sub(r"^title: Solutions: ", "title: Exercises: ", header[0] if header else "", flags=re.M)
    return f"{title}{body.rstrip()}\n"  # the header as it was: not with the version of jupytext


def answers(text: str) -> dict[str, str]:
    """The functions and classes that are to be written, by name, as the solution has them; the last counts.

    >>> answers("# t\n\n```{code-cell}\ndef my_double(x):\n    # solution\n    return 2 * x\n```\n")
    {'my_double': 'def my_double(x):\n    return 2 * x\n'}
    """
    found = {}
    for cell in jupytext.reads(text, fmt="md:myst").cells:
        solved = MARKER in cell.source or "solution" in cell.metadata.get("tags", [])
        if cell.cell_type != "code" or not solved:
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.lower().startswith("my"):
                lines = cell.source.splitlines()[node.lineno - 1 : node.end_lineno]
                kept = [line for line in lines if line.strip() != MARKER]
                found[node.name] = "\n".join(kept) + "\n"
    return found


def _start_of(line: int, text: str) -> int:
    return len("".join(text.splitlines(keepends=True)[: line - 1]))


def _without_solution(cell: NotebookNode) -> NotebookNode:
    if cell.cell_type != "code":
        return cell
    if MARKER in cell.source:
        cell.source = cut(cell.source)
    return cell


def _retitle(cell: NotebookNode, name: str) -> int:
    """Turn the solutions' title into the exercises' one; returns the number of titles."""
    if cell.cell_type != "markdown":
        return 0
    title = rf"# Exercises: \1\n\n{NOTE.format(name)}"
    cell.source, count = re.subn(r"^# Solutions: (.*)$", title, cell.source, flags=re.MULTILINE)
    return count


def _headings(cell: NotebookNode) -> Iterator[tuple[int, str]]:
    """The second-level headings of a text, with their place among its lines."""
    fenced = False
    for number, line in enumerate(cell.source.split("\n")):
        fenced ^= line.startswith(("```", "~~~"))
        if line.startswith("## ") and not fenced:
            yield number, line


def _sections(cells: list[NotebookNode]) -> Iterator[tuple[str, int, list[tuple[str, str]]]]:
    """Every exercise: heading, line, and kind and text of its cells; the first begins below the heading."""
    heading, where, section = "", 0, []
    for cell in cells:
        lines, first = cell.source.split("\n"), 0
        for number, line in _headings(cell) if cell.cell_type == "markdown" else ():
            if heading:
                yield heading, where, [*section, (cell.cell_type, "\n".join(lines[first:number]))]
            heading, where, section, first = line, cell.metadata["line"] + number, [], number + 1
        section.append((cell.cell_type, "\n".join(lines[first:])))
    if heading:
        yield heading, where, section


def _require_exercise(heading: str, section: list[tuple[str, str]], bugs: bool) -> None:
    effort = next((line for _, text in section for line in text.split("\n") if line.strip()), "")
    if not EFFORT.fullmatch(effort):
        raise FormatError(f"{heading!r} must go on with a line like '*10 minutes · ●○○*', found {effort!r}")
    code = [text for kind, text in section if kind == "code"]
    calls = [n.func for n in ast.walk(ast.parse(code[-1] if code else "")) if isinstance(n, ast.Call)]
    if not any(isinstance(function, ast.Name) and function.id == "check" for function in calls):
        raise FormatError(f"{heading!r} must end with a code cell that calls check(...)")
    if not any("# Write your code here." in text for text in code) and not bugs:
        raise FormatError(f"{heading!r} leaves nothing to do: mark its answer with {MARKER!r}")


def update(root: Path = ROOT, *, write: bool = True) -> list[str]:
    """Bring ``exercises`` in step with ``solutions``; returns what was, or would be, changed."""
    changed, wanted = [], set()
    for source in sorted((root / "solutions").rglob("*.md")):
        name = source.relative_to(root / "solutions").as_posix()
        text = source.read_text("utf-8")
        made = {
            root / "exercises" / name: generate(text, name),
            root / "course_lib/exercises" / name.replace(".md", ".json"): json.dumps(
                answers(text), indent=1, ensure_ascii=False
            )
            + "\n",
        }
        wanted |= set(made)
        for target, content in made.items():
            if not target.exists() or target.read_text("utf-8") != content:
                changed.append(target.relative_to(root).as_posix())
                if write:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(content, "utf-8")
    there = {*(root / "exercises").rglob("*.md"), *(root / "course_lib/exercises").rglob("*.json")}
    for orphan in sorted(there - wanted):
        changed.append(f"{orphan.relative_to(root).as_posix()} (there is no such solution: removed)")
        if write:
            orphan.unlink()
    return changed


def main() -> int:
    """Command line; the exit status is 1 if ``--check`` finds a difference or a solution breaks a rule."""
    parser = argparse.ArgumentParser(description="Make the exercises from the solutions.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if something would change")
    options = parser.parse_args()
    try:
        changed = update(write=not options.check)
    except FormatError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(changed) if changed else "exercises are in step with solutions")
    return int(options.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
