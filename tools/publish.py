"""Put the executed notebooks in ``build/publish`` as the branch "notebooks" holds them, for Colab and Binder.

Each starts with a cell that installs the library where it is missing. The repository's address comes from
``GITHUB_REPOSITORY`` (owner/name), which GitHub sets.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from deps import notebooks
from links import TO_NOTEBOOK

TARGET = Path("build/publish")
README = """\
# Layer by Layer: executed notebooks

Written by the workflow of the branch `main`, for Colab, Binder and download; changes belong there, in the
text notebooks from which these are made.
"""


def install_cell(repository: str) -> dict[str, Any]:
    """The cell that makes a notebook run where the library is not installed, as in Colab."""
    address = f"git+https://github.com/{repository}"
    source = f"""\
try:
    import course_lib
except ModuleNotFoundError:
    %pip install --quiet "course-lib[book] @ {address}\""""
    return {
        "cell_type": "code",
        "id": "install",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": source,
    }


def publishable(notebook: dict[str, Any], repository: str) -> dict[str, Any]:
    """The notebook with its first cell, and with links to the other notebooks instead of their sources."""
    cells = [install_cell(repository)]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            cell = {**cell, "source": TO_NOTEBOOK.sub(r"](\g<path>.ipynb\g<anchor>)", source)}
        cells.append(cell)
    return {**notebook, "cells": cells}


def requirements(repository: str, lock: str) -> str:
    """What Binder installs: the CPU build of torch, and the library from the repository."""
    (torch,) = re.findall(r"^torch==\S+", lock, re.MULTILINE)
    return (
        "--extra-index-url https://download.pytorch.org/whl/cpu\n"
        f"{torch}\ncourse-lib[book] @ git+https://github.com/{repository}\n"
    )


def main() -> int:
    repository = os.environ.get("GITHUB_REPOSITORY")
    if not repository:
        print("GITHUB_REPOSITORY=owner/name is needed: the notebooks install the library from there")
        return 1
    shutil.rmtree(TARGET, ignore_errors=True)
    for product in notebooks(Path.cwd()).values():
        target = TARGET / product.relative_to("build/notebooks")
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook = publishable(json.loads(product.read_text("utf-8")), repository)
        target.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (TARGET / "README.md").write_text(README, "utf-8")
    (TARGET / "requirements.txt").write_text(requirements(repository, Path("requirements.lock").read_text()))
    print(f"{len(list(TARGET.rglob('*.ipynb')))} notebooks in {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
