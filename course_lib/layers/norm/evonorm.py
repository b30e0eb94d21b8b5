"""Norm and activation in one layer, as evolution found them, and the search that finds such layers."""

from collections.abc import Callable, Iterable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = ["EvoNormB0", "EvoNormS0", "NormActivationGraph", "random_norm_activation_graph", "reject_layer"]


def _per_channel(parameter: Tensor) -> Tensor:
    return parameter[:, None, None]  # (c) to (c, 1, 1), to meet an image (b, c, i, j)


def _variance(x: Tensor, axes: tuple[int, ...], *, keepdim: bool = False) -> Tensor:
    """The biased variance; unlike ``Tensor.var`` it takes an empty batch without a warning."""
    return (x - x.mean(axes, keepdim=True)).square().mean(axes, keepdim=keepdim)


class _EvoNorm(nn.Module):
    """The three vectors that both layers learn: gain 1, shift 0 and v 1 at the start."""

    def __init__(self, channels: int, *, eps: float) -> None:
        super().__init__()
        self.channels, self.eps = channels, eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.v = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, shift 0, v 1."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.v)

    def _require_image(self, x: Tensor) -> None:
        if x.ndim != 4:
            raise ValueError(f"{type(self).__name__} takes images (b, c, i, j), got shape {tuple(x.shape)}")
        require_width(x, self.channels, f"{type(self).__name__}({self.channels})", axis=1)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}"


