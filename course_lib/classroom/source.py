"""The library's own source on the page: read by introspection, so that no second copy can go stale."""

import ast
import functools
import html
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

from course_lib.optional import needs

with needs("book"):
    from IPython.display import display
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

from course_lib.tables import Displayed

# Registration says where a paper is implemented, not how: the reader of the code does not need it. What an
# experiment claims stands on the page in its own table.
_REGISTRATION = {"implements", "experiment"}

# The book's theme colours the Pygments classes itself; elsewhere (JupyterLab) the editor's colours are taken.
# :where() has no specificity, so that any theme wins.
_FALLBACK = "<style>{}</style>".format(
    "".join(
        f":where(.course-source) :where({classes}){{{rule}}}"
        for classes, rule in {
            ".k,.kc,.kd,.kn,.ow": "color:var(--jp-mirror-editor-keyword-color);font-weight:bold",
            ".s,.s1,.s2,.sd,.sa,.si,.se": "color:var(--jp-mirror-editor-string-color)",
            ".c,.c1": "color:var(--jp-mirror-editor-comment-color);font-style:italic",
            ".mi,.mf": "color:var(--jp-mirror-editor-number-color)",
            ".nf,.nc,.fm,.nd": "color:var(--jp-mirror-editor-def-color)",
            ".nb,.bp": "color:var(--jp-mirror-editor-builtin-color)",
        }.items()
    )
)
_PLATE = (
    "<style>[data-theme=dark] .cell_output .text_html:has(.course-source)"
    "{background:none!important;color:inherit!important;padding:0!important}"
    ".course-source .highlight pre{white-space:pre-wrap;overflow-wrap:anywhere}</style>"
)


def show_source(*objs: Any, docstring: bool = False) -> None:
    """Show the source of functions, methods or classes, each under its file and line.

    Registration decorators, checks of arguments and ``extra_repr`` are left out, docstrings cut to one line:
    the text around says the rest.

    Args:
        objs: what to show; an instance stands for its class.
        docstring: True keeps the whole docstrings.

    Raises:
        ValueError: for nothing to show, or for something without Python source, such as a built-in.

    >>> from course_lib.registry import papers
    >>> show_source(papers)  # doctest: +ELLIPSIS
    # course_lib/registry.py, line ...
    @cache
    def papers() -> dict[str, Paper]:
        \"""All papers of the course by id.\"""
        ...
    """
    if not objs:
        raise ValueError("show_source() needs something to show: show_source(LayerNorm, layer_norm)")
    shown = [(*_place(obj), source_of(obj, docstring=docstring)) for obj in map(_definition, objs)]
    page = "".join(_html(path, line, code) for path, line, code in shown)
    plain = "\n\n".join(f"# {path}, line {line}\n{code}" for path, line, code in shown)
    display(Displayed(f'{_FALLBACK}{_PLATE}<div class="course-source">{page}</div>', plain))


def source_of(obj: Any, *, docstring: bool = False, checks: bool = False) -> str:
    """The source of a function, method or class as text, without registration.

    Args:
        obj: what to read; an instance stands for its class.
        docstring: True keeps the whole docstrings.
        checks: True keeps what only refuses bad arguments, and ``extra_repr``.

    Raises:
        ValueError: for something without Python source.

    >>> from course_lib.registry import Chapter
    >>> print(source_of(Chapter.part.fget).splitlines()[-1])
        return self.id.split("/")[0]
    """
    obj = _definition(obj)
    code = textwrap.dedent("".join(_lines(obj)[0])).rstrip() + "\n"
    lines = code.splitlines()
    nodes = list(ast.walk(ast.parse(code)))
    decorators = [d for node in nodes for d in getattr(node, "decorator_list", ())]
    cuts: list[tuple[int, int, list[str]]] = [  # first line, last line, what stands there instead
        (d.lineno, d.end_lineno, []) for d in decorators if _decorator_name(d) in _REGISTRATION
    ]
    if not docstring:
        cuts += [cut for node in nodes if (cut := _docstring_cut(node, lines))]
    if not checks:
        cuts += [cut for node in nodes for cut in _checks(node)]
    for first, last, instead in sorted(cuts, reverse=True):
        lines[first - 1 : last] = instead
    return re.sub(r"\n(\s*\n){2,}", "\n\n", "\n".join(lines)).rstrip("\n")


def _checks(node: ast.AST) -> list[tuple[int, int, list[str]]]:
    """Statements that only refuse bad arguments, and ``extra_repr``, unless nothing would be left."""
    if not isinstance(node, ast.FunctionDef | ast.ClassDef):
        return []
    refusing = [child for child in node.body if _only_refuses(child)]
    documented = ast.get_docstring(node) is not None
    if len(refusing) + documented >= len(node.body):
        return []
    return [(_first_line(child), child.end_lineno or child.lineno, []) for child in refusing]


def _only_refuses(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "extra_repr"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return _decorator_name(node.value).startswith(("require_", "_require_"))
    if isinstance(node, ast.For):
        return all(map(_only_refuses, node.body))
    if isinstance(node, ast.Assign):  # the name for their messages
        return ast.unparse(node) == "name = type(self).__name__"
    return isinstance(node, ast.If) and not node.orelse and all(isinstance(s, ast.Raise) for s in node.body)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])


def _definition(obj: Any) -> Any:
    if isinstance(obj, property):
        obj = obj.fget
    if isinstance(obj, functools.partial):
        obj = obj.func
    obj = inspect.unwrap(obj)
    return obj if inspect.isclass(obj) or inspect.isroutine(obj) else type(obj)


def _lines(obj: Any) -> tuple[list[str], int]:
    try:
        return inspect.getsourcelines(obj)
    except (OSError, TypeError) as error:
        name = getattr(obj, "__qualname__", repr(obj))
        raise ValueError(f"{name} has no Python source to show: is it a built-in, or compiled?") from error


def _place(obj: Any) -> tuple[str, int]:
    """The file, from the package's parent folder on, and the line."""
    line = _lines(obj)[1]
    path = Path(inspect.getsourcefile(obj) or "")
    package = obj.__module__.split(".")[0]
    if package in path.parts:
        last = len(path.parts) - 1 - path.parts[::-1].index(package)
        return "/".join(path.parts[last:]), line
    in_cell = path.name.startswith("<") or "ipykernel" in str(path)
    return "this notebook" if in_cell else path.name, line


def _decorator_name(node: ast.expr) -> str:
    call = node.func if isinstance(node, ast.Call) else node
    return call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")


def _docstring_cut(node: ast.AST, lines: list[str]) -> tuple[int, int, list[str]] | None:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return None
    text = ast.get_docstring(node)
    if text is None:
        return None
    where = node.body[0]
    indent = " " * where.col_offset
    if lines[where.lineno - 1][: where.col_offset].strip() or where.lineno == where.end_lineno:
        return None  # already one line
    first = text.splitlines()[0]
    prefix = "r" if "\\" in first else ""
    return where.lineno, where.end_lineno, [f'{indent}{prefix}"""{first}"""']


def _html(path: str, line: int, code: str) -> str:
    place = f'data-path="{html.escape(path)}" data-line="{line}"'
    head = f'<p class="course-source-place"><code {place}>{html.escape(path)}</code>, line {line}</p>'
    return head + highlight(code, PythonLexer(), HtmlFormatter(wrapcode=True))
