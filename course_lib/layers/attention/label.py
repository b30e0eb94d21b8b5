"""Label attention: one learned query per class, so that a head can be read as a label."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_at_least, require_fraction, require_positive, require_tokens
from course_lib.layers.attention.dot_product import Mask, attention_weights
from course_lib.registry import implements

torch.fx.wrap("attention_weights")
torch.fx.wrap("rearrange")


@implements(
    "label-attention-layer",
    example=lambda: (LabelAttention(8, 3, 4, dropout=0.1), torch.randn(2, 5, 8)),
    permutation_equivariant=True,
    stochastic=True,
)
class LabelAttention(nn.Module):
    r"""One head per label, whose query is a learned vector: it asks the same question of every sentence.

    .. math:: c_l = W^O \sum_s \mathrm{softmax}_s\Bigl(\frac{q_l \cdot W^K_l x_s}{\sqrt{d}}\Bigr) W^V_l x_s,
        \qquad y_{tl} = \mathrm{LN}\bigl(W^D (x_t + \mathrm{dropout}(c_l))\bigr), \qquad
        y_t = [y_{t1}; \dots; y_{tL}]

    The context :math:`c_l` is one vector for all positions; the residual brings the token back. Every label
    keeps a block of its own in the output, so that a linear read-out shows what each label contributes.
    Scores are divided by the root of the *input's* width d, not of the head's.

    Args:
        dim: width d of the input.
        num_labels: labels L, one head each.
        label_dim: width p of a label's block in the output.
        head_dim: width of queries, keys and values, ``label_dim`` unless given.
        dropout: probability with which an entry of a context vector is dropped in training.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, L p)``; with ``return_weights=True`` also the weights ``(b, L, s)``.

    Raises:
        ValueError: for a wrong width, no label or blocks of width one (which their norm would set to zero).
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Rethinking Self-Attention: Towards Interpretability in Neural Parsing - https://arxiv.org/abs/1911.03875

    Differs from the authors' code, whose values the tests hold: the norm is torch's (theirs divides by the
    unbiased deviation plus 0.001); no dropout of attention weights; keys and values see the whole input,
    which their parser by default splits into a content and a position half with matrices of their own; none
    of their options (queries made from the input, heads merged by one matrix); no position-wise feed-forward
    layer behind it. In a batch theirs pairs keys and queries wrongly: head l of sentence b, of B, asks with
    the query of label (l B + b) mod L; here with its own. The dropout of ``dropout`` is theirs, one mask for
    all positions of a sentence; their best parser is trained without it.

    >>> LabelAttention(8, 3, 4)(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 12])
    """

    def __init__(
        self,
        dim: int,
        num_labels: int,
        label_dim: int,
        *,
        head_dim: int | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_at_least(2, name, label_dim=label_dim)
        head_dim = label_dim if head_dim is None else head_dim
        require_positive(name, dim=dim, num_labels=num_labels, head_dim=head_dim)
        require_fraction(name, dropout=dropout)
        self.dim, self.num_labels, self.label_dim, self.head_dim = dim, num_labels, label_dim, head_dim
        self.query = nn.Parameter(torch.empty(num_labels, head_dim, **factory))
        self.key = nn.Linear(dim, num_labels * head_dim, bias=False, **factory)
        self.value = nn.Linear(dim, num_labels * head_dim, bias=False, **factory)
        self.out = nn.Linear(head_dim, dim, bias=False, **factory)
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(dim, label_dim, bias=False, **factory)
        self.norm = nn.LayerNorm(label_dim, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors' start: Xavier-normal queries, keys and values, the others as in torch's linear layer.

        Xavier's rule is applied to keys and values as tensors ``(l, d, e)``, which makes them smaller than
        matrices by matrices: of variance :math:`2 / ((d + L) d_h)`.
        """
        nn.init.xavier_normal_(self.query)
        for projection in (self.key, self.value):
            nn.init.normal_(
                projection.weight, std=(2 / ((self.dim + self.num_labels) * self.head_dim)) ** 0.5
            )
        self.out.reset_parameters()
        self.reduce.reset_parameters()
        self.norm.reset_parameters()

    def contexts(
        self, x: Float[Tensor, "b s d"], *, mask: Mask | None = None
    ) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b l s"]]:
        """What every label finds in the sequence, before the shared projection, and where it looked."""
        require_tokens(x, self.dim, self)
        q = self.query[None, :, None].expand(x.shape[0], -1, -1, -1)  # (b, l, 1, e)
        k, v = (rearrange(f(x), "b s (l e) -> b l s e", l=self.num_labels) for f in (self.key, self.value))
        # (b, l, 1, s): one row per label, few enough to keep
        weights = attention_weights(q, k, mask=mask, scale=self.dim**-0.5)
        return (weights @ v).squeeze(2), weights.squeeze(2)

    def forward(
        self, x: Float[Tensor, "b t d"], *, mask: Mask | None = None, return_weights: bool = False
    ) -> Float[Tensor, "b t p"] | tuple[Float[Tensor, "b t p"], Float[Tensor, "b l t"]]:
        contexts, weights = self.contexts(x, mask=mask)
        found = self.dropout(self.out(contexts))  # (b, l, d)
        y = self.norm(self.reduce(x[:, None] + found[:, :, None]))  # (b, l, t, p)
        y = rearrange(y, "b l t p -> b t (l p)")
        return (y, weights) if return_weights else y

    def extra_repr(self) -> str:
        return (
            f"{self.dim}, num_labels={self.num_labels}, label_dim={self.label_dim}, head_dim={self.head_dim}"
        )
