"""Forward-Forward: each layer tells good data from bad by the length of its output, alone or together."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_number,
    require_one_of,
    require_positive,
    require_sequence,
    require_width,
)
from course_lib.registry import implements
from course_lib.training.local_learning._checks import following, require_labels, require_rows
from course_lib.training.loop import fused

COLLABORATIONS = ("none", "earlier", "all")
REDUCTIONS = ("sum", "mean")


@implements("collaborative-forward-forward")
def embed_label(
    x: Float[Tensor, "*b d"], label: Int[Tensor, "*b"], num_classes: int, *, value: float | None = None
) -> Float[Tensor, "*b d"]:
    """Write the label, one-hot, over the first entries of the input.

    Args:
        x: flattened images, or any vectors whose first ``num_classes`` entries can be spared.
        label: one per vector.
        num_classes: number of entries that are overwritten.
        value: what the entry of the label is set to; each vector's own maximum unless given.

    Shape: ``(*b, d)`` and ``(*b)`` to ``(*b, d)``; the input is left as it is.

    Raises:
        ValueError: if the vector is shorter than the label, or a label is no class.

    Paper: Layer Collaboration in the Forward-Forward Algorithm - https://arxiv.org/abs/2305.12393

    >>> embed_label(torch.tensor([[5.0, 6.0, 7.0, 8.0]]), torch.tensor([1]), 3)
    tensor([[0., 8., 0., 8.]])
    """
    if x.shape[-1] < num_classes:
        raise ValueError(
            f"embed_label: {num_classes} classes do not fit into vectors of width {x.shape[-1]}; pad them"
        )
    if label.numel() and (label.min() < 0 or label.max() >= num_classes):
        raise ValueError(
            f"embed_label: labels must lie in 0..{num_classes - 1}, got {label.unique().tolist()}"
        )
    level = x.amax(-1, keepdim=True) if value is None else value
    return torch.cat([F.one_hot(label, num_classes).to(x.dtype) * level, x[..., num_classes:]], dim=-1)


@implements("collaborative-forward-forward")
def goodness(h: Float[Tensor, "*b d"], *, reduction: str = "sum") -> Float[Tensor, "*b"]:
    r"""The squared length of a layer's output: what Forward-Forward makes large for good data.

    .. math:: G = \sum_i h_i^2

    Args:
        h: output of one layer.
        reduction: "sum", or "mean" to make the threshold independent of the width.

    Shape: ``(*b, d)`` to ``(*b)``.

    Raises:
        ValueError: for an unknown reduction.

    Paper: Layer Collaboration in the Forward-Forward Algorithm - https://arxiv.org/abs/2305.12393

    >>> goodness(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([25.,  1.])
    """
    require_one_of("goodness", REDUCTIONS, reduction=reduction)
    squares = h.square()
    return squares.sum(-1) if reduction == "sum" else squares.mean(-1)


@implements("collaborative-forward-forward")
def ff_loss(
    goodness: Float[Tensor, "*b"], gamma: Float[Tensor, "*b"] | float, theta: float, positive: bool
) -> Float[Tensor, ""]:
    r"""How badly one layer separates good data from bad, given the goodness that the other layers add.

    .. math:: P = \sigma(G + \gamma - \theta), \qquad
        L = \begin{cases} -\ln P & \text{positive data} \\ -\ln(1 - P) & \text{negative data} \end{cases}

    averaged over the batch. No gradient may flow through :math:`\gamma`; it is detached here.

    Args:
        goodness: G of this layer.
        gamma: sum of the other layers' goodness; zero for plain Forward-Forward.
        theta: threshold.
        positive: whether the data carry their true label.

    Shape: ``(*b)`` to a scalar.

    Raises:
        ValueError: for an empty batch.

    Paper: Layer Collaboration in the Forward-Forward Algorithm - https://arxiv.org/abs/2305.12393

    >>> ff_loss(torch.tensor([2.0]), 0.0, theta=2.0, positive=True)
    tensor(0.6931)
    """
    if goodness.numel() == 0:
        raise ValueError("ff_loss: the loss of an empty batch is not defined")
    gamma = gamma.detach() if isinstance(gamma, Tensor) else gamma
    margin = goodness + gamma - theta
    return F.softplus(-margin if positive else margin).mean()  # -ln sigma(m) = softplus(-m), without overflow


@implements("collaborative-forward-forward")
class ForwardForward(nn.Module):
    r"""A ReLU network in which each layer learns by itself to give true labels more goodness than wrong ones.

    .. math:: h_i = \mathrm{ReLU}\Bigl(W_i \frac{\sqrt{d}\, h_{i-1}}{\|h_{i-1}\| + \epsilon} + b_i\Bigr),
        \qquad P_i = \sigma(G_i + \gamma_i - \theta), \qquad G_i = \|h_i\|^2

    The division by the length keeps a layer from passing its goodness on; with the root of the width d the
    entries have a mean square of one. What :math:`\gamma_i` is makes the variants:

    =============  =============================  ==========================================================
    collaboration  :math:`\gamma_i`               what a layer sees of the others
    =============  =============================  ==========================================================
    "none"         0                              nothing; Forward-Forward
    "earlier"      :math:`\sum_{t < i} G_t`       the layers below
    "all"          :math:`\sum_{t \neq i} G_t`    all, one number per sample, through which no gradient flows
    =============  =============================  ==========================================================

    Args:
        in_features: width of the input; its first ``num_classes`` entries are overwritten by the label.
        dims: width of every layer.
        num_classes: number of classes.
        collaboration: which other layers enter a layer's probability.
        theta: threshold of the goodness.
        reduction: "sum" or "mean", see :func:`goodness`.
        lr: learning rate of each layer's own Adam.
        label_value: how strongly the label is written, see :func:`embed_label`.
        device, dtype: of the parameters, as in torch.

    Shape: ``(b, in_features)``, the label written in, to the goodness of every layer ``(l, b)``.

    Raises:
        ValueError: for an unknown collaboration or reduction, no layer, fewer than two classes, an input
            narrower than the label, a negative rate, or a wrong last dimension; when trained, also for rows
            that are none or not finite and labels that are no classes. The network is as it was then.
        TypeError: for arguments of another type, and inputs of another dtype than the parameters.

    Paper: Layer Collaboration in the Forward-Forward Algorithm - https://arxiv.org/abs/2305.12393

    No code of the paper was found, so this is made from its formulas, and the list of differences is not
    known to be complete. Ours: all layers learn from the same forward pass of a step (no pass is repeated
    after an update), with a wrong label drawn evenly from the others; the length that inputs are brought to
    is the one of the reimplementation ``loeweX/Forward-Forward``, whose threshold is the width. With "none"
    and "earlier" a layer is updated, and its activations dropped, before the next one runs; with "all" every
    layer has to wait for the last one.

    >>> model = ForwardForward(6, [5, 4], 3)
    >>> sorted(model.train_step(torch.rand(8, 6), torch.arange(8) % 3)), model.predict(torch.rand(2, 6)).shape
    (['layer_1', 'layer_2'], torch.Size([2]))
    """

    def __init__(
        self,
        in_features: int,
        dims: Sequence[int],
        num_classes: int,
        *,
        collaboration: str = "none",
        theta: float = 2.0,
        reduction: str = "sum",
        lr: float = 1e-3,
        label_value: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_one_of(name, COLLABORATIONS, collaboration=collaboration)
        require_one_of(name, REDUCTIONS, reduction=reduction)
        require_sequence(name, dims=dims)
        require_at_least(2, name, num_classes=num_classes)
        require_at_least(num_classes, name, in_features=in_features)
        require_positive(name, **{f"dims[{i}]": dim for i, dim in enumerate(dims)})
        require_number(name, theta=theta, **({} if label_value is None else {"label_value": label_value}))
        require_number(name, 0, lr=lr)
        if not dims:
            raise ValueError(f"{name}: dims must name at least one layer, got {dims!r}")
        self.in_features, self.num_classes, self.collaboration = in_features, num_classes, collaboration
        self.theta, self.reduction, self.label_value = theta, reduction, label_value
        self.layers = nn.ModuleList(
            nn.Linear(i, o, device=device, dtype=dtype) for i, o in pairwise([in_features, *dims])
        )
        self._make_optimizer = partial(fused, torch.optim.Adam, lr=lr)
        self.optimizers = [self._make_optimizer(layer.parameters()) for layer in self.layers]

    def layer_output(self, i: int, h: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        """Layer i (counted from 0) on what the layer below gave, cut off from the layers below."""
        h = h.detach()
        return self.layers[i](h * (h.shape[-1] ** 0.5 / (h.norm(dim=-1, keepdim=True) + 1e-8))).relu()

    def layer_loss(self, i: int, all_goodness: Sequence[Float[Tensor, "b"]]) -> Float[Tensor, ""]:
        """Loss of layer i, for a batch whose first half carries true labels, the second wrong ones."""
        others = {
            "none": [],
            "earlier": all_goodness[:i],
            "all": [*all_goodness[:i], *all_goodness[i + 1 :]],
        }[self.collaboration]
        gamma = sum((g.detach() for g in others), torch.zeros_like(all_goodness[i]))
        (true, wrong), (true_gamma, wrong_gamma) = all_goodness[i].chunk(2), gamma.chunk(2)
        return ff_loss(true, true_gamma, self.theta, True) + ff_loss(wrong, wrong_gamma, self.theta, False)

    def train_step(self, x: Float[Tensor, "b d"], y: Int[Tensor, "b"]) -> dict[str, float]:
        """One update of every layer on true labels and on wrong ones, drawn afresh; returns the losses."""
        require_rows(x, self.in_features, self, self.layers[0].weight)
        require_labels(y, self.num_classes, len(x), self)
        wrong = (y + torch.randint_like(y, 1, self.num_classes)) % self.num_classes
        h = torch.cat([self._with_label(x, y), self._with_label(x, wrong)])
        all_goodness: list[Tensor] = []
        losses = []
        for i in range(len(self.layers)):
            h = self.layer_output(i, h)
            all_goodness.append(goodness(h, reduction=self.reduction))
            if self.collaboration != "all":
                losses.append(self._update(i, all_goodness))
                all_goodness[i] = all_goodness[i].detach()  # lets go of this layer's activations
        if self.collaboration == "all":
            losses = [self._update(i, all_goodness) for i in range(len(self.layers))]
        return {f"layer_{i}": loss for i, loss in enumerate(losses, 1)}

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "l *b"]:
        """Goodness of every layer for inputs that carry a label."""
        require_width(x, self.in_features, self)
        all_goodness, h = [], x
        for i in range(len(self.layers)):
            h = self.layer_output(i, h)
            all_goodness.append(goodness(h, reduction=self.reduction))
        return torch.stack(all_goodness)

    @torch.no_grad()
    def label_goodness(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "l b k"]:
        """Goodness of every layer under every label that could be written into the input."""
        labels = torch.arange(self.num_classes, device=x.device).expand(len(x), -1)
        return self(self._with_label(x[:, None].expand(-1, self.num_classes, -1), labels))

    def predict(self, x: Float[Tensor, "b d"], *, layers: Sequence[int] | None = None) -> Int[Tensor, "b"]:
        """The label with the largest goodness, summed over the layers named (counted from 0), or over all."""
        every = self.label_goodness(x)
        return (every if layers is None else every[list(layers)]).sum(0).argmax(-1)

    def read_out(self, x: Float[Tensor, "b d"]) -> Int[Tensor, "l b"]:
        """The prediction from each layer's own goodness."""
        return self.label_goodness(x).argmax(-1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, num_classes={self.num_classes}, collaboration={self.collaboration!r}"

    def _update(self, i: int, all_goodness: Sequence[Tensor]) -> float:
        self.optimizers[i] = following(self.optimizers[i], self.layers[i].parameters(), self._make_optimizer)
        self.optimizers[i].zero_grad()
        loss = self.layer_loss(i, all_goodness)
        loss.backward()
        self.optimizers[i].step()
        return loss.item()

    def _with_label(self, x: Tensor, label: Tensor) -> Tensor:
        require_width(x, self.in_features, self)
        return embed_label(x, label, self.num_classes, value=self.label_value)
