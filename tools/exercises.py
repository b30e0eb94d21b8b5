"""Make the exercises from the solutions: ``solutions/<part>/<chapter>.md`` to ``exercises/...``.

    python tools/exercises.py           write what has changed
    python tools/exercises.py --check   write nothing, fail if something would change

In a code cell, what follows the line ``# solution`` is cut, to the end of the block in which the line stands.
Cells tagged ``solution`` are dropped, cells tagged ``hide-input`` folded. Each ``##`` heading is an exercise:
its first line says ``*10 minutes · ●○○*``, and its last code cell calls ``check(...)``.
"""

import argparse
import ast
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
MARKER = "# solution"
NOTE = "<!-- Generated from solutions/{} by `make exercises`: change that file, not this one. -->"
FOLDED = "jupyter: {source_hidden: true}"  # in JupyterLab, as the tag hide-input folds a cell in the book
EFFORT = re.compile(r"\*\d+ minutes · (●○○|●●○|●●●)\*")


class FormatError(ValueError):
    """A solution notebook that breaks one of the rules; says which one, and where."""


@dataclass
class Cell:
    """A piece of a MyST text notebook; the pieces in their order make up the whole file."""

    kind: str  # "header", "markdown" or "code"
    lines: list[str]
    line: int  # of its first line in the file

    @property
    def start(self) -> int:
        """The number of lines before the code: the fence and its options."""
        if self.kind != "code":
            return 0
        if self.lines[1] == "---":
            return self.lines.index("---", 2) + 1
        return next(i for i, text in enumerate(self.lines) if i and not text.startswith(":"))

    @property
    def code(self) -> str:
        """The Python of a code cell."""
        return "\n".join(self.lines[self.start : -1])

    @property
    def tags(self) -> list[str]:
        """The tags, of code cells and of markdown cells that begin with ``+++ {"tags": [...]}``."""
        if self.kind == "code":
            options = [line.removeprefix(":") for line in self.lines[1 : self.start] if line != "---"]
            return (yaml.safe_load("\n".join(options)) or {}).get("tags", [])
        if self.kind == "markdown" and self.lines[0].startswith("+++ {"):
            return json.loads(self.lines[0].removeprefix("+++")).get("tags", [])
        return []


def split(text: str) -> list[Cell]:
    """The front matter, markdown cells and code cells of a MyST text notebook."""
    lines = text.splitlines()
    end = lines.index("---", 1) + 1 if lines[:1] == ["---"] else 0
    cells = [Cell("header", lines[:end], 1)]
    fence = ""
    for number, line in enumerate(lines[end:], end + 1):
        opening = re.match(r"(`{3,}|~{3,})", line)
        if fence:
            cells[-1].lines.append(line)
            if line.rstrip() == fence:
                fence = ""
                if cells[-1].kind == "code":
                    cells.append(Cell("markdown", [], number + 1))
            continue
        if opening:
            fence = opening[0]
        if re.match(r"`{3,}\{code-cell\}", line):
            cells.append(Cell("code", [line], number))
        elif cells[-1].kind != "markdown" or line.split(" ")[0] == "+++":
            cells.append(Cell("markdown", [line], number))
        else:
            cells[-1].lines.append(line)
    return [cell for cell in cells if cell.lines]


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
    try:
        cells, where = [], 1
        for cell in split(text):
            where = cell.line
            if "solution" in cell.tags:
                _require_no_heading(cell)
                _drop_blank_end(cells)
            else:
                cells.append(_without_solution(cell))
        where = 1
        if _retitle(cells, name) != 1:
            raise FormatError("there must be one title '# Solutions: ...'")
        for title, line, section in _sections(cells):
            where = line
            _require_exercise(title, section)
    except (SyntaxError, ValueError) as error:
        raise FormatError(f"solutions/{name}, line {where}: {error}") from error
    return "\n".join(line for cell in cells for line in cell.lines).rstrip() + "\n"


