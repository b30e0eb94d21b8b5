"""How many neurons fire: counting them, and allowing only k of them."""

from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.contexts import evaluating
from course_lib.layers._shapes import require_positive, require_real
from course_lib.registry import implements


def topk_activation_naive(x: Float[Tensor, "*b h"], k: int) -> Float[Tensor, "*b h"]:
    r"""Keep the k largest positive entries of each token, written with a sorted threshold.

    .. math:: y_i = \max(x_i, 0) \;\text{ if }\; \#\{j : x_j > x_i\} < k, \text{ else } 0

    Differs from :func:`topk_activation` only where entries tie at the threshold: all of them stay here.

    >>> topk_activation_naive(torch.tensor([3.0, -1.0, 2.0, 1.0]), 2)
    tensor([3., 0., 2., 0.])
    """
    threshold = x.sort(dim=-1, descending=True).values[..., min(k, x.shape[-1]) - 1, None]
    return torch.where(x >= threshold, x.clamp(min=0), 0.0)


def topk_activation(x: Float[Tensor, "*b h"], k: int) -> Float[Tensor, "*b h"]:
    """ReLU, then zero for all but the k largest entries of each token; gradients reach those only.

    >>> topk_activation(torch.tensor([3.0, -1.0, 2.0, 1.0]), 2)
    tensor([3., 0., 2., 0.])
    """
    y = torch.relu(x)
    if k >= x.shape[-1]:
        return y
    values, indices = y.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(y).scatter(-1, indices, values)


@implements(
    "lazy-neuron", example=lambda: (TopKActivation(2), torch.randn(2, 5, 6)), permutation_equivariant=True
)
class TopKActivation(nn.Module):
    r"""A ReLU of which each token may keep only its k largest outputs.

    .. math:: y = m(x) \odot \max(x, 0), \qquad m_i(x) = [\, x_i \text{ is among the } k \text{ largest} \,]

    The mask is a constant for the gradient. A matrix behind this layer needs the columns of k neurons only.

    Args:
        k: most outputs per token that are not zero; from the width on, the layer is a plain ReLU.

    Shape: ``(*b, h)`` to ``(*b, h)``.

    Raises:
        ValueError: if k is below one, or the input has no axis.
        TypeError: for an argument or an input of another type.

    Paper: The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in Transformers -
    https://arxiv.org/abs/2210.06313

    Where fewer than k inputs are positive, fewer outputs are not zero: count them, do not assume k.

    >>> TopKActivation(2)(torch.tensor([3.0, -1.0, 2.0, 1.0]))
    tensor([3., 0., 2., 0.])
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        require_positive(type(self).__name__, k=k)
        self.k = k

    def forward(self, x: Float[Tensor, "*b h"]) -> Float[Tensor, "*b h"]:
        require_real(x, self)
        if x.ndim == 0:
            raise ValueError(f"TopKActivation({self.extra_repr()}) expects x (*b, h), got shape ()")
        return topk_activation(x, self.k)

    def extra_repr(self) -> str:
        return f"k={self.k}"


@implements("lazy-neuron")
def activation_sparsity(
    model: nn.Module,
    x: Tensor,
    *,
    kinds: tuple[type[nn.Module], ...] = (nn.ReLU, TopKActivation),
) -> dict[str, float]:
    r"""Share of non-zero outputs of every activation layer of a model, by the layer's name.

    .. math:: s = \frac{1}{N h} \sum_{n, i} [\, y_{n i} \ne 0 \,]

    over all h neurons and all N tokens of all samples; over all calls where a layer is used more than once.

    Args:
        model: anything that contains modules of the given kinds; run in evaluation mode, then put back.
        x: one batch of inputs.
        kinds: the classes that are looked at.

    Raises:
        ValueError: if no such module is called.

    Paper: The Lazy Neuron Phenomenon: On Emergence of Activation Sparsity in Transformers -
    https://arxiv.org/abs/2210.06313. The paper too reports the share that is *not* zero: small means sparse.

    >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
    >>> activation_sparsity(model, torch.tensor([[1.0, -1.0, 2.0, -2.0]]))
    {'1': 0.5}
    """
    counts: dict[str, list[int]] = {}

    def count(name: str, y: Tensor) -> None:
        seen = counts.setdefault(name, [0, 0])
        seen[0] += int(y.count_nonzero())
        seen[1] += y.numel()

    with evaluating(model), ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                hook = module.register_forward_hook(lambda _, __, y, name=name: count(name, y))
                hooks.callback(hook.remove)
        model(x)
    if not counts:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"no {names} was called in this {type(model).__name__}; functions leave no trace, use modules"
        )
    return {name: nonzero / total for name, (nonzero, total) in counts.items()}
