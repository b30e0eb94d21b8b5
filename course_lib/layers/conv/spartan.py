"""A mixture of dilated kernels for space, and channels that rotate in pairs."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._images import ChannelScale, SqueezeExcite
from course_lib.layers._shapes import require_image, require_number, require_positive, require_real
from course_lib.registry import implements

torch.fx.wrap("rotate_channel_pairs")  # it asks images and weights for their shapes


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
        ValueError: if there is not one weight for every two channels, or for what is no image.
        TypeError: for images or weights that are not real.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    >>> rotate_channel_pairs(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([[0.0, 1.0]])).flatten()
    tensor([-2.,  1.])
    """
    require_image(x, None, "rotate_channel_pairs")
    require_real(weight, "rotate_channel_pairs", name="weight")
    if weight.shape != (x.shape[1] / 2, 2):
        raise ValueError(
            f"rotate_channel_pairs expects weight (k, 2), one for every two of {x.shape[1]} channels, got "
            f"shape {tuple(weight.shape)}"
        )
    real, imaginary = x.unflatten(1, (-1, 2)).unbind(2)
    a, b = weight[:, 0, None, None], weight[:, 1, None, None]
    return torch.stack([a * real - b * imaginary, b * real + a * imaginary], 2).flatten(1, 2)


EPS = 1e-6  # of all normalisations here


def _conv(channels: int, *, groups: int, dilation: int = 1, **factory: Any) -> nn.Conv2d:
    """A 3 x 3 kernel without bias that keeps the size."""
    options = {"padding": dilation, "dilation": dilation, "groups": groups, "bias": False}
    return nn.Conv2d(channels, channels, 3, **options, **factory)


def _norm(channels: int, **factory: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS, **factory)


