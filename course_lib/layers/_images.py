"""Small parts of image layers that several chapters use: a norm, a scale and a gate of channels.

They check nothing: the layer that holds one has checked the image.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position of an image ``(b, c, i, j)``."""

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        y = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, 1)


class ChannelScale(nn.Module):
    """One learned factor per channel of an image ``(b, c, i, j)``: a layer scale.

    Args:
        channels: c.
        layer_scale: where all factors start.
        device: of the parameter.
        dtype: of the parameter.
    """

    def __init__(
        self,
        channels: int,
        layer_scale: float,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.layer_scale = channels, float(layer_scale)
        self.weight = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All factors at their start."""
        nn.init.constant_(self.weight, self.layer_scale)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        return self.weight[:, None, None] * x

    def extra_repr(self) -> str:
        return f"{self.channels}, layer_scale={self.layer_scale}"


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate between 0 and 1 that reads the means of all channels.

    Args:
        channels: c.
        hidden_dim: width of the gate's hidden layer.
        activation: builds its activation.
        device: of the parameters.
        dtype: of the parameters.
    """

    def __init__(
        self,
        channels: int,
        hidden_dim: int,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden_dim, 1, **factory),
            activation(),
            nn.Conv2d(hidden_dim, channels, 1, **factory),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        return x * self.gate(x.mean((2, 3), keepdim=True))
