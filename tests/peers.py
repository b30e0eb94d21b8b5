"""Peer libraries that tests compare with, imported without their warnings."""

import importlib
import warnings
from functools import cache
from types import ModuleType

from course_lib.compare.contest import _declare_torchvision_operators

__all__ = ["timm_layers", "x_transformers"]


@cache
def timm_layers() -> ModuleType:
    """``timm.layers``."""
    _make_timm_loadable()
    return _quietly("timm.layers")


@cache
def x_transformers() -> ModuleType:
    """``x_transformers``."""
    return _quietly("x_transformers")


def _quietly(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@cache
def _make_timm_loadable() -> None:
    try:
        _quietly("torchvision")
        return  # built for this torch
    except (ImportError, RuntimeError, OSError):
        pass
    _declare_torchvision_operators()
