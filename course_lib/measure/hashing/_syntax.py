"""Syntax trees written as a flat list of strings and references, the same on every supported Python.

This is the half of :mod:`course_lib.measure.hashing` that looks at one definition at a time: which names
it uses, which of them are its own, and what of its text can change a result.
"""

import ast
from collections.abc import Iterator
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
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
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
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
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
        self.is_package = is_package
        self.parts: list[str | Definition] = []
        self._scopes: list[tuple[set[str], dict[str, Module | Definition]]] = []

    def write(self, node: ast.AST) -> None:
        """Append one node with all that is in it."""
        special = getattr(self, f"_write_{type(node).__name__}", None)
        if isinstance(node, _SKIPPED):
            return
        if special is not None:
            special(node)
        elif isinstance(node, _FUNCTIONS):
            self._write_function(node)
        elif isinstance(node, _COMPREHENSIONS):
            self._write_comprehension(node)
        else:
            self._write_fields(node, node._fields)

    def _write_fields(self, node: ast.AST, fields: tuple[str, ...] | list[str]) -> None:
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

    def _write_Raise(self, node: ast.Raise) -> None:
        """Which exception, not what it says."""
        if node.exc is None:
            self.parts.append("(Raise)")
        else:
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

    # ---------------------------------------------------------------------------------------------- names

    def _meaning(self, name: str) -> Target | str:
        """What a name means here; for a local variable its own name."""
        for names, imports in reversed(self._scopes):
            if name in imports:
                return self.library.follow(imports[name])
            if name in names:
                return name
        return self.library.resolve(self.module, name)

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
        meaning = self._meaning(name)
        while attributes and isinstance(meaning, (Module, Outside)):
            attribute, *attributes = attributes
            inside = isinstance(meaning, Module)
            meaning = (
                self.library.member(meaning.name, attribute)
                if inside
                else Outside(f"{meaning.name}.{attribute}")
            )
        if isinstance(meaning, Module):
            meaning = Definition(meaning.name, "*")  # a module used as a value: anything in it may be meant
        if isinstance(meaning, Outside):
            meaning = f"outside {meaning.name}"
        elif not isinstance(meaning, Definition):
            meaning = f"name {name}"
        self.parts.append(meaning)
        self.parts.extend(f".{attribute}" for attribute in attributes)

    # ---------------------------------------------------------------------------------------------- scopes

    def _write_decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            called = decorator.func if isinstance(decorator, ast.Call) else decorator
            last = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if last not in _IGNORED_DECORATORS:
                self.parts.append("@")
                self.write(decorator)

    def _write_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self.parts.append(f"({type(node).__name__} {getattr(node, 'name', '')}")
        if not isinstance(node, ast.Lambda):
            self._write_decorators(node)
        self.write(node.args)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        inside = [inner for statement in body for inner in in_scope(statement)]
        arguments = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
        names = arguments.union(*map(bound_names, inside))
        for inner in inside:
            if isinstance(inner, ast.Global):
                names -= set(inner.names)
        imports: dict[str, Module | Definition] = {}
        for inner in inside:
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                imports.update(imported(inner, self.module, self.is_package)[0])
        self._scopes.append((names, imports))
        for statement in body:
            self.write(statement)
        self._scopes.pop()
        self.parts.append(")")

    def _write_ClassDef(self, node: ast.ClassDef) -> None:
        """A class; its names are not visible inside its methods, so it opens no scope."""
        self.parts.append(f"(ClassDef {node.name}")
        self._write_decorators(node)
        for base in [*node.bases, *node.keywords]:
            self.write(base)
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and statement.value is None:
                self.parts.append(f"field {base_name(statement.target)}")  # a field of a dataclass
            elif getattr(statement, "name", "") not in _DISPLAY_METHODS:
                self.write(statement)
        self.parts.append(")")

    def _write_comprehension(self, node: ast.expr) -> None:
        names: set[str] = set()
        for part in node.generators:
            names.update(*map(bound_names, ast.walk(part.target)))
        self.parts.append(f"({type(node).__name__}")
        self.write(node.generators[0].iter)  # evaluated outside, where the names are not yet bound
        self._scopes.append((names, {}))
        for i, part in enumerate(node.generators):
            self._write_fields(part, ["target", "ifs", "is_async"] if i == 0 else part._fields)
        for field in ("key", "value", "elt"):
            if hasattr(node, field):
                self.write(getattr(node, field))
        self._scopes.pop()
        self.parts.append(")")
