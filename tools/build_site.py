"""Build the HTML from ``build/source``: a warning is an error, and so is a link that leads nowhere."""

import os
import shutil
import sys
import time
from pathlib import Path

import quick_import  # noqa: F401

# isort: split
from links import problems
from search import write_index
from sphinx.cmd.build import main as sphinx_build

SOURCE, HTML, DOCTREES = Path("build/source"), Path("build/html"), Path("build/doctrees")
SEARCH = Path("build/search")


def build() -> list[str]:
    """Run Sphinx and check the result; return what is wrong."""
    options = ["-b", "html", "-W", "-n", "--keep-going", "-q", "-j", str(os.cpu_count() or 1)]
    if sphinx_build([*options, "-d", str(DOCTREES), str(SOURCE), str(HTML)]) != 0:
        return ["Sphinx reported the warnings above"]
    print(f"{write_index(HTML, SEARCH):7} pages can be searched")
    offline = (SOURCE / "_vendor").is_dir()
    return problems(HTML, offline=offline)


def remove_vanished() -> None:
    """Delete pages whose source is gone: Sphinx leaves them, and their links could be followed."""
    sources = [p.relative_to(SOURCE) for p in SOURCE.rglob("*") if p.suffix in (".md", ".ipynb")]
    pages = {p.with_suffix("") for p in sources if not p.parts[0].startswith("_")}
    pages |= {Path(name) for name in ("genindex", "search", "py-modindex")}  # made by Sphinx itself
    for path in HTML.rglob("*.html"):
        page = path.relative_to(HTML).with_suffix("")
        if page not in pages and page.parts[0] not in ("_static", "pagefind"):
            path.unlink()


def main() -> int:
    start = time.perf_counter()
    remove_vanished()
    found = build()
    if found:
        # Sphinx warns about a page when it reads it; a page kept from this run would be silent in the next.
        shutil.rmtree(DOCTREES, ignore_errors=True)
        print("\nFAILED the site:\n" + "\n".join(found) + "\n", file=sys.stderr)
        return 1
    print(f"{time.perf_counter() - start:7.1f} s  site")
    return 0


if __name__ == "__main__":
    sys.exit(main())
