"""Where the norm stands in a residual block, and what the placement does over depth."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    layer_name,
    require_callable,
    require_divides,
    require_module,
    require_one_of,
    require_positive,
    require_real,
    require_tokens,
)
from course_lib.layers.attention import KVCache, MultiHeadAttention
from course_lib.layers.attention.cache import Cache
from course_lib.layers.norm.layer_norm import LayerNorm
from course_lib.registry import implements

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
        mixer: F, from ``(*b, d)`` to ``(*b, d)``.
        dim: width d of the residual stream.
        norm: the placement.
        norm_layer: called with ``dim``, and with ``device`` and ``dtype`` where they are given;
            :class:`LayerNorm` or :class:`RMSNorm`, say.
        device: of the norms; the mixer stays where it is.
        dtype: of the norms.

    Shape: ``(*b, d)`` to ``(*b, d)``. A ``mask`` and a ``cache`` are handed on to F.

    Raises:
        ValueError: for a width below 1, an unknown placement, or a mask or cache that F does not take.
        TypeError: for a mixer that is no module, a norm layer that cannot be called, or an input of integers,
            complex numbers, or more precise than the parameters.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732

    >>> ResidualSublayer(nn.Linear(6, 6), 6, norm="post")(torch.randn(4, 6)).mean(-1).abs().max() < 1e-6
    tensor(True)
    """

    def __init__(
        self,
        mixer: nn.Module,
        dim: int,
        *,
        norm: str = "pre",
        norm_layer: Callable[..., nn.Module] = LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_module(name, mixer=mixer)
        require_positive(name, dim=dim)
        require_one_of(name, PLACEMENTS, norm=norm)
        require_callable(name, norm_layer=norm_layer)
        factory = _given(device=device, dtype=dtype)
        self.dim, self.norm = dim, norm
        self.norm_in = norm_layer(dim, **factory) if norm in ("pre", "peri") else nn.Identity()
        self.mixer = mixer
        self.norm_out = norm_layer(dim, **factory) if norm == "peri" else nn.Identity()
        self.norm_sum = norm_layer(dim, **factory) if norm == "post" else nn.Identity()

    def takes(self, option: str) -> bool:
        """Whether the mixer's forward has an argument of this name, such as ``cache``."""
        return option in inspect.signature(self.mixer.forward).parameters

    def new_cache(self) -> Cache:
        """An empty cache of the kind that the mixer keeps."""
        return self.mixer.new_cache() if hasattr(self.mixer, "new_cache") else KVCache()

    def forward(
        self,
        x: Float[Tensor, "*b d"],
        *,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "*b d"]:
        require_real(x, self, mixed=True)
        options = _given(mask=mask, cache=cache)
        for name in options:
            if not self.takes(name):
                raise ValueError(f"{layer_name(self)}: its {type(self.mixer).__name__} takes no {name}")
        return self.norm_sum(x + self.norm_out(self.mixer(self.norm_in(x), **options)))

    def extra_repr(self) -> str:
        return f"{self.dim}, norm={self.norm!r}"


def _given(**options: Any) -> dict[str, Any]:
    """The options that are not None: a norm layer or a mixer of the reader's own need not know the others."""
    return {name: value for name, value in options.items() if value is not None}


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
        norm_layer: called with ``dim`` for every norm, see :class:`ResidualSublayer`.
        activation: builds f; a class such as ``nn.GELU`` or any function that returns a module.
        mixer: takes the place of attention; any module from ``(b, t, d)`` to ``(b, t, d)``.
        hidden_dim: width of the feed-forward layer, 4 d unless given.
        causal: mask the future in the default mixer; a mixer of your own brings its own mask.
        device: of all parameters but those of your own mixer.
        dtype: of all parameters but those of your own mixer.

    Shape: ``(b, t, d)`` to ``(b, t, d)``. A ``mask`` of the scores, as :func:`scaled_dot_product` takes it,
    and a ``cache`` (:meth:`new_cache`) are handed on to the mixer.

    Raises:
        ValueError: for sizes below 1, heads that do not divide the width, an unknown placement, ``causal``
            together with a mixer, an input that is not ``(b, t, d)``, or a mask or cache that the mixer does
            not take.
        TypeError: for a mixer that is no module, factories that cannot be called, or an input of integers,
            complex numbers, or more precise than the parameters.

    Paper: Peri-LN: Revisiting Layer Normalization in the Transformer Architecture -
    https://arxiv.org/abs/2502.02732. No code of the authors was found, so nothing is compared with it.
    Peri-LN also normalises what the embedding gives and the last stream: these two norms belong to the model,
    as ``embed_norm`` and ``final_norm`` of :class:`GPT`.

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
        norm_layer: Callable[..., nn.Module] = LayerNorm,
        activation: Callable[[], nn.Module] = nn.GELU,
        mixer: nn.Module | None = None,
        hidden_dim: int | None = None,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, dim=dim, num_heads=num_heads)
        hidden_dim = 4 * dim if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        require_one_of(name, PLACEMENTS, norm=norm)
        require_callable(name, norm_layer=norm_layer, activation=activation)
        if mixer is None:
            require_divides(name, dim=dim, num_heads=num_heads)
        else:
            require_module(name, mixer=mixer)
            if causal:
                raise ValueError(
                    f"{name}: causal=True would be ignored with a mixer of your own; "
                    "build the mask into the mixer"
                )
        factory = _given(device=device, dtype=dtype)
        mixer = MultiHeadAttention(dim, num_heads, causal=causal, **factory) if mixer is None else mixer
        mlp = nn.Sequential(
            nn.Linear(dim, hidden_dim, **factory),
            activation().to(**factory),
            nn.Linear(hidden_dim, dim, **factory),
        )
        self.dim = dim
        self.attention = ResidualSublayer(mixer, dim, norm=norm, norm_layer=norm_layer, **factory)
        self.mlp = ResidualSublayer(mlp, dim, norm=norm, norm_layer=norm_layer, **factory)

    def takes(self, option: str) -> bool:
        """Whether the mixer's forward has an argument of this name, such as ``cache``."""
        return self.attention.takes(option)

    def new_cache(self) -> Cache:
        """An empty cache of the kind that the mixer keeps."""
        return self.attention.new_cache()

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        *,
        mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Float[Tensor, "b t d"]:
        require_tokens(x, self.dim, self, mixed=True)
        return self.mlp(self.attention(x, mask=mask, cache=cache))

    def extra_repr(self) -> str:
        return f"{self.dim}"


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
