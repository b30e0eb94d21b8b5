"""Stochastically subsampled attention: train on random parts of the pattern, then densify or ensemble."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.layers._shapes import require_number, require_positive
from course_lib.layers.attention.dot_product import Mask, scaled_dot_product
from course_lib.layers.attention.multi_head import MultiHeadAttention
from course_lib.registry import implements


def local_shuffle(
    batch_size: int, length: int, width: float, *, device: torch.device | None = None
) -> Int[Tensor, "b t"]:
    """A random order in which near tokens stay near: positions plus uniform noise of the given width, ranked.

    Args:
        batch_size: orders to draw, one per example.
        length: tokens t.
        width: of the noise, in tokens; 0 keeps the order, infinity shuffles evenly.
        device: where the result lives.

    Raises:
        ValueError: for a negative width.
        TypeError: for a width that is no number.

    >>> local_shuffle(1, 5, 0.0)
    tensor([[0, 1, 2, 3, 4]])
    """
    _require_noise("local_shuffle", width=width)
    noise = torch.rand(batch_size, length, device=device, dtype=torch.float32)
    places = torch.arange(length, device=device)
    return (noise if width == torch.inf else places + width * noise).argsort(dim=-1)


def subset_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t v"],
    kept: Int[Tensor, "b m"],
    *,
    causal: bool = False,
) -> Float[Tensor, "b h t v"]:
    r"""All queries attend to the kept tokens only; causal ones to those before them, and to themselves.

    .. math:: y_{ht} = \sum_{s \in S_t} \mathrm{softmax}_{s \in S_t}\Bigl(
        \frac{q_{ht} \cdot k_{hs}}{\sqrt d}\Bigr) v_{hs}, \qquad
        S_t = \text{kept} \quad \text{or} \quad \{s \in \text{kept} : s < t\} \cup \{t\}

    Args:
        q: queries.
        k: keys of all tokens.
        v: values of all tokens.
        kept: indices of the tokens that may be seen, each at most once per example.
        causal: mask the future; a query's own token stays visible, else the first ones would see nothing.

    Shape: ``(b, h, t, d)`` to ``(b, h, t, v)``; t m scores per head, causal t (m + 1).

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> subset_attention(q, k, v, torch.tensor([[1, 4]])).shape
    torch.Size([1, 2, 6, 4])
    """
    index = kept[:, None, :, None]  # (b, 1, m, 1)
    some_k, some_v = k.take_along_dim(index, dim=2), v.take_along_dim(index, dim=2)
    if not causal:
        return scaled_dot_product(q, some_k, some_v)
    earlier = kept[:, None, None, :] < torch.arange(q.shape[2], device=q.device)[:, None]  # (b, 1, t, m)
    q = q.shape[-1] ** -0.5 * q  # before the product, which half precision could not hold
    others = (q @ some_k.mT).masked_fill(~earlier, -torch.inf)
    own = (q * k).sum(-1, keepdim=True)
    weights = torch.cat([others, own], dim=-1).softmax(-1)
    return weights[..., :-1] @ some_v + weights[..., -1:] * v


def window_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t v"],
    order: Int[Tensor, "b t"],
    num_windows: int,
    *,
    causal: bool = False,
) -> Float[Tensor, "b h t v"]:
    """Cut the shuffled tokens into windows and attend inside each of them.

    Args:
        q: queries.
        k: keys.
        v: values.
        order: a permutation of the tokens per example, see :func:`local_shuffle`.
        num_windows: their sizes differ by at most one.
        causal: mask what is later in the *original* order.

    Shape: ``(b, h, t, d)`` to ``(b, h, t, v)``; about t t / num_windows scores per head.

    >>> q = k = v = torch.randn(1, 2, 6, 4)
    >>> window_attention(q, k, v, torch.tensor([[0, 3, 5, 1, 2, 4]]), 2).shape
    torch.Size([1, 2, 6, 4])
    """
    indices, outputs = [], []
    for window in order.tensor_split(num_windows, dim=1):
        index = window.sort(dim=1).values[:, None, :, None]  # in their order: the usual mask fits
        qs, ks, vs = (x.take_along_dim(index, dim=2) for x in (q, k, v))
        indices.append(index)
        outputs.append(scaled_dot_product(qs, ks, vs, causal=causal))
    back = torch.cat(indices, dim=2).argsort(dim=2)
    return torch.cat(outputs, dim=2).take_along_dim(back, dim=2)


@implements(
    "stochastically-subsampled-attention",
    example=lambda: (SubsampledAttention(8, 2, 2, causal=True), torch.randn(2, 5, 8)),
    causal=True,
    stochastic=True,
)
class SubsampledAttention(MultiHeadAttention):
    r"""Multi-head attention that computes a random 1/r of its scores in training, all of them in evaluation.

    Without ``locality`` every example draws a random subset of its tokens, and all queries attend to these
    (:func:`subset_attention`); with it the tokens are shuffled a little and cut into r windows
    (:func:`window_attention`). Every call draws anew, so that layers differ.

    .. math:: \text{scores per head: } t \lceil t / r \rceil \quad \text{or about} \quad t^2 / r

    Args:
        dim: width d of input and output.
        num_heads: heads.
        rate: r; 1 is dense attention. Set ``layer.rate = 1`` for the last, dense phase of training.
        locality: width of the shuffle's noise, in tokens; infinity for windows of tokens from anywhere.
            None: subsets.
        head_dim: width of a head, ``dim / num_heads`` unless given.
        causal: mask the future.
        bias: give queries, values and output a bias.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for a rate below 1; or for a mask, a cache, a context or ``return_weights`` while it
            draws.

    Paper: The Information Pathways Hypothesis: Transformers are Dynamic Self-Ensembles -
    https://arxiv.org/abs/2306.01705

    Inferred, since the authors' repository holds no code: the noise of the local shuffle. Of a causal
    query's ceil(t / r) visible tokens one is its own.

    >>> layer = SubsampledAttention(8, 2, 4)
    >>> x = torch.randn(1, 12, 8)
    >>> torch.equal(layer.train()(x), layer(x)), torch.equal(layer.eval()(x), layer(x))
    (False, True)
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        rate: int,
        *,
        locality: float | None = None,
        head_dim: int | None = None,
        causal: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_positive(type(self).__name__, rate=rate)
        if locality is not None:
            _require_noise(type(self).__name__, locality=locality)
        super().__init__(
            dim, num_heads, head_dim=head_dim, causal=causal, bias=bias, device=device, dtype=dtype
        )
        self.rate, self.locality = rate, locality
        self.draws_in_eval = False

    @property
    def draws(self) -> bool:
        """True while the layer subsamples: in training, and for a self-ensemble."""
        return self.rate > 1 and (self.training or self.draws_in_eval)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, mask: Mask | None, return_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """A random part of the pattern, or all of it."""
        if not self.draws:
            return super().attend(q, k, v, mask=mask, return_weights=return_weights)
        if mask is not None or return_weights or q.shape[2] != k.shape[2]:
            raise ValueError(
                f"{type(self).__name__}: a mask, a cache, a context or weights need the whole pattern; call "
                ".eval(), or set rate=1"
            )
        batch, length = q.shape[0], q.shape[2]
        if self.locality is not None:
            order = local_shuffle(batch, length, self.locality, device=q.device)
            return window_attention(q, k, v, order, min(self.rate, length), causal=self.causal), None
        visible = -(-length // self.rate)
        kept = torch.rand(batch, length, device=q.device, dtype=torch.float32).argsort(dim=-1)[
            :, : visible - self.causal
        ]
        return subset_attention(q, k, v, kept, causal=self.causal), None

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rate={self.rate}, locality={self.locality}"


def _require_noise(layer: str, **width: float) -> None:
    """Zero or more; infinity stands for a shuffle without any order."""
    require_number(layer, 0, **{name: 0 if value == torch.inf else value for name, value in width.items()})


@implements("stochastically-subsampled-attention")
@torch.no_grad()
def ensemble_members(model: Callable[..., Tensor], *inputs: Any, members: int = 8) -> Float[Tensor, "m *b c"]:
    """Probabilities of several passes through one trained model, each with random subsets of its own.

    Args:
        model: a module that returns logits and holds layers of :class:`SubsampledAttention`; used in
            evaluation mode, but for the subsampling, and given back as it was.
        inputs: of the model.
        members: passes.

    Shape: logits ``(*b, c)`` to ``(members, *b, c)``.

    Raises:
        ValueError: for a model without such a layer, or no members.

    Paper: The Information Pathways Hypothesis: Transformers are Dynamic Self-Ensembles -
    https://arxiv.org/abs/2306.01705

    >>> model = torch.nn.Sequential(SubsampledAttention(8, 2, 2))
    >>> ensemble_members(model, torch.randn(3, 6, 8), members=4).shape
    torch.Size([4, 3, 6, 8])
    """
    layers = [m for m in model.modules() if isinstance(m, SubsampledAttention)]
    if not layers or members < 1:
        raise ValueError(
            f"expected layers of SubsampledAttention and members, got {len(layers)} and {members}"
        )
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        for layer in layers:
            layer.draws_in_eval = True
        return torch.stack([model(*inputs).softmax(-1) for _ in range(members)])
    finally:
        for layer in layers:
            layer.draws_in_eval = False
        for module, mode in modes.items():
            module.training = mode


@implements("stochastically-subsampled-attention")
def self_ensemble(model: Callable[..., Tensor], *inputs: Any, members: int = 8) -> Float[Tensor, "*b c"]:
    r"""Mean of the probabilities that one model gives with different random subsets.

    .. math:: p(y \mid x) = \tfrac1M \sum_{m=1}^M \mathrm{softmax}\bigl(f(x; \text{subsets}_m)\bigr)_y

    Its log loss is at most the members' mean log loss, since the logarithm is concave (Jensen).

    Args:
        model: see :func:`ensemble_members`, which returns the members one by one.
        inputs: of the model.
        members: passes M.

    Shape: logits ``(*b, c)`` to probabilities ``(*b, c)``.

    Raises:
        ValueError: as :func:`ensemble_members`.

    Paper: The Information Pathways Hypothesis: Transformers are Dynamic Self-Ensembles -
    https://arxiv.org/abs/2306.01705

    >>> model = torch.nn.Sequential(SubsampledAttention(8, 2, 2))
    >>> self_ensemble(model, torch.randn(3, 6, 8)).sum(-1).mean().round(decimals=4)
    tensor(1.)
    """
    return ensemble_members(model, *inputs, members=members).mean(0)
