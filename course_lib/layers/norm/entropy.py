"""How spread out attention is, head by head."""

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.registry import implements


@implements("relu-revival")
def headwise_entropy(weights: Float[Tensor, "b h t s"], *, causal: bool = False) -> Float[Tensor, "h"]:
    r"""Mean attention entropy of every head, as a share of the largest possible.

    .. math:: H_h = \frac1{BT} \sum_{b,t} \frac{-\sum_s a_{bhts} \ln a_{bhts}}{\ln n_t}

    with :math:`n_t` the number of visible keys: s, or the t + 1 oldest under the causal mask. Rows that see a
    single key have no entropy to share out and are left out.

    Args:
        weights: attention weights after the softmax; each row sums to one.
        causal: divide row t by the entropy of its own t + 1 keys; else early rows would bias the mean.

    Shape: ``(b, h, t, s)`` to ``(h,)``, each entry between 0 (one key) and 1 (uniform); half precision gives
    float32. A weight of zero has the gradient zero, the limit of what comes through a softmax.

    Raises:
        ValueError: if a weight is negative, rows do not sum to one or no row sees two keys.

    Paper: ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language Models -
    https://arxiv.org/abs/2410.09637

    Differs from what the authors' code logs (https://github.com/Nandan91/relu-revival-normfree): there the
    mean over all heads of a layer, in nats, of all queries, also the first, whose entropy is 0. Without
    ``causal`` the value here, times ln s, is that value; the division per row and the heads apart are ours.

    >>> headwise_entropy(torch.full((1, 2, 4, 4), 0.25))
    tensor([1., 1.])
    """
    tolerance = max(1e-3, torch.finfo(weights.dtype).eps)
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    sums = weights.sum(-1)
    if not ((sums - 1).abs() <= tolerance).all():  # written so that NaN is refused too
        raise ValueError(
            "headwise_entropy: attention rows must sum to 1, got sums from "
            f"{sums.min():.3g} to {sums.max():.3g}; softmax first"
        )
    if (weights < 0).any():
        raise ValueError(f"headwise_entropy: weights must not be negative, got {weights.min():.3g}")
    queries, sources = weights.shape[-2:]
    visible = torch.full((queries,), sources, device=weights.device)
    if causal:
        visible = torch.arange(sources - queries + 1, sources + 1, device=weights.device)
    rows = visible > 1
    if not rows.any():
        raise ValueError(f"no query sees two keys in weights of shape {tuple(weights.shape)}")
    # At a = 0 the slope of -a ln a is infinite and the softmax's is 0, which gives NaN: ln 1 stands there.
    entropy = -(weights * torch.where(weights > 0, weights, 1).log()).sum(-1)[..., rows]
    return (entropy / visible[rows].to(weights.dtype).log()).mean((0, 2))


@implements("relu-revival")
def entropic_overload_fraction(entropy: Float[Tensor, "*h"], *, threshold: float = 0.9) -> float:
    """Share of heads whose relative entropy exceeds the threshold: heads that attend to everything alike.

    Args:
        entropy: relative entropies from :func:`headwise_entropy`, of any shape (layers by heads, say).
        threshold: our choice; the paper speaks of heads near the maximum.

    Raises:
        ValueError: for no heads, or entropies outside 0 to 1.

    Paper: ReLU's Revival: On the Entropic Overload in Normalization-Free Large Language Models -
    https://arxiv.org/abs/2410.09637

    >>> entropic_overload_fraction(torch.tensor([0.95, 0.4, 0.99, 0.1]))
    0.5
    """
    if entropy.numel() == 0 or entropy.min() < -1e-4 or entropy.max() > 1 + 1e-4:
        raise ValueError(f"expected relative entropies between 0 and 1, got {entropy}; see headwise_entropy")
    return (entropy > threshold).float().mean().item()
