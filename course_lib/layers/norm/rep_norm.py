"""A norm that folds away after training, and attention without a softmax."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._half import no_autocast, wide
from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_grid,
    require_pair,
    require_positive,
    require_width,
)
from course_lib.layers.norm.layer_norm import BatchNorm, LayerNorm
from course_lib.registry import implements

torch.fx.wrap("rearrange")  # symbolic tracing takes it as one step


@implements("slab-prepbn", example=lambda: (RepBN(6), torch.randn(4, 5, 6)), mixes_batch=True)
class RepBN(nn.Module):
    r"""Batch normalisation plus a learned share of its input.

    .. math:: y = \mathrm{BN}(x) + \eta\, x

    With running statistics it is one affine map per feature, so :func:`fold_rep_bn` can merge it into the
    linear layer that follows.

    Args:
        dim: width d of the last axis; all leading axes are samples.
        device: of parameters and running averages.
        dtype: of parameters and running averages.

    Shape: ``(*b, d)`` to ``(*b, d)``; :math:`\eta` is one number, kept as a vector of one entry.

    Raises:
        ValueError: for a width below 1, a last axis that is not ``dim`` wide, or in training with a single
            sample.
        TypeError: for an input of another type than the parameters.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582. Values as in the authors' ``RepBN``
    (https://github.com/xinghaochen/SLAB), which takes ``(b, t, d)`` only.

    >>> RepBN(1)(torch.tensor([[1.0], [3.0]])).detach().round(decimals=2).T
    tensor([[0., 4.]])
    """

    def __init__(
        self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, dim=dim)
        factory = {"device": device, "dtype": dtype}
        self.dim = dim
        self.bn = BatchNorm(dim, **factory)
        self.eta = nn.Parameter(torch.empty(1, **factory))  # FSDP cannot shard a parameter without an axis
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The input passes with weight one at the start."""
        nn.init.ones_(self.eta)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self)
        return self.bn(x) + self.eta * x

    def extra_repr(self) -> str:
        return f"{self.dim}"


def _half_way() -> tuple[nn.Module, Tensor]:
    """Where both norms have their share: at the start there is layer normalisation only."""
    norm = ProgressiveRepBN(6, decay_steps=10)
    norm.advance(5)
    return norm, torch.randn(4, 5, 6)


