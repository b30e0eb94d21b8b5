"""Where the norm stands in a residual block, and what the placement does over depth."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers.attention import MultiHeadAttention
from course_lib.layers.norm.layer_norm import LayerNorm
from course_lib.registry import implements

__all__ = ["ResidualSublayer", "TransformerBlock", "gradient_norm_profile", "residual_variance_profile"]

PLACEMENTS = ("none", "post", "pre", "peri")


@implements(
    "peri-ln", example=lambda: (ResidualSublayer(nn.Linear(6, 6), 6, norm="peri"), torch.randn(2, 5, 6))
)
class ResidualSublayer(nn.Module):
    r"""A residual step around any sublayer F, with a norm at up to three places.

    .. math:: y = N_{\mathrm{sum}}\bigl(x + N_{\mathrm{out}}(F(N_{\mathrm{in}}(x)))\bigr)

    ========  =====================================================  ==================================
    norm      equation                                               norms that are not the identity
    ========  =====================================================  ==================================
    "none"    x + F(x)                                               none
    "post"    N(x + F(x))                                            :math:`N_{sum}`
    "pre"     x + F(N(x))                                            :math:`N_{in}`
    "peri"    x + N(F(N(x)))                                         :math:`N_{in}, N_{out}`
    ========  =====================================================  ==================================

    Args:
        sublayer: F, from ``(*b, d)`` to ``(*b, d)``.
        dim: width d of the residual stream.
        norm: the placement.
        norm_layer: called with ``dim``; :class:`LayerNorm` or :class:`RMSNorm`, say.

    Shape: ``(*b, d)`` to ``(*b, d)``.

    Raises:
        ValueError: for an unknown placement.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732

    >>> ResidualSublayer(nn.Linear(6, 6), 6, norm="post")(torch.randn(4, 6)).mean(-1).abs().max() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        sublayer: nn.Module,
        dim: int,
        *,
        norm: str = "pre",
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
    ) -> None:
        super().__init__()
        if norm not in PLACEMENTS:
            raise ValueError(f"norm must be one of {', '.join(PLACEMENTS)}; got {norm!r}")
        self.norm = norm
        self.norm_in = norm_layer(dim) if norm in ("pre", "peri") else nn.Identity()
        self.sublayer = sublayer
        self.norm_out = norm_layer(dim) if norm == "peri" else nn.Identity()
        self.norm_sum = norm_layer(dim) if norm == "post" else nn.Identity()

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        return self.norm_sum(x + self.norm_out(self.sublayer(self.norm_in(x))))


@implements(
    "peri-ln",
    example=lambda: (TransformerBlock(8, 2, norm="peri"), torch.randn(2, 5, 8)),
    permutation_equivariant=True,
)
class TransformerBlock(nn.Module):
    r"""Attention, then a feed-forward network, each a :class:`ResidualSublayer`.

    .. math:: x \leftarrow \mathrm{sub}_{\mathrm{attention}}(x), \qquad
        x \leftarrow \mathrm{sub}_{\mathrm{MLP}}(x), \qquad \mathrm{MLP}(x) = W_2\, f(W_1 x + b_1) + b_2

    Args:
        dim: width d of the residual stream.
        num_heads: attention heads.
        norm: "none", "post", "pre" or "peri", see :class:`ResidualSublayer`.
        norm_layer: called with ``dim`` for every norm.
        activation: builds f; a class such as ``nn.GELU`` or any function that returns a module.
        mixer: takes the place of attention; any module from ``(b, t, d)`` to ``(b, t, d)``.
        hidden_dim: width of the feed-forward layer, 4 d unless given.
        causal: mask the future in the default mixer; a mixer of your own brings its own mask.

    Shape: ``(b, t, d)`` to ``(b, t, d)``.

    Raises:
        ValueError: for an unknown placement, or ``causal`` together with a mixer.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732

    Differs from ``torch.nn.TransformerEncoderLayer``: no dropout, batch first, GELU, and the two placements
    that torch lacks.

    >>> TransformerBlock(8, 2, norm="peri")(torch.randn(2, 5, 8)).shape
    torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        norm: str = "pre",
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
        activation: Callable[[], nn.Module] = nn.GELU,
        mixer: nn.Module | None = None,
        hidden_dim: int | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if mixer is not None and causal:
            raise ValueError(
                "causal=True would be ignored with a mixer of your own; build the mask into the mixer"
            )
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        mixer = MultiHeadAttention(dim, num_heads, causal=causal) if mixer is None else mixer
        mlp = nn.Sequential(nn.Linear(dim, hidden_dim), activation(), nn.Linear(hidden_dim, dim))
        self.attention = ResidualSublayer(mixer, dim, norm=norm, norm_layer=norm_layer)
        self.mlp = ResidualSublayer(mlp, dim, norm=norm, norm_layer=norm_layer)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.mlp(self.attention(x))


@implements("peri-ln")
@torch.no_grad()
def residual_variance_profile(blocks: Iterable[nn.Module], x: Float[Tensor, "b t d"]) -> list[float]:
    r"""Mean square of the residual stream before the first block and after each one.

    .. math:: v_l = \tfrac1{BTd} \sum_{b,t,k} x_{l,btk}^2, \qquad l = 0, \dots, L

    Args:
        blocks: applied one after the other.
        x: the stream that enters.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732. The raw second moment, so that a common offset of all features counts
    as growth too.

    >>> residual_variance_profile([nn.Identity(), nn.Identity()], torch.ones(1, 2, 3))
    [1.0, 1.0, 1.0]
    """
    profile = [x.square().mean().item()]
    for block in blocks:
        x = block(x)
        profile.append(x.square().mean().item())
    return profile


@implements("peri-ln")
def gradient_norm_profile(
    blocks: Iterable[nn.Module], x: Float[Tensor, "b t d"], loss: Callable[[Tensor], Tensor]
) -> list[float]:
    r"""Gradient norm of every block's parameters, first block first.

    .. math:: g_l = \bigl\| \partial L / \partial \theta_l \bigr\|_2

    Args:
        blocks: applied one after the other; their ``.grad`` fields are left alone.
        x: the stream that enters.
        loss: maps the stream after the last block to a scalar.

    Raises:
        ValueError: if a block has no parameters, or the loss no single value.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732

    >>> layer = nn.Linear(1, 1, bias=False)
    >>> gradient_norm_profile([layer], torch.full((1, 1, 1), 3.0), torch.sum)
    [3.0]
    """
    blocks = list(blocks)
    for block in blocks:
        x = block(x)
    value = loss(x)
    if value.numel() != 1:
        raise ValueError(
            f"the loss must be a single number, got shape {tuple(value.shape)}; take its mean or sum"
        )
    parameters = [[p for p in block.parameters() if p.requires_grad] for block in blocks]
    if not all(parameters):
        raise ValueError("every block needs parameters that require a gradient")
    flat = [p for group in parameters for p in group]
    gradients = iter(torch.autograd.grad(value.squeeze(), flat, allow_unused=True, materialize_grads=True))
    return [sum(next(gradients).square().sum().item() for _ in group) ** 0.5 for group in parameters]
