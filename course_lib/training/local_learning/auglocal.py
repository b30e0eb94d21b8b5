"""AugLocal: every layer has its own loss, behind a private copy of a few of the layers that follow."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_callable,
    require_fraction,
    require_module,
    require_positive,
    require_real,
    require_sequence,
    require_signal,
)
from course_lib.registry import implements
from course_lib.training.local_learning._checks import following, require_finite, require_labels


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

    Halves are rounded to the even neighbour, as in the authors' code.

    >>> auxiliary_layer_index(0, 16, 3)
    [5, 10, 15]
    """
    require_at_least(0, "auxiliary_layer_index", l=l, depth=depth)
    if l >= num_layers:
        raise ValueError(f"auxiliary_layer_index: l must be below num_layers={num_layers}, got l={l}")
    later = num_layers - l - 1
    if depth >= later:
        return list(range(l + 1, num_layers))
    return [round(l + later / depth * i) for i in range(1, depth + 1)]  # theirs, to the last bit


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
    require_at_least(0, "pyramid_depth", l=l)
    require_positive("pyramid_depth", depth=depth)
    require_fraction("pyramid_depth", tau=tau)
    if l > num_modules - 2:
        raise ValueError(f"pyramid_depth: l must be at most num_modules - 2 = {num_modules - 2}, got l={l}")
    fall = tau * l / max(num_modules - 2, 1)
    return max(1, round(depth * (1 - fall) + fall))


