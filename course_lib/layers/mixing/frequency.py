"""What is left of a mixer's character: which frequencies it passes, and which positions it joins."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.layers._shapes import require_image, require_positive
from course_lib.registry import implements


@implements("inception-transformer", "max-former")
def relative_log_amplitude(x: Float[Tensor, "b c i j"]) -> Float[Tensor, "n"]:
    r"""How strong each frequency of a feature map is, in natural logarithms, relative to frequency zero.

    .. math:: \Delta(k) = \log \mathop{\mathrm{mean}}_{\,|f| \,\approx\, k} \hat a(f) - \log \hat a(0), \qquad
        \hat a(f) = \mathop{\mathrm{mean}}_{b, c} \bigl| \mathrm{FFT}_2(x_{bc})(f) \bigr|

    :math:`|f|` is the larger of the row and the column frequency, so the rings k = 0, 1, ..., n/2 are
    squares, and the last one holds the fastest change that the grid can show.

    Args:
        x: feature maps, square.

    Shape: ``(b, c, i, j)`` to ``(floor(i/2) + 1,)``; the first entry is zero.

    Raises:
        ValueError: for maps that are not square, or what is no image.
        TypeError: for an input that is not real.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956 and Spiking Neural Networks Need High
    Frequency Information - https://arxiv.org/abs/2505.18608, which use the measure of
    https://arxiv.org/abs/2202.06709. Differs: the amplitudes are averaged before the logarithm, so that one
    channel with a mean of zero does not decide.

    >>> checkers = (torch.arange(4)[:, None] + torch.arange(4)) % 2 * 2.0
    >>> relative_log_amplitude(checkers[None, None]).isclose(torch.tensor([0.0, -torch.inf, 0.0])).tolist()
    [True, True, False]
    """
    require_image(x, None, "relative_log_amplitude")
    rows, columns = x.shape[-2:]
    if rows != columns:
        raise ValueError(f"relative_log_amplitude needs square maps, got {rows} x {columns}; crop them")
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # torch has no such transform of halves
    amplitude = torch.fft.fft2(x).abs().mean((0, 1))
    frequency = torch.fft.fftfreq(rows, 1 / rows, device=x.device).abs().round().long()
    ring = torch.maximum(frequency[:, None], frequency)
    means = torch.stack([amplitude[ring == k].mean() for k in range(rows // 2 + 1)])
    return means.log() - means[0].log()


@implements("inception-transformer", "max-former")
@torch.no_grad()
def frequency_response(mixer: Callable[[Tensor], Tensor], size: int = 32) -> Float[Tensor, "i j"]:
    r"""Gain of a linear, shift-invariant mixer of one channel at every frequency.

    .. math:: |H(f)| = \bigl|\mathrm{FFT}_2(T(\delta))(f)\bigr|

    Args:
        mixer: T, from ``(b, 1, i, j)`` to ``(b, 1, i, j)``; of a nonlinear one this is only the answer to an
            impulse.
        size: side of the grid.

    Shape: ``(size, size)``; entry (k, l) belongs to the frequencies 2 pi k / size and 2 pi l / size.

    Raises:
        ValueError: for a size below 1.
        TypeError: for a size that is no integer.

    Paper: Inception Transformer - https://arxiv.org/abs/2205.12956 and Spiking Neural Networks Need High
    Frequency Information - https://arxiv.org/abs/2505.18608

    >>> average = torch.nn.AvgPool2d(3, stride=1, padding=1)
    >>> gain = frequency_response(average, size=8)
    >>> gain[0, 0].round(decimals=3), gain[4, 0].round(decimals=3)  # at 0 and at pi
    (tensor(1.), tensor(0.3330))
    """
    require_positive("frequency_response", size=size)
    impulse = torch.zeros(1, 1, size, size)
    impulse[..., size // 2, size // 2] = 1.0
    return torch.fft.fft2(mixer(impulse) - mixer(torch.zeros_like(impulse))).abs()[0, 0]


@implements("metaformer", "ms-mlp", "spiral-mlp")
def reach_map(
    mixer: Callable[[Tensor], Tensor], x: Float[Tensor, "b c i j"], *, position: tuple[int, int] | None = None
) -> Float[Tensor, "i j"]:
    r"""Which pixels one output position depends on, and how strongly: a receptive field by gradient.

    .. math:: m_{kl} = \sum_{b, c}
        \Bigl| \frac{\partial}{\partial x_{bckl}} \sum_{c'} r_{c'}\, y_{bc'ij} \Bigr|

    The :math:`r_{c'}` are fixed random weights, so that no contribution cancels.

    Args:
        mixer: a layer or any function from ``(b, c, i, j)`` to ``(b, o, i, j)``.
        x: where the gradient is taken.
        position: the output position (i, j), the centre unless given.

    Shape: ``(i, j)``.

    Raises:
        ValueError: for what is no image.
        TypeError: for an input that is not real.

    Paper: MetaFormer Is Actually What You Need for Vision - https://arxiv.org/abs/2111.11418, Mixing and
    Shifting: Exploiting Global and Local Dependencies in Vision MLPs - https://arxiv.org/abs/2202.06510 and
    SpiralMLP: A Lightweight Vision MLP Architecture - https://arxiv.org/abs/2404.00648

    >>> reach_map(torch.nn.AvgPool2d(3, stride=1, padding=1), torch.zeros(1, 1, 5, 5)).count_nonzero()
    tensor(9)
    """
    require_image(x, None, "reach_map")
    i, j = (x.shape[2] // 2, x.shape[3] // 2) if position is None else position
    x = x.detach().clone().requires_grad_()
    y = mixer(x)[:, :, i, j]
    weights = torch.randn(y.shape[1], generator=torch.Generator().manual_seed(0)).to(y)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    return gradient.abs().sum((0, 1))
