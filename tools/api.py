"""Pages of the catalogue: public objects as Sphinx's autodoc describes them, with their papers and traits."""

import html
import importlib
import inspect
import re
from dataclasses import asdict
from types import ModuleType
from typing import Any

from contents import Contents

from course_lib import registry

__all__ = [
    "api_page",
    "chapter_link",
    "escape",
    "link",
    "link_names",
    "module_page",
    "paper_link",
    "plain",
    "target",
]

_ROLE = re.compile(r":(?:py:)?(?:func|class|meth|mod|attr|data|exc|obj):`~?(?P<name>[^`]+)`")
# Methods that every module has; their docstrings say nothing about the layer.
_ORDINARY = {"extra_repr", "reset_parameters"}


def target(obj: Any) -> str:
    """The full name under which an object is imported, also its anchor on the page."""
    return f"{_public_module(obj)}.{obj.__name__}"


def link(obj: Any) -> str:
    """A MyST link to the object's place in the catalogue."""
    return f"{{py:obj}}`{obj.__name__} <{target(obj)}>`"


def _public_module(obj: Any) -> str:
    """Where users import it from: a chapter that is a folder exports what its files define."""
    parts = obj.__module__.split(".")
    for length in range(2, len(parts) + 1):
        module = ".".join(parts[:length])
        if obj.__name__ in registry.public_names(module):
            return module
    return obj.__module__


def api_page(contents: Contents, chapter: str) -> str:
    """The page of one chapter: every public object in the order of the chapter."""
    module = importlib.import_module("course_lib." + chapter.replace("/", "."))
    title = registry.chapters()[chapter].title
    lines = [f"# In the library: {title}", "", _first_paragraph(module), ""]
    if chapter in contents.finished:
        lines += [f"Taught in {{doc}}`/{chapter}`.", ""]
    first = registry.public_names(module.__name__)[0]
    lines += ["```python", f"from {module.__name__} import {first}  # and so on", "```", ""]
    return "\n".join([*lines, *_objects(contents, module, f"catalogue/{chapter}")])


def module_page(contents: Contents, page: str, title: str, modules: list[str]) -> str:
    """A page of tools that belong to no chapter."""
    lines = [f"# {title}", ""]
    for name in modules:
        module = importlib.import_module(name)
        lines += [
            f"## {name}",
            "",
            _first_paragraph(module),
            "",
            *_objects(contents, module, page, heading="###"),
        ]
    return "\n".join(lines)


def _objects(contents: Contents, module: ModuleType, page: str, heading: str = "##") -> list[str]:
    lines = []
    for name in registry.public_names(module.__name__):
        obj = getattr(module, name)
        if (inspect.isclass(obj) or inspect.isfunction(obj)) and _home(obj, module):
            lines += _object(contents, name, obj, page, heading)
    return lines


def _home(obj: Any, module: ModuleType) -> bool:
    """Whether the object is described with this module: not where a module only passes it on."""
    defined_in = obj.__module__
    private = any(part.startswith("_") for part in defined_in.split("."))
    return defined_in.startswith(module.__name__) or (private and _neighbours(defined_in, module.__name__))


def _neighbours(private: str, public: str) -> bool:
    return private.rpartition(".")[0] == public.rpartition(".")[0]


def _object(contents: Contents, name: str, obj: Any, page: str, heading: str) -> list[str]:
    lines = [f"{heading} {name}", "", "```{eval-rst}"]
    if inspect.isclass(obj):
        methods = [n for n, f in vars(obj).items() if inspect.isfunction(f) and n[0] != "_"]
        lines += [f".. autoclass:: {target(obj)}"]
        if shown := [n for n in methods if n not in _ORDINARY]:
            lines += [f"   :members: {', '.join(shown)}", "   :undoc-members:"]
    else:
        lines += [f".. autofunction:: {target(obj)}"]
    lines += ["```", ""]
    entry = contents.entries.get(name)
    if entry is not None and entry.obj is obj:
        lines += [_facts(entry, page), ""]
    return lines


def chapter_link(contents: Contents, name: str) -> str:
    """A chapter's title, which leads to its page where it has one."""
    title = escape(registry.chapters()[name].title)
    return f"[{title}](/{name})" if name in contents.finished else title


def paper_link(paper: str, text: str, *, page: str) -> str:
    """A link from a page to the row of a paper in the index."""
    return f'<a href="{"../" * page.count("/")}papers.html#{paper}">{html.escape(text)}</a>'


def _facts(entry: registry.Entry, page: str) -> str:
    found = map(registry.paper, entry.paper_ids)
    papers = ", ".join(f"{paper_link(p.id, p.title, page=page)} ({p.year})" for p in found)
    holding = [trait.replace("_", " ") for trait, holds in asdict(entry.traits).items() if holds]
    return f"Paper: {papers}" + (f"  \nTraits: {', '.join(holding)}" if holding else "")


def link_names(lines: list[str]) -> None:
    """In a docstring, make links of names that are in the catalogue, and code of others, in place."""
    lines[:] = _ROLE.sub(_reference, "\n".join(lines)).split("\n")


def _reference(match: re.Match) -> str:
    entry = registry.entries().get(match["name"].split(".")[-1])
    return f":py:obj:`{entry.name} <{target(entry.obj)}>`" if entry else f"``{match['name']}``"


def plain(rst: str) -> str:
    """A sentence of a docstring as Markdown: names become code, formulas stay formulas."""
    text = re.sub(r":math:`([^`]+)`", r"$\1$", rst)
    return _ROLE.sub(lambda match: f"`{match['name']}`", text).replace("``", "`")


def _first_paragraph(module: ModuleType) -> str:
    return plain(inspect.cleandoc(module.__doc__ or "").split("\n\n")[0])


def escape(text: str) -> str:
    """Plain text for a MyST page or table cell: no character of it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|$~^])", r"\\\1", text)
