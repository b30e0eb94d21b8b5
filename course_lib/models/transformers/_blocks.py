"""What both networks ask of the blocks that they are given."""

import inspect
from collections.abc import Iterable

from torch import nn

from course_lib.layers._shapes import require_module


def takes(block: nn.Module, option: str) -> bool:
    """Whether a block's forward has this argument; one that hands it on says itself whether it can."""
    if hasattr(block, "takes"):
        return block.takes(option)
    return option in inspect.signature(block.forward).parameters


def module_list(layer: str, blocks: Iterable[nn.Module]) -> nn.ModuleList:
    if isinstance(blocks, str) or not isinstance(blocks, Iterable):
        raise TypeError(f"{layer}: blocks must be a list of modules, got {type(blocks).__name__}")
    blocks = list(blocks)
    require_module(layer, **{f"blocks[{i}]": block for i, block in enumerate(blocks)})
    return nn.ModuleList(blocks)
