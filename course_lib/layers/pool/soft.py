"""A mean that the values weigh themselves, and what any pooling loses on the way down and back."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_image, require_number, require_positive
from course_lib.registry import implements

torch.fx.wrap("soft_pool2d")


def soft_pool2d_naive(
    x: Float[Tensor, "b c i j"], kernel_size: int, *, stride: int | None = None
) -> Float[Tensor, "b c _ _"]:
    r"""The quotient of two average poolings: fast, but the exponential overflows beyond 88 in float32.

    .. math:: y = \frac{\operatorname{avg}(e^a a)}{\operatorname{avg}(e^a)}

    >>> soft_pool2d_naive(torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]]), 2).round(decimals=3)
    tensor([[[[3.7920]]]])
    """
    weights = x.exp()
    pooled = F.avg_pool2d(weights * x, kernel_size, stride), F.avg_pool2d(weights, kernel_size, stride)
    return pooled[0] / pooled[1]


@implements("softpool")
def soft_pool2d(
    x: Float[Tensor, "b c i j"], kernel_size: int, *, stride: int | None = None, beta: float = 1.0
) -> Float[Tensor, "b c _ _"]:
    r"""The mean of every window, each value weighted by its own exponential.

    .. math:: y = \sum_i w_i a_i, \qquad w_i = \frac{e^{\beta a_i}}{\sum_j e^{\beta a_j}}, \qquad
        \frac{\partial y}{\partial a_i} = w_i\, (1 + \beta (a_i - y))

    The result lies between the mean (:math:`\beta = 0`) and the maximum (:math:`\beta \to \infty`). Every
    value gets a gradient; it is *negative* for values more than :math:`1/\beta` below the result.

    Args:
        x: images.
        kernel_size: side k of the window.
        stride: step from window to window, k unless given; what no window covers is left out.
        beta: inverse temperature of the weights.

    Shape: ``(b, c, i, j)`` to ``(b, c, (i - k) // stride + 1, (j - k) // stride + 1)``.

    Raises:
        ValueError: for a window larger than the image, or anything but images.
        TypeError: for sizes that are no integers, or an input that is not real.

    Paper: Refining activation downsampling with SoftPool - https://arxiv.org/abs/2101.00440

    Values agree with the authors' kernel for GPUs (``tests/vectors``).

    Differs from the paper: ``beta`` (theirs is 1); and the maximum of each *window* is subtracted before the
    exponential, so nothing overflows and no quiet window becomes 0/0 beside a loud one. The authors' kernel
    sends back :math:`w_i` times the gradient, as if the weights were constants; here it is the derivative.
    Their function for CPUs is another layer: it weighs every position by the sum of :math:`e^a` over all
    channels, and cuts the result at 0.

    >>> x = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]])
    >>> [round(soft_pool2d(x, 2, beta=b).item(), 2) for b in (0.0, 1.0, 100.0)]
    [1.0, 3.79, 4.0]
    """
    stride = kernel_size if stride is None else stride
    require_positive("soft_pool2d", kernel_size=kernel_size, stride=stride)
    require_image(x, None, "soft_pool2d")
    if x.shape[2] < kernel_size or x.shape[3] < kernel_size:
        raise ValueError(
            f"soft_pool2d: windows of {kernel_size} x {kernel_size} do not fit an image of "
            f"{x.shape[2]} x {x.shape[3]}"
        )
    if stride != kernel_size or torch.compiler.is_exporting():  # cutting to whole windows would fix the sides
        windows = x.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(-2)
        return ((beta * windows).softmax(-1) * windows).sum(-1)
    scores = beta * x  # windows that do not overlap: subtract each one's maximum, then two average poolings
    peak = F.max_pool2d(scores.detach(), stride)
    peak = peak.repeat_interleave(stride, dim=2).repeat_interleave(stride, dim=3)
    left_out = (0, x.shape[3] - peak.shape[3], 0, x.shape[2] - peak.shape[2])
    peak = F.pad(peak, left_out, value=math.inf)  # weight 0 for the rows and columns of no window
    weights = (scores - peak).exp()
    return F.avg_pool2d(weights * x, stride) / F.avg_pool2d(weights, stride)


@implements("softpool", example=lambda: (SoftPool2d(2), torch.randn(2, 3, 5, 7)))
class SoftPool2d(nn.Module):
    r"""Pool every window to the softmax-weighted mean of its own values; no parameters.

    .. math:: y = \sum_i \frac{e^{\beta a_i}}{\sum_j e^{\beta a_j}}\, a_i

    Args:
        kernel_size: side k of the window.
        stride: step from window to window, k unless given.
        beta: inverse temperature: 0 averages, infinity takes the maximum.

    Shape: ``(b, c, i, j)`` to ``(b, c, (i - k) // stride + 1, (j - k) // stride + 1)``.

    Raises:
        ValueError: for a window larger than the image, or anything but images.
        TypeError: for sizes that are no integers, or an input that is not real.

    Paper: Refining activation downsampling with SoftPool - https://arxiv.org/abs/2101.00440 (see
    :func:`soft_pool2d` for what differs)

    >>> SoftPool2d(2)(torch.randn(1, 3, 9, 8)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, kernel_size: int, *, stride: int | None = None, beta: float = 1.0) -> None:
        super().__init__()
        stride = kernel_size if stride is None else stride
        require_positive(type(self).__name__, kernel_size=kernel_size, stride=stride)
        require_number(type(self).__name__, beta=beta)
        self.kernel_size, self.stride, self.beta = kernel_size, stride, beta

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c _ _"]:
        require_image(x, None, self)
        return soft_pool2d(x, self.kernel_size, stride=self.stride, beta=self.beta)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, beta={self.beta}"


