"""Layer normalisation as geometry: a projection, then a scaling."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib.registry import implements


@implements("layernorm-expressivity")
def project_out_ones(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    r"""Remove the component along the all-ones vector: the first half of layer normalisation.

    .. math:: p(x) = x - \frac{x \cdot \mathbf 1}{d}\, \mathbf 1

    After it every key is orthogonal to :math:`\mathbf 1`, so the query :math:`\mathbf 1` scores 0
    everywhere and attends to all keys equally.

    Args:
        x: any tensor with features last.

    Paper: On the Expressivity Role of LayerNorm in Transformers' Attention - https://arxiv.org/abs/2305.02582

    >>> project_out_ones(torch.tensor([1.0, 2.0, 3.0]))
    tensor([-1.,  0.,  1.])
    """
    return x - x.mean(-1, keepdim=True)


@implements("layernorm-expressivity")
def scale_to_sqrt_d(x: Float[Tensor, "*b d"], eps: float = 0.0) -> Float[Tensor, "*b d"]:
    r"""Give every vector the length :math:`\sqrt d`: the second half of layer normalisation.

    .. math:: s(x) = \frac{\sqrt d\; x}{\sqrt{|x|^2 + d\,\epsilon}}, \qquad \mathrm{LN} = s \circ p

    Args:
        x: any tensor with features last.
        eps: as in layer normalisation; 0 gives the exact sphere, and NaN for a zero vector.

    Paper: On the Expressivity Role of LayerNorm in Transformers' Attention -
    https://arxiv.org/abs/2305.02582. Values as in the authors' ``FactorizedLayerNorm``
    (https://github.com/tech-srl/layer_norm_expressivity_role). Their majority script divides the unit vector
    by :math:`\sqrt d` in its variant without projection instead of multiplying, so that this norm is d times
    shorter than the whole one; here all variants keep the length :math:`\sqrt d`.

    >>> scale_to_sqrt_d(torch.tensor([3.0, 4.0])).norm().round(decimals=4)
    tensor(1.4142)
    """
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


@implements("layernorm-expressivity")
def unselectable_keys(keys: Float[Tensor, "n d"], *, tolerance: float = 1e-7) -> Bool[Tensor, "n"]:
    r"""Which keys no query whatsoever can score highest.

    Key i is selectable if some q has :math:`q \cdot k_i > q \cdot k_j` for all j other than i, that is, if
    the linear program below has an optimum above zero; it is unselectable exactly if :math:`k_i` lies in
    the convex hull of the others.

    .. math:: \max_{q,\, m} \; m \quad \text{subject to} \quad
        q \cdot (k_i - k_j) \ge m, \quad |q_c| \le 1, \quad m \le 1

    Args:
        keys: one key per row.
        tolerance: an optimum below it counts as zero.

    Shape: ``(n, d)`` to ``(n,)``.

    Raises:
        ValueError: for keys that are not finite.

    Paper: On the Expressivity Role of LayerNorm in Transformers' Attention - https://arxiv.org/abs/2305.02582

    Differs from the authors' code: there the program looks for a point with a margin of 1e-8 in a box of 100,
    after a search by reflections; the same keys come out.

    >>> unselectable_keys(torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, 0.0]]))
    tensor([False, False, False,  True])
    """
    from scipy.optimize import linprog  # scipy is slow to import and needed only here

    if not torch.isfinite(keys).all():
        raise ValueError(
            "unselectable_keys: keys must be finite, got "
            f"{int((~torch.isfinite(keys)).sum())} entries that are not"
        )
    device, keys = keys.device, keys.detach().double().cpu()
    points = keys.numpy()
    number, dim = points.shape
    objective = np.append(np.zeros(dim), -1.0)  # linprog minimises
    bounds = [(-1, 1)] * dim + [(None, 1)]
    # Most selectable keys win for an obvious query and need no program.
    result = ~_won(keys, tolerance)
    for i in result.nonzero().flatten().tolist():
        others = np.delete(points, i, axis=0) - points[i]
        margins = np.hstack([others, np.ones((number - 1, 1))])  # q.(k_j - k_i) + m <= 0
        optimum = -linprog(
            objective, A_ub=margins, b_ub=np.zeros(number - 1), bounds=bounds, method="highs"
        ).fun
        result[i] = optimum <= tolerance
    return result.to(device)


def _won(keys: Tensor, tolerance: float) -> Tensor:
    """Which keys win against all others, by more than the tolerance, for one of two obvious queries each."""
    won = torch.zeros(len(keys), dtype=torch.bool)
    for queries in (keys, keys - keys.mean(0)):
        scores = queries / queries.abs().amax(-1, keepdim=True).clamp(min=1e-300) @ keys.T
        best = scores.topk(min(2, len(keys)), dim=-1)
        clear = best.values[:, 0] - best.values[:, -1] > tolerance
        won[best.indices[clear, 0]] = True
    return won
