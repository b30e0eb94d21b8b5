"""The eighteen functions of the survey in one registry, and their properties, computed."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.layers.activation.elementwise import PAU, PDELU, SRS, ABReLU, ElliottSigmoid, LiSHT, Swish
from course_lib.registry import implements

#: Name to class: called without arguments it gives a fresh module that maps any shape to the same.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Elliott": ElliottSigmoid,
    "ReLU": nn.ReLU,
    "LReLU": nn.LeakyReLU,
    "PReLU": nn.PReLU,
    "ELU": nn.ELU,
    "SELU": nn.SELU,
    "GELU": nn.GELU,
    "CELU": nn.CELU,
    "Softplus": nn.Softplus,
    "Swish": Swish,
    "ABReLU": ABReLU,
    "LiSHT": LiSHT,
    "SRS": SRS,
    "Mish": nn.Mish,
    "PAU": PAU,
    "PDELU": PDELU,
}

#: The survey's classes; where a function fits two, the choice is ours.
ACTIVATION_FAMILIES: dict[str, tuple[str, ...]] = {
    "sigmoid and tanh": ("Sigmoid", "Tanh", "Elliott", "LiSHT"),
    "rectified": ("ReLU", "LReLU", "PReLU", "ABReLU"),
    "exponential": ("ELU", "SELU", "CELU", "PDELU"),
    "learned": ("Swish", "SRS", "PAU"),
    "other": ("GELU", "Softplus", "Mish"),
}


@dataclass(frozen=True)
class ActivationProperties:
    """What :func:`activation_properties` found out about a function.

    Attributes:
        low, high: the range; infinite where the function still grows at a million.
        monotone: it never falls.
        zero_centred: f(0) = 0.
        smooth: its slope has no jump.
        max_slope: largest :math:`|f'|`.
        saturates_left, saturates_right: :math:`|f'| < 0.001` at -10, at 10.
        parameters: learned numbers.
        mean, variance: of f(z) for a standard normal z.
    """

    low: float
    high: float
    monotone: bool
    zero_centred: bool
    smooth: bool
    max_slope: float
    saturates_left: bool
    saturates_right: bool
    parameters: int
    mean: float
    variance: float

    @property
    def bounded(self) -> bool:
        """Finite on both sides."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@implements("activation-survey")
def activation_properties(f: Callable[[Tensor], Tensor]) -> ActivationProperties:
    r"""Range, monotony, smoothness, saturation and moments of an element-wise function, read off a fine grid.

    The function and its slope (by autograd) are taken in float64 at 20 000 points of [-10, 10] that avoid
    zero. The range takes in both tails up to a million. The slope has a jump if two neighbours, 0.001 apart,
    differ by more than 0.01. The moments are

    .. math:: \mu = \int f(z)\, \varphi(z)\, dz, \qquad \sigma^2 = \int f(z)^2\, \varphi(z)\, dz - \mu^2

    Args:
        f: a function or a module; a module is copied and put into evaluation mode.

    Raises:
        ValueError: if f does not keep the shape or is not finite on [-10, 10].

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545 (the survey types its table of properties; here it is computed)

    >>> found = activation_properties(torch.relu)
    >>> found.low, found.high, found.smooth, round(found.mean, 3)
    (0.0, inf, False, 0.399)
    """
    parameters = sum(p.numel() for p in f.parameters()) if isinstance(f, nn.Module) else 0
    f = copy.deepcopy(f).double().eval() if isinstance(f, nn.Module) else f
    step = 1e-3
    x = (torch.arange(20_000, dtype=torch.float64) - 9_999.5) * step
    y, slope = _values_and_slopes(f, x)
    if y.shape != x.shape or not y.isfinite().all():
        raise ValueError(
            f"expected finite values of shape {tuple(x.shape)}, got {tuple(y.shape)}; element-wise?"
        )
    density = torch.exp(-0.5 * x.square()) * step / math.sqrt(2 * math.pi)
    mean = (density * y).sum().item()
    low, high = _range(f, y)
    _, ends = _values_and_slopes(f, torch.tensor([-10.0, 10.0], dtype=torch.float64))
    zero = torch.zeros(1, dtype=torch.float64)
    return ActivationProperties(
        low=low,
        high=high,
        monotone=bool((slope >= -1e-9).all()),
        zero_centred=abs(f(zero).item()) < 1e-9,
        smooth=bool(slope.diff().abs().max() < 0.01),
        max_slope=slope.abs().max().item(),
        saturates_left=abs(ends[0].item()) < 1e-3,
        saturates_right=abs(ends[1].item()) < 1e-3,
        parameters=parameters,
        mean=mean,
        variance=(density * y.square()).sum().item() - mean**2,
    )


def _values_and_slopes(f: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    with torch.enable_grad():
        y = f(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


@torch.no_grad()
def _range(f: Callable[[Tensor], Tensor], inside: Tensor) -> tuple[float, float]:
    """Smallest and largest value; infinite where a tail still grows by more than 1000 at its end."""
    tail = torch.logspace(1, 6, 51, dtype=torch.float64)
    tails = torch.stack([f(-tail), f(tail)])
    growth = tails[:, -1] - tails[:, -11]  # from 1e5 to 1e6
    values = torch.cat([inside, tails.flatten()])
    low = -math.inf if (growth < -1e3).any() else values.min().item()
    high = math.inf if (growth > 1e3).any() else values.max().item()
    return low, high
