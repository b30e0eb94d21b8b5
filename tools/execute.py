"""Turn one text notebook into an executed ``.ipynb``; a failing cell fails with its traceback.

python tools/execute.py book/layers/norm.md build/notebooks/layers/norm.ipynb [--unexecuted]
"""

import argparse
import importlib.util
import re
import sys
import tempfile
import time
from pathlib import Path

import quick_import  # noqa: F401

# isort: split
import jupytext
import nbformat
from deps import deps_file, seen_now
from jupyter_client.manager import AsyncKernelManager
from kernel_env import kernel_environment
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from traitlets.config import Config

CELL_TIMEOUT = 600  # seconds
ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A warning of some library in the published book looks like a fault of the course, and mostly is one.
WARNING_LINE = re.compile(r"^.*\b\w*Warning: .*$", re.MULTILINE)


class CellError(Exception):
    """A cell failed; the message says where and shows the traceback."""


def convert(source: Path, target: Path, *, execute: bool = True) -> float:
    """Write ``source`` as a notebook to ``target``, executed unless told otherwise; return the seconds taken.

    Raises:
        CellError: if a cell raises, hangs or prints a warning; ``target`` is then left as it was.
    """
    start = time.perf_counter()
    notebook = jupytext.read(source)
    notebook.metadata.pop("jupytext", None)
    number_cells(notebook)
    mark_volatile(notebook)
    target.parent.mkdir(parents=True, exist_ok=True)
    if execute:
        read = run(notebook, source)
        if target.is_relative_to("build/notebooks"):
            deps_file(target).parent.mkdir(parents=True, exist_ok=True)
            deps_file(target).write_text(seen_now(read, Path.cwd()), "utf-8")
            deps_file(target).with_suffix(".seconds").write_text(f"{time.perf_counter() - start:.1f}\n")
    partial = target.with_suffix(".partial")
    nbformat.write(notebook, partial)
    partial.replace(target)
    return time.perf_counter() - start


def number_cells(notebook: nbformat.NotebookNode) -> None:
    """Give the cells ids by their place, so that an unchanged notebook is an unchanged file."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"


def mark_volatile(notebook: nbformat.NotebookNode) -> None:
    """Tell nbval, in its own words, which outputs are not compared on the second run.

    Cells tagged ``gpu`` show what depends on the machine, or skip themselves.
    """
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if {"volatile", "gpu"} & {*tags} and "nbval-ignore-output" not in tags:
            cell.metadata["tags"] = [*tags, "nbval-ignore-output"]


def run(notebook: nbformat.NotebookNode, source: Path) -> list[str]:
    """Execute all cells in place, in an empty folder of their own; return what they read of the library."""
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            kernel_manager_class=AsyncKernelManager,
            config=through_files(folder),
            timeout=CELL_TIMEOUT,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=kernel_environment(Path(folder, "reads.log")))
        except CellExecutionError:
            fail(notebook, source, "raised")
        except CellTimeoutError as error:
            raise CellError(f"{source}: a cell ran for more than {CELL_TIMEOUT} s\n{error}") from None
        read = Path(folder, "reads.log").read_text("utf-8").splitlines()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and (warning := WARNING_LINE.search(output["text"])):
                raise CellError(f"{place(cell, source)} printed a warning:\n{warning.group()}")
    return sorted({source_of(path) for path in read})


def source_of(path: str) -> str:
    """The file that somebody wrote, relative to the repository: a module may be read from its cache."""
    if path.endswith(".pyc"):
        path = importlib.util.source_from_cache(path)
    return path.removeprefix(f"{Path.cwd()}/")


def through_files(folder: str) -> Config:
    """Talk to the kernel through files, not through ports that others on this machine could reach."""
    config = Config()
    config.KernelManager.transport = "ipc"
    config.KernelManager.ip = f"{folder}/kernel"
    return config


def fail(notebook: nbformat.NotebookNode, source: Path, what: str) -> None:
    """Raise ``CellError`` for the first cell with an error output."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                traceback = "\n".join(output["traceback"])
                if not sys.stderr.isatty():
                    traceback = ANSI_COLOUR.sub("", traceback)
                raise CellError(f"{place(cell, source)} {what}:\n{traceback}")
    raise CellError(f"{source} {what}, but no cell holds the error")


def place(cell: nbformat.NotebookNode, source: Path) -> str:
    """``book/layers/norm.md, line 42`` where the cell's code begins."""
    before, found, _ = source.read_text("utf-8").partition(cell.source)
    line_breaks = before.count("\n")
    return f"{source}, line {line_breaks + 1}" if found else str(source)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--unexecuted", action="store_true", help="convert only")
    args = parser.parse_args()
    try:
        seconds = convert(args.source, args.target, execute=not args.unexecuted)
    except CellError as error:
        print(f"\nFAILED {error}\n", file=sys.stderr, flush=True)
        return 1
    if not args.unexecuted:
        print(f"{seconds:7.1f} s  {args.source}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
