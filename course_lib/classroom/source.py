"""The library's own source on the page: read by introspection, so that no second copy can go stale."""

import ast
import functools
import html
import inspect
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

# Registration says where a paper is implemented, not how: the reader of the code does not need it.
_REGISTRATION = {"implements"}

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
    ".course-source .highlight pre{white-space:pre;overflow-x:auto}</style>"
)


def show_source(*objs: Any, docstring: bool = False) -> None:
    """Show the source of functions, methods or classes, each under its file and line.

    Registration decorators are left out and docstrings cut to one line: the text around says the rest.

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
        return ...
    """
    if not objs:
        raise ValueError("show_source() needs something to show: show_source(LayerNorm, layer_norm)")
    shown = [(*_place(obj), source_of(obj, docstring=docstring)) for obj in map(_definition, objs)]
    page = "".join(_html(path, line, code) for path, line, code in shown)
    plain = "\n\n".join(f"# {path}, line {line}\n{code}" for path, line, code in shown)
    display(Displayed(f'{_FALLBACK}{_PLATE}<div class="course-source">{page}</div>', plain))


def source_of(obj: Any, *, docstring: bool = False) -> str:
    """The source of a function, method or class as text, without registration.

    Args:
        obj: what to read; an instance stands for its class.
        docstring: True keeps the whole docstrings.

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
    for first, last, instead in sorted(cuts, reverse=True):
        lines[first - 1 : last] = instead
    return "\n".join(lines)


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
