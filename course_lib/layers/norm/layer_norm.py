"""Layer, root-mean-square and batch normalisation: three choices of what to average over."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = [
    "BatchNorm",
    "LayerNorm",
    "LayerNormRNNCell",
    "RMSNorm",
    "batch_norm_naive",
    "invariance_table",
    "layer_norm",
    "layer_norm_naive",
    "rms_norm",
    "rms_norm_naive",
]


def layer_norm_naive(
    x: Float[Tensor, "*b d"],
    weight: Float[Tensor, "d"] | None = None,
    bias: Float[Tensor, "d"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*b d"]:
    r"""Layer normalisation as the paper writes it.

    .. math:: y = g \odot \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + b, \qquad
        \mu = \tfrac1d \sum_i x_i, \quad \sigma^2 = \tfrac1d \sum_i (x_i - \mu)^2

    >>> layer_norm_naive(torch.tensor([1.0, 2.0, 3.0])).round(decimals=3)
    tensor([-1.2250,  0.0000,  1.2250])
    """
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)  # biased: torch.var would divide by d - 1
    y = centred / torch.sqrt(variance + eps)
    y = y if weight is None else weight * y
    return y if bias is None else y + bias


def layer_norm(
    x: Float[Tensor, "*b d"],
    weight: Float[Tensor, "d"] | None = None,
    bias: Float[Tensor, "d"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "*b d"]:
    """Layer normalisation in one fused call; equals :func:`layer_norm_naive`.

    >>> layer_norm(torch.tensor([1.0, 2.0, 3.0])).round(decimals=3)
    tensor([-1.2250,  0.0000,  1.2250])
    """
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


@implements(
    "layer-normalization", example=lambda: (LayerNorm(6), torch.randn(2, 5, 6)), permutation_equivariant=True
)
class LayerNorm(nn.Module):
    r"""Standardise the features of each sample, whatever the rest of the batch holds.

    .. math:: y = g \odot \frac{x - \mu(x)}{\sqrt{\sigma^2(x) + \epsilon}} + b

    Args:
        dim: width d of the last axis.
        eps: added to the variance, inside the root.
        weight: learn the gain g (starts at one).
        bias: learn the shift b (starts at zero).

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: if the last axis is not ``dim`` wide.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450

    Differs from torch: one trailing axis only; ``weight`` and ``bias`` can be left out one by one.

    >>> LayerNorm(3)(torch.tensor([[1.0, 2.0, 3.0]])).detach().round(decimals=3)
    tensor([[-1.2250,  0.0000,  1.2250]])
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, weight: bool = True, bias: bool = True, device=None, dtype=None) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.empty(dim, device=device, dtype=dtype)) if weight else None
        self.bias = nn.Parameter(torch.empty(dim, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain one, shift zero: the layer starts as pure standardisation."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, f"LayerNorm({self.dim})")
        return layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}"


def rms_norm_naive(
    x: Float[Tensor, "*b d"], weight: Float[Tensor, "d"] | None = None, eps: float = 1e-5
) -> Float[Tensor, "*b d"]:
    r"""Divide by the root mean square; nothing is subtracted.

    .. math:: y = g \odot \frac{x}{\sqrt{\tfrac1d \sum_i x_i^2 + \epsilon}}

    >>> rms_norm_naive(torch.tensor([3.0, 4.0])).round(decimals=3)
    tensor([0.8490, 1.1310])
    """
    y = x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)
    return y if weight is None else weight * y


def rms_norm(
    x: Float[Tensor, "*b d"], weight: Float[Tensor, "d"] | None = None, eps: float = 1e-5
) -> Float[Tensor, "*b d"]:
    """Root-mean-square normalisation in one fused call; equals :func:`rms_norm_naive`.

    >>> rms_norm(torch.tensor([3.0, 4.0])).round(decimals=3)
    tensor([0.8490, 1.1310])
    """
    return F.rms_norm(x, x.shape[-1:], weight, eps)


