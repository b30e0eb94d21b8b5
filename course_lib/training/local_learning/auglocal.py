"""AugLocal: every layer has its own loss, behind a private copy of a few of the layers that follow."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.registry import implements

__all__ = [
    "AugLocal",
    "LocalBlock",
    "PoolAndClassify",
    "ResidualBlock1d",
    "auxiliary_layer_index",
    "pyramid_depth",
]


@implements("auglocal")
def auxiliary_layer_index(l: int, num_layers: int, depth: int) -> list[int]:
    r"""Which later layers the auxiliary network of layer l copies: a uniform sample that ends with the last.

    .. math:: \operatorname{round}\Bigl(l + \frac{(L - l - 1)\, i}{d}\Bigr), \quad i = 1, \dots, d

    and all later layers where there are no more than d of them.

    Args:
        l: index of the layer, from 0.
        num_layers: number L of layers.
        depth: number d of layers to pick; 0 picks none, which leaves a linear classifier.

    Raises:
        ValueError: for a layer outside 0 to L - 1 or a negative depth.

    Paper: Scaling Supervised Local Learning with Augmented Auxiliary Networks -
        https://arxiv.org/abs/2402.17318

    Halves are rounded to the even neighbour, as the authors' code does.

    >>> auxiliary_layer_index(0, 16, 3)
    [5, 10, 15]
    """
    if not 0 <= l < num_layers or depth < 0:
        raise ValueError(
            f"expected 0 <= l < num_layers and depth >= 0, got l={l}, {num_layers} layers, depth {depth}"
        )
    later = num_layers - l - 1
    if depth >= later:
        return list(range(l + 1, num_layers))
    return [round(l + later * i / depth) for i in range(1, depth + 1)]


@implements("auglocal")
def pyramid_depth(l: int, num_modules: int, depth: int, *, tau: float = 0.5) -> int:
    r"""Depth of the auxiliary network of layer l: ``depth`` at the first layer, falling linearly.

    .. math:: d_l = \max\Bigl(1, \operatorname{round}\Bigl(
        d \bigl(1 - \tfrac{\tau l}{M - 2}\bigr) + \tfrac{\tau l}{M - 2} \Bigr)\Bigr)

    Args:
        l: index of the local module, from 0 to M - 2; the last module has the true classifier.
        num_modules: number M of local modules.
        depth: depth d at the first layer, at least 1.
        tau: how far it falls; 0 keeps it constant, 1 ends at a depth of one.

    Raises:
        ValueError: for a module outside 0 to M - 2, a depth below 1 or tau outside 0 to 1.

    Paper: Scaling Supervised Local Learning with Augmented Auxiliary Networks -
        https://arxiv.org/abs/2402.17318

    >>> [pyramid_depth(l, 10, 5) for l in range(9)]
    [5, 5, 4, 4, 4, 4, 4, 3, 3]
    """
    if not 0 <= l <= num_modules - 2 or depth < 1 or not 0 <= tau <= 1:
        raise ValueError(
            f"expected 0 <= l <= num_modules - 2, depth >= 1 and 0 <= tau <= 1, "
            f"got l={l}, num_modules={num_modules}, depth={depth}, tau={tau}"
        )
    fall = tau * l / max(num_modules - 2, 1)
    return max(1, round(depth * (1 - fall) + fall))


class PoolAndClassify(nn.Module):
    """Average over all positions, then a linear classifier.

    Args:
        channels: c.
        num_classes: number of classes.

    Shape: ``(b, c, ...)`` to ``(b, num_classes)``; a vector ``(b, c)`` has nothing to average.

    Raises:
        ValueError: for a wrong number of channels.

    >>> PoolAndClassify(4, 3)(torch.randn(2, 4, 7)).shape
    torch.Size([2, 3])
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b k"]:
        if x.ndim < 2 or x.shape[1] != self.linear.in_features:
            raise ValueError(
                f"expected {self.linear.in_features} channels along axis 1, got shape {tuple(x.shape)}"
            )
        return self.linear(x.flatten(2).mean(-1) if x.ndim > 2 else x)


