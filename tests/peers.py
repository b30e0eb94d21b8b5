"""Peer libraries that tests compare with, imported without their warnings."""

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch

__all__ = ["timm_layers", "x_transformers"]

# torchvision's compiled operators fail to load beside a CPU build of torch if the wheel was built for CUDA;
# its Python code then registers fake versions of them and finds them missing. No layer of timm calls them.
_TORCHVISION_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []  # a Library takes its operators away again when it is freed


@cache
def timm_layers() -> ModuleType:
    """``timm.layers``."""
    _declare_torchvision_operators()
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
def _declare_torchvision_operators() -> None:
    try:
        _quietly("torchvision")
        return  # built for this torch
    except (ImportError, RuntimeError, OSError):
        pass
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _TORCHVISION_OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
