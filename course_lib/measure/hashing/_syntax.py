"""Syntax trees written as a flat list of strings and references, the same on every supported Python.

This is the half of :mod:`course_lib.measure.hashing` that looks at one definition at a time: which names
it uses, which of them are its own, and what of its text can change a result.
"""

import ast
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__ = [
    "Definition",
    "Module",
    "Outside",
    "Target",
    "Writer",
    "base_name",
    "bound_names",
    "imported",
    "in_scope",
]

# These note who, what and whence, and leave the function as it is.
_IGNORED_DECORATORS = {"dataset", "experiment", "implements", "mistake", "specimen"}
_DISPLAY_METHODS = {"__repr__", "__str__", "extra_repr", "_repr_html_", "_repr_mimebundle_"}
_SKIPPED_FIELDS = {"annotation", "returns", "type_comment", "type_ignores", "type_params", "ctx", "kind"}
_SKIPPED = (ast.Pass, ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Definition(NamedTuple):
    """A definition inside the library: its module and its name there."""

    module: str
    name: str


class Module(NamedTuple):
    """A module of the library."""

    name: str


class Outside(NamedTuple):
    """Something of another package, by its dotted name."""

    name: str


Target = Definition | Module | Outside | None  # what a name means; None is a builtin


def imported(
    statement: ast.Import | ast.ImportFrom, module: str, is_package: bool
) -> tuple[dict[str, Module | Definition], list[str]]:
    """What an import binds, as absolute names; and the modules of which it takes everything."""
    if isinstance(statement, ast.Import):
        # "import a.b" binds a; "import a.b as c" binds c, to a.b
        dotted = [alias if alias.asname else ast.alias(alias.name.split(".")[0]) for alias in statement.names]
        return {alias.asname or alias.name: Module(alias.name) for alias in dotted}, []
    source = statement.module or ""
    if statement.level:
        parts = module.split(".")
        above = parts[: len(parts) - statement.level + is_package]
        source = ".".join([*above, *filter(None, [source])])
    found = {alias.asname or alias.name: Definition(source, alias.name) for alias in statement.names}
    return {name: target for name, target in found.items() if name != "*"}, [source] if "*" in found else []


def in_scope(node: ast.AST) -> Iterator[ast.AST]:
    """The node and those in it that share its scope of names; of an inner definition only its own node."""
    yield node
    if isinstance(node, _SCOPES):
        return
    if isinstance(node, _COMPREHENSIONS):  # only := binds a name outside a comprehension
        yield from (inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr))
        return
    for child in ast.iter_child_nodes(node):
        yield from in_scope(child)


def bound_names(node: ast.AST) -> Iterator[str]:
    """The names that a node itself binds (its children are not looked at)."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def base_name(node: ast.expr) -> str:
    """The name at the root of ``name.attribute[index]``; empty if there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


class Writer:
    """Writes definitions of one module; ``parts`` holds strings and, for references, :class:`Definition`.

    Args:
        library: has ``follow(target)``, ``resolve(module, name)`` and ``member(module, name)``.
        module: dotted name of the module.
        is_package: whether the module is the ``__init__`` of a package, for relative imports.
    """

    def __init__(self, library: Any, module: str, is_package: bool) -> None:
        self.library = library
        self.module = module
        self.parts: list[str | Definition] = []
        self._is_package = is_package
        self._imports: dict[str, Module | Definition] = {}

    def write_statement(self, statement: ast.stmt) -> None:
        """Append a statement of the module with all that is in it."""
        self._imports = {}
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for node in ast.walk(statement):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    self._imports |= imported(node, self.module, self._is_package)[0]
        self.write(statement)

    def write(self, node: ast.AST) -> None:
        """Append one node with all that is in it."""
        if not isinstance(node, _SKIPPED):
            special = getattr(self, f"_write_{type(node).__name__}", None)
            special(node) if special else self._write_fields(node, node._fields)

    def _write_fields(self, node: ast.AST, fields: Iterable[str]) -> None:
        """Fields by name, without the empty ones: a later Python has more fields, empty unless used."""
        self.parts.append(f"({type(node).__name__}")
        for field in fields:
            value = getattr(node, field, None)
            if field in _SKIPPED_FIELDS or value is None or value == []:
                continue
            self.parts.append(f"{field}=")
            for item in value if isinstance(value, list) else [value]:
                self.write(item) if isinstance(item, ast.AST) else self.parts.append(ascii(item))
        self.parts.append(")")

    def _write_Constant(self, node: ast.Constant) -> None:
        self.parts.append(f"{type(node.value).__name__} {node.value!a}")

    def _write_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring, or ...
            self._write_fields(node, node._fields)

    def _write_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.write(ast.Assign(targets=[node.target], value=node.value))
        else:
            self.parts.append(f"field {base_name(node.target)}")  # of a dataclass

    def _write_Raise(self, node: ast.Raise) -> None:
        """Which exception, not what it says."""
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        self._write_fields(ast.Raise(exc=kind), ["exc"])

    def _write_Assert(self, node: ast.Assert) -> None:
        self._write_fields(node, ["test"])

    def _write_JoinedStr(self, node: ast.JoinedStr) -> None:
        """An f-string; how its constant pieces are split, and whether empty ones stay, varies by version."""
        self.parts.append("(JoinedStr")
        text = ""
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                text += piece.value
                continue
            self.parts += [ascii(text), f"!{piece.conversion}"]
            text = ""
            self.write(piece.value)
            if isinstance(piece.format_spec, ast.JoinedStr) and piece.format_spec.values:
                self._write_JoinedStr(piece.format_spec)
        self.parts += [ascii(text), ")"]

    def _write_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """Without the decorators that only register, and the methods that only show."""
        body = [inner for inner in node.body if getattr(inner, "name", "") not in _DISPLAY_METHODS]
        decorators = [d for d in node.decorator_list if _last_name(d) not in _IGNORED_DECORATORS]
        values = {field: getattr(node, field, None) for field in node._fields}
        copy = type(node)(**{**values, "body": body, "decorator_list": decorators})
        self._write_fields(copy, node._fields)

    _write_AsyncFunctionDef = _write_ClassDef = _write_FunctionDef

    def _write_Name(self, node: ast.Name) -> None:
        self._write_chain(node.id, [])

    def _write_Attribute(self, node: ast.Attribute) -> None:
        attributes, base = [], node
        while isinstance(base, ast.Attribute):
            attributes.insert(0, base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self._write_chain(base.id, attributes)
        else:
            self._write_fields(node, node._fields)

    def _write_chain(self, name: str, attributes: list[str]) -> None:
        """``a.b.c``, followed as far as it names modules, so that all ways to import a thing are equal."""
        inside = name in self._imports
        resolve = self.library.resolve
        meaning = self.library.follow(self._imports[name]) if inside else resolve(self.module, name)
        while attributes and isinstance(meaning, (Module, Outside)):
            attribute, *attributes = attributes
            if isinstance(meaning, Module):
                meaning = self.library.member(meaning.name, attribute)
            else:
                meaning = Outside(f"{meaning.name}.{attribute}")
        if isinstance(meaning, Module):
            meaning = Definition(meaning.name, "*")  # a module used as a value: anything in it may be meant
        if isinstance(meaning, Outside):
            meaning = f"outside {meaning.name}"
        elif not isinstance(meaning, Definition):
            meaning = f"name {name}"
        self.parts.append(meaning)
        self.parts.extend(f".{attribute}" for attribute in attributes)


def _last_name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
