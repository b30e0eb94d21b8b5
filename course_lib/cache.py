"""Where the course keeps what it made or fetched on this machine and can make or fetch again."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The folder in ``COURSE_CACHE``, or else ``course_lib`` in the user's cache folder of this platform."""
    if os.environ.get("COURSE_CACHE"):
        return Path(os.environ["COURSE_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "course_lib"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "course_lib"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "course_lib"
