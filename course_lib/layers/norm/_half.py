"""Where the range of half precision does not suffice."""

import torch
from torch import Tensor
from torch.fx import Proxy


def wide(x: Tensor) -> Tensor:
    """Half precision as float32: in float16 the square of 256 is infinite."""
    halves = not isinstance(x, Proxy) and x.dtype in (torch.float16, torch.bfloat16)
    return x.float() if halves else x
