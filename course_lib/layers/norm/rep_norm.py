"""A norm that folds away after training, and attention without a softmax."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_width
from course_lib.layers.norm.layer_norm import BatchNorm, LayerNorm
from course_lib.registry import implements

__all__ = [
    "ProgressiveRepBN",
    "RepBN",
    "SimplifiedLinearAttention",
    "fold_rep_bn",
    "simplified_linear_attention_naive",
]


@implements("slab-prepbn", example=lambda: (RepBN(6), torch.randn(4, 5, 6)), mixes_batch=True)
class RepBN(nn.Module):
    r"""Batch normalisation plus a learned share of its input.

    .. math:: y = \mathrm{BN}(x) + \eta\, x

    With running statistics it is one affine map per feature, so :func:`fold_rep_bn` can merge it into the
    linear layer that follows.

    Args:
        dim: width d of the last axis; all leading axes are samples.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: if the last axis is not ``dim`` wide.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    >>> RepBN(1)(torch.tensor([[1.0], [3.0]])).detach().round(decimals=2).T
    tensor([[0., 4.]])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.bn = BatchNorm(dim)
        self.eta = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The input passes with weight one at the start."""
        nn.init.ones_(self.eta)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self.bn(x) + self.eta * x


@implements(
    "slab-prepbn",
    example=lambda: (ProgressiveRepBN(6, decay_steps=10), torch.randn(4, 5, 6)),
    mixes_batch=True,
)
class ProgressiveRepBN(nn.Module):
    r"""Layer normalisation that turns into :class:`RepBN` while the network trains.

    .. math:: y = \lambda\, \mathrm{LN}(x) + (1 - \lambda)\, \mathrm{RepBN}(x)

    :math:`\lambda` is 1 for ``warmup_steps`` training batches, then falls linearly to 0 over ``decay_steps``.
    In evaluation only RepBN is used, at whatever stage.

    Args:
        dim: width d of the last axis.
        decay_steps: training batches from :math:`\lambda = 1` to 0.
        warmup_steps: training batches with layer normalisation alone.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a wrong width, ``decay_steps`` below 1 or negative ``warmup_steps``.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    Differs from the released code: the batch statistics see the data from the first batch on, also during
    warm-up. As there, a learning curve taken in evaluation mode while :math:`\lambda` is near 1 judges
    weights that were never trained through RepBN; read it with care.

    >>> norm = ProgressiveRepBN(6, decay_steps=4)
    >>> for _ in range(3): _ = norm(torch.randn(8, 6))
    >>> norm.blend
    0.25
    """

    def __init__(self, dim: int, *, decay_steps: int, warmup_steps: int = 0) -> None:
        super().__init__()
        if decay_steps < 1 or warmup_steps < 0:
            raise ValueError(
                f"need decay_steps >= 1 and warmup_steps >= 0, got {decay_steps} and {warmup_steps}; "
                "for RepBN from the start use RepBN itself"
            )
        self.decay_steps, self.warmup_steps = decay_steps, warmup_steps
        self.layer_norm = LayerNorm(dim)
        self.rep_bn = RepBN(dim)
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @property
    def blend(self) -> float:
        r"""The share :math:`\lambda` of layer normalisation in the next training batch."""
        return self._blend().item()

    def _blend(self) -> Tensor:
        return (1 - (self.step - self.warmup_steps) / self.decay_steps).clamp(0.0, 1.0)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        if not self.training:
            return self.rep_bn(x)
        blend = self._blend().to(x.dtype)  # a tensor, so that the step is no constant of an exported graph
        y = blend * self.layer_norm(x) + (1 - blend) * self.rep_bn(x)
        self.step += 1
        return y

    def extra_repr(self) -> str:
        return f"decay_steps={self.decay_steps}, warmup_steps={self.warmup_steps}"


@implements("slab-prepbn")
@torch.no_grad()
def fold_rep_bn(norm: RepBN | ProgressiveRepBN, linear: nn.Linear) -> nn.Linear:
    r"""One linear layer that does what ``linear(norm(x))`` does in evaluation mode.

    .. math:: a = \frac{g}{\sqrt{\sigma^2 + \epsilon}} + \eta, \qquad
        c = b - \frac{g\,\mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
        W' = W \operatorname{diag}(a), \quad b' = b_W + W c

    Args:
        norm: with the running statistics of its training.
        linear: the layer that follows directly; neither is changed.

    Raises:
        ValueError: if the widths differ.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    >>> norm, linear, x = RepBN(3).eval(), nn.Linear(3, 2), torch.randn(4, 3)
    >>> torch.allclose(fold_rep_bn(norm, linear)(x), linear(norm(x)), atol=1e-6)
    True
    """
    norm = norm.rep_bn if isinstance(norm, ProgressiveRepBN) else norm
    bn = norm.bn
    if linear.in_features != bn.dim:
        raise ValueError(
            f"a norm {bn.dim} wide cannot be folded into a linear layer of width {linear.in_features}"
        )
    gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    scale, shift = gain + norm.eta, bn.bias - gain * bn.running_mean
    folded = nn.Linear(linear.in_features, linear.out_features).to(linear.weight)
    folded.weight.copy_(linear.weight * scale)
    folded.bias.copy_(linear.weight @ shift + (0 if linear.bias is None else linear.bias))
    return folded


def simplified_linear_attention_naive(
    q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h s k"], v: Float[Tensor, "b h s v"], eps: float = 1e-6
) -> Float[Tensor, "b h t v"]:
    r"""The t-by-s form: ReLU kernels as attention weights, each row divided by its sum.

    .. math:: o_i = \sum_j \frac{[q_i]_+ \cdot [k_j]_+}{\sum_{j'} [q_i]_+ \cdot [k_{j'}]_+ + \epsilon}\, v_j

    >>> q = k = torch.ones(1, 1, 3, 2); v = torch.arange(3.0).reshape(1, 1, 3, 1)
    >>> simplified_linear_attention_naive(q, k, v).flatten().round(decimals=3)
    tensor([1., 1., 1.])
    """
    scores = q.relu() @ k.relu().mT
    return scores / (scores.sum(-1, keepdim=True) + eps) @ v


@implements(
    "slab-prepbn", example=lambda: (SimplifiedLinearAttention(8, 2, grid=(2, 3)), torch.randn(2, 6, 8))
)
class SimplifiedLinearAttention(nn.Module):
    r"""Attention over an image grid with a ReLU kernel and a local convolution in place of the softmax.

    .. math:: o_i = \frac{[q_i]_+ \sum_j [k_j]_+ v_j^\top}{[q_i]_+ \cdot \sum_j [k_j]_+ + \epsilon}
        + \mathrm{DWConv}_{5 \times 5}(V)_i

    The sum over j is formed once, so the cost grows with t d² / h, not with t² d; where the sequence is
    shorter than a head is wide, the t-by-t order is cheaper and is taken. The convolution, one 5 x 5 filter
    per feature, restores the rank that the kernel loses.

    Args:
        dim: width d.
        num_heads: heads, a divisor of ``dim``.
        grid: rows and columns of the token grid, with rows x columns = t.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a wrong width or number of tokens, or heads that do not divide ``dim``.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    Differs from the paper's vision code: the learned position encoding that it adds to the keys is left to
    the caller.

    >>> SimplifiedLinearAttention(8, 2, grid=(2, 3))(torch.randn(1, 6, 8)).shape
    torch.Size([1, 6, 8])
    """

    eps = 1e-6

    def __init__(self, dim: int, num_heads: int, *, grid: tuple[int, int]) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got {num_heads} and {dim}")
        self.dim, self.num_heads, self.grid = dim, num_heads, grid
        self.qkv = nn.Linear(dim, 3 * dim)
        self.local = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_width(x, self.dim, f"SimplifiedLinearAttention({self.dim}, {self.num_heads})")
        rows, columns = self.grid
        if x.shape[1] != rows * columns:
            raise ValueError(f"the grid {self.grid} has {rows * columns} tokens, got {x.shape[1]}")
        q, k, v = rearrange(self.qkv(x), "b t (three h k) -> three b h t k", three=3, h=self.num_heads)
        image = rearrange(v, "b h (i j) k -> b (h k) i j", i=rows)
        local = rearrange(self.local(image), "b d i j -> b (i j) d")
        return self.out(rearrange(self.attend(q, k, v), "b h t k -> b t (h k)") + local)

    def attend(
        self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t k"]
    ) -> Float[Tensor, "b h t k"]:
        """The kernel term alone, in the cheaper of its two orders."""
        if q.shape[-2] < q.shape[-1]:
            return simplified_linear_attention_naive(q, k, v, self.eps)
        q, k = q.relu(), k.relu()
        return q @ (k.mT @ v) / (q @ k.sum(-2, keepdim=True).mT + self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, grid={self.grid}"
