"""Find out which files each notebook can depend on, and write them as make rules to ``build/deps.mk``.

Nothing is imported or run: the code cells and the library's modules are parsed, and imports are followed.
Where the text leaves something open, more files are taken rather than fewer, so that no notebook goes stale.
"""

import ast
import re
import sys
from functools import cached_property
from pathlib import Path

__all__ = ["Library", "code_of", "notebooks", "rules"]

PACKAGE = "course_lib"
# These functions load every chapter by name, which no import statement shows.
LOAD_EVERYTHING = {"entries", "find", "show"}
REGISTRY = f"{PACKAGE}.registry"
EXECUTED_ANEW_WITH = (
    "requirements.lock",
    "tools/execute.py",
    "tools/kernel_env.py",
    "tools/no_network/sitecustomize.py",
)
DATA_SUFFIXES = {".json", ".toml", ".txt", ".safetensors", ".csv", ".npz"}
SIDE_BY_SIDE = re.compile(r"""side_by_side_table\(\s*["'](\w+/\w+)["']""")
FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})\{code-cell\}[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL
)


class Library:
    """The modules of ``course_lib`` and what each of them can import, as far as the text shows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {self._dotted(path): path for path in sorted((root / PACKAGE).rglob("*.py"))}
        self._direct: dict[str, set[str]] = {}
        self._files: dict[Path, list[Path]] = {}
        self._trees: dict[str, ast.Module] = {}

    def _dotted(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def everything(self) -> set[str]:
        """All modules but the command lines: nothing imports those."""
        return {name for name in self.modules if not name.endswith("__main__")}

    def reach(self, code: str) -> set[Path]:
        """Every file that this code can read: modules, transitively, and the data that lie beside them."""
        pending, shown = self._shown_side_by_side(code)
        pending |= self.imports(code)
        seen: set[str] = set()
        while pending:
            name = pending.pop()
            if name not in seen:
                seen.add(name)
                pending |= self._imports_of(name) - seen
        return shown | {path for name in seen for path in [self.modules[name], *self._data_beside(name)]}

    def _shown_side_by_side(self, code: str) -> tuple[set[str], set[Path]]:
        """What ``side_by_side_table("layers/norm")`` reads of the chapter: its experiments and its times."""
        modules: set[str] = set()
        times: set[Path] = set()
        for chapter in SIDE_BY_SIDE.findall(code):
            modules |= self._module(f"{PACKAGE}.experiments.{chapter.replace('/', '.')}")
            times |= {path for path in [self.root / PACKAGE / f"bench/{chapter}.json"] if path.exists()}
        return modules, times

    def imports(self, code: str) -> set[str]:
        """Modules of the library that this code names; all of them where it cannot be parsed."""
        try:
            tree = ast.parse(code)
        except SyntaxError:
            return set(self.everything)
        return self._named_in(tree)

    def _named_in(self, tree: ast.Module, inside: str = "") -> set[str]:
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= self._module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                found |= self._import_from(node, inside)
            elif isinstance(node, ast.Attribute):
                found |= self._module(_dotted_name(node))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                # importlib.import_module("course_lib.layers.norm"), papers_table("layers/norm")
                chapter = f"{PACKAGE}.{node.value.replace('/', '.')}" if "/" in node.value else ""
                found |= self._module(node.value) | self._module(chapter)
        if REGISTRY in found and _uses_registry_as_module(tree):
            found |= self.everything
        return found

    def _import_from(self, node: ast.ImportFrom, inside: str) -> set[str]:
        base = node.module or ""
        if node.level:
            parts = inside.split(".")
            # "from . import x" in a package's __init__ starts at the package itself.
            is_package = inside in self.modules and self.modules[inside].name == "__init__.py"
            parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
            base = ".".join([*parts, *filter(None, [node.module])])
        found = self._module(base)
        if base not in self.modules:
            return found
        for alias in node.names:
            if base == REGISTRY and (alias.name in LOAD_EVERYTHING or alias.name == "*"):
                found |= self.everything
            submodule = f"{base}.{alias.name}"
            found |= self._module(submodule) if submodule in self.modules else self._lazy(base, alias.name)
        return found

    def _module(self, dotted: str) -> set[str]:
        """The module that a dotted name means or lies in, with the packages around it."""
        parts = dotted.split(".")
        if parts[0] != PACKAGE:
            return set()
        return {".".join(parts[:i]) for i in range(1, len(parts) + 1)} & set(self.modules)

    def _lazy(self, package: str, name: str) -> set[str]:
        """Where a package with a ``__getattr__`` finds ``name``: looked up in the package's own tables."""
        tree = self._tree(package)
        if package == PACKAGE or not _is_lazy(tree):
            return set()
        inside = {m for m in self.modules if m.startswith(package + ".")}
        for table in (node for node in ast.walk(tree) if isinstance(node, ast.Dict)):
            for row in zip(table.keys, table.values, strict=True):
                words = {n.value for side in row for n in ast.walk(side) if isinstance(n, ast.Constant)}
                homes = {f"{package}.{word}" for word in words} & inside
                if name in words and homes:
                    return {module for home in homes for module in self._module(home)}
        return inside

    def _imports_of(self, name: str) -> set[str]:
        if name not in self._direct:
            tree = self._tree(name)
            if _is_lazy(tree):  # its table of names is no import
                kept = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom | ast.ClassDef)]
                tree = ast.Module(body=kept, type_ignores=[])
            self._direct[name] = self._named_in(tree, inside=name)
        return self._direct[name]

    def _tree(self, name: str) -> ast.Module:
        if name not in self._trees:
            self._trees[name] = _parsed(self.modules[name].read_text("utf-8"))
        return self._trees[name]

    def _data_beside(self, name: str) -> set[Path]:
        """Data files of the same stem, those in the same folder that the module's text names, and weights."""
        path = self.modules[name]
        if path.parent not in self._files:
            beside = [*path.parent.iterdir(), *path.parent.glob("weights/*")]
            self._files[path.parent] = sorted(f for f in beside if f.suffix in DATA_SUFFIXES)
        text = path.read_text("utf-8") if self._files[path.parent] else ""
        return {f for f in self._files[path.parent] if f.stem == path.stem or f'"{_name_in_code(f)}"' in text}


