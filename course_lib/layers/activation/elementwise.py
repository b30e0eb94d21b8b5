"""Element-wise functions of the survey that torch lacks: a function and a thin module for each."""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_fraction,
    require_number,
    require_positive,
    require_real,
)
from course_lib.registry import implements


def elliott_sigmoid(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    r"""A sigmoid without an exponential.

    .. math:: f(x) = \frac{x / 2}{1 + |x|} + \frac12

    >>> elliott_sigmoid(torch.tensor([-1.0, 0.0, 3.0]))
    tensor([0.2500, 0.5000, 0.8750])
    """
    return 0.5 * x / (1 + x.abs()) + 0.5


@implements("activation-survey", example=lambda: (ElliottSigmoid(), torch.randn(2, 5, 6)))
class ElliottSigmoid(nn.Module):
    r"""A sigmoid without an exponential, whose tails fall like 1/x.

    .. math:: f(x) = \frac{x / 2}{1 + |x|} + \frac12

    Shape: any to the same.

    Raises:
        TypeError: for an input that is no tensor of real numbers.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    >>> ElliottSigmoid()(torch.tensor([-1.0, 0.0, 3.0]))
    tensor([0.2500, 0.5000, 0.8750])
    """

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self)
        return elliott_sigmoid(x)


def lisht(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    r"""The input times its own hyperbolic tangent: an even function.

    .. math:: f(x) = x \tanh x

    >>> lisht(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([1.9281, 0.0000, 1.9281])
    """
    return x * torch.tanh(x)


@implements("activation-survey", example=lambda: (LiSHT(), torch.randn(2, 5, 6)))
class LiSHT(nn.Module):
    r"""The input times its own hyperbolic tangent, so that the sign of the input is lost.

    .. math:: f(x) = x \tanh x

    Shape: any to the same.

    Raises:
        TypeError: for an input that is no tensor of real numbers.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    >>> LiSHT()(torch.tensor([-2.0, 0.0, 2.0]))
    tensor([1.9281, 0.0000, 1.9281])
    """

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self)
        return lisht(x)


@implements("activation-survey", example=lambda: (Swish(), torch.randn(2, 5, 6)))
class Swish(nn.Module):
    r"""The input times a sigmoid gate whose sharpness is learned.

    .. math:: f(x) = x\, \sigma(\beta x)

    Args:
        beta: where the learned sharpness starts; 0 is half the identity, a large one nearly the ReLU.
        device, dtype: of the parameters, as in torch.

    Shape: any to the same.

    Raises:
        ValueError: for a sharpness that is not finite.
        TypeError: for an argument or an input of another type.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    Differs from torch: ``torch.nn.SiLU`` is the case beta = 1, not learned. The survey's own
    code starts at 0.25.

    >>> Swish()(torch.tensor([2.0])).detach()
    tensor([1.7616])
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_number(type(self).__name__, beta=beta)
        self.initial_beta = beta
        self.beta = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the given sharpness."""
        nn.init.constant_(self.beta, self.initial_beta)

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self, mixed=True)
        return x * torch.sigmoid(self.beta[0] * x)

    def extra_repr(self) -> str:
        return f"beta={self.initial_beta}"


