"""Inception for depthwise kernels: a square, a row, a column, and most channels simply passed on."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._images import ChannelScale
from course_lib.layers._shapes import (
    require_fraction,
    require_image,
    require_module,
    require_number,
    require_odd,
    require_positive,
)
from course_lib.registry import implements


@implements(
    "inceptionnext", example=lambda: (InceptionDWConv2d(8, band_kernel_size=5), torch.randn(2, 8, 6, 7))
)
class InceptionDWConv2d(nn.Module):
    r"""Depthwise convolution in four branches, of which one is the identity.

    .. math:: y = [\,x_{id},\; K_{3 \times 3} * x_{hw},\; K_{1 \times 11} * x_w,\; K_{11 \times 1} * x_h\,]

    Each of the last three has :math:`g = \lfloor C / 8 \rfloor` channels, the identity the other C - 3g. Per
    pixel that costs g (9 + 11 + 11) multiplications instead of the 49 C of a 7 x 7 kernel.

    Args:
        channels: C, at least 8 at the usual ratio.
        square_kernel_size: of the square kernel.
        band_kernel_size: length of the two bands.
        branch_ratio: share of the channels that each convolution gets.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if a branch would get no channel, more than there are, or an even kernel; for a number
            below 1, or other channels.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: InceptionNeXt: When Inception Meets ConvNeXt - https://arxiv.org/abs/2303.16900

    As in the authors' code, which is compared by value.

    >>> layer = InceptionDWConv2d(64)
    >>> layer.sizes, sum(p.numel() for p in layer.parameters() if p.ndim == 4)
    ((40, 8, 8, 8), 248)
    """

    def __init__(
        self,
        channels: int,
        *,
        square_kernel_size: int = 3,
        band_kernel_size: int = 11,
        branch_ratio: float = 0.125,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        require_odd(name, square_kernel_size=square_kernel_size, band_kernel_size=band_kernel_size)
        require_fraction(name, branch_ratio=branch_ratio)
        g, s, k = int(channels * branch_ratio), square_kernel_size, band_kernel_size
        if not 1 <= g <= channels // 3:
            raise ValueError(
                f"{name}: a share of branch_ratio={branch_ratio} gives each of the three convolutions {g} of "
                f"channels={channels}; each needs at least 1 and at most {channels // 3}: change either"
            )
        self.channels, self.sizes = channels, (channels - 3 * g, g, g, g)
        self.square = nn.Conv2d(g, g, s, padding=s // 2, groups=g, **factory)
        self.row = nn.Conv2d(g, g, (1, k), padding=(0, k // 2), groups=g, **factory)
        self.column = nn.Conv2d(g, g, (k, 1), padding=(k // 2, 0), groups=g, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        identity, square, row, column = x.split(self.sizes, 1)
        return torch.cat([identity, self.square(square), self.row(row), self.column(column)], 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, sizes={self.sizes}"


@implements("inceptionnext")
@torch.no_grad()
def merge_to_single_depthwise(layer: InceptionDWConv2d) -> nn.Conv2d:
    """The one large depthwise convolution that equals the four branches.

    Its kernels are zero but for a point, a square, a row or a column through the middle: the branches are a
    mask on an 11 x 11 kernel.

    Args:
        layer: the branches.

    Paper: InceptionNeXt: When Inception Meets ConvNeXt - https://arxiv.org/abs/2303.16900

    >>> merged = merge_to_single_depthwise(InceptionDWConv2d(8))
    >>> merged.weight.shape, (merged.weight != 0).sum((1, 2, 3))
    (torch.Size([8, 1, 11, 11]), tensor([ 1,  1,  1,  1,  1,  9, 11, 11]))
    """
    k = max(layer.row.kernel_size[1], layer.square.kernel_size[0])
    weight = layer.square.weight.new_zeros(layer.channels, 1, k, k)
    bias = weight.new_zeros(layer.channels)
    first = layer.sizes[0]
    weight[:first, :, k // 2, k // 2] = 1
    for branch in (layer.square, layer.row, layer.column):
        channels = slice(first, first + len(branch.weight))
        top, left = ((k - size) // 2 for size in branch.kernel_size)
        rows, columns = (slice(a, k - a) for a in (top, left))
        weight[channels, :, rows, columns], bias[channels] = branch.weight, branch.bias
        first = channels.stop
    options = {"padding": k // 2, "groups": layer.channels, "device": weight.device, "dtype": weight.dtype}
    merged = nn.Conv2d(layer.channels, layer.channels, k, **options)
    merged.weight.copy_(weight)
    merged.bias.copy_(bias)
    return merged


@implements(
    "inceptionnext",
    example=lambda: (InceptionNeXtBlock(8, layer_scale=0.5), torch.randn(3, 8, 5, 6)),
    exceptions={"gradients": "the norm takes the biases of the mixer away, as in the authors' code"},
    mixes_batch=True,
)
class InceptionNeXtBlock(nn.Module):
    r"""A token mixer, batch normalisation and a channel MLP, scaled and added to the input.

    .. math:: y = x + \gamma \odot W_2\, \mathrm{GELU}(W_1\, \mathrm{BN}(M(x)))

    Args:
        channels: c.
        mixer: M, from images to images of the same shape; :class:`InceptionDWConv2d` unless given.
        expansion: width of the MLP in units of c.
        layer_scale: where :math:`\gamma` starts.
        device: of the parameters, except those of your own mixer.
        dtype: of the parameters, except those of your own mixer.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for a size below 1, a layer scale that is not finite, or other channels.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: InceptionNeXt: When Inception Meets ConvNeXt - https://arxiv.org/abs/2303.16900

    As in the authors' code, which is compared by value, and by gradient in training. Differs from it: no
    stochastic depth, and no dropout in the MLP. Short trainings need a larger layer scale than the paper's
    1e-6.

    >>> block = InceptionNeXtBlock(8, layer_scale=0.0)
    >>> x = torch.randn(2, 8, 5, 5)
    >>> torch.equal(block(x), x)
    True
    """

    def __init__(
        self,
        channels: int,
        *,
        mixer: nn.Module | None = None,
        expansion: int = 4,
        layer_scale: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels, expansion=expansion)
        require_number(name, layer_scale=layer_scale)
        if mixer is None:
            if channels < 8:
                raise ValueError(f"{name}: channels must be 8 or more for the mixer built in, got {channels}")
            mixer = InceptionDWConv2d(channels, **factory)
        require_module(name, mixer=mixer)
        self.channels, inner = channels, expansion * channels
        self.mixer = mixer
        self.norm = nn.BatchNorm2d(channels, **factory)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, inner, 1, **factory), nn.GELU(), nn.Conv2d(inner, channels, 1, **factory)
        )
        self.scale = ChannelScale(channels, layer_scale, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        return x + self.scale(self.mlp(self.norm(self.mixer(x))))

    def extra_repr(self) -> str:
        return f"{self.channels}"
