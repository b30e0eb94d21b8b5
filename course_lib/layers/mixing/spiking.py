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
    require_odd,
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


def _require_frames(x: Tensor, channels: int, layer: nn.Module) -> None:
    require_width(x, channels, layer, axis=-3)
    if isinstance(x, Tensor) and (x.ndim != 5 or x.shape[1] == 0):
        raise ValueError(
            f"{layer_name(layer)} expects x (b, t, {channels}, i, j) of at least one step, got shape "
            f"{tuple(x.shape)}; axis 1 is time"
        )


@implements(
    "max-former",
    example=lambda: (PerFrame(nn.MaxPool2d(3, 1, 1)), torch.randn(2, 3, 4, 5, 6)),
)
class PerFrame(nn.Module):
    r"""Apply image layers to every time step: the mixer of a spiking block that only pools.

    .. math:: y_t = L(x_t)

    Args:
        layers: image layers, from ``(b, c, i, j)`` to ``(b, o, k, l)``, one behind the other.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, o, k, l)``.

    Raises:
        ValueError: for an input without five axes or without a step of time.
        TypeError: for a layer that is no module, or an input that is not real.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

    >>> PerFrame(nn.MaxPool2d(3, stride=1, padding=1))(torch.randn(2, 3, 4, 8, 8)).shape
    torch.Size([2, 3, 4, 8, 8])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        require_module(type(self).__name__, **{f"layers[{i}]": layer for i, layer in enumerate(layers)})
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t o k l"]:
        require_real(x, self)
        if isinstance(x, Tensor) and (x.ndim != 5 or x.shape[1] == 0):
            raise ValueError(
                f"{layer_name(self)} expects x (b, t, c, i, j) of at least one step, got shape "
                f"{tuple(x.shape)}; axis 1 is time"
            )
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@implements(
    "max-former",
    example=lambda: (SpikingDepthwise(4), 2 * torch.randn(3, 2, 4, 3, 5)),
    mixes_batch=True,
    exceptions=_FRAMES,
)
class SpikingDepthwise(nn.Module):
    r"""Token mixing by a depthwise convolution of spikes, beside a skip of the membrane.

    .. math:: y = x + \mathrm{BN}\bigl(K *_{\text{dw}} \mathrm{LIF}(x)\bigr)

    Args:
        channels: c.
        kernel_size: side of the window, odd.
        neuron: builds the nonlinearity.
        device: of the parameters, except those of the neuron.
        dtype: of the parameters, except those of the neuron.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, c, i, j)``.

    Raises:
        ValueError: for channels below 1, a window that is even, or an input of another shape.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608 (the
    mixer of Max-Former's second stage)

    Differs from the released code: no bias of the convolution, which the batch norm takes out again.

    >>> SpikingDepthwise(4)(torch.randn(2, 3, 4, 8, 8)).shape
    torch.Size([2, 3, 4, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 3,
        neuron: Callable[[], nn.Module] = LIFNeuron,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        require_odd(name, kernel_size=kernel_size)
        require_callable(name, neuron=neuron)
        self.channels, self.kernel_size = channels, kernel_size
        window = {"padding": kernel_size // 2, "groups": channels, "bias": False}
        self.mix = nn.Sequential(
            neuron(),
            PerFrame(
                nn.Conv2d(channels, channels, kernel_size, **window, **factory),
                nn.BatchNorm2d(channels, **factory),
            ),
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t c i j"]:
        _require_frames(x, self.channels, self)
        return x + self.mix(x)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}"


@implements(
    "max-former",
    example=lambda: (
        SpikingMixerBlock(4, PerFrame(nn.MaxPool2d(3, 1, 1))),
        2 * torch.randn(3, 2, 4, 3, 5),
    ),
    mixes_batch=True,
    exceptions=_FRAMES,
)
class SpikingMixerBlock(nn.Module):
    r"""Mix tokens with anything, then mix channels by an MLP whose linear maps see only zeros and ones.

    .. math:: y = T(x), \qquad
        z = y + \mathrm{BN}\bigl(W_2\, \mathrm{LIF}(\mathrm{BN}(W_1\, \mathrm{LIF}(y)))\bigr)

    The skips carry the membrane, not the spikes. The mixer has no skip but its own: a pooling replaces the
    membrane by its maximum or average, before any neuron has fired.

    Args:
        channels: c.
        mixer: T, from ``(b, t, c, i, j)`` to the same shape: :class:`PerFrame` of a pooling,
            :class:`SpikingDepthwise`, ``nn.Identity()``.
        hidden_dim: width of the channel MLP, 4 c unless given.
        neuron: builds the nonlinearity; ``nn.GELU`` gives the same network without spikes.
        device: of the parameters, except those of mixer and neurons.
        dtype: of the parameters, except those of mixer and neurons.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, c, i, j)``.

    Raises:
        ValueError: for a width below 1, or an input of another shape.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608. Its
    Max-Former mixes nothing in the first stage, takes :class:`SpikingDepthwise` in the second and spiking
    attention, which is not here, in the third.

    Differs from the released code: no biases of the convolutions, which the batch norms take out again; no
    third skip around the first half of an MLP that is as wide as its input.

    >>> block = SpikingMixerBlock(4, PerFrame(nn.MaxPool2d(3, stride=1, padding=1)))
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
        hidden_dim = 4 * channels if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        self.channels = channels
        norm = partial(nn.BatchNorm2d, **factory)
        self.mix_tokens = mixer
        self.mix_channels = nn.Sequential(
            neuron(),
            PerFrame(nn.Conv2d(channels, hidden_dim, 1, bias=False, **factory), norm(hidden_dim)),
            neuron(),
            PerFrame(nn.Conv2d(hidden_dim, channels, 1, bias=False, **factory), norm(channels)),
        )

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t c i j"]:
        _require_frames(x, self.channels, self)
        x = self.mix_tokens(x)
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
    r"""Halve a map by maxima over the membrane, in the path and in its shortcut.

    .. math:: s = \mathrm{LIF}(x), \qquad u = \mathrm{MaxPool}_{3, /2}\bigl(\mathrm{BN}(K_1 * s)\bigr),
        \qquad y = \mathrm{BN}\bigl(K_2 * \mathrm{LIF}(u)\bigr)
        + \mathrm{MaxPool}_{3, /2}\bigl(\mathrm{BN}(W s)\bigr)

    :math:`K_1` and :math:`K_2` are convolutions of 3 x 3, W is one of 1 x 1.

    Args:
        in_channels: channels c that enter.
        out_channels: channels o that leave.
        neuron: builds the nonlinearity.
        device: of the parameters, except those of the neurons.
        dtype: of the parameters, except those of the neurons.

    Shape: ``(b, t, c, i, j)`` to ``(b, t, o, ceil(i/2), ceil(j/2))``.

    Raises:
        ValueError: for channels below 1, or an input of another shape.
        TypeError: for an argument of another type, or an input of another dtype.

    Paper: Spiking Neural Networks Need High Frequency Information - https://arxiv.org/abs/2505.18608

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

        def convolution(entering: int, kernel_size: int) -> tuple[nn.Module, nn.Module]:
            padding = kernel_size // 2
            return (
                nn.Conv2d(entering, out_channels, kernel_size, padding=padding, bias=False, **factory),
                nn.BatchNorm2d(out_channels, **factory),
            )

        halve = partial(nn.MaxPool2d, 3, stride=2, padding=1)
        self.neuron = neuron()
        self.path = nn.Sequential(
            PerFrame(*convolution(in_channels, 3), halve()),
            neuron(),
            PerFrame(*convolution(out_channels, 3)),
        )
        self.shortcut = PerFrame(*convolution(in_channels, 1), halve())

    def forward(self, x: Float[Tensor, "b t c i j"]) -> Float[Tensor, "b t o k l"]:
        _require_frames(x, self.in_channels, self)
        spikes = self.neuron(x)
        return self.path(spikes) + self.shortcut(spikes)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"
