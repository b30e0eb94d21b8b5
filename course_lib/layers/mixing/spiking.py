"""Max-Former: neurons that spike are low-pass filters, so the mixer should keep the high frequencies.

Time is axis 1, as in the rest of the library: ``(b, t, c, i, j)``.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    layer_name,
    require_callable,
    require_module,
    require_number,
    require_positive,
    require_real,
    require_width,
)
from course_lib.registry import implements

torch.fx.wrap("_fire")  # a loop over time, whose length a traced tensor cannot tell

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
        ValueError: for a time constant below 1, a threshold or slope that is not above 0, or an input without
            a time axis or without a step on it.
        TypeError: for an argument that is no number, or an input that is not real.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

    Differs from spiking libraries: axis 1 is time, where they put it first.

    >>> LIFNeuron()(torch.full((1, 4), 1.5))
    tensor([[0., 1., 0., 1.]])
    """

    def __init__(self, *, tau: float = 2.0, threshold: float = 1.0, slope: float = 4.0) -> None:
        super().__init__()
        require_number(type(self).__name__, 1, tau=tau)  # below 1 the voltage overshoots its input
        require_number(type(self).__name__, 0, open_low=True, threshold=threshold, slope=slope)
        self.tau, self.threshold, self.slope = tau, threshold, slope

    def forward(self, x: Float[Tensor, "b t ..."]) -> Float[Tensor, "b t ..."]:
        _require_time(x, self)
        return _fire(x, self.tau, self.threshold, self.slope)

    def extra_repr(self) -> str:
        return f"tau={self.tau}, threshold={self.threshold}, slope={self.slope}"


def _require_time(x: Tensor, layer: nn.Module) -> None:
    require_real(x, layer)
    if isinstance(x, Tensor) and (x.ndim < 2 or x.shape[1] == 0):
        raise ValueError(
            f"{layer_name(layer)} expects x (b, t, ...) of at least one step, got shape {tuple(x.shape)}; "
            "axis 1 is time"
        )


def _fire(x: Tensor, tau: float, threshold: float, slope: float) -> Tensor:
    """All spikes of a leaky integrator, step by step along axis 1."""
    step = partial(_lif_step, tau=tau, threshold=threshold, slope=slope)
    left = torch.zeros_like(x[:, 0])
    if getattr(torch.compiler, "is_exporting", bool)():  # a loop would fix the number of steps; torch >= 2.7
        from torch._higher_order_ops.scan import scan

        _, spikes = scan(step, left, x.movedim(1, 0))
        return spikes.movedim(0, 1)
    spikes = []
    for current in x.unbind(1):
        left, fired = step(left, current)
        spikes.append(fired)
    return torch.stack(spikes, dim=1)


def _lif_step(
    left: Tensor, current: Tensor, *, tau: float, threshold: float, slope: float
) -> tuple[Tensor, Tensor]:
    voltage = left + (current - left) / tau
    fired = (voltage >= threshold).to(current.dtype)
    soft = torch.sigmoid(slope * (voltage - threshold))
    # The value of a spike is the step's, its slope the sigmoid's.
    return voltage * (1 - fired), fired + (soft - soft.detach())


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


def _require_frames(x: Tensor, channels: int, layer: nn.Module) -> None:
    require_width(x, channels, layer, axis=-3)
    if isinstance(x, Tensor) and (x.ndim != 5 or x.shape[1] == 0):
        raise ValueError(
            f"{layer_name(layer)} expects x (b, t, {channels}, i, j) of at least one step, got shape "
            f"{tuple(x.shape)}; axis 1 is time"
        )


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
        channels: c.
        mixer: T for single images ``(b, c, i, j)``: a pooling, a depthwise convolution, the identity.
        hidden_dim: width of the channel MLP, 2 c unless given.
        neuron: builds the nonlinearity; ``nn.GELU`` gives the same network without spikes.
        device: of the parameters, except those of mixer and neurons.
        dtype: of the parameters, except those of mixer and neurons.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, c, i, j)``.

    Raises:
        ValueError: for a width below 1, or an input of another shape.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

    Differs from the paper: one block for all stages. There, the first stage mixes nothing, the second is a
    depthwise convolution and the last spiking attention; where the batch norms stand is from its code.

    >>> block = SpikingMixerBlock(4, nn.MaxPool2d(3, stride=1, padding=1))
    >>> block(torch.randn(2, 3, 4, 8, 8)).shape
    torch.Size([2, 3, 4, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        mixer: nn.Module,
        *,
        hidden_dim: int | None = None,
        neuron: Callable[[], nn.Module] = LIFNeuron,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        require_module(name, mixer=mixer)
        require_callable(name, neuron=neuron)
        hidden_dim = 2 * channels if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        self.channels = channels
        norm = partial(nn.BatchNorm2d, **factory)
        self.mix_tokens = nn.Sequential(neuron(), _PerFrame(mixer, norm(channels)))
        self.mix_channels = nn.Sequential(
            neuron(),
            _PerFrame(nn.Conv2d(channels, hidden_dim, 1, bias=False, **factory), norm(hidden_dim)),
            neuron(),
            _PerFrame(nn.Conv2d(hidden_dim, channels, 1, bias=False, **factory), norm(channels)),
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t c i j"]:
        _require_frames(x, self.channels, self)
        x = x + self.mix_tokens(x)
        return x + self.mix_channels(x)

    def extra_repr(self) -> str:
        return f"{self.channels}"


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
        device: of the parameters, except those of the neuron.
        dtype: of the parameters, except those of the neuron.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, o, ceil(i/2), ceil(j/2))``.

    Raises:
        ValueError: for channels below 1, or an input of another shape.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608. That
    the shortcut starts from the same spikes is inferred.

    >>> MaxPatchEmbed(2, 4)(torch.randn(1, 3, 2, 8, 8)).shape
    torch.Size([1, 3, 4, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        neuron: Callable[[], nn.Module] = LIFNeuron,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, out_channels=out_channels)
        require_callable(name, neuron=neuron)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.neuron = neuron()
        self.pooled = _PerFrame(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False, **factory),
            nn.BatchNorm2d(out_channels, **factory),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.shortcut = _PerFrame(
            nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False, **factory),
            nn.BatchNorm2d(out_channels, **factory),
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t o k l"]:
        _require_frames(x, self.in_channels, self)
        spikes = self.neuron(x)
        return self.pooled(spikes) + self.shortcut(spikes)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
