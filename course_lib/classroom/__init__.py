"""What notebooks and tests use and layers do not: checks, claims, interactive figures, exercises.

>>> from course_lib.classroom import near
>>> near(2.0, rel=0.1).holds(2.1)
True

A name is loaded when it is first asked for, so that a claim does not load ipywidgets.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_HOMES = {
    "checks": ("check_layer", "LayerCheckError"),
    "claims": ("claim", "near", "at_least", "at_most", "between", "equal"),
    "explore": ("explore",),
    "exercises": ("check", "mistake"),
    "source": ("show_source",),
    "style": ("use_style", "figure", "table"),
    "papers": ("papers_table",),
    "side_by_side": ("side_by_side_table",),
    "growth": ("growth",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "LayerCheckError",
    "at_least",
    "at_most",
    "between",
    "check",
    "check_layer",
    "claim",
    "equal",
    "explore",
    "figure",
    "growth",
    "mistake",
    "near",
    "papers_table",
    "show_source",
    "side_by_side_table",
    "table",
    "use_style",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Classroom(ModuleType):
    """Keeps ``classroom.explore`` the function when the file of that name is imported.

    Importing a submodule binds its name in the package, which would hide the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME_OF and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Classroom
