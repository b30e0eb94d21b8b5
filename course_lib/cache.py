"""Where the course writes: into its own source tree, or into the cache of this user."""

import os
import sys
import tempfile
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib


def cache_folder() -> Path:
    """The folder in ``COURSE_CACHE``, or else ``course_lib`` in the user's cache folder of this platform."""
    if os.environ.get("COURSE_CACHE"):
        return Path(os.environ["COURSE_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "course_lib"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "course_lib"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "course_lib"


def source_tree(package: Path | None = None) -> Path | None:
    """The course's own source tree, in which its commands may write; None for an installed package.

    The package lies directly in it, beside the ``pyproject.toml`` of the project ``course-lib``.
    A copy in ``site-packages`` has no tree, whatever project is around it; nor has a folder that
    cannot be written.

    Args:
        package: the folder of the package; that of ``course_lib`` unless given.
    """
    package = (package or Path(__file__).parent).resolve()
    if {"site-packages", "dist-packages"} & set(package.parts) or not os.access(package, os.W_OK):
        return None
    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text("utf-8"))["project"]
        return package.parent if project["name"].replace("_", "-") == "course-lib" else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # no such file, or one that describes no project


def write_atomically(file: Path, text: str) -> None:
    """Write beside the file, then rename: nobody sees half of it, and a full disk leaves the old one."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
