"""Max-pooling in the place of a trained spatial operation."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_grid,
    require_image,
    require_module,
    require_pair,
    require_positive,
)
from course_lib.registry import implements

torch.fx.wrap("rearrange")


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
        ValueError: for an even window, a stride below 1 or anything but images.
        TypeError: for sizes that are no integers, or an input that is not real.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    The window is that of ``torch.nn.MaxPool2d(k, s, padding=k // 2)``, which it calls.

    >>> MaxPoolMixer()(torch.tensor([[[[0.0, 5.0, 0.0, 0.0]]]]))
    tensor([[[[5., 5., 5., 0.]]]])
    """

    def __init__(self, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        _require_odd(type(self).__name__, kernel_size)
        require_positive(type(self).__name__, stride=stride)
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c _ _"]:
        require_image(x, None, self)
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
        hidden_dim: w, channels at which the spatial operation works; the output has 4 w.
        stride: of the spatial operation and of the shortcut.
        mixer: another S, from ``(b, w, i, j)`` to ``(b, w, i / stride, j / stride)``; None for
            :class:`MaxPoolMixer`.
        device: of all parameters but those of your own mixer.
        dtype: of all parameters but those of your own mixer.

    Shape: ``(b, c, i, j)`` to ``(b, 4 w, ceil(i / stride), ceil(j / stride))``.

    Raises:
        ValueError: for another number of channels.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    The shortcut is the input itself where the shapes agree, else a strided 1 x 1 convolution with batch norm,
    as in residual networks. Values agree with the authors' code, in training and evaluation
    (``tests/vectors``). Their hybrid network has, in blocks of stride 2, an average pool and a 3 x 3
    convolution in the place of the max-pool: give it as ``mixer``.

    >>> ParameterFreeBottleneck(8, 4, stride=2)(torch.randn(2, 8, 6, 6)).shape
    torch.Size([2, 16, 3, 3])
    """

    def __init__(
        self,
        channels: int,
        hidden_dim: int,
        *,
        stride: int = 1,
        mixer: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels, hidden_dim=hidden_dim, stride=stride)
        self.channels, self.hidden_dim, self.stride = channels, hidden_dim, stride

        def projection(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False, **factory)
            return [conv, nn.BatchNorm2d(outputs, **factory)]

        self.reduce = nn.Sequential(*projection(channels, hidden_dim), nn.ReLU())
        self.mixer = MaxPoolMixer(stride=stride) if mixer is None else mixer
        require_module(name, mixer=self.mixer)
        self.expand = nn.Sequential(*projection(hidden_dim, 4 * hidden_dim))
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != 4 * hidden_dim:
            self.skip = nn.Sequential(*projection(channels, 4 * hidden_dim, stride))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b _ _ _"]:
        require_image(x, self.channels, self)
        return F.relu(self.expand(self.mixer(self.reduce(x))) + self.skip(x))

    def extra_repr(self) -> str:
        return f"{self.channels}, hidden_dim={self.hidden_dim}, stride={self.stride}"


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
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a wrong width or number of tokens, or an even window.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Learning Features with Parameter-Free Layers - https://arxiv.org/abs/2202.02777

    Values agree with the authors' code (``tests/vectors``): 3 d is the width that queries, keys and values
    had, and an activation stands before and after the pool. GELU does not grow everywhere, so here it matters
    on which side it stands. In their transformers every second block has it, and the others keep attention.

    Differs from the authors' code: any grid, where theirs is square; no dropout.

    >>> EfficientLayer(6, grid=(2, 3))(torch.randn(1, 6, 6)).shape
    torch.Size([1, 6, 6])
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        expansion: int = 3,
        kernel_size: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, dim=dim, expansion=expansion)
        _require_odd(name, kernel_size)
        self.dim, self.grid = dim, require_pair(name, grid=grid)
        self.widen = nn.Linear(dim, expansion * dim, **factory)
        self.pool = MaxPoolMixer(kernel_size=kernel_size)
        self.narrow = nn.Linear(expansion * dim, dim, **factory)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, self.dim, self)
        hidden = rearrange(F.gelu(self.widen(x)), "b (i j) d -> b d i j", i=self.grid[0])
        return self.narrow(F.gelu(rearrange(self.pool(hidden), "b d i j -> b (i j) d")))

    def extra_repr(self) -> str:
        return f"{self.dim}, grid={self.grid}"


def _require_odd(layer: str, kernel_size: int) -> None:
    require_positive(layer, kernel_size=kernel_size)
    if kernel_size % 2 == 0:
        raise ValueError(f"{layer}: kernel_size must be odd, to have a centre, got {kernel_size}")
