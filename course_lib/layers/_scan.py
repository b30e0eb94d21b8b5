"""The linear recurrence that many layers of sequences share, one token after the other and all at once."""

import torch
from jaxtyping import Inexact
from torch import Tensor


def linear_scan_recurrent(
    a: Inexact[Tensor, "..."],
    b: Inexact[Tensor, "b t ..."],
    initial: Inexact[Tensor, "b ..."] | None = None,
) -> Inexact[Tensor, "b t ..."]:
    r"""All states of a linear recurrence, one token after the other.

    .. math:: h_t = a_t \odot h_{t-1} + b_t

    Args:
        a: what is kept of the last state, real or complex; broadcast to the shape of ``b``.
        b: what enters.
        initial: :math:`h_0`; zero unless given.

    >>> linear_scan_recurrent(torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1)).flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    a = a.expand_as(b)
    h = torch.zeros_like(b[:, 0]) if initial is None else initial
    states = []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, 1)


def linear_scan(
    a: Inexact[Tensor, "..."],
    b: Inexact[Tensor, "b t ..."],
    initial: Inexact[Tensor, "b ..."] | None = None,
) -> Inexact[Tensor, "b t ..."]:
    r"""The same states by halving: two neighbouring steps are one step of a sequence half as long.

    .. math:: h_t = a_t a_{t-1} h_{t-2} + (a_t b_{t-1} + b_t)

    About :math:`2 \log_2 T` operations on tensors in place of T, and twice the arithmetic. Nothing is
    divided, so small and vanishing :math:`a_t` do no harm.

    Args:
        a: what is kept of the last state, real or complex; broadcast to the shape of ``b``.
        b: what enters.
        initial: :math:`h_0`; zero unless given.

    >>> linear_scan(torch.full((1, 3, 1), 0.5), torch.ones(1, 3, 1)).flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    a = a.expand_as(b)
    if initial is not None:
        first = a[:, :1] * initial[:, None] + b[:, :1]
        b = torch.cat([first, b[:, 1:]], 1)
    return _halved(a, b)


def _halved(a: Tensor, b: Tensor) -> Tensor:
    length = b.shape[1]
    if length == 1:
        return b
    whole = length - length % 2
    later, sooner = slice(1, None, 2), slice(0, whole, 2)
    odd = _halved(a[:, later] * a[:, sooner], a[:, later] * b[:, sooner] + b[:, later])
    before = odd[:, : (length - 1) // 2]  # the states before the tokens 2, 4, ...
    even = torch.cat([b[:, :1], a[:, 2::2] * before + b[:, 2::2]], 1)
    states = torch.stack([even[:, : whole // 2], odd], 2).flatten(1, 2)
    return states if whole == length else torch.cat([states, even[:, -1:]], 1)
