"""Put the source of the site together in ``build/source``: executed notebooks, text pages, generated pages.

Files whose content is the same keep their date, so that Sphinx reads only what changed.
"""

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml
from contents import Contents
from deps import notebooks
from links import TO_NOTEBOOK
from pages import generate
from vendor import vendored_files

from course_lib import registry

SOURCE = Path("build/source")


SHOWING = {
    *("identities", "measured", "papers_table", "predict", "show_claims", "show_source"),
    *("side_by_side_table", "table"),
}


class ContentsError(Exception):
    """The table of contents and the files do not fit together."""


def collect_files(root: Path, contents: Contents, *, offline: bool) -> dict[str, Path | str]:
    """Every file of the site's source by its path there: a file to copy, or a text to write."""
    files: dict[str, Path | str] = {"conf.py": root / "tools/conf.py", "_config.yml": root / "_config.yml"}
    generated = generate(contents)
    files |= generated
    files["_toc.yml"] = table_of_contents(contents, generated)
    executed = {source: root / target for source, target in notebooks(root).items()}
    names = {str(path.relative_to(root / "build/notebooks")): path for path in executed.values()}
    for path in sorted((root / "book").rglob("*")):
        if path.is_file() and path.relative_to(root) not in executed:
            names[str(path.relative_to(root / "book"))] = path
    pages = {name.rpartition(".")[0]: name for name in [*names, *generated]}
    for name, path in names.items():
        if name.endswith(".ipynb"):
            files[name] = notebook_page(name, path, contents, pages)
        else:
            files[name] = follow_links(path.read_text("utf-8"), name, pages) if name.endswith(".md") else path
    if offline:
        vendored = vendored_files(root / "build/vendor")
        files |= {f"_vendor/{name}": path for name, path in vendored.items()}
    check(contents, set(files))
    return files


def notebook_page(name: str, path: Path, contents: Contents, pages: dict[str, str]) -> str:
    """A notebook with one line below its title that leads from chapter to exercises to solutions and back."""
    notebook = json.loads(path.read_text("utf-8"))
    if line := navigation(name.removesuffix(".ipynb"), contents):
        insert_below_title(notebook, line)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and only_shows("".join(cell["source"])):
            cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), "remove-input"]
        if cell["cell_type"] == "markdown":
            cell["source"] = follow_links("".join(cell["source"]), name, pages)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def only_shows(code: str) -> bool:
    """Whether a cell has nothing to read: it only calls what shows something, whose output stands there.

    ``result = measured(experiment)`` and a last line with a name belong to it.
    """
    try:
        lines = ast.parse(code).body
    except SyntaxError:  # a line for IPython
        return False

    def shows(line: ast.stmt) -> bool:
        if isinstance(line, ast.Assign):
            return _called(line.value) == "measured"
        return isinstance(line, ast.Expr) and (
            isinstance(line.value, ast.Name) or _called(line.value) in SHOWING
        )

    return bool(lines) and all(map(shows, lines))


def _called(node: ast.expr) -> str:
    return getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""


def follow_links(text: str, name: str, pages: dict[str, str]) -> str:
    """Links to ``.md`` files as links to the site's pages, which may have become notebooks.

    A link may be written as seen from the site (``../layers/norm.md``), or from the repository, where it can
    be followed too (``../../book/layers/norm.md``).
    """
    folder = Path(name).parent
    in_repository = folder if name.startswith(("exercises/", "solutions/")) else "book" / folder

    def follow(match: re.Match) -> str:
        for base in (folder, in_repository):
            target = os.path.normpath(base / match["path"]).removeprefix("book/")
            if target in pages:
                return f"](/{pages[target]}{match['anchor'] or ''})"
        return match[0]

    return TO_NOTEBOOK.sub(follow, text)


def navigation(page: str, contents: Contents) -> str:
    """The line for this page; empty where there is nowhere to go."""
    folder, _, rest = page.partition("/")
    if folder == "exercises":
        links = [(f"/{rest}", "The chapter"), (f"/solutions/{rest}", "Solutions")]
    elif folder == "solutions":
        links = [(f"/{rest}", "The chapter"), (f"/exercises/{rest}", "Exercises without solutions")]
    else:
        links = [(f"/exercises/{page}", "Exercises of this chapter")]
    known = [f"[{text}]({target})" for target, text in links if target[1:] in contents.pages]
    return ":::{div} page-links\n" + " · ".join(known) + "\n:::" if known else ""


def insert_below_title(notebook: dict[str, Any], line: str) -> None:
    """Put a block after the first heading, wherever it stands."""
    for cell in notebook["cells"]:
        lines = "".join(cell["source"]).split("\n")
        if cell["cell_type"] == "markdown" and any(row.startswith("# ") for row in lines):
            after = next(i for i, row in enumerate(lines) if row.startswith("# ")) + 1
            cell["source"] = "\n".join([*lines[:after], "", line, "", *lines[after:]])
            return


def table_of_contents(contents: Contents, generated: dict[str, str]) -> str:
    """``_toc.yml`` with the pages of the catalogue below the catalogue."""
    toc = json.loads(json.dumps(contents.toc))
    pages = {}
    for name in (name.removesuffix(".md") for name in generated if name.startswith("catalogue/")):
        chapter = registry.chapters().get(name.removeprefix("catalogue/"))
        pages[name] = {"file": name, "title": chapter.title} if chapter else {"file": name}
    for part in toc.get("parts", []):
        for item in part["chapters"] or []:
            if item.get("file") == "catalogue" and pages:
                item["sections"] = list(pages.values())
    return yaml.safe_dump(toc, sort_keys=False)


def check(contents: Contents, files: set[str]) -> None:
    """Every page of the table of contents exists, and every page of ``book/`` is in it.

    Raises:
        ContentsError: naming all that are missing.
    """
    there = {name.rsplit(".", 1)[0] for name in files if name.endswith((".md", ".ipynb"))}
    missing = [page for page in contents.pages if page not in there]
    hidden = {page for page in there if not page.startswith(("_", "catalogue/", "papers/"))} - set(
        contents.pages
    )
    problems = [f"_toc.yml names {page}, which does not exist" for page in missing]
    problems += [f"{page} is in no part of _toc.yml" for page in sorted(hidden)]
    if problems:
        raise ContentsError("\n".join(problems))


def write(folder: Path, files: dict[str, Path | str]) -> int:
    """Make ``folder`` hold exactly these files; return how many changed."""
    changed = 0
    for name, content in files.items():
        data = content.read_bytes() if isinstance(content, Path) else content.encode()
        path = folder / name
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            changed += 1
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()
            changed += 1
        elif path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
    return changed


def main() -> int:
    root = Path.cwd()
    offline = os.environ.get("OFFLINE", "") not in ("", "0")
    try:
        files = collect_files(root, Contents.read(root), offline=offline)
    except ContentsError as error:
        print(f"\nFAILED\n{error}\n", file=sys.stderr)
        return 1
    print(f"{write(root / SOURCE, files)} of {len(files)} files of the site changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