@implements(
    "layer-normalization", example=lambda: (RMSNorm(6), torch.randn(2, 5, 6)), permutation_equivariant=True
)
class RMSNorm(nn.Module):
    r"""Layer normalisation without the mean: scaling only.

    .. math:: y = g \odot \frac{x}{\sqrt{\tfrac1d \sum_i x_i^2 + \epsilon}}

    Args:
        dim: width d of the last axis.
        eps: added to the mean square, inside the root.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: if the last axis is not ``dim`` wide.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450 (the variant without re-centring came later,
    https://arxiv.org/abs/1910.07467)

    Differs from torch: ``eps`` is 1e-5, where ``torch.nn.RMSNorm`` takes the machine epsilon of the input's
    type.

    >>> RMSNorm(2)(torch.tensor([[3.0, 4.0]])).detach().round(decimals=3)
    tensor([[0.8490, 1.1310]])
    """

    def __init__(self, dim: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain one."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, f"RMSNorm({self.dim})")
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}"


def batch_norm_naive(
    x: Float[Tensor, "*b d"], weight: Float[Tensor, "d"], bias: Float[Tensor, "d"], eps: float = 1e-5
) -> Float[Tensor, "*b d"]:
    r"""Batch normalisation of a training batch: each feature over all samples (and tokens).

    .. math:: y_{nk} = g_k \frac{x_{nk} - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + b_k, \qquad
        \mu_k = \tfrac1N \sum_n x_{nk}, \quad \sigma_k^2 = \tfrac1N \sum_n (x_{nk} - \mu_k)^2

    >>> batch_norm_naive(torch.tensor([[1.0], [3.0]]), torch.ones(1), torch.zeros(1)).round(decimals=3).T
    tensor([[-1.,  1.]])
    """
    rows = x.reshape(-1, x.shape[-1])  # (n, d): every leading axis counts as samples
    centred = x - rows.mean(0)
    variance = (rows - rows.mean(0)).square().mean(0)
    return weight * centred / torch.sqrt(variance + eps) + bias


