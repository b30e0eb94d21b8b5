"""A mixture of dilated kernels for space, and channels that rotate in pairs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers.conv._shared import SqueezeExcite, require_image
from course_lib.registry import implements

__all__ = ["SpartanBlock", "SpatialMixer", "WaveChannelMixer", "rotate_channel_pairs"]


@implements("spartan")
def rotate_channel_pairs(
    x: Float[Tensor, "b c i j"], weight: Float[Tensor, "k 2"]
) -> Float[Tensor, "b c i j"]:
    r"""Multiply neighbouring channels, read as one complex number, by a complex weight.

    .. math:: \begin{pmatrix} y_{2k} \\ y_{2k+1} \end{pmatrix} =
        \begin{pmatrix} a_k & -b_k \\ b_k & a_k \end{pmatrix}
        \begin{pmatrix} x_{2k} \\ x_{2k+1} \end{pmatrix}

    A rotation by the weight's phase and a scaling by its amplitude.

    Args:
        x: images with an even number of channels.
        weight: real part a and imaginary part b for each pair.

    Raises:
        ValueError: if there is not one weight for every two channels.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    >>> rotate_channel_pairs(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([[0.0, 1.0]])).flatten()
    tensor([-2.,  1.])
    """
    if x.shape[1] != 2 * len(weight):
        raise ValueError(f"{len(weight)} weights turn {2 * len(weight)} channels, got {x.shape[1]}")
    real, imaginary = x.unflatten(1, (-1, 2)).unbind(2)
    a, b = weight[:, 0, None, None], weight[:, 1, None, None]
    return torch.stack([a * real - b * imaginary, b * real + a * imaginary], 2).flatten(1, 2)


def _conv(channels: int, *, dilation: int = 1, depthwise: bool, bias: bool = False) -> nn.Conv2d:
    """A 3 x 3 kernel that keeps the size; without bias, where batch normalisation would take it away."""
    groups = channels if depthwise else 1
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups, bias=bias)


@implements("spartan", example=lambda: (SpatialMixer(8), torch.randn(3, 8, 5, 6)), mixes_batch=True)
class SpatialMixer(nn.Module):
    r"""A high branch with a small and a low branch with a large receptive field, side by side.

    .. math:: u = P_1 x, \quad u \leftarrow u + \gamma \odot (u - \bar u), \quad
        y = P_2\, [\,S(K_1 * u),\; S(K_2 *_2 K_2' *_2 u)\,]

    :math:`\bar u` is the mean of each channel over space, :math:`*_2` a convolution with dilation 2, S
    squeeze and excite; batch normalisation and GELU close each branch.

    Args:
        channels: c, even; the branches have half of it each.
        depthwise: one kernel per channel, as in late stages of the network.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an odd number of channels, or others than built for.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999 (the details follow the authors' code)

    >>> SpatialMixer(8)(torch.randn(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int, *, depthwise: bool = False) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"two branches share the channels, got {channels}; make it even")
        half = channels // 2
        self.channels = channels
        self.reduce = nn.Conv2d(channels, half, 1)
        self.contrast = nn.Parameter(torch.full((half, 1, 1), 1e-5))
        self.high = nn.Sequential(_conv(half, depthwise=depthwise), nn.BatchNorm2d(half), nn.GELU())
        self.low = nn.Sequential(
            _conv(half, dilation=2, depthwise=depthwise, bias=True),
            _conv(half, dilation=2, depthwise=depthwise),
            nn.BatchNorm2d(half),
            nn.GELU(),
        )
        self.excite_high, self.excite_low = (SqueezeExcite(half) for _ in range(2))
        self.out = nn.Conv2d(channels, channels, 1)

    def sharpen(self, u: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        """Move every map away from its mean (contrast above 0) or towards it (below)."""
        return u + self.contrast * (u - u.mean((2, 3), keepdim=True))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "SpatialMixer")
        u = self.sharpen(self.reduce(x))
        return self.out(torch.cat([self.excite_high(self.high(u)), self.excite_low(self.low(u))], 1))


@implements("spartan", example=lambda: (WaveChannelMixer(6), torch.randn(3, 6, 5, 4)), mixes_batch=True)
class WaveChannelMixer(nn.Module):
    r"""A gated channel network whose features turn as waves: in pairs, with amplitude and phase.

    .. math:: T = \mathrm{GELU}(P_1 x), \quad A = P_2 x, \quad
        f = A \odot T + A_m T_m, \quad y = P_3\, S(\mathrm{GELU}(\mathrm{BN}(K * R(f))))

    :math:`m` is the strongest of the input's channels at each pixel, whose product is added to all; R is
    :func:`rotate_channel_pairs`, K a depthwise 3 x 3 kernel, S squeeze and excite.

    Args:
        channels: c.
        expansion: width between P1 and P3 in units of c.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if the inner width is odd, or for other channels.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    As in the authors' code the strongest channel is looked for among the c channels of the input but read off
    the wider tensors, so only their first c channels can be picked. The choice has no gradient, the picked
    value has.

    >>> WaveChannelMixer(6).rotation.shape
    torch.Size([6, 2])
    """

    def __init__(self, channels: int, *, expansion: int = 2) -> None:
        super().__init__()
        inner = expansion * channels
        if inner % 2:
            raise ValueError(
                f"channels turn in pairs, but the inner width {inner} is odd; change the expansion"
            )
        self.channels = channels
        self.token, self.amplitude = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
        self.rotation = nn.Parameter(torch.randn(inner // 2, 2))
        self.mix = nn.Sequential(_conv(inner, depthwise=True), nn.BatchNorm2d(inner), nn.GELU())
        self.excite = SqueezeExcite(inner)
        self.out = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "WaveChannelMixer")
        product = nn.functional.gelu(self.token(x)) * self.amplitude(x)
        strongest = x.argmax(1, keepdim=True)
        features = product + product.gather(1, strongest)
        return self.out(self.excite(self.mix(rotate_channel_pairs(features, self.rotation))))


@implements(
    "spartan", example=lambda: (SpartanBlock(8, scale=0.5), torch.randn(3, 8, 5, 6)), mixes_batch=True
)
class SpartanBlock(nn.Module):
    r"""Space, then channels, each normalised, scaled and added.

    .. math:: x \leftarrow x + \lambda_1 \odot M_{space}(N_1(x)), \qquad
        x \leftarrow x + \lambda_2 \odot M_{channel}(N_2(x))

    N is group normalisation with one group.

    Args:
        channels: c, even.
        expansion: of the channel mixer.
        depthwise: kernels of the spatial mixer, see :class:`SpatialMixer`.
        scale: where both layer scales start.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an odd number of channels, or others than built for.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    Short trainings need a larger scale than the 1e-5 of the authors' code.

    >>> x = torch.randn(2, 8, 5, 5)
    >>> torch.equal(SpartanBlock(8, scale=0.0)(x), x)
    True
    """

    def __init__(
        self, channels: int, *, expansion: int = 2, depthwise: bool = False, scale: float = 1e-5
    ) -> None:
        super().__init__()
        self.channels = channels
        self.space_norm, self.channel_norm = (nn.GroupNorm(1, channels) for _ in range(2))
        self.space = SpatialMixer(channels, depthwise=depthwise)
        self.channel = WaveChannelMixer(channels, expansion=expansion)
        self.space_scale, self.channel_scale = (
            nn.Parameter(torch.full((channels, 1, 1), float(scale))) for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, "SpartanBlock")
        x = x + self.space_scale * self.space(self.space_norm(x))
        return x + self.channel_scale * self.channel(self.channel_norm(x))
