"""A learned query decides how much each position counts; and the plain trunk that goes with it."""

from collections.abc import Callable
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy

from course_lib.layers._images import ChannelScale, SqueezeExcite
from course_lib.layers._shapes import (
    layer_name,
    require_callable,
    require_image,
    require_module,
    require_number,
    require_positive,
    require_tokens,
)
from course_lib.layers.attention import attention_weights, scaled_dot_product
from course_lib.layers.norm import LayerNorm
from course_lib.registry import implements

torch.fx.wrap("attention_weights")
torch.fx.wrap("rearrange")
torch.fx.wrap("scaled_dot_product")


class _Aggregation(nn.Module):
    """One attention block from learned queries to all positions; the body of both pools below."""

    sees_queries = False  # whether the queries are keys and values as well, before the positions

    def __init__(
        self,
        dim: int,
        queries: int,
        *,
        layer_scale: float,
        hidden_dim: int | None,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, dim=dim)
        require_number(name, layer_scale=layer_scale)
        hidden_dim = 3 * dim if hidden_dim is None else hidden_dim
        require_positive(name, hidden_dim=hidden_dim)
        self.dim, self.layer_scale = dim, layer_scale
        self.queries = nn.Parameter(torch.empty(queries, dim, **factory))
        self.norm_in, self.norm_mlp, self.norm_out = (LayerNorm(dim, **factory) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=bias, **factory) for _ in range(3))
        self.out = nn.Linear(dim, dim, **factory)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden_dim, **factory), nn.GELU(), nn.Linear(hidden_dim, dim, **factory)
        )
        self.scale_attention, self.scale_mlp = (nn.Parameter(torch.empty(dim, **factory)) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small random queries; both layer scales at their start."""
        nn.init.normal_(self.queries, std=0.02)
        nn.init.constant_(self.scale_attention, self.layer_scale)
        nn.init.constant_(self.scale_mlp, self.layer_scale)

    def _queries_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        require_tokens(x, self.dim, self)
        if not isinstance(x, Proxy) and not x.shape[1]:
            raise ValueError(f"{layer_name(self)}: there is no position to attend to in {tuple(x.shape)}")
        own, n = self.norm_in(self.queries).expand(x.shape[0], -1, -1), self.norm_in(x)
        if self.sees_queries:
            n = torch.cat([own, n], dim=1)
        q, k, v = self.query(own), self.key(n), self.value(n)
        return q[:, None], k[:, None], v[:, None]  # one head: (b, 1, queries or keys, d)

    def _weights(self, x: Tensor) -> Tensor:
        """What each query takes from each key, (b, queries, keys); each row sums to one."""
        q, k, _ = self._queries_keys_values(x)
        return attention_weights(q, k)[:, 0]

    def _aggregate(self, x: Tensor) -> Tensor:
        attended = self.out(scaled_dot_product(*self._queries_keys_values(x))[:, 0])
        z = self.queries + self.scale_attention * attended
        return self.norm_out(z + self.scale_mlp * self.mlp(self.norm_mlp(z)))


@implements(
    "attention-pooling",
    example=lambda: (AttentionPool(6), torch.randn(2, 5, 6)),
    exceptions={
        "gradients": "a bias of the keys moves all scores of a query alike, which the softmax ignores"
    },
)
class AttentionPool(_Aggregation):
    r"""One learned query attends to all positions: a weighted mean with weights that the content decides.

    .. math:: a = \mathrm{softmax}_t\!\left(\frac{(W_q N(q_0)) \cdot (W_k N(x_t))}{\sqrt d}\right), \qquad
        z = q_0 + \lambda_1 \odot W_o \sum_{t \ge 0} a_t W_v N(x_t), \qquad
        y = N(z + \lambda_2 \odot \mathrm{MLP}(N(z)))

    The query is its own first key, :math:`x_0 = q_0`, as the class token of a transformer is. The layer
    stands in the place of the global average: with :math:`W_q = 0` all weights are 1/(t + 1). A single head,
    so that :meth:`weights` is one map that can be looked at. The order of the positions does not matter.

    Args:
        dim: width d.
        layer_scale: start of :math:`\lambda_1` and :math:`\lambda_2`.
        hidden_dim: width of the MLP, 3 d unless given.
        bias: add a bias in :math:`W_q`, :math:`W_k` and :math:`W_v`.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, d)``. An image ``(b, c, i, j)`` becomes positions by
    ``x.flatten(2).transpose(1, 2)``.

    Raises:
        ValueError: for a wrong width or no position.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Augmenting Convolutional networks with attention-based aggregation -
    https://arxiv.org/abs/2112.13692

    Values agree with the authors' code (``tests/vectors``).

    Differs from the paper: layer scales start at 1, not near 0, which would need far longer training; linear
    maps keep torch's start instead of a normal of deviation 0.02; the norms' eps is 1e-5, not 1e-6; no
    dropout, no stochastic depth.

    >>> pool, x = AttentionPool(6), torch.randn(2, 5, 6)
    >>> pool(x).shape, pool.weights(x).sum(1).detach() < 1  # the rest is what the query takes from itself
    (torch.Size([2, 6]), tensor([True, True]))
    """

    sees_queries = True

    def __init__(
        self,
        dim: int,
        *,
        layer_scale: float = 1.0,
        hidden_dim: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            dim, 1, layer_scale=layer_scale, hidden_dim=hidden_dim, bias=bias, device=device, dtype=dtype
        )

    def weights(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        """How much each position counts; what is missing to one, the query takes from itself."""
        return self._weights(x)[:, 0, 1:]

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        return self._aggregate(x)[:, 0]

    def extra_repr(self) -> str:
        return f"{self.dim}"


@implements(
    "attention-pooling",
    example=lambda: (ClassQueryPool(6, 4), torch.randn(2, 5, 6)),
    exceptions={
        "gradients": "a bias of the keys moves all scores of a query alike, which the softmax ignores"
    },
)
class ClassQueryPool(_Aggregation):
    r"""One learned query per class: each class looks where it wants, and scores what it found.

    .. math:: \text{logit}_k = w_k \cdot y_k + b_k

    with :math:`y_k` what :class:`AttentionPool` gives for the query of class k.

    Args:
        dim: width d.
        num_classes: k, the number of queries.
        layer_scale: start of both layer scales.
        hidden_dim: width of the MLP, 3 d unless given.
        bias: add a bias in the maps to queries, keys and values.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, t, d)`` to ``(b, k)``.

    Raises:
        ValueError: for a wrong width or no position.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Augmenting Convolutional networks with attention-based aggregation -
    https://arxiv.org/abs/2112.13692

    Each class has its own score vector, and here the queries see neither each other nor themselves. Values
    agree with the authors' code (``tests/vectors``); what differs is listed at :class:`AttentionPool`.

    >>> pool, x = ClassQueryPool(6, 4), torch.randn(2, 5, 6)
    >>> pool(x).shape, pool.weights(x).shape
    (torch.Size([2, 4]), torch.Size([2, 4, 5]))
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        layer_scale: float = 1.0,
        hidden_dim: int | None = None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_positive(type(self).__name__, num_classes=num_classes)
        super().__init__(
            dim,
            num_classes,
            layer_scale=layer_scale,
            hidden_dim=hidden_dim,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.score = nn.Parameter(torch.empty(num_classes, dim, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype))
        self._reset_scores()

    def reset_parameters(self) -> None:
        """Small random queries, both layer scales at their start, scores of unit variance, biases zero."""
        super().reset_parameters()
        if hasattr(self, "score"):  # not when the parent calls, which builds its own parts first
            self._reset_scores()

    def _reset_scores(self) -> None:
        nn.init.normal_(self.score, std=self.dim**-0.5)
        nn.init.zeros_(self.bias)

    def weights(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b k t"]:
        """What each class takes from each position: one map per class, summing to one."""
        return self._weights(x)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b k"]:
        return (self._aggregate(x) * self.score).sum(-1) + self.bias

    def extra_repr(self) -> str:
        return f"{self.dim}, num_classes={len(self.score)}"


@implements("attention-pooling", example=lambda: (PatchConvBlock(8), torch.randn(2, 8, 3, 5)))
class PatchConvBlock(nn.Module):
    r"""The residual block of a trunk without a pyramid: all of its blocks work at one resolution.

    .. math:: y = x + \lambda \odot W_2\, \mathrm{SE}\bigl(f(\mathrm{DW}_{3 \times 3}(f(W_1 N(x))))\bigr),
        \qquad f = \mathrm{GELU}

    with a norm N over the channels of every pixel, a depthwise convolution DW and squeeze-excitation
    SE.

    Args:
        channels: c.
        layer_scale: start of :math:`\lambda`, one number per channel.
        norm_layer: N, called with ``channels``; normalises the last axis of ``(b, i, j, c)``.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for another number of channels.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Augmenting Convolutional networks with attention-based aggregation -
    https://arxiv.org/abs/2112.13692

    The squeeze keeps a quarter of the channels. Values agree with the authors' code (``tests/vectors``).

    Differs from the paper: the layer scale starts at 1, not near 0; no stochastic depth; the norm's eps is
    1e-5, not 1e-6.

    >>> PatchConvBlock(8)(torch.randn(2, 8, 3, 5)).shape
    torch.Size([2, 8, 3, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        layer_scale: float = 1.0,
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, channels=channels)
        require_number(name, layer_scale=layer_scale)
        require_callable(name, norm_layer=norm_layer)
        self.channels = channels
        self.norm = norm_layer(channels).to(**factory)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 1, **factory),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **factory),
            nn.GELU(),
            SqueezeExcite(channels, max(1, channels // 4), **factory),
            nn.Conv2d(channels, channels, 1, **factory),
        )
        self.scale = ChannelScale(channels, layer_scale, **factory)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        normed = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return x + self.scale(self.layers(normed))

    def extra_repr(self) -> str:
        return f"{self.channels}"


@implements(
    "attention-pooling",
    example=lambda: (PatchConvNet(2, 3, dim=8, depth=1, stem_stages=1), torch.randn(2, 2, 6, 6)),
    exceptions={
        "gradients": "a bias of the keys moves all scores of a query alike, which the softmax ignores"
    },
)
class PatchConvNet(nn.Module):
    r"""A convolutional stem, equal blocks at one resolution, an attention pool: two numbers describe it.

    .. math:: \text{logits} = W\, \mathrm{pool}(\text{blocks}(\text{stem}(x)))

    The cost is linear in the number of positions, since only the one query of the pool sees them all. The
    stem has no biases, and no GELU behind its last convolution.

    Args:
        in_channels: channels of the image.
        num_classes: number of logits.
        dim: width d of the trunk.
        depth: number of blocks.
        stem_stages: 3 x 3 convolutions of stride 2; the paper's four make the image 16 times smaller.
        pool: from ``(b, t, d)`` to ``(b, d)``; None for :class:`AttentionPool`.
        norm_layer: of the blocks, see :class:`PatchConvBlock`.
        device: of all parameters but those of your own pool.
        dtype: of all parameters but those of your own pool.

    Shape: images ``(b, c, i, j)`` to logits ``(b, num_classes)``.

    Raises:
        ValueError: for another number of channels, or no stage.
        TypeError: for sizes that are no integers, or an input of another dtype.

    Paper: Augmenting Convolutional networks with attention-based aggregation -
    https://arxiv.org/abs/2112.13692

    Values of the whole network agree with the authors' code (``tests/vectors``); what differs is listed at
    :class:`AttentionPool` and :class:`PatchConvBlock`.

    >>> net = PatchConvNet(1, 10, dim=16, depth=2, stem_stages=2)
    >>> net(torch.randn(3, 1, 24, 24)).shape, net.attention_map(torch.randn(3, 1, 24, 24)).shape
    (torch.Size([3, 10]), torch.Size([3, 6, 6]))
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        dim: int,
        depth: int,
        stem_stages: int = 4,
        pool: nn.Module | None = None,
        norm_layer: Callable[[int], nn.Module] = LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, in_channels=in_channels, num_classes=num_classes, dim=dim)
        require_positive(name, depth=depth, stem_stages=stem_stages)
        require_callable(name, norm_layer=norm_layer)
        self.in_channels, self.dim = in_channels, dim
        dims = [in_channels, *(max(1, dim // 2**n) for n in range(stem_stages - 1, -1, -1))]
        stages = [(nn.Conv2d(a, b, 3, 2, 1, bias=False, **factory), nn.GELU()) for a, b in pairwise(dims)]
        self.stem = nn.Sequential(*[layer for stage in stages for layer in stage][:-1])  # no GELU at the end
        blocks = [PatchConvBlock(dim, norm_layer=norm_layer, **factory) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.pool = AttentionPool(dim, **factory) if pool is None else pool
        require_module(name, pool=self.pool)
        self.out = nn.Linear(dim, num_classes, **factory)

    def features(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b d _ _"]:
        """The map before the pool."""
        require_image(images, self.in_channels, self, name="images")
        return self.blocks(self.stem(images))

    def forward(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b k"]:
        return self.out(self.pool(rearrange(self.features(images), "b d i j -> b (i j) d")))

    @torch.no_grad()
    def attention_map(self, images: Float[Tensor, "b c i j"]) -> Float[Tensor, "b _ _"]:
        """How much each place of the feature map counts; only for pools that have ``weights``."""
        features = self.features(images)
        weights = self.pool.weights(rearrange(features, "b d i j -> b (i j) d"))
        return weights.unflatten(1, features.shape[2:])

    def extra_repr(self) -> str:
        return f"{self.in_channels}, dim={self.dim}, depth={len(self.blocks)}"