def _require_no_heading(cell: Cell) -> None:
    """A text lasts until the next ``+++`` or code cell; a statement inside it would be dropped with it."""
    fence = False
    for number, line in enumerate(cell.lines):
        fence ^= line.startswith(("```", "~~~"))
        if cell.kind == "markdown" and not fence and line.startswith("## "):
            raise FormatError(
                f"the solution's text swallows {line!r}: end it with a line '+++' (line {cell.line + number})"
            )


def _drop_blank_end(cells: list[Cell]) -> None:
    """Of the blank lines before and after a dropped cell, keep those after."""
    lines = cells[-1].lines if cells and cells[-1].kind == "markdown" else []
    while lines and not lines[-1].strip():
        lines.pop()


def _without_solution(cell: Cell) -> Cell:
    if cell.kind != "code":
        return cell
    folded = "hide-input" in cell.tags
    if "@mistake(" in cell.code and not (folded and cell.code.lstrip().startswith("#")):
        # A folded cell still shows its first line.
        raise FormatError("mistakes give the answer away: tag their cell hide-input, begin it with a comment")
    options = cell.lines[1 : cell.start]
    if folded and options[0] == "---":
        options.insert(1, FOLDED)
    elif folded:
        options.insert(0, f":{FOLDED}")
    code = cut(cell.code) if MARKER in cell.code else cell.code
    return Cell("code", [cell.lines[0], *options, *code.splitlines(), cell.lines[-1]], cell.line)


def _retitle(cells: list[Cell], name: str) -> int:
    """Turn the solutions' titles into the exercises' ones; returns the number of headings among them."""
    headings = 0
    for cell in cells:
        if cell.kind != "code" and cell.lines:
            old = "\n".join(cell.lines)
            new = re.sub(r"^title: Solutions: ", "title: Exercises: ", old, flags=re.MULTILINE)
            new, count = re.subn(
                r"^# Solutions: (.*)$", rf"# Exercises: \1\n\n{NOTE.format(name)}", new, flags=re.M
            )
            cell.lines, headings = new.split("\n"), headings + count
    return headings


def _sections(cells: list[Cell]) -> list[tuple[str, int, list[Cell]]]:
    """Every exercise: its heading, its line, and its cells, the first of which begins below the heading."""
    sections: list[tuple[str, int, list[Cell]]] = []
    for cell in cells:
        fenced, first = False, 0
        for i, line in enumerate(cell.lines if cell.kind == "markdown" else []):
            fenced ^= line.startswith(("```", "~~~"))
            if line.startswith("## ") and not fenced:
                if sections:
                    sections[-1][2].append(Cell("markdown", cell.lines[first:i], cell.line))
                sections.append((line, cell.line + i, []))
                first = i + 1
        if sections:
            sections[-1][2].append(Cell(cell.kind, cell.lines[first:], cell.line))
    return sections


def _require_exercise(title: str, cells: list[Cell]) -> None:
    effort = next((line for cell in cells for line in cell.lines if line.strip()), "")
    if not EFFORT.fullmatch(effort):
        raise FormatError(f"{title!r} must go on with a line like '*10 minutes · ●○○*', found {effort!r}")
    code = [cell.code for cell in cells if cell.kind == "code"]
    calls = [n.func for n in ast.walk(ast.parse(code[-1] if code else "")) if isinstance(n, ast.Call)]
    if not any(isinstance(function, ast.Name) and function.id == "check" for function in calls):
        raise FormatError(f"{title!r} must end with a code cell that calls check(...)")
    if not any("# Write your code here." in c for c in code):
        raise FormatError(f"{title!r} leaves nothing to do: mark its answer with {MARKER!r}")


def update(root: Path = ROOT, *, write: bool = True) -> list[str]:
    """Bring ``exercises`` in step with ``solutions``; returns what was, or would be, changed."""
    changed, wanted = [], set()
    for source in sorted((root / "solutions").rglob("*.md")):
        name = source.relative_to(root / "solutions").as_posix()
        target = root / "exercises" / name
        wanted.add(target)
        text = generate(source.read_text("utf-8"), name)
        if not target.exists() or target.read_text("utf-8") != text:
            changed.append(f"exercises/{name}")
            if write:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, "utf-8")
    for orphan in sorted(set((root / "exercises").rglob("*.md")) - wanted):
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