class ResidualBlock1d(nn.Module):
    r"""Two normalised convolutions along a signal, around a shortcut.

    .. math:: y = \mathrm{ReLU}\bigl(S(x) + N(W_2 * \mathrm{ReLU}(N(W_1 * x)))\bigr)

    Args:
        in_channels: channels of the input.
        channels: channels of the output.
        stride: of the first convolution and of the shortcut S; S is the identity where the shape stays.
        norm_layer: called with ``channels`` for each N; group normalisation (4 groups, or 1) unless given.

    Shape: ``(b, in_channels, t)`` to ``(b, channels, ceil(t / stride))``.

    Raises:
        ValueError: for a wrong number of channels.

    Residual networks have batch norms in this place (``norm_layer=nn.BatchNorm1d``). In local training the
    inputs of a layer drift while those below learn, and the running averages of evaluation lag behind.

    >>> ResidualBlock1d(4, 6, 2)(torch.randn(2, 4, 7)).shape
    torch.Size([2, 6, 4])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        norm_layer = _group_norm if norm_layer is None else norm_layer
        self.in_channels = in_channels
        self.residual = nn.Sequential(
            nn.Conv1d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
            norm_layer(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1, bias=False),
            norm_layer(channels),
        )
        same = in_channels == channels and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Conv1d(in_channels, channels, 1, stride=stride, bias=False)
        )

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b e s"]:
        if x.shape[1] != self.in_channels:
            raise ValueError(f"expected {self.in_channels} channels along axis 1, got shape {tuple(x.shape)}")
        return (self.shortcut(x) + self.residual(x)).relu()


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(1 if channels % 4 else 4, channels)


@implements("auglocal")
class LocalBlock(nn.Module):
    """A part of the network that learns by itself: layers, and an auxiliary network that judges them.

    Args:
        layers: the part of the network that stays.
        auxiliary: from what the layers give to class logits; thrown away after training, except in the last
            module, where it is the network's own classifier.
        make_optimizer: called with the parameters of both.

    Shape: what ``layers`` takes and gives.

    Paper: Scaling Supervised Local Learning with Augmented Auxiliary Networks -
        https://arxiv.org/abs/2402.17318

    >>> block = LocalBlock(nn.Linear(4, 6), nn.Linear(6, 3), torch.optim.Adam)
    >>> h, loss = block.train_step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    >>> h.shape, h.requires_grad
    (torch.Size([5, 6]), False)
    """

    def __init__(
        self, layers: nn.Module, auxiliary: nn.Module, make_optimizer: Callable[..., torch.optim.Optimizer]
    ) -> None:
        super().__init__()
        self.layers, self.auxiliary = layers, auxiliary
        self.optimizer = make_optimizer(self.parameters())

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return self.layers(x)

    def loss(self, h: Float[Tensor, "..."], y: Int[Tensor, "b"]) -> Float[Tensor, ""]:
        """Cross-entropy of the auxiliary network on the output ``h`` of the layers."""
        return F.cross_entropy(self.auxiliary(h), y)

    def train_step(self, x: Float[Tensor, "..."], y: Int[Tensor, "b"]) -> tuple[Float[Tensor, "..."], float]:
        """One update from this module's loss; returns what the next module gets, cut off, and the loss.

        Backward runs here, before the next module runs forward: that is what bounds the stored activations.
        """
        self.optimizer.zero_grad()
        h = self(x)
        loss = self.loss(h, y)
        loss.backward()
        self.optimizer.step()
        return h.detach(), loss.item()


@implements("auglocal")
class AugLocal(nn.Module):
    """A network in which each layer is trained through fresh copies of a few layers that follow it.

    Args:
        make_layer: called with ``(in_channels, out_channels, stride)``; builds the network's layers and the
            copies.
        in_channels: channels of the input.
        plan: ``(out_channels, stride)`` of every layer.
        num_classes: number of classes.
        depth: layers of the first auxiliary network; 0 gives the baseline with a linear classifier
            everywhere.
        tau: how far the depth falls towards the last layer, see :func:`pyramid_depth`.
        num_modules: number of local modules; the last one holds all remaining layers and the classifier.
            Every layer is a module unless given; 1 is ordinary backpropagation.
        make_optimizer: called with the parameters of one module, for each module.

    Shape: what the first layer takes, to ``(b, num_classes)``.

    Raises:
        ValueError: for no layers, or more modules than layers.

    Paper: Scaling Supervised Local Learning with Augmented Auxiliary Networks -
        https://arxiv.org/abs/2402.17318

    Differs from the authors' code: a copy has the product of the strides that it skips, so that it gives the
    very shape of the layer it copies, and no classifier has a batch norm of its own.

    >>> def make_layer(in_dim, out_dim, stride):
    ...     return nn.Sequential(nn.Linear(in_dim, out_dim), nn.ReLU())
    >>> model = AugLocal(make_layer, 5, [(8, 1)] * 4, num_classes=3, depth=2)
    >>> [len(module.auxiliary) for module in model.modules_in_order]  # the classifier included
    [3, 3, 2, 1]
    >>> model.predict(torch.randn(2, 5)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        make_layer: Callable[[int, int, int], nn.Module],
        in_channels: int,
        plan: Sequence[tuple[int, int]],
        num_classes: int,
        *,
        depth: int = 2,
        tau: float = 0.5,
        num_modules: int | None = None,
        make_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    ) -> None:
        super().__init__()
        num_modules = len(plan) if num_modules is None else num_modules
        if not 1 <= num_modules <= len(plan):
            raise ValueError(f"expected 1 to {len(plan)} modules for {len(plan)} layers, got {num_modules}")
        if depth < 0:
            raise ValueError(f"depth must be at least 0, got {depth}")

        def build(indices: Sequence[int], start: int) -> list[nn.Module]:
            """Layers shaped as those at ``indices``, for what layer ``start`` gives (-1: the input)."""
            layers = []
            for index in indices:
                width = in_channels if start < 0 else plan[start][0]
                stride = math.prod(stride for _, stride in plan[start + 1 : index + 1])
                layers.append(make_layer(width, plan[index][0], stride))
                start = index
            return layers

        modules = []
        for l in range(num_modules - 1):
            layer_depth = pyramid_depth(l, num_modules, depth, tau=tau) if depth else 0
            copied = auxiliary_layer_index(l, len(plan), layer_depth)
            classify = PoolAndClassify(plan[copied[-1] if copied else l][0], num_classes)
            auxiliary = nn.Sequential(*build(copied, l), classify)
            modules.append(LocalBlock(nn.Sequential(*build([l], l - 1)), auxiliary, make_optimizer))
        rest = nn.Sequential(*build(range(num_modules - 1, len(plan)), num_modules - 2))
        classifier = nn.Sequential(PoolAndClassify(plan[-1][0], num_classes))
        self.modules_in_order = nn.ModuleList([*modules, LocalBlock(rest, classifier, make_optimizer)])

    def train_step(self, x: Float[Tensor, "..."], y: Int[Tensor, "b"]) -> dict[str, float]:
        """One update of every module, in the order of the layers; returns their losses."""
        losses = {}
        for i, module in enumerate(self.modules_in_order, 1):
            x, losses[f"module_{i}"] = module.train_step(x, y)
        return losses

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "b k"]:
        for module in self.modules_in_order:
            x = module(x)
        return self.modules_in_order[-1].auxiliary(x)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "..."]) -> Int[Tensor, "b"]:
        """The class with the largest logit of the network's own classifier."""
        return self(x).argmax(-1)

    @torch.no_grad()
    def read_out(self, x: Float[Tensor, "..."]) -> Int[Tensor, "m b"]:
        """The class that each module's auxiliary network predicts."""
        answers = []
        for module in self.modules_in_order:
            x = module(x)
            answers.append(module.auxiliary(x).argmax(-1))
        return torch.stack(answers)