@implements("layer-normalization", example=lambda: (BatchNorm(6), torch.randn(4, 5, 6)), mixes_batch=True)
class BatchNorm(nn.Module):
    r"""Standardise each feature over the batch; the peer that layer normalisation transposes.

    .. math:: y_{nk} = g_k \frac{x_{nk} - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + b_k

    In training, the mean and the biased variance of the batch; in evaluation, running averages.

    Args:
        dim: width d of the last axis.
        eps: added to the variance, inside the root.
        momentum: weight of the newest batch in the running averages.

    Shape: ``(*b, d)`` to ``(*b, d)``; all leading axes are samples.

    Raises:
        ValueError: if the last axis is not ``dim`` wide, or in training with a single sample.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450 (compares with batch normalisation,
    https://arxiv.org/abs/1502.03167)

    Differs from torch: features come last, so that one layer serves ``(b, d)`` and ``(b, t, d)``. As in
    torch the running average keeps the *unbiased* variance although the batch is normalised with the biased
    one.

    >>> BatchNorm(1)(torch.tensor([[1.0], [3.0]])).detach().round(decimals=3).T
    tensor([[-1.,  1.]])
    """

    def __init__(self, dim: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.dim, self.eps, self.momentum = dim, eps, momentum
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))
        self.register_buffer("running_mean", torch.empty(dim))
        self.register_buffer("running_var", torch.empty(dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain one, shift zero, running statistics of a standard normal input."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, f"BatchNorm({self.dim})")
        rows = x.reshape(-1, self.dim)
        if self.training and len(rows) == 1:
            raise ValueError(
                "BatchNorm cannot train on a single sample (its variance is 0); use LayerNorm or a batch"
            )
        if self.training and len(rows) == 0:
            return x.clone()  # an empty batch has no statistics and must not spoil the running ones
        y = F.batch_norm(
            rows,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
        return y.reshape(x.shape)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, momentum={self.momentum}"


@implements(
    "layer-normalization", example=lambda: (LayerNormRNNCell(4, 6), torch.randn(3, 4), torch.randn(3, 6))
)
class LayerNormRNNCell(nn.Module):
    r"""One step of a plain recurrent network whose summed input is layer-normalised at every time step.

    .. math:: h_t = \tanh\bigl(\mathrm{LN}(W_{hh} h_{t-1} + W_{xh} x_t;\, g, b)\bigr)

    Args:
        input_dim: width of the input x.
        dim: width of the state h.

    Shape: input ``(*b, input_dim)`` and state ``(*b, d)`` to the next state ``(*b, d)``.

    Raises:
        ValueError: if an input has the wrong width.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450

    Differs from ``torch.nn.RNNCell``: no bias in the two matrices, since the norm brings its own shift.

    >>> LayerNormRNNCell(4, 6)(torch.zeros(2, 4), torch.zeros(2, 6)).shape
    torch.Size([2, 6])
    """

    def __init__(self, input_dim: int, dim: int) -> None:
        super().__init__()
        self.input_dim, self.dim = input_dim, dim
        self.from_input = nn.Linear(input_dim, dim, bias=False)
        self.from_state = nn.Linear(dim, dim, bias=False)
        self.norm = LayerNorm(dim)

    def forward(self, x: Float[Tensor, "*b i"], state: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.input_dim, f"LayerNormRNNCell({self.input_dim}, {self.dim})")
        require_width(state, self.dim, f"the state of LayerNormRNNCell({self.input_dim}, {self.dim})")
        return torch.tanh(self.norm(self.from_state(state) + self.from_input(x)))


def _weight_norm_linear(x: Float[Tensor, "b i"], weight: Float[Tensor, "o i"]) -> Float[Tensor, "b o"]:
    """A linear map whose rows are divided by their length: weight normalisation with gain one."""
    return x @ F.normalize(weight, dim=1).T


_NORMALISERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "batch norm": lambda x, w: batch_norm_naive(x @ w.T, w.new_ones(len(w)), w.new_zeros(len(w)), eps=1e-12),
    "weight norm": _weight_norm_linear,
    "layer norm": lambda x, w: layer_norm_naive(x @ w.T, eps=1e-12),
}


@implements("layer-normalization")
def invariance_table(
    normalisers: dict[str, Callable[[Tensor, Tensor], Tensor]] | None = None, *, seed: int = 0
) -> dict[str, dict[str, float]]:
    r"""How far the output of a normalised linear layer moves when its weights or its data are changed.

    Entry = :math:`\max |f(x', W') - f(x, W)|` in float64; an invariance shows as a number near 1e-12, a
    dependence as a number near 1.

    Args:
        normalisers: name to function of ``(x, weight)``; default batch, weight and layer normalisation.
        seed: of the random data, weights and shifts.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450 (its table of invariances). Re-centring the
    weight matrix adds one vector to all its rows; re-scalings are by positive factors.

    >>> table = invariance_table()
    >>> [table[norm]["single sample re-scaled"] < 1e-9 for norm in ("layer norm", "batch norm")]
    [True, False]
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, weight, shift = normal(32, 8), normal(16, 8), normal(8)
    first_row = torch.ones(16, 1, dtype=torch.float64)
    first_row[0] = 3.0
    first_sample = torch.ones(32, 1, dtype=torch.float64)
    first_sample[0] = 3.0
    changes = {
        "weight matrix re-scaled": (x, 3.0 * weight),
        "weight matrix re-centred": (x, weight + shift),
        "one weight row re-scaled": (x, first_row * weight),
        "data re-scaled": (3.0 * x, weight),
        "data re-centred": (x + shift, weight),
        "single sample re-scaled": (first_sample * x, weight),
    }
    return {
        name: {change: (f(*changed) - f(x, weight)).abs().max().item() for change, changed in changes.items()}
        for name, f in (normalisers or _NORMALISERS).items()
    }
