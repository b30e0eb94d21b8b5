"""Norm and activation in one layer, as evolution found them, and the search that finds such layers."""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.fx import Proxy

from course_lib.layers._half import wide
from course_lib.layers._shapes import (
    require_at_least,
    require_divides,
    require_eps,
    require_fraction,
    require_image,
    require_positive,
    require_sequence,
)
from course_lib.registry import implements


def _per_channel(parameter: Tensor) -> Tensor:
    return parameter[:, None, None]  # (c) to (c, 1, 1), to meet an image (b, c, i, j)


def _variance(x: Tensor, axes: tuple[int, ...], *, keepdim: bool = False) -> Tensor:
    """The biased variance; unlike ``Tensor.var`` it takes an empty batch without a warning."""
    return (x - x.mean(axes, keepdim=True)).square().mean(axes, keepdim=keepdim)


class _EvoNorm(nn.Module):
    """The three vectors that both layers learn: gain 1, shift 0 and v 1 at the start."""

    def __init__(
        self, channels: int, eps: float, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, channels=channels)
        require_eps(type(self).__name__, eps)
        self.channels, self.eps = channels, eps
        for name in ("weight", "bias", "v"):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device=device, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Gain 1, shift 0, v 1."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.v)

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
        device: of parameters and running average.
        dtype: of parameters and running average; half precision may enter beside float32.

    Shape: ``(b, c, i, j)`` to the same; variances of half precision are formed in float32.

    Raises:
        ValueError: for a number of channels below 1, a negative ``eps``, a momentum outside 0 to 1, or
            anything but images with ``channels`` channels.
        TypeError: for images of integers, complex numbers, or more precise than the parameters.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    Values as in the authors' code (https://github.com/tensorflow/tpu, ``models/official/resnet``), whose
    decay 0.9 is the momentum 0.1 of torch: the batch is normalised with the biased variance, and the running
    average keeps the biased one too, where ``torch.nn.BatchNorm2d`` and timm's layer keep the unbiased.
    timm's layer also starts from ``eps=1e-3``. Not here: the code's option without nonlinearity, which
    is an affine map. ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` leaves this layer alone: there is no
    batch norm of torch inside that could be exchanged, so every process has its own variance.

    >>> EvoNormB0(4)(torch.randn(2, 4, 3, 3)).shape
    torch.Size([2, 4, 3, 3])
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        momentum: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, device, dtype)
        require_fraction(type(self).__name__, momentum=momentum)
        self.momentum = momentum
        self.register_buffer("running_var", torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, shift 0, v 1, running variance 1."""
        super().reset_parameters()
        self.running_var.fill_(1)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self, mixed=True)
        z = wide(x)
        if self.training and (isinstance(x, Proxy) or x.numel()):
            batch_var = _variance(z, (0, 2, 3))
            self.running_var.lerp_(batch_var.detach().to(self.running_var.dtype), self.momentum)
        else:
            batch_var = self.running_var
        batch_std = _per_channel(torch.sqrt(batch_var + self.eps))
        instance_std = torch.sqrt(_variance(z, (2, 3), keepdim=True) + self.eps)
        denominator = torch.maximum(batch_std, _per_channel(self.v) * z + instance_std)
        y = _per_channel(self.weight) * z / denominator + _per_channel(self.bias)
        return y.to(x.dtype)


@implements("evonorm", example=lambda: (EvoNormS0(4, group_size=2), torch.randn(2, 4, 3, 5)))
class EvoNormS0(_EvoNorm):
    r"""A Swish over the standard deviation of its group; each sample for itself.

    .. math:: y = \gamma\, \frac{x\, \sigma(v x)}{\sqrt{s^2_{ij,c/g}(x) + \epsilon}} + \beta

    Args:
        channels: c.
        eps: added to the variance, inside the root.
        group_size: channels that share one variance.
        device: of the parameters.
        dtype: of the parameters; half precision may enter beside float32.

    Shape: ``(b, c, i, j)`` to the same; the variance of half precision is formed in float32.

    Raises:
        ValueError: for a number of channels below 1, a negative ``eps``, a group size that does not divide
            the channels, or anything but images with ``channels`` channels.
        TypeError: for images of integers, complex numbers, or more precise than the parameters.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967

    Values as in the authors' code (https://github.com/tensorflow/tpu, ``models/official/resnet``) at the same
    groups. Differs from it: it asks for 32 groups, and where they do not divide the channels for 31, 30 and
    so on, so that up to 32 channels each is a group of its own; narrow toy networks ask for a group size
    instead. Not here: its option without nonlinearity. A shift of the input changes the output: that is
    intended.

    >>> EvoNormS0(4, group_size=2)(torch.randn(2, 4, 3, 3)).shape
    torch.Size([2, 4, 3, 3])
    """

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        group_size: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, eps, device, dtype)
        require_divides(type(self).__name__, channels=channels, group_size=group_size)
        self.group_size = group_size
        self.reset_parameters()

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self, mixed=True)
        z = wide(x)
        groups = z.unflatten(1, (self.channels // self.group_size, self.group_size))
        variance = _variance(groups, (2, 3, 4), keepdim=True).expand_as(groups).flatten(1, 2)
        swish = z * torch.sigmoid(_per_channel(self.v) * z)
        y = _per_channel(self.weight) * swish / torch.sqrt(variance + self.eps) + _per_channel(self.bias)
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, eps={self.eps}, group_size={self.group_size}"


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
        device: of the parameters.
        dtype: of the parameters.

    Shape: ``(b, c, i, j)`` to the same.

    Raises:
        ValueError: for a number of channels below 1, an unknown primitive, a node that reads a later one, or
            anything but images with ``channels`` channels.
        TypeError: for nodes that are no list of such triples, or images of another type than the parameters.

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967 (our list of primitives
    follows the paper's; groups are all channels, and batch moments stay batch moments in evaluation). The
    authors released the layers that they found, not the search: it is compared with nothing.

    >>> relu = NormActivationGraph(4, [("max", 0, 1)])
    >>> relu(torch.tensor([-1.0, 2.0]).expand(1, 4, 1, 2))[0, 0, 0].tolist()
    [0.0, 2.0]
    """

    def __init__(
        self,
        channels: int,
        nodes: list[tuple[str, int, int]],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, channels=channels)
        require_sequence(name, nodes=nodes)
        for position, node in enumerate(nodes, start=4):
            require_sequence(name, 3, **{f"nodes[{position - 4}]": node})
            primitive, first, second = node
            if primitive not in _BINARY and primitive not in _UNARY:
                raise ValueError(
                    f"{name}: nodes[{position - 4}] has the unknown primitive {primitive!r}; "
                    f"known: {', '.join([*_BINARY, *_UNARY])}"
                )
            require_at_least(0, name, first=first, second=second)
            if max(first, second) >= position:
                raise ValueError(
                    f"{name}: node {position} may read nodes 0 to {position - 1}, got {first} and {second}"
                )
        self.channels, self.nodes = channels, list(nodes)
        for name in ("v0", "v1", "weight", "bias"):
            self.register_parameter(name, nn.Parameter(torch.empty(channels, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Shift 0, all else 1."""
        for parameter in (self.v0, self.v1, self.weight):
            nn.init.ones_(parameter)
        nn.init.zeros_(self.bias)

    def forward(self, x: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c i j"]:
        require_image(x, self.channels, self)
        values = [x, torch.zeros_like(x), _per_channel(self.v0) * x, _per_channel(self.v1).expand_as(x)]
        for primitive, first, second in self.nodes:
            if primitive in _BINARY:
                values.append(_BINARY[primitive](values[first], values[second]))
            else:
                values.append(_UNARY[primitive](values[first]))
        return _per_channel(self.weight) * values[-1] + _per_channel(self.bias)

    def extra_repr(self) -> str:
        return f"{self.channels}, " + "; ".join(
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
    require_positive("random_norm_activation_graph", num_nodes=num_nodes)
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

    Paper: Evolving Normalization-Activation Layers - https://arxiv.org/abs/2004.02967. The search was not
    released: steps, rate and thresholds are ours.

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
