"""Means of every order over positions: the average, the maximum and all between, with a learned order."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy

from course_lib.layers._shapes import (
    layer_name,
    require_divides,
    require_number,
    require_real,
    require_tokens,
)
from course_lib.registry import implements

torch.fx.wrap("generalized_mean")


def generalized_mean_naive(
    x: Float[Tensor, "b t d"], p: Float[Tensor, "d"], *, eps: float = 1e-6
) -> Float[Tensor, "b d"]:
    r"""The equation as written: power, average, root. In float32 small values vanish in the power.

    .. math:: f_d = \Bigl(\tfrac1T \sum_t \max(x_{td}, \epsilon)^{p_d}\Bigr)^{1/p_d}

    >>> generalized_mean_naive(torch.tensor([[[1.0], [7.0]]]), torch.tensor([2.0]))
    tensor([[5.]])
    """
    return x.clamp(min=eps).pow(p).mean(1).pow(1 / p)


@implements("group-gem-pooling")
def generalized_mean(
    x: Float[Tensor, "b t d"], p: Float[Tensor, "d"], *, eps: float = 1e-6
) -> Float[Tensor, "b d"]:
    r"""The mean of order p over positions, channel by channel, computed with logarithms.

    .. math:: f_d = \exp \frac{\operatorname{logsumexp}_t(p_d \ln x_{td}) - \ln T}{p_d}, \qquad
        x \leftarrow \max(x, \epsilon)

    Order 1 is the average, infinity the maximum, minus infinity the minimum; f grows with p.

    Args:
        x: tokens; values below ``eps`` count as ``eps``.
        p: one order per channel, positive or negative, not 0 (whose limit is the geometric mean).
        eps: smallest value that counts: a power of a negative number is not real.

    Shape: ``(b, t, d)`` and ``(d,)`` to ``(b, d)``.

    Raises:
        ValueError: if there is not one order per channel, or no position.
        TypeError: for anything but real numbers.

    Paper: Group Generalized Mean Pooling for Vision Transformer - https://arxiv.org/abs/2212.04114

    Differs from the formula in the order of steps only: :math:`10^{-6}` to the power 3 is lost in float32
    sums, and 20 to the power 40 overflows; their logarithms do neither.

    >>> x = torch.tensor([[[1.0], [7.0]]])
    >>> [round(generalized_mean(x, torch.tensor([p])).item(), 2) for p in (1.0, 2.0, 100.0)]
    [4.0, 5.0, 6.95]
    """
    require_real(x, "generalized_mean")
    if x.ndim != 3 or p.shape != x.shape[-1:] or not x.shape[1]:
        raise ValueError(
            f"generalized_mean: expected (b, t, d) with t > 0 and one order per channel, got "
            f"{tuple(x.shape)} and {tuple(p.shape)}"
        )
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # their logarithms are too coarse
    log_x = wide.clamp(min=eps).log()
    log_sum = torch.logsumexp(p * log_x, dim=1)
    log_count = torch.full((), x.shape[1], dtype=wide.dtype, device=x.device).log()  # t may be left open
    return ((log_sum - log_count) / p).exp().to(x.dtype)


@implements("group-gem-pooling", example=lambda: (GeM(), torch.rand(2, 5, 4) + 0.1))
class GeM(nn.Module):
    r"""Generalized mean over positions with one learned order for all channels.

    .. math:: f_d = \Bigl(\tfrac1T \sum_t \max(x_{td}, \epsilon)^{p}\Bigr)^{1/p}

    Args:
        p: where the order starts.
        eps: smallest value that counts.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, d)``, any width d. An image ``(b, c, i, j)`` becomes tokens by
    ``x.flatten(2).transpose(1, 2)``.

    Raises:
        ValueError: for anything but tokens ``(b, t, d)``, a start of 0 or an eps that is not positive.
        TypeError: for arguments that are no numbers, or an input that is not real.

    Paper: Group Generalized Mean Pooling for Vision Transformer - https://arxiv.org/abs/2212.04114, which
    takes it from image retrieval.

    No code of the authors was found. Inferred: the start of 3, and what happens to negative features. Here
    the clamp drops them, as is usual in image retrieval; put a ReLU or softplus before it if you want another
    choice.

    >>> GeM(p=1.0)(torch.tensor([[[3.0], [4.0]]])).detach()
    tensor([[3.5000]])
    """

    def __init__(
        self,
        *,
        p: float = 3.0,
        eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _require_order(type(self).__name__, p, eps)
        self.initial_p, self.eps = p, eps
        self.p = nn.Parameter(torch.empty(1, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with the order of the constructor."""
        nn.init.constant_(self.p, self.initial_p)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        require_real(x, self, mixed=True)
        if not isinstance(x, Proxy) and x.ndim != 3:
            raise ValueError(
                f"{layer_name(self)} takes tokens (b, t, d), got shape {tuple(x.shape)}; an image "
                "(b, c, i, j) becomes tokens by x.flatten(2).transpose(1, 2)"
            )
        return generalized_mean(x, self.p.expand(x.shape[-1]), eps=self.eps)

    def extra_repr(self) -> str:
        return f"p={self.initial_p}"


