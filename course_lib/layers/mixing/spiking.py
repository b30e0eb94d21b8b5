"""Max-Former: neurons that spike are low-pass filters, so the mixer should keep the high frequencies.

Time is axis 1, as in the rest of the library: ``(b, t, c, i, j)``.
"""

from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = ["LIFNeuron", "MaxPatchEmbed", "SpikingMixerBlock", "lif_frequency_response", "lif_naive"]

_STEP = {"gradcheck": "a spike is a step, whose true slope is zero; training uses a surrogate"}
_FRAMES = {
    **_STEP,
    "wrong_last_dim": "channels are on axis 2, behind batch and time; a wrong number is refused",
}


def lif_naive(
    x: Float[Tensor, "b t ..."], tau: float = 2.0, threshold: float = 1.0
) -> tuple[Float[Tensor, "b t ..."], Float[Tensor, "b t ..."]]:
    r"""Leaky integrate and fire, number by number: spikes, and the voltage just before the reset.

    .. math:: v_t = u_{t-1} + \frac{x_t - u_{t-1}}{\tau}, \qquad s_t = [v_t \ge \theta], \qquad
        u_t = (1 - s_t)\, v_t, \quad u_0 = 0

    >>> spikes, voltage = lif_naive(torch.full((1, 4), 1.5))
    >>> spikes, voltage
    (tensor([[0., 1., 0., 1.]]), tensor([[0.7500, 1.1250, 0.7500, 1.1250]]))
    """
    rows = x.movedim(1, -1).reshape(-1, x.shape[1])
    spikes, voltages = torch.zeros_like(rows), torch.zeros_like(rows)
    for n, row in enumerate(rows):
        left = 0.0
        for t, current in enumerate(row.tolist()):
            voltage = left + (current - left) / tau
            voltages[n, t], spikes[n, t] = voltage, float(voltage >= threshold)
            left = 0.0 if voltage >= threshold else voltage
    shape = x.movedim(1, -1).shape
    return spikes.reshape(shape).movedim(-1, 1), voltages.reshape(shape).movedim(-1, 1)


@implements(
    "max-former",
    example=lambda: (LIFNeuron(), 2 * torch.randn(2, 5, 6)),
    causal=True,
    exceptions=_STEP,
)
class LIFNeuron(nn.Module):
    r"""A leaky integrator that fires a 1 when it is full, and starts again from nothing.

    .. math:: v_t = u_{t-1} + \frac{x_t - u_{t-1}}{\tau}, \qquad s_t = [v_t \ge \theta], \qquad
        u_t = (1 - s_t)\, v_t

    Backwards, the step counts as a sigmoid: :math:`\partial s / \partial v = \alpha\, \sigma (1 - \sigma)`
    with :math:`\sigma = \mathrm{sigmoid}(\alpha (v - \theta))`; the reset passes no gradient.

    Args:
        tau: time constant :math:`\tau`, at least 1; 1 has no memory.
        threshold: :math:`\theta`.
        slope: :math:`\alpha` of the surrogate.

    Shape: ``(b, t, ...)`` to spikes ``(b, t, ...)``, each 0 or 1.

    Raises:
        ValueError: for a time constant below 1, or an input without a time axis.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

    Differs from spiking libraries: axis 1 is time, where they put it first.

    >>> LIFNeuron()(torch.full((1, 4), 1.5))
    tensor([[0., 1., 0., 1.]])
    """

    def __init__(self, *, tau: float = 2.0, threshold: float = 1.0, slope: float = 4.0) -> None:
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau must be at least 1, got {tau}; below 1 the voltage overshoots its input")
        self.tau, self.threshold, self.slope = tau, threshold, slope

    def forward(self, x: Float[Tensor, "b t ..."]) -> Float[Tensor, "b t ..."]:
        if x.ndim < 2:
            raise ValueError(f"LIFNeuron expects (b, t, ...), got {tuple(x.shape)}; axis 1 is time")
        left, spikes = torch.zeros_like(x[:, 0]), []
        for current in x.unbind(1):
            voltage = left + (current - left) / self.tau
            fired = (voltage >= self.threshold).to(x)
            soft = torch.sigmoid(self.slope * (voltage - self.threshold))
            spikes.append(fired + (soft - soft.detach()))  # the value is the step, the slope the sigmoid's
            left = voltage * (1 - fired)
        return torch.stack(spikes, dim=1)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, threshold={self.threshold}, slope={self.slope}"


