"""The support-vector head: a squared hinge, one class against the rest, in the place of softmax."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.layers._shapes import require_number, require_real
from course_lib.registry import implements


@implements("cnn-svm")
def squared_hinge_loss(
    scores: Float[Tensor, "b k"],
    target: Int64[Tensor, "_b"],
    weight: Float[Tensor, "k d"] | None = None,
    *,
    c: float = 1.0,
) -> Float[Tensor, ""]:
    r"""Margins of every class against the rest, and the length of the last weight matrix.

    .. math:: L = \frac1d \|W\|^2 + \frac Cb \sum_i \sum_k \max(0,\, 1 - y_{ik}\, s_{ik})^2, \qquad
        y_{ik} = \begin{cases} +1 & k = \text{class of } i \\ -1 & \text{else} \end{cases}

    Args:
        scores: s, the raw output of the last layer.
        target: the class of each row.
        weight: W of the last layer; without it the margins alone.
        c: C, how much the margins count against the length of W.

    Shape: ``(b, k)``, ``(b,)`` and ``(k, d)`` to a scalar.

    Raises:
        ValueError: for scores or classes of another shape, or a class that has no score.
        TypeError: for scores that are no real numbers, or classes that are no integers.

    Paper: An Architecture Combining Convolutional Neural Network (CNN) and Support Vector Machine (SVM) for
    Image Classification - https://arxiv.org/abs/1712.03541

    Differs from the paper: its formula is :math:`\frac1b \|W\|^2 + C \sum_i \sum_k \ldots`, whose optimum
    moves with the size b of the batch. The authors' code takes both means instead, over the kd entries of W
    and over the bk margins; ours is k times that, so it has the same optimum for batches of every size.
    Differs from ``torch.nn.MultiMarginLoss(p=2)``, which compares each score with that of the true class.

    >>> squared_hinge_loss(torch.tensor([[2.0, -0.5, 0.0]]), torch.tensor([0]))
    tensor(1.2500)
    """
    require_real(scores, "squared_hinge_loss", name="scores")
    if target.dtype != torch.int64:
        raise TypeError(f"squared_hinge_loss expects classes of torch.int64, got {target.dtype}")
    if scores.ndim != 2 or target.shape != scores.shape[:1]:
        raise ValueError(
            f"squared_hinge_loss expects scores (b, k) and classes (b,), got {tuple(scores.shape)} and "
            f"{tuple(target.shape)}"
        )
    try:
        sign = torch.full_like(scores, -1.0).scatter(1, target[:, None], 1.0)
    except RuntimeError as error:  # no look at the values before: it would stop a GPU
        raise ValueError(
            f"squared_hinge_loss: {scores.shape[1]} scores, but the classes go from {target.min()} to "
            f"{target.max()}"
        ) from error
    loss = c * (1 - sign * scores).clamp(min=0).square().sum() / max(1, len(scores))
    return loss if weight is None else loss + weight.square().sum() / weight.shape[1]


@implements("cnn-svm")
class SquaredHingeLoss(nn.Module):
    r"""Module form of :func:`squared_hinge_loss`.

    .. math:: L = \frac1d \|W\|^2 + \frac Cb \sum_i \sum_k \max(0,\, 1 - y_{ik}\, s_{ik})^2

    Args:
        c: C, how much the margins count against the length of W.

    Shape: scores ``(b, k)``, classes ``(b,)`` and, if it is to count, W ``(k, d)`` to a scalar.

    Raises:
        ValueError: unless C is positive; and as the function does.
        TypeError: for an argument or an input of another type.

    Paper: An Architecture Combining Convolutional Neural Network (CNN) and Support Vector Machine (SVM) for
    Image Classification - https://arxiv.org/abs/1712.03541

    >>> SquaredHingeLoss(c=2.0)(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]))
    tensor(6.)
    """

    def __init__(self, *, c: float = 1.0) -> None:
        super().__init__()
        require_number(type(self).__name__, 0, open_low=True, c=c)
        self.c = c

    def forward(
        self,
        scores: Float[Tensor, "b k"],
        target: Int64[Tensor, "_b"],
        weight: Float[Tensor, "k d"] | None = None,
    ) -> Float[Tensor, ""]:
        return squared_hinge_loss(scores, target, weight, c=self.c)

    def extra_repr(self) -> str:
        return f"c={self.c}"
