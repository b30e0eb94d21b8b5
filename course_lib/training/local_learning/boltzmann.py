"""Restricted Boltzmann machines, and the deep belief network that stacks them layer by layer."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_fraction,
    require_number,
    require_one_of,
    require_positive,
    require_sequence,
    require_width,
)
from course_lib.registry import implements
from course_lib.training.local_learning._checks import require_rows

KINDS = ("binary", "gaussian")
MAX_ENUMERATED = 20


@implements("rbm-dbn-tutorial")
def free_energy(
    v: Float[Tensor, "*b v"],
    weight: Float[Tensor, "v h"],
    visible_bias: Float[Tensor, "v"],
    hidden_bias: Float[Tensor, "h"],
    *,
    visible: str = "binary",
) -> Float[Tensor, "*b"]:
    r"""Energy of a visible vector with the hidden units summed out: :math:`P(v) = e^{-F(v)} / Z`.

    .. math:: F(v) = -b^\top v - \sum_j \mathrm{softplus}\bigl(c_j + (v^\top W)_j\bigr)

    For Gaussian visible units :math:`\tfrac12 \|v - b\|^2` stands in the place of :math:`-b^\top v`.

    Args:
        v: visible vectors.
        weight: W.
        visible_bias: b.
        hidden_bias: c.
        visible: "binary" or "gaussian" (standardised data, variance 1).

    Shape: ``(*b, v)`` to ``(*b)``.

    Raises:
        ValueError: for an unknown kind of visible unit, or visible vectors of another width than the weight.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    >>> free_energy(torch.tensor([1.0, 0.0]), torch.zeros(2, 3), torch.tensor([0.5, 0.5]), torch.zeros(3))
    tensor(-2.5794)
    """
    require_one_of("free_energy", KINDS, visible=visible)
    require_width(v, len(weight), "free_energy", name="v")
    own = (v - visible_bias).square().sum(-1) / 2 if visible == "gaussian" else -(v @ visible_bias)
    return own - F.softplus(v @ weight + hidden_bias).sum(-1)


@implements(
    "rbm-dbn-tutorial",
    example=lambda: (RBM(6, 5), torch.rand(3, 6)),
    exceptions={"gradients": "the visible bias takes part in reconstruction only, not in P(h|v)"},
)
class RBM(nn.Module):
    r"""Two layers of units without connections inside a layer: each is sampled at once given the other.

    .. math:: E(v, h) = -b^\top v - c^\top h - v^\top W h, \qquad
        P(h_j = 1 \mid v) = \sigma\bigl(c_j + (v^\top W)_j\bigr), \qquad
        P(v_i = 1 \mid h) = \sigma\bigl(b_i + (W h)_i\bigr)

    As a layer it gives the hidden probabilities. :meth:`train_step` learns without labels and without
    backward.

    Args:
        num_visible: number of visible units.
        num_hidden: number of hidden units.
        visible: "binary", or "gaussian" for standardised real data, :math:`v \mid h \sim \mathcal N(b + W h,
            I)`.
        lr: step of the update.
        momentum: share of the last update that is kept; often 0.5 at first and 0.9 later (set the attribute).
        weight_decay: pulls W, not the biases, towards zero.
        k: Gibbs steps of contrastive divergence.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, num_visible)`` to ``(*b, num_hidden)``.

    Raises:
        ValueError: for an unknown kind of visible unit, a size or a number of Gibbs steps below 1, a negative
            rate or decay, a momentum outside 0 to 1, or a wrong last dimension; when trained, also for no
            rows and for rows that are not finite. The machine is as it was then.
        TypeError: for arguments of another type, and inputs of another dtype than the parameters.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    No code of the tutorial was found; this is contrastive divergence by its equations, with the usual choices
    for start, momentum and decay. Differs from ``sklearn.neural_network.BernoulliRBM``, which keeps chains of
    samples from step to step. The last update, of which momentum keeps a share, is no part of ``state_dict``,
    as in torch's optimisers.

    >>> rbm = RBM(4, 3)
    >>> rbm(torch.ones(2, 4)).shape, sorted(rbm.train_step(torch.ones(2, 4)))
    (torch.Size([2, 3]), ['reconstruction_error'])
    """

    def __init__(
        self,
        num_visible: int,
        num_hidden: int,
        *,
        visible: str = "binary",
        lr: float = 0.1,
        momentum: float = 0.5,
        weight_decay: float = 1e-4,
        k: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_one_of(name, KINDS, visible=visible)
        require_positive(name, num_visible=num_visible, num_hidden=num_hidden, k=k)
        require_number(name, 0, lr=lr, weight_decay=weight_decay)
        require_fraction(name, momentum=momentum)
        factory = {"device": device, "dtype": dtype}
        self.num_visible, self.num_hidden, self.visible = num_visible, num_hidden, visible
        self.lr, self.momentum, self.weight_decay, self.k = lr, momentum, weight_decay, k
        self.weight = nn.Parameter(torch.empty(num_visible, num_hidden, **factory))
        self.visible_bias = nn.Parameter(torch.empty(num_visible, **factory))
        self.hidden_bias = nn.Parameter(torch.empty(num_hidden, **factory))
        self._velocity: list[Tensor] | None = None
        self.reset_parameters()

    def reset_parameters(self, data: Float[Tensor, "b v"] | None = None) -> None:
        """Weights from N(0, 0.01²), biases zero; with data, visible biases that give the data's means."""
        if data is not None:
            require_rows(data, self.num_visible, self, self.weight, name="data")
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.hidden_bias)
        nn.init.zeros_(self.visible_bias)
        self._velocity = None
        if data is not None:
            mean = data.mean(0)
            margin = 1 / (len(data) + 1)  # a pixel that is never on would ask for a bias of minus infinity
            bias = mean if self.visible == "gaussian" else mean.clamp(margin, 1 - margin).logit()
            self.visible_bias.data.copy_(bias)

    def forward(self, v: Float[Tensor, "*b v"]) -> Float[Tensor, "*b h"]:
        require_width(v, self.num_visible, self, name="v")
        return torch.sigmoid(v @ self.weight + self.hidden_bias)

    def visible_mean(self, h: Float[Tensor, "*b h"]) -> Float[Tensor, "*b v"]:
        """P(v = 1 | h), or the mean of v given h for Gaussian units."""
        field = h @ self.weight.T + self.visible_bias
        return field if self.visible == "gaussian" else torch.sigmoid(field)

    def sample_visible(self, h: Float[Tensor, "*b h"]) -> Float[Tensor, "*b v"]:
        """Draw v given h."""
        mean = self.visible_mean(h)
        return mean + torch.randn_like(mean) if self.visible == "gaussian" else torch.bernoulli(mean)

    @torch.no_grad()
    def gibbs(self, v: Float[Tensor, "b v"], *, steps: int) -> Float[Tensor, "b v"]:
        """Run every row as a Markov chain: hidden given visible, visible given hidden, ``steps`` times."""
        for _ in range(steps):
            v = self.sample_visible(torch.bernoulli(self(v)))
        return v

    def free_energy(self, v: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
        """See the function :func:`free_energy`."""
        return free_energy(v, self.weight, self.visible_bias, self.hidden_bias, visible=self.visible)

    @torch.no_grad()
    def train_step(self, v: Float[Tensor, "b v"]) -> dict[str, float]:
        """One update by contrastive divergence; returns the squared reconstruction error per unit."""
        require_rows(v, self.num_visible, self, self.weight, name="v")
        ascent = list(contrastive_divergence_step(self, v, k=self.k))
        ascent[0] = ascent[0] - self.weight_decay * self.weight
        last = self._velocity or [torch.zeros_like(step) for step in ascent]
        self._velocity = [
            v.to(step) for v, step in zip(last, ascent, strict=True)
        ]  # the machine may have moved
        for parameter, velocity, step in zip(
            self._parameters_in_order(), self._velocity, ascent, strict=True
        ):
            velocity.mul_(self.momentum).add_(step, alpha=self.lr)
            parameter.add_(velocity)
        return {"reconstruction_error": (v - self.visible_mean(self(v))).square().mean().item()}

    def _parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.weight, self.visible_bias, self.hidden_bias

    def extra_repr(self) -> str:
        return f"{self.num_visible}, {self.num_hidden}, visible={self.visible!r}"


@implements("rbm-dbn-tutorial")
@torch.no_grad()
def contrastive_divergence_step(
    rbm: RBM, v0: Float[Tensor, "b v"], *, k: int = 1
) -> tuple[Float[Tensor, "v h"], Float[Tensor, "v"], Float[Tensor, "h"]]:
    r"""Direction of ascent for W, b and c: what the data want, minus what k Gibbs steps away from them want.

    .. math:: \Delta W = \langle v_0 \hat h_0^\top - v_k \hat h_k^\top \rangle, \qquad
        \Delta b = \langle v_0 - v_k \rangle, \qquad \Delta c = \langle \hat h_0 - \hat h_k \rangle

    with :math:`\hat h = P(h = 1 \mid v)` and averages over the batch. The chain starts with a sample of
    :math:`\hat h_0` (a probability would let more than one bit per unit through) and ends with a probability
    (a sample would only add noise). For :math:`k \to \infty` this is the gradient of the mean log-likelihood.

    Args:
        rbm: is not changed; :meth:`RBM.train_step` applies the direction.
        v0: a batch of data.
        k: Gibbs steps.

    Shape: the directions have the shapes of W, b and c.

    Raises:
        ValueError: for an empty batch, rows that are not finite, or no Gibbs step.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    >>> [tuple(step.shape) for step in contrastive_divergence_step(RBM(4, 3), torch.ones(2, 4))]
    [(4, 3), (4,), (3,)]
    """
    require_positive("contrastive_divergence_step", k=k)
    require_rows(v0, rbm.num_visible, rbm, rbm.weight, name="v0")
    h0 = rbm(v0)
    vk = rbm.gibbs(v0, steps=k)
    hk = rbm(vk)
    weight = (v0.T @ h0 - vk.T @ hk) / len(v0)
    return weight, (v0 - vk).mean(0), (h0 - hk).mean(0)


@implements("rbm-dbn-tutorial")
def log_partition(rbm: RBM) -> Float[Tensor, ""]:
    r"""Exact :math:`\log Z = \log \sum_v e^{-F(v)}` by going through all visible vectors.

    Args:
        rbm: with binary visible units, at most 20 of them.

    Raises:
        ValueError: for more units, or Gaussian ones.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    >>> rbm = RBM(3, 2)
    >>> _ = [p.data.zero_() for p in rbm.parameters()]
    >>> round(log_partition(rbm).exp().item(), 3)  # 5 units without any connection: 2 to the 5 states
    32.0
    """
    if rbm.visible != "binary" or rbm.num_visible > MAX_ENUMERATED:
        raise ValueError(
            f"log_partition: log Z is enumerated for at most {MAX_ENUMERATED} binary visible units, "
            f"got {rbm.num_visible} {rbm.visible} ones"
        )
    states = torch.arange(2**rbm.num_visible, device=rbm.weight.device)[:, None]
    bits = states >> torch.arange(rbm.num_visible, device=rbm.weight.device) & 1
    return torch.logsumexp(-rbm.free_energy(bits.to(rbm.weight)), 0)


@implements("rbm-dbn-tutorial")
def log_likelihood(rbm: RBM, v: Float[Tensor, "b v"]) -> Float[Tensor, ""]:
    r"""Exact mean log-likelihood :math:`\langle -F(v) \rangle - \log Z` in nats, for small machines.

    Args:
        rbm: with at most 20 binary visible units.
        v: data.

    Shape: ``(b, v)`` to a scalar.

    Raises:
        ValueError: for more units, or Gaussian ones.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    >>> rbm = RBM(3, 2)
    >>> _ = [p.data.zero_() for p in rbm.parameters()]
    >>> round(log_likelihood(rbm, torch.ones(1, 3)).exp().item(), 4)  # one of 8 equally probable vectors
    0.125
    """
    return -rbm.free_energy(v).mean() - log_partition(rbm)


@implements(
    "rbm-dbn-tutorial",
    example=lambda: (DeepBeliefNetwork([6, 5, 4]), torch.rand(3, 6)),
    exceptions={"gradients": "the visible biases take part in reconstruction only, not in the features"},
)
class DeepBeliefNetwork(nn.Module):
    """A stack of Boltzmann machines, trained one after the other on the features of those below.

    Args:
        dims: widths, from the visible layer to the top.
        visible: kind of the lowest visible units; hidden ones are binary.
        lr: step of the updates.
        weight_decay: see :class:`RBM`.
        k: Gibbs steps of contrastive divergence.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, dims[0])`` to the features of the top ``(*b, dims[-1])``.

    Raises:
        ValueError: for fewer than two widths, a width below 1 and whatever :class:`RBM` refuses; for inputs
            of another width; when trained, for rows that are none or not finite. The stack is as it was then.
        TypeError: for arguments of another type, and inputs of another dtype than the parameters.

    Paper: A Tutorial on Deep Neural Networks for Intelligent Systems - https://arxiv.org/abs/1603.07249

    >>> dbn = DeepBeliefNetwork([6, 5, 4]).pretrain(torch.rand(20, 6), steps=10)
    >>> [tuple(h.shape) for h in dbn.features(torch.rand(2, 6))], dbn.classifier(3)(torch.rand(2, 6)).shape
    ([(2, 5), (2, 4)], torch.Size([2, 3]))
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        visible: str = "binary",
        lr: float = 0.1,
        weight_decay: float = 1e-4,
        k: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_sequence(name, dims=dims)
        if len(dims) < 2:
            raise ValueError(
                f"{name}: dims must be a visible and at least one hidden width, got {list(dims)}"
            )
        require_positive(name, **{f"dims[{i}]": dim for i, dim in enumerate(dims)}, k=k)
        require_one_of(name, KINDS, visible=visible)
        require_number(name, 0, lr=lr, weight_decay=weight_decay)
        options = {"lr": lr, "weight_decay": weight_decay, "k": k, "device": device, "dtype": dtype}
        kinds = (visible, *["binary"] * (len(dims) - 2))
        self.layers = nn.ModuleList(
            RBM(i, o, visible=kind, **options) for (i, o), kind in zip(pairwise(dims), kinds, strict=True)
        )
        self.dims = tuple(dims)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b h"]:
        require_width(x, self.dims[0], self)
        for rbm in self.layers:
            x = rbm(x)
        return x

    @torch.no_grad()
    def features(self, x: Float[Tensor, "*b d"]) -> list[Float[Tensor, "*b _"]]:
        """The hidden probabilities of every layer, from the bottom."""
        require_width(x, self.dims[0], self)
        every = []
        for rbm in self.layers:
            x = rbm(x)
            every.append(x)
        return every

    @torch.no_grad()
    def train_step(self, x: Float[Tensor, "b d"], *, layer: int) -> dict[str, float]:
        """One update of one layer (from 0) on what those below make of a batch: probabilities, no samples."""
        self._require_rows(x)
        if layer not in range(len(self.layers)):
            raise ValueError(
                f"{layer_name(self)}: layer must be one of 0..{len(self.layers) - 1}, got {layer!r}"
            )
        for rbm in self.layers[:layer]:
            x = rbm(x)
        return self.layers[layer].train_step(x)

    @torch.no_grad()
    def pretrain(self, x: Float[Tensor, "n d"], *, steps: int, batch_size: int = 32) -> "DeepBeliefNetwork":
        """Train layer after layer, ``steps`` updates each; momentum 0.5 in the first fifth, then 0.9."""
        self._require_rows(x)
        require_at_least(0, type(self).__name__, steps=steps)
        require_positive(type(self).__name__, batch_size=batch_size)
        for rbm in self.layers:
            rbm.reset_parameters(x)
            for step in range(steps):
                rbm.momentum = 0.5 if step < steps / 5 else 0.9
                rbm.train_step(x[torch.randint(len(x), (batch_size,))])
            x = rbm(x)  # the data of the next machine: the lower layers are finished and never run again
        return self

    def classifier(self, num_classes: int) -> nn.Sequential:
        """The stack as a sigmoid network and a fresh linear layer on top, for fine-tuning by backpropagation.

        The weights are copies: fine-tuning leaves the machines as they are.
        """
        require_positive(type(self).__name__, num_classes=num_classes)
        layers: list[nn.Module] = []
        for rbm in self.layers:
            linear = nn.Linear(rbm.num_visible, rbm.num_hidden).to(rbm.weight)
            linear.weight.data.copy_(rbm.weight.T)
            linear.bias.data.copy_(rbm.hidden_bias)
            layers += [linear, nn.Sigmoid()]
        return nn.Sequential(
            *layers, nn.Linear(self.layers[-1].num_hidden, num_classes).to(self.layers[-1].weight)
        )

    def _require_rows(self, x: Tensor) -> None:
        require_rows(x, self.dims[0], self, self.layers[0].weight)

    def extra_repr(self) -> str:
        return f"{list(self.dims)}"
