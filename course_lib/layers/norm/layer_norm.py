"""Layer, root-mean-square and batch normalisation: three choices of what to average over."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from course_lib.layers._shapes import require_eps, require_fraction, require_positive, require_width
from course_lib.registry import implements


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
        elementwise_affine: learn the gain g (starts at one), and the shift if ``bias`` says so.
        bias: learn the shift b (starts at zero).
        device: of the parameters.
        dtype: of the parameters; half precision may enter beside float32 parameters.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a width below 1, a negative ``eps``, or a last axis that is not ``dim`` wide.
        TypeError: for an input of integers, complex numbers, or more precise than the parameters.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450. Values as in the authors' code
    (https://github.com/ryankiros/layer-norm).

    Differs from torch: one trailing axis only. Arguments, parameters and their names are torch's, so the
    state of a ``torch.nn.LayerNorm`` loads.

    >>> LayerNorm(3)(torch.tensor([[1.0, 2.0, 3.0]])).detach().round(decimals=3)
    tensor([[-1.2250,  0.0000,  1.2250]])
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        *,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim)
        require_eps(type(self).__name__, eps)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.empty(dim, **factory)) if elementwise_affine else None
        self.bias = nn.Parameter(torch.empty(dim, **factory)) if elementwise_affine and bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain one, shift zero: the layer starts as pure standardisation."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self, mixed=True)
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
    if weight is None or isinstance(x, Proxy) or x.dtype == weight.dtype:
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    # torch has no fused kernel for two types, warns, and forms the squares in x's own range.
    return F.rms_norm(x.to(weight.dtype), x.shape[-1:], weight, eps).to(x.dtype)


@implements(
    "layer-normalization", example=lambda: (RMSNorm(6), torch.randn(2, 5, 6)), permutation_equivariant=True
)
class RMSNorm(nn.Module):
    r"""Layer normalisation without the mean: scaling only.

    .. math:: y = g \odot \frac{x}{\sqrt{\tfrac1d \sum_i x_i^2 + \epsilon}}

    Args:
        dim: width d of the last axis.
        eps: added to the mean square, inside the root.
        elementwise_affine: learn the gain g (starts at one).
        device: of the parameter.
        dtype: of the parameter; half precision may enter beside a float32 parameter.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a width below 1, a negative ``eps``, or a last axis that is not ``dim`` wide.
        TypeError: for an input of integers, complex numbers, or more precise than the parameter.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450 (the variant without re-centring came later,
    https://arxiv.org/abs/1910.07467)

    Differs from torch: ``eps`` is 1e-5, where ``torch.nn.RMSNorm`` takes the machine epsilon of the input's
    type.

    >>> RMSNorm(2)(torch.tensor([[3.0, 4.0]])).detach().round(decimals=3)
    tensor([[0.8490, 1.1310]])
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        *,
        elementwise_affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim)
        require_eps(type(self).__name__, eps)
        self.dim, self.eps = dim, eps
        gain = torch.empty(dim, device=device, dtype=dtype)
        self.weight = nn.Parameter(gain) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain one."""
        if self.weight is not None:
            nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self, mixed=True)
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
    r"""Standardise each feature by batch statistics; the peer that layer normalisation transposes.

    .. math:: y_{nk} = g_k \frac{x_{nk} - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + b_k

    In training, the mean and the biased variance of the batch; in evaluation, running averages.

    Args:
        dim: width d of the last axis.
        eps: added to the variance, inside the root.
        momentum: weight of the newest batch in the running averages.
        device: of parameters and running averages.
        dtype: of parameters and running averages; half precision may enter beside float32.

    Shape: ``(*b, d)`` to ``(*b, d)``; all leading axes are samples.

    Raises:
        ValueError: for a width below 1, a negative ``eps``, a momentum outside 0 to 1, a last axis that is
            not ``dim`` wide, or in training with a single sample.
        TypeError: for an input of integers, complex numbers, or more precise than the parameters.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450 (compares with batch normalisation,
    https://arxiv.org/abs/1502.03167)

    Differs from torch: features come last, so that one layer serves ``(b, d)`` and ``(b, t, d)``. Inside,
    ``norm`` is a ``torch.nn.BatchNorm1d`` that sees the rows: its state loads there, and
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` exchanges it. As there the running average keeps the
    *unbiased* variance although the batch is normalised with the biased one.

    >>> BatchNorm(1)(torch.tensor([[1.0], [3.0]])).detach().round(decimals=3).T
    tensor([[-1.,  1.]])
    """

    def __init__(
        self,
        dim: int,
        eps: float = 1e-5,
        *,
        momentum: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim)
        require_eps(type(self).__name__, eps)
        require_fraction(type(self).__name__, momentum=momentum)
        self.dim = dim
        self.norm = nn.BatchNorm1d(dim, eps, momentum, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self, mixed=True)
        rows = x.reshape(-1, self.dim)
        if self.training and not isinstance(x, Proxy):
            if len(rows) == 1:
                raise ValueError(
                    f"{type(self).__name__}({self.dim}) cannot train on a single sample (its variance is 0); "
                    "use LayerNorm or a batch"
                )
            if len(rows) == 0:
                return x.clone()  # an empty batch has no statistics and must not spoil the running ones
        return self.norm(rows).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"{self.dim}"


@implements(
    "layer-normalization", example=lambda: (LayerNormRNNCell(4, 6), torch.randn(3, 4), torch.randn(3, 6))
)
class LayerNormRNNCell(nn.Module):
    r"""One step of a plain recurrent network whose summed input is layer-normalised at every time step.

    .. math:: h_t = \tanh\bigl(\mathrm{LN}(W_{hh} h_{t-1} + W_{xh} x_t;\, g, b)\bigr)

    Args:
        input_size: width i of the input x.
        hidden_size: width d of the state h.
        device: of the parameters.
        dtype: of the parameters.

    Shape: input ``(*b, i)`` and state ``(*b, d)`` to the next state ``(*b, d)``.

    Raises:
        ValueError: for a size below 1, or an input or state of the wrong width.
        TypeError: for an input or state of another type than the parameters.

    Paper: Layer Normalization - https://arxiv.org/abs/1607.06450

    Differs from ``torch.nn.RNNCell``: no bias in the two matrices, since the norm brings its own shift. The
    authors' code has gated cells only, whose sums from the state and from the input are normalised apart,
    each with a gain and a shift; they are not here.

    >>> LayerNormRNNCell(4, 6)(torch.zeros(2, 4), torch.zeros(2, 6)).shape
    torch.Size([2, 6])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        factory = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size = input_size, hidden_size
        self.from_input = nn.Linear(input_size, hidden_size, bias=False, **factory)
        self.from_state = nn.Linear(hidden_size, hidden_size, bias=False, **factory)
        self.norm = LayerNorm(hidden_size, **factory)

    def forward(self, x: Float[Tensor, "*b i"], state: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.input_size, self)
        require_width(state, self.hidden_size, self, name="state")
        return torch.tanh(self.norm(self.from_state(state) + self.from_input(x)))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


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