def _name_in_code(data: Path) -> str:
    """How a module names a data file: ``papers.toml``, but ``@specimen("char_gpt")`` for weights."""
    return data.stem if data.parent.name == "weights" else data.name


def _parsed(text: str) -> ast.Module:
    """The syntax tree, empty for a file with an error: the notebooks that import it will report it."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


def _is_lazy(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body)


def _dotted_name(node: ast.AST) -> str:
    """``course_lib.layers.norm`` of the expression that is written like this, else an empty string."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _uses_registry_as_module(tree: ast.AST) -> bool:
    """Whether ``registry.find(...)`` is written somewhere: the module's functions, not imported by name."""
    attributes = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in LOAD_EVERYTHING]
    return any(_dotted_name(n.value).split(".")[-1] == "registry" for n in attributes)


def code_of(text: str) -> str:
    """The code cells of a MyST notebook, without cell options and lines of shell or magic commands."""
    cells = []
    for match in FENCE.finditer(text):
        lines = match["body"].splitlines()
        if lines and lines[0].strip() == "---":  # options as a YAML block
            end = next((i for i, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
            lines = lines[end + 1 :]
        while lines and lines[0].startswith(":"):
            lines.pop(0)
        cells += [line for line in lines if not line.lstrip().startswith(("%", "!"))]
    return "\n".join(cells)


def notebooks(root: Path) -> dict[Path, Path]:
    """Source of each notebook and its product, both relative to ``root``."""
    found = {}
    for folder in ("book", "solutions", "exercises"):
        for source in sorted((root / folder).rglob("*.md")):
            if FENCE.search(source.read_text("utf-8")):
                relative = source.relative_to(root)
                inside = relative.relative_to("book") if folder == "book" else relative
                found[relative] = Path("build/notebooks") / inside.with_suffix(".ipynb")
    return found


def rules(root: Path) -> str:
    """The make rules of all notebooks, and the list of what the site is made from."""
    library = Library(root)
    lines = ["# Written by tools/deps.py.", ""]
    found = notebooks(root)
    lines.append("NOTEBOOKS := " + " ".join(str(target) for target in found.values()))
    site = {f.relative_to(root) for f in site_inputs(root)}
    lines += ["SITE_INPUTS := " + " ".join(sorted(map(str, site))), ""]
    for source, target in found.items():
        if source.parts[0] == "exercises":
            lines += [
                f"{target}: {source} tools/execute.py",
                f"\t@$(PY) tools/execute.py --unexecuted {source} $@",
                "",
            ]
            continue
        reached = library.reach(code_of((root / source).read_text("utf-8")))
        needs = sorted(str(path.relative_to(root)) for path in reached)
        needs += [name for name in EXECUTED_ANEW_WITH if (root / name).exists()]
        # The list is an input too: a module that is gone cannot be newer than anything.
        listing = Path("build/deps") / target.relative_to("build/notebooks").with_suffix(".txt")
        write_if_changed(root / listing, "\n".join(needs) + "\n")
        lines += [
            f"{target}: {source} {' '.join([*needs, str(listing)])}",
            f"\t@$(PY) tools/execute.py {source} $@",
            "",
        ]
    return "\n".join(lines)


def site_inputs(root: Path) -> list[Path]:
    """What the pages are made from, apart from the notebooks."""
    patterns = [
        "book/**/*",
        "tools/*",
        f"{PACKAGE}/**/*.py",
        f"{PACKAGE}/*.toml",
        f"{PACKAGE}/bench/**/*.json",
        f"{PACKAGE}/experiments/**/*.json",
        "_config.yml",
        "_toc.yml",
        "requirements.lock",
    ]
    return [
        f for pattern in patterns for f in root.glob(pattern) if f.is_file() and "__pycache__" not in f.parts
    ]


def write_if_changed(path: Path, text: str) -> None:
    """Write a file, but leave its date alone where it holds this text already."""
    if not path.exists() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def remove_orphans(root: Path) -> None:
    """Delete the products of notebooks that are gone: a test or the site could take them for living ones."""
    products = {root / target for target in notebooks(root).values()}
    for path in (root / "build/notebooks").rglob("*.ipynb"):
        if path not in products:
            path.unlink()


def main() -> int:
    root = Path.cwd()
    write_if_changed(root / "build/deps.mk", rules(root))
    remove_orphans(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