@implements("max-former")
def lif_frequency_response(omega: Float[Tensor, "*b"], tau: float = 2.0) -> Complex[Tensor, "*b"]:
    r"""Transfer function of a leaky integrator that never fires: a low-pass filter.

    .. math:: H(\omega) = \frac{1/\tau}{1 - (1 - 1/\tau)\, e^{-i \omega}}, \qquad
        |H(0)| = 1, \quad |H(\pi)| = \frac{1}{2 \tau - 1}

    Args:
        omega: frequency in radians per time step.
        tau: time constant.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608 (which
    derives it in continuous time; this is the response of the discrete update that runs)

    >>> lif_frequency_response(torch.tensor([0.0, torch.pi])).abs().round(decimals=4)
    tensor([1.0000, 0.3333])
    """
    return (1 / tau) / (1 - (1 - 1 / tau) * torch.exp(-1j * omega))


class _PerFrame(nn.Module):
    """Apply image layers to every time step."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def _require_frames(x: Tensor, dim: int, layer: nn.Module) -> None:
    name = f"{type(layer).__name__}({dim})"
    require_width(x, dim, name, axis=-3)
    if x.ndim != 5:
        raise ValueError(f"{name} expects (b, t, {dim}, i, j), got {tuple(x.shape)}; axis 1 is time")


@implements(
    "max-former",
    example=lambda: (SpikingMixerBlock(4, nn.MaxPool2d(3, 1, 1)), 2 * torch.randn(3, 2, 4, 3, 5)),
    mixes_batch=True,
    exceptions=_FRAMES,
)
class SpikingMixerBlock(nn.Module):
    r"""A MetaFormer block of spikes: every linear map sees only zeros and ones.

    .. math:: y = x + \mathrm{BN}\bigl(T(\mathrm{LIF}(x))\bigr), \qquad
        z = y + \mathrm{BN}\bigl(W_2\, \mathrm{LIF}(\mathrm{BN}(W_1\, \mathrm{LIF}(y)))\bigr)

    Args:
        dim: channels c.
        mixer: T for single images ``(b, c, i, j)``: a pooling, a depthwise convolution, the identity.
        hidden_dim: width of the channel MLP, 2 c unless given.
        neuron: builds the nonlinearity; ``nn.GELU`` gives the same network without spikes.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, c, i, j)``.

    Raises:
        ValueError: for another shape.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

    Differs from the paper: one block for all stages. There, the first stage mixes nothing, the second is a
    depthwise convolution and the last spiking attention; where the batch norms stand is from its code.

    >>> block = SpikingMixerBlock(4, nn.MaxPool2d(3, stride=1, padding=1))
    >>> block(torch.randn(2, 3, 4, 8, 8)).shape
    torch.Size([2, 3, 4, 8, 8])
    """

    def __init__(
        self,
        dim: int,
        mixer: nn.Module,
        *,
        hidden_dim: int | None = None,
        neuron: Callable[[], nn.Module] = LIFNeuron,
    ) -> None:
        super().__init__()
        self.dim, hidden_dim = dim, 2 * dim if hidden_dim is None else hidden_dim
        self.mix_tokens = nn.Sequential(neuron(), _PerFrame(mixer, nn.BatchNorm2d(dim)))
        self.mix_channels = nn.Sequential(
            neuron(),
            _PerFrame(nn.Conv2d(dim, hidden_dim, 1, bias=False), nn.BatchNorm2d(hidden_dim)),
            neuron(),
            _PerFrame(nn.Conv2d(hidden_dim, dim, 1, bias=False), nn.BatchNorm2d(dim)),
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t c i j"]:
        _require_frames(x, self.dim, self)
        x = x + self.mix_tokens(x)
        return x + self.mix_channels(x)

    def extra_repr(self) -> str:
        return f"{self.dim}"


@implements(
    "max-former",
    example=lambda: (MaxPatchEmbed(3, 4), 2 * torch.randn(3, 2, 3, 6, 4)),
    mixes_batch=True,
    exceptions=_FRAMES,
)
class MaxPatchEmbed(nn.Module):
    r"""Halve a map of spikes by a maximum, so that a single spike survives, beside a strided shortcut.

    .. math:: y = \mathrm{MaxPool}_{3, /2}\bigl(\mathrm{BN}(K * \mathrm{LIF}(x))\bigr)
        + \mathrm{BN}(W_{/2}\, \mathrm{LIF}(x))

    Args:
        in_channels: channels c that enter.
        out_channels: channels o that leave.
        neuron: builds the nonlinearity.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, o, ceil(i/2), ceil(j/2))``.

    Raises:
        ValueError: for another shape.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608. That
    the shortcut starts from the same spikes is inferred.

    >>> MaxPatchEmbed(2, 4)(torch.randn(1, 3, 2, 8, 8)).shape
    torch.Size([1, 3, 4, 4, 4])
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, neuron: Callable[[], nn.Module] = LIFNeuron
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.neuron = neuron()
        self.pooled = _PerFrame(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.shortcut = _PerFrame(
            nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t o k l"]:
        _require_frames(x, self.in_channels, self)
        spikes = self.neuron(x)
        return self.pooled(spikes) + self.shortcut(spikes)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
