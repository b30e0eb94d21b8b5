"""Packages whose modules are loaded when they are first asked for, and listed before."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType


def attach(package: str, path: Iterable[str]) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for the ``__init__.py`` of a package."""

    def load(name: str) -> ModuleType:
        try:
            return importlib.import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None

    def names() -> list[str]:
        inside = (module.name for module in pkgutil.iter_modules(path))
        own = (name for name in vars(importlib.import_module(package)) if name.startswith("__"))
        return sorted([*own, *(name for name in inside if not name.startswith("_"))])

    return load, names
