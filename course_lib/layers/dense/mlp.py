"""A deep network of dense layers only: inverted bottlenecks with norm and skip."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_positive,
    require_real,
    require_width,
)
from course_lib.registry import implements


@implements("scaling-mlps", example=lambda: (InvertedBottleneckBlock(6, expansion=2), torch.randn(3, 6)))
class InvertedBottleneckBlock(nn.Module):
    r"""Widen, bend, narrow, and add to the stream.

    .. math:: z \leftarrow z + W_c\, \mathrm{GELU}(W_e\, \mathrm{LN}(z)), \qquad
        W_e \in \mathbb R^{km \times m}, \; W_c \in \mathbb R^{m \times km}

    Args:
        dim: width m of the stream.
        expansion: k, how much wider the inside is.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a size below 1, or if the last axis is not ``dim`` wide.
        TypeError: for arguments and inputs of another type.

    Paper: Scaling MLPs: A Tale of Inductive Bias - https://arxiv.org/abs/2306.13575

    >>> block = InvertedBottleneckBlock(16)
    >>> sum(p.numel() for p in block.parameters())  # 2 k m^2 + (k + 1) m + 2 m
    2160
    """

    def __init__(
        self,
        dim: int,
        *,
        expansion: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim, expansion=expansion)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.expansion = dim, expansion
        self.norm = nn.LayerNorm(dim, **factory)
        self.expand = nn.Linear(dim, expansion * dim, **factory)
        self.contract = nn.Linear(expansion * dim, dim, **factory)

    def forward(self, z: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(z, self.dim, self)
        return z + self.contract(F.gelu(self.expand(self.norm(z))))

    def extra_repr(self) -> str:
        return f"{self.dim}, expansion={self.expansion}"


@implements(
    "scaling-mlps",
    example=lambda: (InvertedBottleneckMLP(6, 3, dim=4, depth=2, expansion=2), torch.randn(5, 2, 3)),
)
class InvertedBottleneckMLP(nn.Module):
    r"""All values of the input as one vector, embedded, through L blocks, classified.

    .. math:: z_0 = W_0\, \mathrm{vec}(x), \qquad z_l = \mathrm{block}_l(z_{l-1}), \qquad y = W_y\, z_L

    Args:
        in_features: values of one input, over all its axes.
        num_classes: scores to give.
        dim: width m of the stream.
        depth: number L of blocks.
        expansion: k of every block.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, *sizes)`` to ``(b, num_classes)``.

    Raises:
        ValueError: for a size below 1, or if the input has another number of values.
        TypeError: for arguments and inputs of another type.

    Paper: Scaling MLPs: A Tale of Inductive Bias - https://arxiv.org/abs/2306.13575

    The paper calls its sizes B-L/Wi-m; here L is ``depth`` and m is ``dim``. As in the authors' code no norm
    stands before the last matrix, and all weights start as torch's linear layers do. That code also takes
    batch norm or no norm in the place of layer norm, and blocks of different widths; both are left out.

    >>> InvertedBottleneckMLP(64, 10, dim=16, depth=2)(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        dim: int,
        depth: int,
        expansion: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, in_features=in_features, num_classes=num_classes)
        require_positive(name, dim=dim, expansion=expansion)
        require_at_least(0, name, depth=depth)
        factory = {"device": device, "dtype": dtype}
        self.in_features = in_features
        self.embed = nn.Linear(in_features, dim, **factory)
        self.blocks = nn.Sequential(
            *(InvertedBottleneckBlock(dim, expansion=expansion, **factory) for _ in range(depth))
        )
        self.out = nn.Linear(dim, num_classes, **factory)

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b k"]:
        require_real(x, self)
        if not isinstance(x, Proxy) and (x.ndim < 2 or math.prod(x.shape[1:]) != self.in_features):
            raise ValueError(
                f"{layer_name(self)} expects x (b, ...) with {self.in_features} values in each row, "
                f"got shape {tuple(x.shape)}; build the layer for your rows"
            )
        return self.out(self.blocks(self.embed(x.flatten(1))))

    def extra_repr(self) -> str:
        return f"{self.in_features}"
