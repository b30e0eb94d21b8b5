"""A hash of the code that a function depends on: it changes when a result may have changed, and only
then.

From the function, the hash follows every name statically, through imports and re-exports, to the
definitions inside the library (functions, classes, module constants), and from those onward. What
is hashed is their syntax tree without comments, docstrings and annotations. Left out as well is
what only people read: the arguments of ``raise``, the message of ``assert``, methods such as
``__repr__``; and the decorators ``dataset``, ``experiment``, ``implements``, ``mistake`` and
``specimen``, which only register. Definitions are numbered in the order in which they are met, so
moving one to another file changes nothing. A local variable that has the name of a definition counts
as that definition too: sometimes too much is followed, never too little. Of other packages only the
name counts (``torch.exp`` is not ``math.exp``): their versions are recorded with a result, not hashed.

A static walk cannot see modules imported by a computed name, or data files. Attributes of an
instance count with its class, which is reached where the instance is built. A module used as a
value (``getattr(module, kind)``) counts as a whole. A table (``SETS[name]``) counts with every
statement of its module that changes it, and with what a decorator such as ``@dataset("digits")``
puts into it, if the text ``"digits"`` occurs in the code reached.

**Ground modules.** A module that says ``__numerics__ = 1`` at its top level promises that its numbers
stay what they are until somebody raises that number. Each of its definitions counts as its name and
the number, whatever its syntax; the number stands for everything behind it too, so nothing that the
module itself uses is followed. Only its tables are looked into for what decorators have put there:
``load("digits")`` counts with the module that makes the digits. So words, checks, messages and
progress bars of the training loop may be edited, and no result is stale; that an edit did not change
numbers is pinned by ``tests/measure/test_numerics.py``.

Only the standard library is used, and nothing that differs between Python 3.10 and 3.14.
"""

import ast
import hashlib
import importlib.util
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from glob import glob
from pathlib import Path

from course_lib.measure.hashing._syntax import (
    Definition,
    Module,
    Outside,
    Target,
    Writer,
    base_name,
    bound_names,
    imported,
    in_scope,
)

