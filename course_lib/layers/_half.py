"""Where half precision does not suffice, because of its range or because torch has no such operation."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.fx import Proxy


def wide(x: Tensor) -> Tensor:
    """Half precision as float32: in float16 the square of 256 is infinite."""
    halves = not isinstance(x, Proxy) and x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if halves else x


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Products in their own precision; symbolic tracing has no device yet, and no autocast."""
    if isinstance(x, Proxy) or x.is_meta or not torch.is_autocast_enabled(x.device.type):
        return nullcontext()  # on meta torch knows no autocast
    return torch.autocast(x.device.type, enabled=False)