@implements("evonorm", example=lambda: (EvoNormB0(4), torch.randn(3, 4, 5, 3)), mixes_batch=True)
class EvoNormB0(_EvoNorm):
    r"""Batch variance or instance variance, whichever is larger; in place of batch normalisation and ReLU.

    .. math:: y = \gamma\, \frac{x}{\max\bigl(\sqrt{s^2_{bij}(x) + \epsilon},\;
        v x + \sqrt{s^2_{ij}(x) + \epsilon}\bigr)} + \beta

    The batch variance :math:`s^2_{bij}` per channel becomes a running average in evaluation; the instance
    variance :math:`s^2_{ij}` is always the sample's own. No mean is subtracted: the maximum is the
    nonlinearity.

    Args:
        channels: c.
        eps: added to both variances, inside the roots.
        momentum: weight of the newest batch in the running average.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for anything but images with ``channels`` channels.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    Differs from the paper in words only: its momentum 0.9 is 0.1 in torch's convention. The batch is
    normalised with the biased variance, the running average keeps the unbiased one, as
    ``torch.nn.BatchNorm2d`` does.

    >>> EvoNormB0(4)(torch.randn(2, 4, 3, 3)).shape
    torch.Size([2, 4, 3, 3])
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps=eps)
        self.momentum = momentum
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        self._require_image(x)
        if self.training and x.numel():
            batch_var = _variance(x, (0, 2, 3))
            n = x.numel() / self.channels
            self.running_var.lerp_(batch_var.detach() * n / max(n - 1, 1), self.momentum)
        else:
            batch_var = self.running_var
        batch_std = _per_channel(torch.sqrt(batch_var + self.eps))
        instance_std = torch.sqrt(_variance(x, (2, 3), keepdim=True) + self.eps)
        denominator = torch.maximum(batch_std, _per_channel(self.v) * x + instance_std)
        return _per_channel(self.weight) * x / denominator + _per_channel(self.bias)


@implements("evonorm", example=lambda: (EvoNormS0(4, group_size=2), torch.randn(2, 4, 3, 5)))
class EvoNormS0(_EvoNorm):
    r"""A Swish over the standard deviation of its group; each sample for itself.

    .. math:: y = \gamma\, \frac{x\, \sigma(v x)}{\sqrt{s^2_{ij,c/g}(x) + \epsilon}} + \beta

    Args:
        channels: c.
        group_size: channels that share one variance.
        eps: added to the variance, inside the root.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for anything but images with ``channels`` channels, or a group size that does not divide
            them.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    Differs from the paper: it fixes 32 groups; narrow toy networks ask for a group size instead.
    A shift of the input changes the output: that is intended.

    >>> EvoNormS0(4, group_size=2)(torch.randn(2, 4, 3, 3)).shape
    torch.Size([2, 4, 3, 3])
    """

    def __init__(self, channels: int, *, group_size: int = 8, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        if group_size < 1 or channels % group_size:
            raise ValueError(f"group_size must divide channels, got {group_size} and {channels}")
        self.group_size = group_size

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        self._require_image(x)
        groups = rearrange(x, "b (g k) i j -> b g k i j", k=self.group_size)
        variance = _variance(groups, (2, 3, 4), keepdim=True).expand_as(groups)
        std = torch.sqrt(rearrange(variance, "b g k i j -> b (g k) i j") + self.eps)
        swish = x * torch.sigmoid(_per_channel(self.v) * x)
        return _per_channel(self.weight) * swish / std + _per_channel(self.bias)


def _moment(order: int, axes: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    def moment(x: Tensor) -> Tensor:
        value = x.mean(axes, keepdim=True) if order == 1 else _variance(x, axes, keepdim=True)
        return value.expand_as(x)

    return moment


# Two-argument primitives first, then those of one argument. Signed logarithm and root keep the sign of x.
_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "mul": torch.mul,
    "max": torch.maximum,
    "div": torch.div,
}
_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "neg": torch.neg,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "log": lambda x: x.sign() * x.abs().log(),
    "sqrt": lambda x: x.sign() * x.abs().sqrt(),
    "square": torch.square,
    "abs": torch.abs,
    "mean over b,i,j": _moment(1, (0, 2, 3)),
    "variance over b,i,j": _moment(2, (0, 2, 3)),
    "mean over i,j": _moment(1, (2, 3)),
    "variance over i,j": _moment(2, (2, 3)),
    "mean over c,i,j": _moment(1, (1, 2, 3)),
    "variance over c,i,j": _moment(2, (1, 2, 3)),
}


@implements("evonorm")
class NormActivationGraph(nn.Module):
    r"""A layer given as a computation graph over primitives: one point of the search space.

    Nodes 0 to 3 are :math:`x, 0, v_0 x, v_1`; each further node applies a primitive to earlier nodes; the
    last one, with a gain and a shift per channel, is the output.

    Args:
        channels: c.
        nodes: one ``(primitive, first, second)`` per further node; one-argument primitives ignore ``second``.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for an unknown primitive or a node that reads a later one.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967 (our list of primitives
    follows the paper's; groups are all channels, and batch moments stay batch moments in evaluation)

    >>> relu = NormActivationGraph(4, [("max", 0, 1)])
    >>> relu(torch.tensor([-1.0, 2.0]).expand(1, 4, 1, 2))[0, 0, 0].tolist()
    [0.0, 2.0]
    """

    def __init__(self, channels: int, nodes: list[tuple[str, int, int]]) -> None:
        super().__init__()
        for position, (primitive, first, second) in enumerate(nodes, start=4):
            if primitive not in _BINARY and primitive not in _UNARY:
                raise ValueError(f"unknown primitive {primitive!r}; known: {', '.join([*_BINARY, *_UNARY])}")
            if not (0 <= first < position and 0 <= second < position):
                raise ValueError(
                    f"node {position} may read nodes 0 to {position - 1}, got {first} and {second}"
                )
        self.nodes = list(nodes)
        self.v0 = nn.Parameter(torch.ones(channels))
        self.v1 = nn.Parameter(torch.ones(channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        values = [x, torch.zeros_like(x), _per_channel(self.v0) * x, _per_channel(self.v1).expand_as(x)]
        for primitive, first, second in self.nodes:
            if primitive in _BINARY:
                values.append(_BINARY[primitive](values[first], values[second]))
            else:
                values.append(_UNARY[primitive](values[first]))
        return _per_channel(self.weight) * values[-1] + _per_channel(self.bias)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, " + "; ".join(
            f"{i}: {p}({a}, {b})" if p in _BINARY else f"{i}: {p}({a})"
            for i, (p, a, b) in enumerate(self.nodes, 4)
        )


@implements("evonorm")
def random_norm_activation_graph(
    *, num_nodes: int = 10, generator: torch.Generator
) -> list[tuple[str, int, int]]:
    """Draw the nodes of a random :class:`NormActivationGraph`: two distinct earlier nodes, then a primitive.

    Args:
        num_nodes: nodes beyond the four initial ones.
        generator: source of the random numbers.

    Raises:
        ValueError: if ``num_nodes`` is below 1.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    >>> len(random_norm_activation_graph(num_nodes=3, generator=torch.Generator().manual_seed(0)))
    3
    """
    if num_nodes < 1:
        raise ValueError(f"a graph needs at least one node, got num_nodes={num_nodes}")
    primitives = [*_BINARY, *_UNARY]
    nodes = []
    for position in range(4, 4 + num_nodes):
        first, second = torch.randperm(position, generator=generator)[:2].tolist()
        primitive = primitives[torch.randint(len(primitives), (), generator=generator)]
        nodes.append((primitive, first, second))
    return nodes


@implements("evonorm")
def reject_layer(
    layer: Callable[[int], nn.Module],
    anchors: Iterable[Callable[[Callable[[int], nn.Module]], nn.Module]],
    score: Callable[[nn.Module], float],
    loss: Callable[[nn.Module], Tensor],
    *,
    min_score: float,
    max_gradient_norm: float = 1e8,
    ascent_steps: int = 20,
) -> str | None:
    r"""The two cheap tests that throw out nearly all candidate layers before any real training.

    Quality: an anchor network trained for a few steps must reach ``min_score``. Stability: gradient ascent on
    :math:`\| \nabla_\theta L \|` over the network's weights must not push it beyond ``max_gradient_norm``.

    Args:
        layer: builds the candidate for a number of channels.
        anchors: each builds a small network around a layer.
        score: trains a network for a few steps and returns its validation score.
        loss: the training loss of a network on one fixed batch.
        min_score: threshold of the quality test.
        max_gradient_norm: threshold of the stability test.
        ascent_steps: Adam steps of the ascent, learning rate 0.1.

    Returns: ``"quality"`` or ``"stability"``, the test that failed first; ``None`` for a layer that is kept.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    >>> relu, anchor = (lambda channels: nn.ReLU()), (lambda layer: layer(1))
    >>> reject_layer(relu, [anchor], score=lambda model: 0.1, loss=lambda model: 0, min_score=0.2)
    'quality'
    """
    anchors = list(anchors)
    for anchor in anchors:
        if not score(anchor(layer)) >= min_score:  # written so that a NaN is rejected too
            return "quality"
    for anchor in anchors:
        if not _worst_gradient_norm(anchor(layer), loss, ascent_steps) <= max_gradient_norm:
            return "stability"
    return None


def _worst_gradient_norm(model: nn.Module, loss: Callable[[nn.Module], Tensor], steps: int) -> float:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=0.1, maximize=True)
    worst = 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        gradients = torch.autograd.grad(loss(model), parameters, create_graph=True, allow_unused=True)
        norm = torch.stack([g.square().sum() for g in gradients if g is not None]).sum().sqrt()
        if not torch.isfinite(norm):
            return float("inf")
        worst = max(worst, norm.item())
        norm.backward()
        optimizer.step()
    return worst
