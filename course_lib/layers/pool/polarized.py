"""Two gates, each from an attention that collapses one side: positions for channels, channels for space."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_callable, require_image, require_one_of, require_positive
from course_lib.layers.norm import LayerNorm
from course_lib.registry import implements

_LAYOUTS = ("parallel", "sequential")
_SPATIAL_SOFTMAX = ("channels", "product", "values")


@implements("polarized-self-attention", example=lambda: (PolarizedSelfAttention(6), torch.randn(2, 6, 3, 4)))
class PolarizedSelfAttention(nn.Module):
    r"""Gate the channels by one attention over positions, and the positions by one attention over channels.

    .. math:: A_{\mathrm{ch}} &= \sigma\bigl(N(W_z\, V\, \mathrm{softmax}_{ij}(q))\bigr), \quad
        q = w_q^\top x, \; V = W_v x \\
        A_{\mathrm{sp}} &= \sigma\bigl(\mathrm{softmax}_c(\operatorname{mean}_{ij} W_q' x)^\top\, W_v' x\bigr)

    The parallel layout gives :math:`x \odot A_{\mathrm{ch}} + x \odot A_{\mathrm{sp}}`, the sequential one
    gates the positions of what the channel gate let through. The side that a softmax collapses vanishes; the
    other keeps half of the channels, or all pixels. The cost is linear in the pixels.

    Args:
        channels: c, even.
        layout: "parallel" or "sequential".
        spatial_softmax: what the softmax of the spatial gate runs over. "channels" is the paper's formula;
            "product" (the result, over all positions) and "values" (each channel of :math:`W_v' x`, over all
            positions) are found in the authors' code, see below.
        norm_layer: N, called with the number of channels; None leaves it out.
        hidden_dim: None for one matrix :math:`W_z`; else two, with biases, and between them this many
            channels with N and a ReLU.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an odd number of channels, another layout or softmax, or a wrong number of channels.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Polarized Self-Attention: Towards High-quality Pixel-wise Regression -
    https://arxiv.org/abs/2107.00782

    The norm N over channels follows the paper's figure; its formula does not write it. The authors' code has
    two classes, and neither is the formula (values in ``tests/vectors``)::

        PSA_p:  layout="parallel", spatial_softmax="product", norm_layer=None
        PSA_s:  layout="sequential", spatial_softmax="values", hidden_dim=channels // 8

    A softmax over all positions leaves values near 1/ij, so with "product" the spatial gate is a sigmoid near
    0 and stands at about one half everywhere.

    >>> PolarizedSelfAttention(6, layout="sequential")(torch.randn(2, 6, 3, 4)).shape
    torch.Size([2, 6, 3, 4])
    """

    def __init__(
        self,
        channels: int,
        *,
        layout: str = "parallel",
        spatial_softmax: str = "channels",
        norm_layer: Callable[[int], nn.Module] | None = LayerNorm,
        hidden_dim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        if channels % 2:
            raise ValueError(f"{name}: channels must be even: gates work on half of them, got {channels}")
        require_one_of(name, _LAYOUTS, layout=layout)
        require_one_of(name, _SPATIAL_SOFTMAX, spatial_softmax=spatial_softmax)
        norm_layer = nn.Identity if norm_layer is None else norm_layer
        require_callable(name, norm_layer=norm_layer)
        self.channels, self.layout, self.spatial_softmax = channels, layout, spatial_softmax
        half = channels // 2
        self.channel_query = nn.Conv2d(channels, 1, 1, bias=False, **factory)
        self.channel_value = nn.Conv2d(channels, half, 1, bias=False, **factory)
        if hidden_dim is None:
            up = [nn.Linear(half, channels, bias=False, **factory), norm_layer(channels).to(**factory)]
        else:
            require_positive(name, hidden_dim=hidden_dim)
            first, second = nn.Linear(half, hidden_dim, **factory), nn.Linear(hidden_dim, channels, **factory)
            up = [first, norm_layer(hidden_dim).to(**factory), nn.ReLU(), second]
        self.channel_up = nn.Sequential(*up)
        self.spatial_query = nn.Conv2d(channels, half, 1, bias=False, **factory)
        self.spatial_value = nn.Conv2d(channels, half, 1, bias=False, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming's normal start by the number of inputs; torch's own for what raises the channels."""
        for layer in (self.channel_query, self.channel_value, self.spatial_query, self.spatial_value):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in")
        for layer in self.channel_up:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()

    def channel_gate(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c 1 1"]:
        """One number per channel, between 0 and 1: a weighted mean over positions, projected."""
        weights = self.channel_query(x).flatten(2).softmax(-1)  # (b, 1, ij)
        context = self.channel_value(x).flatten(2) @ weights.mT  # (b, c / 2, 1)
        return self.channel_up(context.flatten(1)).sigmoid()[..., None, None]

    def spatial_gate(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b 1 i j"]:
        """One number per position, between 0 and 1: a weighted mean over channels."""
        query = self.spatial_query(x).mean((2, 3))[:, None]  # (b, 1, c / 2)
        value = self.spatial_value(x).flatten(2)  # (b, c / 2, ij)
        if self.spatial_softmax == "channels":
            scores = query.softmax(-1) @ value
        elif self.spatial_softmax == "product":
            scores = (query @ value).softmax(-1)
        else:
            scores = query @ value.softmax(-1)
        return scores.unflatten(-1, x.shape[2:]).sigmoid()

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        gated = x * self.channel_gate(x)
        if self.layout == "sequential":
            return gated * self.spatial_gate(gated)
        return gated + x * self.spatial_gate(x)

    def extra_repr(self) -> str:
        return f"{self.channels}, layout={self.layout!r}, spatial_softmax={self.spatial_softmax!r}"