class PoolingLoss(NamedTuple):
    """What :func:`pooling_information_loss` measures.

    Attributes:
        error: mean squared error of the restored image.
        bright_energy: energy of the restored image at the brightest pixels, as a share of what was there.
    """

    error: float
    bright_energy: float


@implements("softpool")
@torch.no_grad()
def pooling_information_loss(
    image: Float[Tensor, "b c i j"],
    pool: Callable[[Tensor], Tensor],
    *,
    unpool: Callable[[Tensor], Tensor] | None = None,
    bright: float = 0.05,
) -> PoolingLoss:
    r"""Pool an image, bring it back to its size, and compare.

    .. math:: \text{error} = \operatorname{mean}\,(U(P(x)) - x)^2, \qquad
        \text{bright energy} = \frac{\sum_{i \in B} U(P(x))_i^2}{\sum_{i \in B} x_i^2}

    with B the brightest pixels. With nearest copying no pooling can beat the average in error: each window is
    restored to a constant, and the constant with the least squared error is the mean. What lies between mean
    and maximum lies between them in error too.

    Args:
        image: values of any range.
        pool: from ``(b, c, i, j)`` to something smaller.
        unpool: back to the size of the image; None copies each value over its window (nearest).
        bright: share of all pixels that counts as bright.

    Shape: ``(b, c, i, j)`` to two numbers.

    Raises:
        ValueError: if the restored image has another shape.

    Paper: Refining activation downsampling with SoftPool - https://arxiv.org/abs/2101.00440, which compares
    by structural similarity; squared error and bright energy are our choice, since both have a closed form.

    >>> x = torch.tensor([[[[0.0, 0.0], [0.0, 4.0]]]])
    >>> pooling_information_loss(x, nn.AvgPool2d(2), bright=0.25)
    PoolingLoss(error=3.0, bright_energy=0.0625)
    """
    pooled = pool(image)
    restored = unpool(pooled) if unpool else F.interpolate(pooled, size=image.shape[2:], mode="nearest")
    if restored.shape != image.shape:
        raise ValueError(f"restored to {tuple(restored.shape)} instead of {tuple(image.shape)}")
    count = max(1, round(bright * image.numel()))
    brightest = image.flatten().topk(count).indices
    energy = restored.flatten()[brightest].square().sum() / image.flatten()[brightest].square().sum()
    return PoolingLoss((restored - image).square().mean().item(), energy.item())