@implements("activation-survey", example=lambda: (ABReLU(), torch.randn(3, 5, 6)), mixes_batch=True)
class ABReLU(nn.Module):
    r"""A ReLU whose threshold is the average of what the layer sees.

    .. math:: f(x) = \max(0,\; x - \mu), \qquad \mu = \text{mean of all entries of the input batch}

    Args:
        momentum: weight of the newest batch in the running average.
        device, dtype: of the running average, as in torch.

    Shape: any to the same.

    Raises:
        ValueError: unless 0 <= momentum <= 1.
        TypeError: for an argument or an input of another type.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    Differs from the survey's code, which always takes the batch's own mean: in evaluation a running average
    takes its place, as in batch normalisation; otherwise a prediction would depend on which other samples
    are asked for with it.

    >>> ABReLU()(torch.tensor([1.0, 2.0, 6.0]))
    tensor([0., 0., 3.])
    """

    def __init__(
        self,
        *,
        momentum: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_fraction(type(self).__name__, momentum=momentum)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros((), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Forget the running average."""
        self.running_mean.zero_()

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self)
        mean = self.running_mean
        if self.training and x.numel():
            mean = x.mean()
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), self.momentum)
        return torch.relu(x - mean.to(x.dtype))

    def extra_repr(self) -> str:
        return f"momentum={self.momentum}"


def pdelu(x: Float[Tensor, "*b"], alpha: Float[Tensor, ""], t: float = 0.9) -> Float[Tensor, "*b"]:
    r"""Parametric deformable ELU: the exponential of an ELU replaced by a power that ends at zero.

    .. math:: f(x) = \begin{cases} x & x > 0 \\
        \alpha \bigl([1 + (1 - t) x]_+^{1 / (1 - t)} - 1\bigr) & x \le 0 \end{cases}

    The clamp matters: with t = 0.9 the power is 10, which is even, so without it f would grow again below
    x = -10. Near zero the power is close to 1; ``log1p`` and ``expm1`` keep the digits of the difference.

    >>> pdelu(torch.tensor([-20.0, -1.0, 2.0]), torch.tensor(1.0))
    tensor([-1.0000, -0.6513,  2.0000])
    """
    bent = (1 - t) * x.clamp(max=0)
    inside = bent > -1
    bent = torch.where(inside, bent, 0.0)  # not log(0): its gradient is infinite also where it is not used
    negative = torch.where(inside, torch.expm1(torch.log1p(bent) / (1 - t)), -1.0)
    return torch.where(x > 0, x, alpha * negative)


@implements("activation-survey", example=lambda: (PDELU(), torch.randn(2, 5, 6)))
class PDELU(nn.Module):
    r"""Parametric deformable ELU with a learned scale of its negative part.

    .. math:: f(x) = \begin{cases} x & x > 0 \\
        \alpha \bigl([1 + (1 - t) x]_+^{1 / (1 - t)} - 1\bigr) & x \le 0 \end{cases}

    Args:
        t: deformation; towards 1 the function becomes an ELU.
        alpha: where the learned scale starts.
        device, dtype: of the parameters, as in torch.

    Shape: any to the same.

    Raises:
        ValueError: unless 0 <= t < 1 and alpha is finite.
        TypeError: for an argument or an input of another type.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    Differs from the survey's public code, which writes zeros into its own input and so computes a plain ReLU.

    >>> PDELU()(torch.tensor([-20.0, -1.0, 2.0])).detach()
    tensor([-1.0000, -0.6513,  2.0000])
    """

    def __init__(
        self,
        *,
        t: float = 0.9,
        alpha: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_fraction(name, t=t)
        require_number(name, alpha=alpha)
        if t == 1:
            raise ValueError(f"{name}: t must be below 1, got {t}; for t = 1 use torch.nn.ELU")
        self.t, self.initial_alpha = t, alpha
        self.alpha = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the given scale."""
        nn.init.constant_(self.alpha, self.initial_alpha)

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self, mixed=True)
        return pdelu(x, self.alpha[0], self.t)

    def extra_repr(self) -> str:
        return f"t={self.t}, alpha={self.initial_alpha}"


def srs(x: Float[Tensor, "*b"], a: Float[Tensor, ""], b: Float[Tensor, ""]) -> Float[Tensor, "*b"]:
    r"""Soft-root-sign, in a form that neither overflows nor gives 0/0 gradients far from zero.

    .. math:: f(x) = \frac{x}{x/a + e^{-x/b}} = \frac{x\, e^{x/b}}{x\, e^{x/b} / a + 1}

    The first form serves x > 0, the second x <= 0. For b < e a there is no pole.

    >>> srs(torch.tensor([-1000.0, -1.0, 1.0]), torch.tensor(5.0), torch.tensor(3.0))
    tensor([-0.0000, -0.8364,  1.0911])
    """
    right = x.clamp(min=0)
    left = x.clamp(max=0)
    left = left * torch.exp(left / b)
    return torch.where(x > 0, right / (right / a + torch.exp(-right / b)), left / (left / a + 1))


@implements("activation-survey", example=lambda: (SRS(), torch.randn(2, 5, 6)))
class SRS(nn.Module):
    r"""Soft-root-sign: bounded on both sides, with learned height and steepness.

    .. math:: f(x) = \frac{x}{x/a + e^{-x/b}}

    Args:
        a: where the upper bound starts.
        b: where the width of the dip on the left starts.
        device, dtype: of the parameters, as in torch.

    Shape: any to the same.

    Raises:
        ValueError: unless 0 < b < e a, since f has a pole otherwise.
        TypeError: for an argument or an input of another type.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    Differs from the paper: the logarithms of a and b are the parameters, so that both stay positive. The
    survey's code takes absolute values, adds 0.01 to a, to b and to the denominator, and starts both at 10.

    >>> SRS()(torch.tensor([-1.0, 1.0])).detach()
    tensor([-0.8364,  1.0911])
    """

    def __init__(
        self,
        *,
        a: float = 5.0,
        b: float = 3.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_number(name, 0, open_low=True, a=a, b=b)
        if not b < math.e * a:
            raise ValueError(f"{name}: there is a pole unless b < e a, got a={a}, b={b}; try a=5, b=3")
        self.initial_a, self.initial_b = a, b
        self.log_a = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.log_b = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with the given bound and width."""
        self.log_a.fill_(self.initial_a).log_()
        self.log_b.fill_(self.initial_b).log_()

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self, mixed=True)
        return srs(x, self.log_a[0].exp(), self.log_b[0].exp())

    def extra_repr(self) -> str:
        return f"a={self.initial_a}, b={self.initial_b}"


def pade_activation(
    x: Float[Tensor, "*b"],
    numerator: Float[Tensor, "m"] | Sequence[Float[Tensor, ""]],
    denominator: Float[Tensor, "n"] | Sequence[Float[Tensor, ""]],
) -> Float[Tensor, "*b"]:
    r"""A quotient of two polynomials whose denominator cannot reach zero.

    .. math:: f(x) = \frac{\sum_{k=0}^{m-1} a_k x^k}{1 + \bigl| \sum_{k=1}^{n} b_k x^k \bigr|}

    Both sums are formed by Horner's rule, for :math:`|x| > 1` in powers of :math:`u = 1/x`: then no power
    overflows where the quotient does not.

    .. math:: f(x) = \frac{x^{m-1}}{|x|^n} \cdot
        \frac{\sum_k a_k u^{m-1-k}}{|u|^n + \bigl| \sum_k b_k u^{n-k} \bigr|}

    >>> pade_activation(torch.tensor([2.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0]))
    tensor([0.6667])
    """
    a, b = tuple(numerator), tuple(denominator)
    p, n = len(a) - 1, len(b)
    far = x.abs() > 1
    near = torch.where(far, 0.0, x)
    inside = _horner(near, a[::-1]) / (1 + (near * _horner(near, b[::-1])).abs())
    x = torch.where(far, x, 1.0)
    u = 1 / x
    growth = x.abs() ** (p - n) * (x.sign() if p % 2 else 1)
    outside = growth * _horner(u, a) / (u.abs() ** n + _horner(u, b).abs())
    return torch.where(far, outside, inside)


def _horner(x: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
    """The polynomial with these coefficients, the highest power first."""
    return functools.reduce(lambda value, c: value * x + c, coefficients, torch.zeros_like(x))


@functools.cache
def _leaky_relu_fit(slope: float) -> tuple[Tensor, Tensor]:
    return pade_fit(lambda x: nn.functional.leaky_relu(x, slope))


def pade_fit(
    f: Callable[[Tensor], Tensor], *, steps: int = 40
) -> tuple[Float[Tensor, "6"], Float[Tensor, "4"]]:
    r"""Coefficients of the quotient of degrees 5 and 4 that is close to a function on [-3, 3].

    Each step solves the linear least-squares problem

    .. math:: \min_{a,\, b} \sum_i
        \frac{\bigl(P_a(x_i) - f(x_i)\, (1 + s_i\, b \cdot (x_i, \dots, x_i^4))\bigr)^2}{Q_i^2}

    with the sign :math:`s_i` and the denominator :math:`Q_i` of the step before; the best step is kept.

    Args:
        f: the function to be imitated.
        steps: number of linear problems.

    Raises:
        ValueError: if f is not finite on [-3, 3], or there is no step.

    >>> numerator, denominator = pade_fit(torch.relu)
    >>> numerator.shape, denominator.shape
    (torch.Size([6]), torch.Size([4]))
    """
    require_positive("pade_fit", steps=steps)
    x = torch.linspace(
        -3, 3, 601, dtype=torch.float64, device="cpu"
    )  # also where modules are built on "meta"
    powers, target = torch.stack([x**k for k in range(6)], dim=1), f(x)
    if not target.isfinite().all():
        raise ValueError(f"pade_fit: f must be finite on [-3, 3], got {target[~target.isfinite()][0].item()}")
    sign, weight, best = torch.ones_like(x), torch.ones_like(x), None
    for _ in range(steps):
        system = torch.cat([powers, -(target * sign)[:, None] * powers[:, 1:5]], dim=1) / weight[:, None]
        solution = torch.linalg.lstsq(system, (target / weight)[:, None]).solution[:, 0]
        numerator, denominator = solution[:6], solution[6:]
        error = (pade_activation(x, numerator, denominator) - target).square().mean().item()
        if best is None or error < best[0]:
            best = error, numerator, denominator
        inside = powers[:, 1:5] @ denominator
        sign, weight = torch.where(inside < 0, -1.0, 1.0).to(x), 1 + inside.abs()
    return best[1], best[2]


@implements(
    "activation-survey",
    example=lambda: (PAU(), torch.randn(2, 5, 6)),
    exceptions={
        "wrong_last_dim": "its vectors hold coefficients; as an element-wise function it has no width"
    },
)
class PAU(nn.Module):
    r"""Padé activation unit: a learned rational function that starts as a leaky ReLU.

    .. math:: f(x) = \frac{a_0 + a_1 x + \dots + a_5 x^5}{1 + |b_1 x + \dots + b_4 x^4|}

    Args:
        slope: negative slope of the leaky ReLU to which the start is fitted.
        device, dtype: of the parameters, as in torch.

    Shape: any to the same.

    Raises:
        ValueError: for a slope that is not finite.
        TypeError: for an argument or an input of another type.

    Paper: Activation Functions in Deep Learning: A Comprehensive Survey and Benchmark -
    https://arxiv.org/abs/2109.14545

    Differs from the paper: our own fit on [-3, 3], see :func:`pade_fit`. The survey's code has another
    denominator, :math:`1 + |b_1 x| + \dots + |b_4 x^4|`, and coefficients of its own to start with.

    >>> PAU()(torch.tensor([-2.0, 2.0])).detach().round(decimals=1)
    tensor([-0., 2.])
    """

    def __init__(
        self,
        *,
        slope: float = 0.01,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_number(type(self).__name__, slope=slope)
        self.slope = slope
        self.numerator = nn.Parameter(torch.empty(6, device=device, dtype=dtype))
        self.denominator = nn.Parameter(torch.empty(4, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as close to the leaky ReLU as the quotient can be."""
        numerator, denominator = _leaky_relu_fit(self.slope)
        self.numerator.copy_(numerator)
        self.denominator.copy_(denominator)

    def forward(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        require_real(x, self, mixed=True)
        # one by one: 0-d coefficients leave the dtype of x alone, and torch.fx knows how many there are
        return pade_activation(
            x, [self.numerator[k] for k in range(6)], [self.denominator[k] for k in range(4)]
        )

    def extra_repr(self) -> str:
        return f"slope={self.slope}, numerator={len(self.numerator)}, denominator={len(self.denominator)}"
