"""Max-pooling in the place of a trained spatial operation."""

from math import prod

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = ["EfficientLayer", "MaxPoolMixer", "ParameterFreeBottleneck"]


@implements("parameter-free-layers", example=lambda: (MaxPoolMixer(), torch.randn(2, 3, 5, 4)))
class MaxPoolMixer(nn.Module):
    r"""The largest value around every pixel: a spatial operation without a parameter.

    .. math:: y_{ij} = \max_{|u|, |v| \le \lfloor k/2 \rfloor} x_{si+u,\, sj+v}

    It is not linear, commutes with shifts and with every growing function (so a ReLU may stand before or
    after it), and sees what a k x k convolution sees. Outside the image counts as minus infinity, not as
    zero: behind a batch norm, where values are negative, that matters.

    Args:
        kernel_size: odd side k of the window.
        stride: step s; 2 halves the image, in the place of a strided convolution.

    Shape: ``(b, c, i, j)`` to ``(b, c, ceil(i / s), ceil(j / s))``.

    Raises:
        ValueError: for an even window or a stride below 1.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    The window is that of ``torch.nn.MaxPool2d(k, s, padding=k // 2)``, which it calls.

    >>> MaxPoolMixer()(torch.tensor([[[[0.0, 5.0, 0.0, 0.0]]]]))
    tensor([[[[5., 5., 5., 0.]]]])
    """

    def __init__(self, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or stride < 1:
            raise ValueError(
                f"kernel_size must be odd, so that the window has a centre, and stride at least 1, "
                f"got {kernel_size} and {stride}"
            )
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c _ _"]:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.kernel_size // 2)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}"


@implements(
    "parameter-free-layers",
    example=lambda: (ParameterFreeBottleneck(8, 2), torch.randn(3, 8, 4, 5)),
    mixes_batch=True,
)
class ParameterFreeBottleneck(nn.Module):
    r"""The bottleneck block of a residual network with a max-pool where its 3 x 3 convolution was.

    .. math:: y = \operatorname{ReLU}\bigl(\mathrm{BN}(W_2\, S(\operatorname{ReLU}(\mathrm{BN}(W_1 x))))
        + \mathrm{skip}(x)\bigr)

    S is the spatial operation; no norm or activation follows the max-pool. Its parameters fall from
    :math:`9 w^2` (convolution) or :math:`9 w` (depthwise) to 0.

    Args:
        channels: c of the input.
        width: w, channels at which the spatial operation works; the output has 4 w.
        stride: of the spatial operation and of the shortcut.
        spatial: another S, from ``(b, w, i, j)`` to ``(b, w, i / stride, j / stride)``; None for
            :class:`MaxPoolMixer`.

    Shape: ``(b, c, i, j)`` to ``(b, 4 w, ceil(i / stride), ceil(j / stride))``.

    Raises:
        ValueError: for another number of channels.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    The shortcut is the input itself where the shapes agree, else a strided 1 x 1 convolution with batch norm,
    as in residual networks.

    >>> ParameterFreeBottleneck(8, 4, stride=2)(torch.randn(2, 8, 6, 6)).shape
    torch.Size([2, 16, 3, 3])
    """

    def __init__(
        self, channels: int, width: int, *, stride: int = 1, spatial: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.channels, self.width, self.stride = channels, width, stride
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.spatial = MaxPoolMixer(stride=stride) if spatial is None else spatial
        self.expand = nn.Sequential(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != 4 * width:
            self.skip = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b _ _ _"]:
        require_width(x, self.channels, f"ParameterFreeBottleneck({self.channels}, {self.width})", axis=1)
        return F.relu(self.expand(self.spatial(self.reduce(x))) + self.skip(x))

    def extra_repr(self) -> str:
        return f"{self.channels}, width={self.width}, stride={self.stride}"


@implements("parameter-free-layers", example=lambda: (EfficientLayer(6, grid=(2, 3)), torch.randn(2, 6, 6)))
class EfficientLayer(nn.Module):
    r"""What takes the place of attention in a transformer block: widen, max-pool over the grid, narrow.

    .. math:: y = W_2\, f\bigl(\mathrm{maxpool}_{k \times k}(f(W_1 x + b_1))\bigr) + b_2, \qquad
        f = \mathrm{GELU}

    Args:
        dim: width d.
        grid: rows and columns of the token grid, with rows x columns = t.
        expansion: hidden width over d.
        kernel_size: odd side k of the window.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a wrong width or number of tokens, or an even window.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    The expansion of 3 and the two activations follow the authors' code: 3 d is the width that queries, keys
    and values had. GELU does not grow everywhere, so here it matters on which side of the pool it stands.

    >>> EfficientLayer(6, grid=(2, 3))(torch.randn(1, 6, 6)).shape
    torch.Size([1, 6, 6])
    """

    def __init__(self, dim: int, *, grid: tuple[int, int], expansion: int = 3, kernel_size: int = 3) -> None:
        super().__init__()
        self.dim, self.grid = dim, grid
        self.widen = nn.Linear(dim, expansion * dim)
        self.pool = MaxPoolMixer(kernel_size=kernel_size)
        self.narrow = nn.Linear(expansion * dim, dim)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_width(x, self.dim, f"EfficientLayer({self.dim})")
        if x.ndim != 3 or x.shape[1] != prod(self.grid):
            raise ValueError(f"the grid {self.grid} has {prod(self.grid)} tokens, got shape {tuple(x.shape)}")
        hidden = rearrange(F.gelu(self.widen(x)), "b (i j) d -> b d i j", i=self.grid[0])
        return self.narrow(F.gelu(rearrange(self.pool(hidden), "b d i j -> b (i j) d")))

    def extra_repr(self) -> str:
        return f"{self.dim}, grid={self.grid}"
