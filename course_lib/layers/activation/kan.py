"""Kolmogorov-Arnold layers: a learned function on every edge, from one family or several that compete."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    require_at_least,
    require_one_of,
    require_positive,
    require_sequence,
    require_width,
)
from course_lib.layers.activation.bases import KAN_FAMILIES
from course_lib.registry import implements


class _Base(nn.Linear):
    """The smooth branch; with its own start, so that the order of resets does not matter."""

    def __init__(self, in_features: int, out_features: int, **factory: Any) -> None:
        super().__init__(in_features, out_features, bias=False, **factory)

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)


@implements("s-kan", example=lambda: (KANLinear(3, 4), torch.randn(2, 3)))
class KANLinear(nn.Module):
    r"""A layer whose edges carry learned functions and whose nodes only add.

    .. math:: y_j = \sum_i \varphi_{ji}(x_i), \qquad
        \varphi_{ji}(x) = w_{ji}\, \mathrm{SiLU}(x) + \sum_g c_{jig}\, B_g(\tanh x)

    Args:
        in_features: number of inputs i.
        out_features: number of outputs j.
        family: "bspline", "chebyshev", "rbf" or "wavelet"; or one of these names for each input.
        num_basis: functions g per edge, at least 4 (a cubic spline on one interval).
        squash: pass the input through tanh before the basis.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, in_features)`` to ``(*b, out_features)``.

    Raises:
        ValueError: for a size below 1, an unknown family, another number of families than of inputs, fewer
            than four functions, or a wrong width.
        TypeError: for arguments and inputs of another type.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338 (with
    splines alone it is the layer of KAN, https://arxiv.org/abs/2404.19756)

    Differs from the papers: tanh keeps the input on the grid, outside which splines vanish; the grid never
    moves. Switch ``squash`` off where the data already lie in [-1, 1]. Of the authors' code only the layers
    of the convolutional form are released, without the selection. Without ``squash`` the splines and the
    polynomials are theirs. But there splines have a second, multiplied scale; polynomials clamp the input
    and have no smooth branch; bumps stand on [-2, 2] behind a layer norm; wavelets are one for each edge,
    upside down, with a batch norm behind them.

    >>> KANLinear(3, 4, family="chebyshev")(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        family: str | Sequence[str] = "bspline",
        num_basis: int = 8,
        squash: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        require_positive(layer, in_features=in_features, out_features=out_features)
        require_at_least(4, layer, num_basis=num_basis)
        names = (family,) * in_features if isinstance(family, str) else family
        require_sequence(layer, in_features, family=names)
        for name in names:
            require_one_of(layer, KAN_FAMILIES, family=name)
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features = in_features, out_features
        self.num_basis, self.squash = num_basis, squash
        self.columns = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
        self.families = nn.ModuleDict(
            {
                name: KAN_FAMILIES[name](len(columns), num_basis, **factory)
                for name, columns in self.columns.items()
            }
        )
        self.base = _Base(in_features, out_features, **factory)
        self.coefficients = nn.Parameter(torch.empty(out_features, in_features, num_basis, **factory))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small normal coefficients for the basis; the smooth branch starts Xavier-uniform."""
        nn.init.normal_(self.coefficients, std=0.1 / math.sqrt(self.num_basis))

    def basis(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b i g"]:
        """The basis functions of every input, each from its own family."""
        x = torch.tanh(x) if self.squash else x
        if len(self.columns) == 1:
            return next(iter(self.families.values()))(x)
        parts = [self.families[name](x[..., columns]) for name, columns in self.columns.items()]
        order = [i for columns in self.columns.values() for i in columns]
        back = [order.index(i) for i in range(self.in_features)]
        return torch.cat(parts, dim=-2)[..., back, :]

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        return self.base(F.silu(x)) + F.linear(self.basis(x).flatten(-2), self.coefficients.flatten(1))

    def extra_repr(self) -> str:
        families = "+".join(self.columns)
        return f"{self.in_features}, {self.out_features}, family={families}, num_basis={self.num_basis}"


@implements("s-kan", example=lambda: (SelectableKANLinear(3, 4, num_basis=5), torch.randn(2, 3)))
class SelectableKANLinear(nn.Module):
    r"""A Kolmogorov-Arnold layer that finds out by training which family of functions each input needs.

    .. math:: y_j = \sum_i w_{ji}\, \mathrm{SiLU}(x_i)
        + \sum_i \sum_m a_{im} \sum_g c^m_{jig}\, B^m_g(\tanh x_i),
        \qquad a_i = \mathrm{softmax}(\ell_i)

    Training has three stages: in "full" all families count; in "selective" those of less than average
    weight are masked and the others share out the whole; :meth:`prune` then keeps one family for each input.

    Args:
        in_features: number of inputs i.
        out_features: number of outputs j.
        families: the pool m.
        num_basis: functions g per edge and family, at least 4.
        granularity: "node" gives every input its own weights a, "layer" one set to all.
        squash: pass the input through tanh before the basis.
        device, dtype: of the parameters, as in torch.

    Shape: ``(*b, in_features)`` to ``(*b, out_features)``.

    Raises:
        ValueError: for a size below 1, an unknown or repeated family, fewer than four functions, another
            granularity, or a wrong width.
        TypeError: for arguments and inputs of another type.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    The pool, the weights and the three stages are the paper's. Inferred: how the second stage decides
    (masking below the average), that a weight belongs to an input, and that all families share the smooth
    branch. The convolutional form is left out.

    >>> layer = SelectableKANLinear(2, 3, families=("bspline", "wavelet"))
    >>> layer.weights().detach()
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        families: Sequence[str] = tuple(KAN_FAMILIES),
        num_basis: int = 8,
        granularity: str = "node",
        squash: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        layer = type(self).__name__
        require_positive(layer, in_features=in_features, out_features=out_features)
        require_at_least(4, layer, num_basis=num_basis)
        require_one_of(layer, ("node", "layer"), granularity=granularity)
        require_sequence(layer, families=families)
        for name in families:
            require_one_of(layer, KAN_FAMILIES, families=name)
        if not families or len(set(families)) < len(families):
            raise ValueError(f"{layer}: families must be one or more, each once, got {families!r}")
        factory = {"device": device, "dtype": dtype}
        self.in_features, self.out_features, self.num_basis = in_features, out_features, num_basis
        self.squash, self.granularity = squash, granularity
        self.families = nn.ModuleDict(
            {name: KAN_FAMILIES[name](in_features, num_basis, **factory) for name in families}
        )
        self.base = _Base(in_features, out_features, **factory)
        m = len(families)
        self.coefficients = nn.Parameter(torch.empty(m, out_features, in_features, num_basis, **factory))
        self.logits = nn.Parameter(torch.empty(in_features if granularity == "node" else 1, m, **factory))
        # part of the state: a model that is saved in its second stage is loaded into it
        self.register_buffer("selective", torch.empty((), dtype=torch.bool, device=device))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As :class:`KANLinear`; the first stage, in which all families have equal weight."""
        nn.init.normal_(self.coefficients, std=0.1 / math.sqrt(self.num_basis))
        nn.init.zeros_(self.logits)
        self.selective.fill_(False)

    def weights(self) -> Float[Tensor, "i m"]:
        """The weight of every family for every input; rows sum to one."""
        weights = self.logits.detach().softmax(-1)
        light = weights < weights.amax(-1, keepdim=True).clamp(max=1 / len(self.families) - 1e-6)
        return (
            self.logits.masked_fill(self.selective & light, -math.inf)
            .softmax(-1)
            .expand(self.in_features, -1)
        )

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_features, self)
        squashed = torch.tanh(x) if self.squash else x
        bases = torch.stack([family(squashed) for family in self.families.values()], dim=-3)
        mixed = (self.weights().mT[:, None, :, None] * self.coefficients).transpose(0, 1)  # o m i g
        return self.base(F.silu(x)) + F.linear(bases.flatten(-3), mixed.flatten(1))

    @torch.no_grad()
    def prune(self) -> KANLinear:
        """A plain layer with only the heaviest family of each input, scaled by its weight."""
        weights, names = self.weights(), list(self.families)
        choice = weights.argmax(-1)
        layer = KANLinear(
            self.in_features,
            self.out_features,
            family=[names[m] for m in choice.tolist()],
            num_basis=self.num_basis,
            squash=self.squash,
            device=self.coefficients.device,
            dtype=self.coefficients.dtype,
        )
        layer.base.load_state_dict(self.base.state_dict())
        for i, m in enumerate(choice.tolist()):
            layer.coefficients[:, i] = weights[i, m] * self.coefficients[m, :, i]
        for name, columns in layer.columns.items():
            for ours, theirs in zip(
                layer.families[name].parameters(), self.families[name].parameters(), strict=True
            ):
                ours.copy_(theirs[columns])
        return layer

    def extra_repr(self) -> str:
        families = "+".join(self.families)
        return (
            f"{self.in_features}, {self.out_features}, families={families}, num_basis={self.num_basis}, "
            f"granularity={self.granularity!r}"
        )


@implements("s-kan")
def selection_stage(model: nn.Module, stage: str) -> nn.Module:
    """Put every selectable layer of a model into the first or second stage of training, and return it.

    Args:
        model: contains :class:`SelectableKANLinear`.
        stage: "full" or "selective".

    Raises:
        ValueError: for another stage, or a model without such layers.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> selection_stage(nn.Sequential(SelectableKANLinear(1, 1)), "selective")[0].selective
    tensor(True)
    """
    require_one_of("selection_stage", ("full", "selective"), stage=stage)  # the third is prune_kan
    layers = [m for m in model.modules() if isinstance(m, SelectableKANLinear)]
    if not layers:
        raise ValueError(f"no SelectableKANLinear in this {type(model).__name__}; was it pruned already?")
    for layer in layers:
        layer.selective.fill_(stage == "selective")
    return model


@implements("s-kan")
def prune_kan(model: nn.Sequential) -> nn.Sequential:
    """The third stage: a new model in which every selectable layer is a plain one with its chosen families.

    Args:
        model: layers one after the other; the others are kept as they are, and shared.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338

    >>> list(prune_kan(nn.Sequential(SelectableKANLinear(1, 2)))[0].families)
    ['bspline']
    """
    return nn.Sequential(*(m.prune() if isinstance(m, SelectableKANLinear) else m for m in model))
