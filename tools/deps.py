"""Write the make rules of the notebooks to ``build/deps.mk``: each depends on what its last run has read.

A run leaves ``build/deps/<notebook>.txt`` (``tools/execute.py``): the files of the library that it opened,
the folders that it listed with their names, and the files that it missed. Here each list is compared with
the tree: where a name came or went, the list is written anew, and is then newer than the notebook.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["FENCE", "deps_file", "notebooks", "rules", "seen_now", "write_if_changed"]

EXECUTED_ANEW_WITH = (
    "requirements.lock",
    "tools/execute.py",
    "tools/kernel_env.py",
    "tools/in_kernel/sitecustomize.py",
)
FENCE = re.compile(
    r"^(?P<fence>`{3,}|~{3,})\{code-cell\}[^\n]*\n(?P<body>.*?)^(?P=fence)\s*$", re.MULTILINE | re.DOTALL
)
# What the pages are made from, apart from the notebooks.
SITE = (
    "book/**/*",
    "tools/**/*",
    "course_lib/**/*.py",
    "course_lib/**/*.toml",
    "course_lib/**/*.json",
    "_config.yml",
    "_toc.yml",
    "requirements.lock",
)
MISSED = "? "


def seen_now(paths: Iterable[str], root: Path) -> str:
    """One line for each path: a file, one that is missed, or a folder (with a slash) and the names in it.

    Paths are below ``root``; a line of an earlier answer counts as the path that it begins with.
    """
    lines = []
    for path in sorted({line.removeprefix(MISSED).split(" ")[0] for line in paths if line}):
        place = root / path
        if path.endswith("/"):
            names = sorted(p.name for p in place.iterdir()) if place.is_dir() else []
            lines.append(" ".join([path, *(n for n in names if n[0] != "." and n != "__pycache__")]))
        else:
            lines.append(path if place.is_file() else f"{MISSED}{path}")
    return "".join(f"{line}\n" for line in lines)


def deps_file(target: Path) -> Path:
    """Where the run of ``build/notebooks/layers/norm.ipynb`` leaves what it has read."""
    return Path("build/deps") / target.relative_to("build/notebooks").with_suffix(".txt")


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
    found = notebooks(root)
    site = {f.relative_to(root).as_posix() for pattern in SITE for f in root.glob(pattern) if f.is_file()}
    lines = [
        "# Written by tools/deps.py.",
        "",
        "NOTEBOOKS := " + " ".join(map(str, found.values())),
        "SITE_INPUTS := " + " ".join(sorted(f for f in site if "__pycache__" not in f)),
        "",
    ]
    for source, target in found.items():
        if source.parts[0] == "exercises":
            needs, option = [source, "tools/execute.py"], "--unexecuted "
        else:
            needs, option = [source, *_needs(target, root)], ""
        lines += [
            f"{target}: {' '.join(map(str, needs))}",
            f"\t@$(PY) tools/execute.py {option}{source} $@",
            "",
        ]
    return "\n".join(lines)


def _needs(target: Path, root: Path) -> list[Path | str]:
    """What the last run has read; without a record of it the product is removed, and made anew."""
    record = root / deps_file(target)
    needs: list[Path | str] = [name for name in EXECUTED_ANEW_WITH if (root / name).exists()]
    if not record.exists():
        (root / target).unlink(missing_ok=True)
        return needs
    lines = seen_now(record.read_text("utf-8").splitlines(), root)
    write_if_changed(record, lines)
    read = [line for line in lines.splitlines() if " " not in line and not line.endswith("/")]
    return [*needs, *read, deps_file(target)]


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