@implements("group-gem-pooling", example=lambda: (GroupGeM(6, 3), torch.rand(2, 5, 6) + 0.1))
class GroupGeM(nn.Module):
    r"""Generalized mean over positions with one learned order per group of neighbouring channels.

    .. math:: f_d = \Bigl(\tfrac1T \sum_t \max(x_{td}, \epsilon)^{p_{g(d)}}\Bigr)^{1/p_{g(d)}},
        \qquad g(d) = \lfloor d\, G / D \rfloor

    In a transformer the groups are the heads: their outputs stand side by side in the channels. One group is
    :class:`GeM`, a group per channel gives every channel its own order.

    Args:
        dim: width d.
        num_groups: G, a divisor of ``dim``.
        p: where all orders start.
        eps: smallest value that counts.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, d)``.

    Raises:
        ValueError: if the groups do not divide the width, the start is 0, eps is not positive or the input is
            not ``(b, t, dim)``.
        TypeError: for sizes that are no integers, or an input that is not real.

    Paper: Group Generalized Mean Pooling for Vision Transformer - https://arxiv.org/abs/2212.04114 (negative
    features: see :class:`GeM`)

    >>> pool = GroupGeM(4, 2)
    >>> _ = pool.p.data.copy_(torch.tensor([1.0, 50.0]))  # two channels averaged, two nearly maximal
    >>> pool(torch.tensor([[[1.0, 1.0, 1.0, 1.0], [3.0, 5.0, 3.0, 5.0]]])).detach().round(decimals=1)
    tensor([[2.0000, 3.0000, 3.0000, 4.9000]])
    """

    def __init__(
        self,
        dim: int,
        num_groups: int,
        *,
        p: float = 3.0,
        eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _require_order(type(self).__name__, p, eps)
        require_divides(type(self).__name__, dim=dim, num_groups=num_groups)
        self.dim, self.num_groups, self.initial_p, self.eps = dim, num_groups, p, eps
        self.p = nn.Parameter(torch.empty(num_groups, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin with the order of the constructor in every group."""
        nn.init.constant_(self.p, self.initial_p)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        require_tokens(x, self.dim, self, mixed=True)
        per_channel = self.p.repeat_interleave(self.dim // self.num_groups)
        return generalized_mean(x, per_channel, eps=self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, num_groups={self.num_groups}, p={self.initial_p}"


def _require_order(layer: str, p: float, eps: float) -> None:
    require_number(layer, p=p)
    if p == 0:
        raise ValueError(
            f"{layer}: order p=0 would divide by zero; its limit is the geometric mean, take p=0.01 for it"
        )
    require_number(layer, 0, open_low=True, eps=eps)