@implements(
    "slab-prepbn",
    example=_half_way,
    exceptions={"meta_build": "a reset goes back to the first step, and the example stands half way"},
    mixes_batch=True,
)
class ProgressiveRepBN(nn.Module):
    r"""Layer normalisation that turns into :class:`RepBN` while the network trains.

    .. math:: y = \lambda\, \mathrm{LN}(x) + (1 - \lambda)\, \mathrm{RepBN}(x)

    :math:`\lambda` is 1 for ``warmup_steps`` steps, then falls linearly to 0 over ``decay_steps``. In
    evaluation only RepBN is used, at whatever stage. A forward pass reads the step and leaves it: as a
    learning rate does, :math:`\lambda` moves between two updates, by :func:`advance_rep_bn_` or
    :meth:`advance`.

    Args:
        dim: width d of the last axis.
        decay_steps: steps from :math:`\lambda = 1` to 0.
        warmup_steps: steps with layer normalisation alone.
        device: of parameters and buffers.
        dtype: of parameters and running averages.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for a width or ``decay_steps`` below 1, negative ``warmup_steps``, a last axis that is not
            ``dim`` wide, or in training with a single sample.
        TypeError: for an input of another type than the parameters.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    Values as in the authors' ``LinearNorm`` (https://github.com/xinghaochen/SLAB, ``prepbn.py``) at the same
    step. Differs from it: there every forward pass in training counts as a step, also one that is only a
    recomputation for a checkpoint; there the batch statistics see no data during warm-up, here they see them
    from the first batch on; and there :math:`\lambda` may start below 1 (``r0``). As there, a learning curve
    taken in evaluation mode while :math:`\lambda` is near 1 judges weights that were never trained through
    RepBN; read it with care.

    >>> norm = ProgressiveRepBN(6, decay_steps=4)
    >>> norm.advance(3)
    >>> norm.blend
    0.25
    """

    def __init__(
        self,
        dim: int,
        *,
        decay_steps: int,
        warmup_steps: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, dim=dim, decay_steps=decay_steps)  # from the start: that is RepBN itself
        require_at_least(0, name, warmup_steps=warmup_steps)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.decay_steps, self.warmup_steps = dim, decay_steps, warmup_steps
        self.layer_norm = LayerNorm(dim, **factory)
        self.rep_bn = RepBN(dim, **factory)
        self.register_buffer("step", torch.empty((), dtype=torch.long, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Back to step 0; the two norms have a start of their own."""
        self.step.zero_()

    @property
    def blend(self) -> float:
        r"""The share :math:`\lambda` of layer normalisation in training at this step."""
        return self._blend().item()

    def _blend(self) -> Tensor:
        return (1 - (self.step - self.warmup_steps) / self.decay_steps).clamp(0.0, 1.0)

    def advance(self, steps: int = 1) -> None:
        """So many steps on.

        Raises:
            ValueError: for a negative number.
        """
        require_at_least(0, f"{type(self).__name__}.advance", steps=steps)
        self.step += steps

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        require_width(x, self.dim, self)
        if not self.training:
            return self.rep_bn(x)
        blend = self._blend().to(x.dtype)  # a tensor, so that the step is no constant of an exported graph
        return blend * self.layer_norm(x) + (1 - blend) * self.rep_bn(x)

    def extra_repr(self) -> str:
        return f"{self.dim}, decay_steps={self.decay_steps}, warmup_steps={self.warmup_steps}"


@implements("slab-prepbn")
def advance_rep_bn_(model: nn.Module, steps: int = 1) -> None:
    """Move every :class:`ProgressiveRepBN` of a network on; call it after every update.

    As a hook of ``fit``: ``hooks=[lambda run: advance_rep_bn_(run.model)]``.

    Args:
        model: any module.
        steps: how far.

    Raises:
        ValueError: for a negative number.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    >>> model = nn.Sequential(nn.Linear(2, 6), ProgressiveRepBN(6, decay_steps=4))
    >>> advance_rep_bn_(model)
    >>> model[1].blend
    0.75
    """
    require_at_least(0, "advance_rep_bn_", steps=steps)
    for module in model.modules():
        if isinstance(module, ProgressiveRepBN):
            module.advance(steps)


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
        TypeError: for a layer that is not linear.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    >>> norm, linear, x = RepBN(3).eval(), nn.Linear(3, 2), torch.randn(4, 3)
    >>> torch.allclose(fold_rep_bn(norm, linear)(x), linear(norm(x)), atol=1e-6)
    True
    """
    norm = norm.rep_bn if isinstance(norm, ProgressiveRepBN) else norm
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"fold_rep_bn: a norm folds into a torch.nn.Linear, got {type(linear).__name__}")
    if linear.in_features != norm.dim:
        raise ValueError(
            f"fold_rep_bn: a norm {norm.dim} wide does not fold into a linear layer of width "
            f"{linear.in_features}"
        )
    bn = norm.bn.norm
    gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    scale, shift = gain + norm.eta, bn.bias - gain * bn.running_mean
    factory = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    folded = nn.utils.skip_init(nn.Linear, linear.in_features, linear.out_features, **factory)
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
    "slab-prepbn",
    example=lambda: (SimplifiedLinearAttention(8, 2, grid=(2, 3)), torch.randn(2, 6, 8)),
    exceptions={"autocast": "where all keys are zero the denominator is eps: the gradient passes float16"},
)
class SimplifiedLinearAttention(nn.Module):
    r"""Attention over an image grid with a ReLU kernel and a local convolution in place of the softmax.

    .. math:: o_i = \frac{[q_i]_+ \sum_j [k_j + p_j]_+ v_j^\top}
        {[q_i]_+ \cdot \sum_j [k_j + p_j]_+ + \epsilon} + \mathrm{DWConv}_{5 \times 5}(V)_i

    The sum over j is formed once, so the cost grows with t d² / h, not with t² d; where the sequence is
    shorter than a head is wide, the t-by-t order is cheaper and is taken. The convolution, one 5 x 5 filter
    per feature of a head and the same filters in every head, restores the rank that the kernel loses. A
    learned vector :math:`p_j` per token, zero at the start, is added to the keys.

    Args:
        dim: width d.
        num_heads: heads, a divisor of ``dim``.
        grid: rows and columns of the token grid, with rows x columns = t.
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``. Sums over tokens of half precision are formed in float32, also
    under autocast: in float16 they leave its range.

    Raises:
        ValueError: for sizes below 1, heads that do not divide ``dim``, or anything but the tokens of the
            grid.
        TypeError: for tokens of another type than the parameters.

    Paper: SLAB: Efficient Transformers with Simplified Linear Attention and Progressive Re-parameterized
    Batch Normalization - https://arxiv.org/abs/2405.11582

    Values as in the authors' vision code (https://github.com/xinghaochen/SLAB, ``slab_deit.py``): that the
    filters are shared by the heads, and p, are its choices, not the abstract's. Differs from it: any grid,
    where the code's is a square; no dropout behind the output matrix; biases in the first matrix always,
    where the code asks (its DeiT models say yes); attention within windows, over which the Swin version of
    the code goes, is not here.

    >>> SimplifiedLinearAttention(8, 2, grid=(2, 3))(torch.randn(1, 6, 8)).shape
    torch.Size([1, 6, 8])
    """

    eps = 1e-6

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        grid: tuple[int, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_divides(type(self).__name__, dim=dim, num_heads=num_heads)
        factory = {"device": device, "dtype": dtype}
        self.dim, self.num_heads = dim, num_heads
        self.grid = require_pair(type(self).__name__, grid=grid)
        self.qkv = nn.Linear(dim, 3 * dim, **factory)
        head_dim = dim // num_heads
        self.local = nn.Conv2d(head_dim, head_dim, 5, padding=2, groups=head_dim, **factory)
        self.position = nn.Parameter(torch.empty(self.grid[0] * self.grid[1], dim, **factory))
        self.out = nn.Linear(dim, dim, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """No position is told from another; the matrices and the convolution have a start of their own."""
        nn.init.zeros_(self.position)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        require_grid(x, self.grid, self.dim, self)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (rearrange(z, "b t (h k) -> b h t k", h=self.num_heads) for z in (q, k + self.position, v))
        image = rearrange(v, "b h (i j) k -> (b h) k i j", i=self.grid[0])
        local = rearrange(self.local(image), "(b h) k i j -> b h (i j) k", h=self.num_heads)
        return self.out(rearrange(self.attend(q, k, v) + local, "b h t k -> b t (h k)"))

    def attend(
        self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t k"]
    ) -> Float[Tensor, "b h t k"]:
        """The kernel term alone, in the cheaper of its two orders."""
        with no_autocast(q):
            return self._attend(wide(q), wide(k), wide(v)).to(v.dtype)

    def _attend(
        self, q: Float[Tensor, "b h t k"], k: Float[Tensor, "b h t k"], v: Float[Tensor, "b h t k"]
    ) -> Float[Tensor, "b h t k"]:
        if self.grid[0] * self.grid[1] < self.dim // self.num_heads:
            return simplified_linear_attention_naive(q, k, v, self.eps)
        q, k = q.relu(), k.relu()
        return q @ (k.mT @ v) / (q @ k.sum(-2, keepdim=True).mT + self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, grid={self.grid}"