@implements("spartan", example=lambda: (SpatialMixer(16), torch.randn(3, 16, 5, 6)), mixes_batch=True)
class SpatialMixer(nn.Module):
    r"""A high branch with a small and a low branch with a large receptive field, side by side.

    .. math:: u = P_1 x, \quad u \leftarrow u + \gamma \odot (u - \bar u), \quad
        y = P_2\, [\,S(K_1 * u),\; S(K_2 *_2 K_2' *_2 u)\,]

    :math:`\bar u` is the mean of each channel over space, :math:`*_2` a convolution with dilation 2, S
    squeeze and excite with c / 8 hidden units; batch normalisation and GELU close each branch.

    Args:
        channels: c, a multiple of 8; the branches have half of it each.
        depthwise: one kernel per channel, as in late stages of the network.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for a number of channels that is no multiple of 8, or others than built for.
        TypeError: for channels that are no integer, or an input of another dtype.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    As in the authors' code, which is compared by value. Differs from it: weights start as torch's do, not
    normal with a variance of 2 over the fan-out and biases at zero.

    >>> SpatialMixer(8)(torch.randn(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        depthwise: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        _require_eighths(type(self).__name__, channels)
        self.channels, half = channels, channels // 2
        self.reduce = nn.Conv2d(channels, half, 1, **factory)
        self.contrast = nn.Parameter(torch.empty(half, 1, 1, **factory))
        conv = {"groups": half if depthwise else 1, **factory}
        self.high = nn.Sequential(_conv(half, **conv), _norm(half, **factory), nn.GELU())
        self.low = nn.Sequential(
            _conv(half, dilation=2, **conv),
            _conv(half, dilation=2, **conv),
            _norm(half, **factory),
            nn.GELU(),
        )
        self.excite_high, self.excite_low = (SqueezeExcite(half, half // 4, **factory) for _ in range(2))
        self.out = nn.Conv2d(channels, channels, 1, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Hardly any contrast at first; the layers have starts of their own."""
        nn.init.constant_(self.contrast, 1e-5)

    def sharpen(self, u: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        """Move every map away from its mean (contrast above 0) or towards it (below)."""
        return u + self.contrast * (u - u.mean((2, 3), keepdim=True))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        u = self.sharpen(self.reduce(x))
        return self.out(torch.cat([self.excite_high(self.high(u)), self.excite_low(self.low(u))], 1))

    def extra_repr(self) -> str:
        return f"{self.channels}"


def _require_eighths(layer: str, channels: int) -> None:
    require_positive(layer, channels=channels)
    if channels % 8:
        raise ValueError(
            f"{layer}: channels must be a multiple of 8 (two branches, whose gates have a quarter of their "
            f"channels), got {channels}"
        )


@implements("spartan", example=lambda: (WaveChannelMixer(12), torch.randn(3, 12, 5, 4)), mixes_batch=True)
class WaveChannelMixer(nn.Module):
    r"""A gated channel network whose features turn as waves: in pairs, with amplitude and phase.

    .. math:: T = \mathrm{GELU}(P_1 x), \quad A = P_2 x, \quad
        f = A \odot T + A_m T_m, \quad y = P_3\, S(\mathrm{GELU}(\mathrm{BN}(K * R(f))))

    :math:`m` is the strongest of the input's channels at each pixel, whose product is added to all; R is
    :func:`rotate_channel_pairs`, K a 3 x 3 kernel, S squeeze and excite with c / 4 hidden units.

    Args:
        channels: c.
        expansion: width between P1 and P3 in units of c.
        depthwise: one kernel K per channel, as in early stages of the network; in late ones (False) c groups
            of as many channels as the expansion.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: if the inner width is odd, for a size below 1, or for other channels.
        TypeError: for a size that is no integer, or an input of another dtype.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    As in the authors' code, which is compared by value: the strongest channel is looked for among the c
    channels of the input but read off the wider tensors, so only their first c channels can be picked. The
    choice has no gradient, the picked value has. Differs from it: the start of the weights, see
    :class:`SpatialMixer`; fewer than 4 channels and an expansion of 1 are allowed.

    >>> WaveChannelMixer(6).rotation.shape
    torch.Size([6, 2])
    """

    def __init__(
        self,
        channels: int,
        *,
        expansion: int = 2,
        depthwise: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        _require_pairs(type(self).__name__, channels, expansion)
        self.channels, inner = channels, expansion * channels
        self.token, self.amplitude = (nn.Conv2d(channels, inner, 1, **factory) for _ in range(2))
        self.rotation = nn.Parameter(torch.empty(inner // 2, 2, **factory))
        self.reset_parameters()
        conv = _conv(inner, groups=inner if depthwise else channels, **factory)
        self.mix = nn.Sequential(conv, _norm(inner, **factory), nn.GELU())
        self.excite = SqueezeExcite(inner, max(1, channels // 4), **factory)
        self.out = nn.Conv2d(inner, channels, 1, **factory)

    def reset_parameters(self) -> None:
        """Random rotations; the layers have starts of their own."""
        nn.init.normal_(self.rotation)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        # The product is a square of the input, which leaves half precision until the norm brings it back.
        own = self._parameters["rotation"].dtype  # so, a traced layer knows it too
        wide = torch.promote_types(own, torch.float32)
        product = F.gelu(self.token(x)).to(wide) * self.amplitude(x).to(wide)
        strongest = x.argmax(1, keepdim=True)
        features = product + product.gather(1, strongest)
        mixed = self._mix_wide(rotate_channel_pairs(features, self.rotation.to(wide)), own)
        return self.out(self.excite(mixed.to(own)))

    def _mix_wide(self, features: Tensor, own: torch.dtype) -> Tensor:
        """Filter, normalise and activate in the numbers of the features, which may be wider than our own."""
        device = self._parameters["rotation"].device.type
        with torch.autocast("cpu" if device == "meta" else device, enabled=False):
            if own not in (torch.float16, torch.bfloat16):
                return self.mix(features)
            conv, norm, activation = self.mix
            state = dict([*norm.named_parameters(), *norm.named_buffers()])
            state = {n: t.to(features.dtype) if t.is_floating_point() else t for n, t in state.items()}
            filtered = F.conv2d(features, conv.weight.to(features.dtype), padding=1, groups=conv.groups)
            normed = torch.func.functional_call(norm, state, (filtered,))
            norm.running_mean.copy_(state["running_mean"])
            norm.running_var.copy_(state["running_var"])
            return activation(normed)

    def extra_repr(self) -> str:
        return f"{self.channels}"


def _require_pairs(layer: str, channels: int, expansion: int) -> None:
    require_positive(layer, channels=channels, expansion=expansion)
    if expansion * channels % 2:
        raise ValueError(
            f"{layer}: expansion={expansion} times channels={channels} must be even: channels turn in pairs"
        )


@implements(
    "spartan",
    example=lambda: (SpartanBlock(16, layer_scale=0.5), torch.randn(3, 16, 5, 6)),
    mixes_batch=True,
)
class SpartanBlock(nn.Module):
    r"""Space, then channels, each normalised, scaled and added.

    .. math:: x \leftarrow x + \lambda_1 \odot M_{space}(N_1(x)), \qquad
        x \leftarrow x + \lambda_2 \odot M_{channel}(N_2(x))

    N is group normalisation with one group.

    Args:
        channels: c, a multiple of 8.
        expansion: of the channel mixer.
        depthwise: as in late stages of the network: the spatial mixer has one kernel per channel, the channel
            mixer kernels over small groups. In early stages (False) the spatial mixer has full kernels and
            the channel mixer one per channel.
        layer_scale: where both layer scales start.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for a number of channels that is no multiple of 8, an expansion below 1, a layer scale
            that is not finite, or other channels than built for.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: SpaRTAN: Spatial Reinforcement Token-based Aggregation Network for Visual Recognition -
    https://arxiv.org/abs/2507.10999

    As in the authors' code, which is compared by value. Differs from it: no stochastic depth, and the start
    of the weights, see :class:`SpatialMixer`. Short trainings need a larger layer scale than 1e-5.

    >>> x = torch.randn(2, 8, 5, 5)
    >>> torch.equal(SpartanBlock(8, layer_scale=0.0)(x), x)
    True
    """

    def __init__(
        self,
        channels: int,
        *,
        expansion: int = 2,
        depthwise: bool = False,
        layer_scale: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        _require_eighths(name, channels)
        _require_pairs(name, channels, expansion)
        require_number(name, layer_scale=layer_scale)
        self.channels = channels
        self.space_norm, self.channel_norm = (nn.GroupNorm(1, channels, eps=EPS, **factory) for _ in range(2))
        self.space = SpatialMixer(channels, depthwise=depthwise, **factory)
        sizes = {"expansion": expansion, "depthwise": not depthwise}
        self.channel = WaveChannelMixer(channels, **sizes, **factory)
        self.space_scale, self.channel_scale = (
            ChannelScale(channels, layer_scale, **factory) for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        x = x + self.space_scale(self.space(self.space_norm(x)))
        return x + self.channel_scale(self.channel(self.channel_norm(x)))

    def extra_repr(self) -> str:
        return f"{self.channels}"