class PoolAndClassify(nn.Module):
    """Average over all positions, then a linear classifier.

    Args:
        channels: c.
        num_classes: number of classes.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, c, ...)`` to ``(b, num_classes)``; a vector ``(b, c)`` has nothing to average.

    Raises:
        ValueError: for a size below 1, or a wrong number of channels.
        TypeError: for arguments and inputs of another type.

    >>> PoolAndClassify(4, 3)(torch.randn(2, 4, 7)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require_positive(type(self).__name__, channels=channels, num_classes=num_classes)
        self.linear = nn.Linear(channels, num_classes, device=device, dtype=dtype)

    def forward(self, x: Float[Tensor, "b c *positions"]) -> Float[Tensor, "b k"]:
        require_real(x, self)
        channels = self.linear.in_features
        if x.ndim < 2 or x.shape[1] != channels:
            raise ValueError(f"{layer_name(self)} expects x (b, {channels}, ...), got shape {tuple(x.shape)}")
        return self.linear(x.flatten(2).mean(-1) if x.ndim > 2 else x)

    def extra_repr(self) -> str:
        return f"{self.linear.in_features}, {self.linear.out_features}"


class ResidualBlock1d(nn.Module):
    r"""Two normalised convolutions along a signal, around a shortcut.

    .. math:: y = \mathrm{ReLU}\bigl(S(x) + N(W_2 * \mathrm{ReLU}(N(W_1 * x)))\bigr)

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut S; S is the identity where the shape stays.
        norm_layer: called with ``out_channels`` for each N; group normalisation (4 groups, or 1) unless
            given.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, in_channels, t)`` to ``(b, out_channels, ceil(t / stride))``.

    Raises:
        ValueError: for a size below 1, or a wrong number of channels.
        TypeError: for arguments and inputs of another type.

    Residual networks have batch norms in this place (``norm_layer=nn.BatchNorm1d``), the authors' of AugLocal
    among them. Group norms keep no running averages of inputs that drift while the layers below learn.

    >>> ResidualBlock1d(4, 6, 2)(torch.randn(2, 4, 7)).shape
    torch.Size([2, 6, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        norm_layer: Callable[[int], nn.Module] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        norm_layer = _group_norm if norm_layer is None else norm_layer
        require_positive(name, in_channels=in_channels, out_channels=out_channels, stride=stride)
        require_callable(name, norm_layer=norm_layer)
        factory = {"device": device, "dtype": dtype}
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        conv = partial(nn.Conv1d, bias=False, **factory)
        self.residual = nn.Sequential(
            conv(in_channels, out_channels, 3, stride=stride, padding=1),
            norm_layer(out_channels).to(**factory),
            nn.ReLU(),
            conv(out_channels, out_channels, 3, padding=1),
            norm_layer(out_channels).to(**factory),
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else conv(in_channels, out_channels, 1, stride=stride)

    def forward(self, x: Float[Tensor, "b c t"]) -> Float[Tensor, "b e s"]:
        require_signal(x, self.in_channels, self)
        return (self.shortcut(x) + self.residual(x)).relu()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"


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

    Raises:
        ValueError: when trained, for rows that are none or not finite. The block is as it was then.
        TypeError: for arguments that are no modules, and no function.

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
        require_module(type(self).__name__, layers=layers, auxiliary=auxiliary)
        require_callable(type(self).__name__, make_optimizer=make_optimizer)
        self.layers, self.auxiliary, self._make_optimizer = layers, auxiliary, make_optimizer
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
        require_finite(x, self)
        self.optimizer = following(self.optimizer, self.parameters(), self._make_optimizer)
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
        auxiliary_depth: layers of the first auxiliary network; 0 gives the baseline with a linear classifier
            everywhere.
        tau: how far the depth falls towards the last layer, see :func:`pyramid_depth`.
        num_modules: number of local modules; the last one holds all remaining layers and the classifier. It
            holds ``auxiliary_depth`` + 1 of them unless given; 1 is ordinary backpropagation.
        make_optimizer: called with the parameters of one module, for each module.
        device, dtype: of the parameters, as in torch; what ``make_layer`` builds is moved there.

    Shape: what the first layer takes, to ``(b, num_classes)``.

    Raises:
        ValueError: for no layers, sizes below 1, or more modules than layers; when trained, also for rows
            that are none or not finite, and labels that are no classes. The network is as it was then.
        TypeError: for arguments of another type.

    Paper: Scaling Supervised Local Learning with Augmented Auxiliary Networks -
        https://arxiv.org/abs/2402.17318

    Agrees with the authors' code in which layers are copied, with which strides (a copy makes up for one
    skipped downsampling at most; what is left waits for the next copy, or is left out), in the number of
    modules, the losses and the gradients. Differs from it: there the classifier behind an auxiliary network
    of one layer begins with a batch norm; convolutions start from a normal distribution (He, by fan-out); one
    optimiser, SGD with Nesterov's momentum, steps after the last module's backward pass, and not one a module
    after its own. Their ImageNet version was not compared.

    >>> def make_layer(in_features, out_features, stride):
    ...     return nn.Sequential(nn.Linear(in_features, out_features), nn.ReLU())
    >>> model = AugLocal(make_layer, 5, [(8, 1)] * 6, num_classes=3, auxiliary_depth=2)
    >>> [len(module.layers) for module in model.modules_in_order]
    [1, 1, 1, 3]
    >>> [len(module.auxiliary) for module in model.modules_in_order]  # the classifier included
    [3, 3, 3, 1]
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
        auxiliary_depth: int = 2,
        tau: float = 0.5,
        num_modules: int | None = None,
        make_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_callable(name, make_layer=make_layer, make_optimizer=make_optimizer)
        require_positive(name, in_channels=in_channels, num_classes=num_classes)
        require_sequence(name, plan=plan)
        for i, layer in enumerate(plan):
            require_sequence(name, 2, **{f"plan[{i}]": layer})
            require_positive(name, **{f"plan[{i}][0]": layer[0], f"plan[{i}][1]": layer[1]})
        require_at_least(0, name, auxiliary_depth=auxiliary_depth)
        require_fraction(name, tau=tau)
        num_modules = max(1, len(plan) - auxiliary_depth) if num_modules is None else num_modules
        require_positive(name, num_modules=num_modules)
        if num_modules > len(plan):
            raise ValueError(
                f"{name}: num_modules must be at most {len(plan)}, the layers of plan, got {num_modules}"
            )
        factory = {"device": device, "dtype": dtype}
        self.in_channels, self.num_classes = in_channels, num_classes

        def build(indices: Sequence[int], start: int) -> list[nn.Module]:
            """Layers shaped as those at ``indices``, for what layer ``start`` gives (-1: the input)."""
            layers, waiting = [], []
            for index in indices:
                width = in_channels if start < 0 else plan[start][0]
                waiting += [stride for _, stride in plan[start + 1 : index + 1] if stride > 1]
                stride = waiting.pop(0) if waiting else 1
                layers.append(make_layer(width, plan[index][0], stride).to(**factory))
                start = index
            return layers

        modules = []
        for l in range(num_modules - 1):
            depth = pyramid_depth(l, num_modules, auxiliary_depth, tau=tau) if auxiliary_depth else 0
            copied = auxiliary_layer_index(l, len(plan), depth)
            classify = PoolAndClassify(plan[copied[-1] if copied else l][0], num_classes, **factory)
            auxiliary = nn.Sequential(*build(copied, l), classify)
            modules.append(LocalBlock(nn.Sequential(*build([l], l - 1)), auxiliary, make_optimizer))
        rest = nn.Sequential(*build(range(num_modules - 1, len(plan)), num_modules - 2))
        classifier = nn.Sequential(PoolAndClassify(plan[-1][0], num_classes, **factory))
        self.modules_in_order = nn.ModuleList([*modules, LocalBlock(rest, classifier, make_optimizer)])

    def train_step(self, x: Float[Tensor, "..."], y: Int[Tensor, "b"]) -> dict[str, float]:
        """One update of every module, in the order of the layers; returns their losses."""
        self._require_input(x)
        require_finite(x, self)
        require_labels(y, self.num_classes, len(x), self)
        losses = {}
        for i, module in enumerate(self.modules_in_order, 1):
            x, losses[f"module_{i}"] = module.train_step(x, y)
        return losses

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "b k"]:
        self._require_input(x)
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

    def _require_input(self, x: Tensor) -> None:
        require_real(x, self)
        if x.ndim < 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{layer_name(self)} expects x (b, {self.in_channels}, ...), got shape {tuple(x.shape)}"
            )

    def extra_repr(self) -> str:
        return f"{self.in_channels}, num_classes={self.num_classes}"
