"""Fetch the JavaScript package that the pages load, MathJax, so that the site can stand alone.

``npm pack`` downloads them once into ``build/vendor``; the site of ``make book OFFLINE=1`` serves them.
"""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

__all__ = ["MATHJAX", "mathjax_address", "vendored_files"]

# package -> (version, folder inside the package, folder on the site)
PACKAGES = {
    "mathjax": ("3.2.2", "es5", "mathjax"),
}
# Of MathJax the pages load the parts that _config.yml names, its fonts, and what a formula asks for by name.
KEPT = {
    "mathjax": (
        "startup.js",
        "core.js",
        "input/tex-base.js",
        "input/tex/extensions/*",
        "output/chtml.js",
        "output/chtml/fonts/tex.js",
        "output/chtml/fonts/woff-v2/*",
        "a11y/assistive-mml.js",
    ),
}
MATHJAX = "mathjax/startup.js"


def mathjax_address() -> str:
    """Where a site that does not stand alone takes the same files from."""
    version, inside, _ = PACKAGES["mathjax"]
    return f"https://cdn.jsdelivr.net/npm/mathjax@{version}/{inside}/startup.js"


def vendored_files(cache: Path) -> dict[str, Path]:
    """Path below ``_static`` to the file that belongs there; downloads what ``cache`` does not hold yet."""
    found = {}
    for package, (version, inside, name) in PACKAGES.items():
        folder = cache / f"{name}-{version}"
        if not folder.is_dir():
            _download(f"{package}@{version}", folder)
        root = folder / "package" / inside
        for pattern in KEPT[name]:
            found |= {f"{name}/{f.relative_to(root)}": f for f in sorted(root.glob(pattern)) if f.is_file()}
    return found


def _download(spec: str, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise SystemExit(f"OFFLINE=1 needs npm once, to fetch {spec} (on Debian: apt install npm)")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    command = ["npm", "pack", "--silent", "--json", "--pack-destination", str(partial.resolve()), spec]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=partial)
    archive = partial / json.loads(done.stdout)[0]["filename"].replace("@", "").replace("/", "-")
    with tarfile.open(archive) as packed:
        packed.extractall(partial, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    archive.unlink()
    partial.rename(folder)
    print(f"fetched {spec}")