__all__ = ["code_hash", "reached"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def code_hash(function: Callable, packages: tuple[str, ...] | None = None) -> str:
    """The hash of the code that a module-level function or class depends on: 16 hexadecimal digits.

    Args:
        function: a function or class written at the top level of a module file.
        packages: the packages to follow; ``course_lib`` and the function's own unless given.

    Raises:
        ValueError: if the source of the definition cannot be found.

    >>> from course_lib.registry import papers
    >>> len(code_hash(papers))
    16
    """
    library, order = _walk(function, packages)
    index = {definition: f"#{i}" for i, definition in enumerate(order)}
    digest = hashlib.sha256()
    for definition in order:
        parts = (index[part] if isinstance(part, Definition) else part for part in library.parts(definition))
        digest.update("\0".join(["", *parts]).encode())
    return digest.hexdigest()[:16]


def reached(function: Callable, packages: tuple[str, ...] | None = None) -> list[str]:
    """The qualified names of all definitions that :func:`code_hash` takes in, the function itself first.

    Args:
        function: as for :func:`code_hash`.
        packages: as for :func:`code_hash`.

    >>> from course_lib.registry import paper
    >>> reached(paper)[:2]
    ['course_lib.registry.paper', 'course_lib.registry.papers']
    """
    return [".".join(definition) for definition in _walk(function, packages)[1]]


def _walk(function: Callable, packages: tuple[str, ...] | None) -> "tuple[_Library, list[Definition]]":
    """All definitions that are reached, breadth first, in the order in which they are met."""
    start = Definition(function.__module__, function.__qualname__)
    if packages is None:
        packages = tuple(dict.fromkeys(("course_lib", start.module.split(".")[0])))
    library = _library(packages)
    source = library.source(start.module)
    if source is None or start.name not in source.statements:
        raise ValueError(
            f"no definition of {start.name!r} at the top level of the file of {start.module!r} (followed: "
            f"{', '.join(packages)}): only a function or class that is written there can be hashed"
        )
    if start in library.walks:
        return library, library.walks[start]
    order, queue = {start: None}, deque([start])
    while queue:
        for part in library.parts(queue.popleft()):
            if isinstance(part, Definition) and part not in order:
                order[part] = None
                queue.append(part)
        if not queue:
            queue.extend(_registered(library, order))
            order.update(dict.fromkeys(queue))
    library.walks[start] = list(order)
    return library, library.walks[start]


def _registered(library: "_Library", order: dict[Definition, None]) -> list[Definition]:
    """What decorators put into the tables reached so far, under keys that occur in the code reached."""
    texts = {part for definition in order for part in library.parts(definition) if isinstance(part, str)}
    tables = dict.fromkeys(table for definition in order for table in library.tables(definition))
    entries = [entry for table in tables for entry in library.registered(table)]
    return sorted({found for key, found in entries if key is None or f"str {key!a}" in texts} - set(order))


@dataclass
class _Source:
    """One module: the statements that make or change each of its names, its imports, its star imports."""

    name: str
    is_package: bool
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Module | Definition] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def collect(self, body: list[ast.stmt]) -> None:
        """Sort the module's statements by the names that they make or change."""
        made: set[str] = set()
        for statement in _without_guards(body):
            for node in in_scope(statement):
                made.update(bound_names(node))
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    found, stars = imported(node, self.name, self.is_package)
                    self.imports = found | self.imports  # of two alternatives, the first
                    self.stars += stars
            for name in _changed_names(statement):
                self.statements.setdefault(name, []).append(statement)
        # print(...) and torch.manual_seed(...) change nothing that this module has made.
        self.statements = {name: found for name, found in self.statements.items() if name in made}

    @cached_property
    def numerics(self) -> int | None:
        """The number of a ground module, which stands for its code; None for every other module."""
        statements = self.statements.get("__numerics__", [])
        values = [getattr(statement, "value", None) for statement in statements]
        if not values:
            return None
        if len(values) > 1 or not isinstance(values[0], ast.Constant) or type(values[0].value) is not int:
            raise ValueError(f"{self.name}: __numerics__ must be one whole number, written as such")
        return values[0].value

    @cached_property
    def writers(self) -> dict[str, set[str]]:
        """For each table of the module the functions of the module that put something into it."""
        found: dict[str, set[str]] = {}
        for name, (first, *_) in self.statements.items():
            if isinstance(first, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for inner in ast.walk(first):
                    if isinstance(inner, (ast.Assign, ast.AugAssign, ast.Expr)):
                        for table in _changed_names(inner):
                            found.setdefault(table, set()).add(name)
        return found


def _key(decorator: ast.expr) -> str | None:
    """The first argument of ``@register("key", ...)`` if it is a string."""
    first = decorator.args[0] if isinstance(decorator, ast.Call) and decorator.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None


def _without_guards(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements without what stands under ``if TYPE_CHECKING`` and ``if __name__ == "__main__"``."""
    for statement in body:
        if isinstance(statement, ast.If) and _used_names(statement.test) & {"TYPE_CHECKING", "__name__"}:
            yield from _without_guards(statement.orelse)
        else:
            yield statement


def _used_names(node: ast.AST) -> set[str]:
    """All names and attributes that occur anywhere in a node."""
    return {getattr(inner, "id", getattr(inner, "attr", "")) for inner in ast.walk(node)}


def _changed_names(statement: ast.stmt) -> dict[str, None]:
    """Names that a statement makes, or changes as in ``TABLE["key"] = value`` and ``NAMES.append(value)``."""
    names: dict[str, None] = {}
    for node in in_scope(statement):
        names.update(dict.fromkeys(bound_names(node)))
        if isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
            names[base_name(node)] = None
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names[base_name(node.value.func)] = None
    return names


class _Library:
    """The source files of some packages, read when they are needed; it finds what a name means."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages
        self.stamps: dict[str, tuple[int, int] | None] = {}
        self.walks: dict[Definition, list[Definition]] = {}
        self._sources: dict[str, _Source | None] = {}
        self._parts: dict[Definition, list[str | Definition]] = {}
        self._resolving: set[Definition] = set()

    def is_current(self) -> bool:
        """False as soon as a file that was looked at, or looked for, has changed."""
        return all(_stamp(path) == stamp for path, stamp in self.stamps.items())

    def source(self, module: str) -> _Source | None:
        """The parsed module; None where these packages have no such module."""
        if module not in self._sources:
            self._sources[module] = self._read(module)
        return self._sources[module]

    def _read(self, module: str) -> _Source | None:
        if module.split(".")[0] not in self.packages:
            return None
        for path in _paths(module):
            for file, is_package in ((os.path.join(path, "__init__.py"), True), (path + ".py", False)):
                stamp = self.stamps[file] = _stamp(file)
                if stamp:
                    source = _Source(module, is_package)
                    source.collect(_parse(file, stamp).body)
                    return source
            if os.path.isdir(path):
                return _Source(module, True)  # a folder without __init__.py
        return None

    def resolve(self, module: str, name: str) -> Target:
        """What a name means in a module."""
        source, here = self.source(module), Definition(module, name)
        if source is None:
            return Outside(f"{module}.{name}")
        if name in source.statements:
            return here
        if here in self._resolving:  # two modules that import a name from each other
            return None
        self._resolving.add(here)
        try:
            if name in source.imports:
                return self.follow(source.imports[name])
            inside = [star for star in source.stars if self.source(star)]
            return next(filter(None, (self.resolve(star, name) for star in inside)), None)
        finally:
            self._resolving.discard(here)

    def follow(self, target: Module | Definition) -> Target:
        """What an import leads to in the end."""
        if isinstance(target, Module):
            return target if self.source(target.name) else Outside(target.name)
        return self.member(target.module, target.name)

    def member(self, module: str, name: str) -> Target:
        """What ``module.name`` means: a name in it, a submodule, or what its ``__getattr__`` gives."""
        found = self.resolve(module, name)
        if found is not None:
            return found
        if self.source(f"{module}.{name}"):
            return Module(f"{module}.{name}")
        if "__getattr__" in self.source(module).statements:
            return Definition(module, "__getattr__")
        return Outside(f"{module}.{name}")

    def parts(self, definition: Definition) -> list[str | Definition]:
        """The syntax of a definition as strings, with a :class:`Definition` wherever it uses another."""
        if definition not in self._parts:
            self._parts[definition] = self._write(definition)
        return self._parts[definition]

    def _write(self, definition: Definition) -> list[str | Definition]:
        source = self.source(definition.module)
        if source.numerics is not None:
            return [f"numerics {source.name} {source.numerics}", definition.name]
        if definition.name == "*":
            everything = [self.resolve(source.name, name) for name in (*source.statements, *source.imports)]
            return [target for target in everything if isinstance(target, Definition)]
        writer = Writer(self, source.name, source.is_package)
        for statement in source.statements[definition.name]:
            writer.write_statement(statement)
        return writer.parts

    def tables(self, definition: Definition) -> list[Definition]:
        """The tables that a definition stands for: itself, if it is one; in a ground module any."""
        source = self.source(definition.module)
        names = [definition.name] if source.numerics is None else source.writers
        return [Definition(source.name, name) for name in names if name in source.writers]

    def registered(self, table: Definition) -> Iterator[tuple[str | None, Definition]]:
        """What decorators put into a table, with its key: their first argument, None if that is no string.

        The decorator is a function beside the table; it is looked for in the modules of the same folder.
        """
        source = self.source(table.module)
        writers = {Definition(source.name, writer) for writer in source.writers[table.name]}
        for module in self._siblings(source.name):
            for name, (first, *_) in self.source(module).statements.items():
                for decorator in getattr(first, "decorator_list", ()):
                    called = decorator.func if isinstance(decorator, ast.Call) else decorator
                    if self.resolve(module, base_name(called)) in writers:
                        yield _key(decorator), Definition(module, name)

    def _siblings(self, module: str) -> list[str]:
        """The modules in the folder of a module."""
        package = module if self.source(module).is_package else module.rpartition(".")[0]
        if not package:
            return [module]
        folders = _paths(package)
        self.stamps.update({folder: _stamp(folder) for folder in folders})
        files = {Path(file).stem for folder in folders for file in glob(os.path.join(folder, "*.py"))}
        return [package, *(f"{package}.{stem}" for stem in sorted(files - {"__init__"}))]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


@cache
def _parse(path: str, stamp: tuple[int, int]) -> ast.Module:
    return ast.parse(Path(path).read_bytes(), path)


def _paths(module: str) -> list[str]:
    """Where a module may lie, without the ending of its file; nothing is imported for it."""
    root, *rest = module.split(".")
    spec = getattr(sys.modules.get(root), "__spec__", None)
    if spec is None and root not in sys.modules:
        spec = importlib.util.find_spec(root)
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    return (
        [(spec.origin or "").removesuffix(".py")]
        if folders is None
        else [os.path.join(f, *rest) for f in folders]
    )


_libraries: dict[tuple[tuple[str, ...], ...], _Library] = {}


def _library(packages: tuple[str, ...]) -> _Library:
    place = (
        packages,
        *(tuple(_paths(package)) for package in packages),
    )  # a module may be loaded anew elsewhere
    if place not in _libraries or not _libraries[place].is_current():
        _libraries[place] = _Library(packages)
    return _libraries[place]
