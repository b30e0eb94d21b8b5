"""Kolmogorov-Arnold layers: a learned function on every edge, from one family or several that compete."""

import math
from collections.abc import Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import require_width
from course_lib.layers.activation.bases import KAN_FAMILIES
from course_lib.registry import implements

__all__ = ["KANLinear", "SelectableKANLinear", "prune_kan", "selection_stage"]


def _make_family(name: str, dim: int, num_basis: int) -> nn.Module:
    if name not in KAN_FAMILIES:
        raise ValueError(f"unknown family {name!r}; choose from {', '.join(KAN_FAMILIES)}")
    if num_basis < 4:
        raise ValueError(f"num_basis must be at least 4 (a cubic spline on one interval), got {num_basis}")
    return KAN_FAMILIES[name](dim, num_basis)


@implements("s-kan", example=lambda: (KANLinear(3, 4), torch.randn(2, 3)))
class KANLinear(nn.Module):
    r"""A layer whose edges carry learned functions and whose nodes only add.

    .. math:: y_j = \sum_i \varphi_{ji}(x_i), \qquad
        \varphi_{ji}(x) = w_{ji}\, \mathrm{SiLU}(x) + \sum_g c_{jig}\, B_g(\tanh x)

    Args:
        in_dim: number of inputs i.
        out_dim: number of outputs j.
        family: "bspline", "chebyshev", "rbf" or "wavelet"; or one of these names for each input.
        num_basis: functions g per edge, at least 4.
        squash: pass the input through tanh before the basis.

    Shape: ``(*b, in_dim)`` to ``(*b, out_dim)``.

    Raises:
        ValueError: for an unknown family, fewer than four functions, or a wrong width.

    Paper: Activation Space Selectable Kolmogorov-Arnold Networks - https://arxiv.org/abs/2408.08338 (with
    splines alone it is the layer of KAN, https://arxiv.org/abs/2404.19756)

    Differs from the papers: tanh keeps the input on the grid, outside which splines vanish; the grid never
    moves. Switch ``squash`` off where the data already lie in [-1, 1].

    >>> KANLinear(3, 4, family="chebyshev")(torch.zeros(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        family: str | Sequence[str] = "bspline",
        num_basis: int = 8,
        squash: bool = True,
    ) -> None:
        super().__init__()
        names = [family] * in_dim if isinstance(family, str) else list(family)
        if len(names) != in_dim:
            raise ValueError(f"one family for each of {in_dim} inputs expected, got {len(names)}")
        self.in_dim, self.out_dim, self.num_basis, self.squash = in_dim, out_dim, num_basis, squash
        self.columns = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
        self.families = nn.ModuleDict(
            {name: _make_family(name, len(columns), num_basis) for name, columns in self.columns.items()}
        )
        self.base = nn.Linear(in_dim, out_dim, bias=False)
        self.coefficients = nn.Parameter(torch.empty(out_dim, in_dim, num_basis))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for the smooth branch, small normal coefficients for the basis."""
        nn.init.xavier_uniform_(self.base.weight)
        nn.init.normal_(self.coefficients, std=0.1 / math.sqrt(self.num_basis))

    def basis(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b i g"]:
        """The basis functions of every input, each from its own family."""
        x = torch.tanh(x) if self.squash else x
        if len(self.columns) == 1:
            return next(iter(self.families.values()))(x)
        parts = [self.families[name](x[..., columns]) for name, columns in self.columns.items()]
        order = [i for columns in self.columns.values() for i in columns]
        back = [order.index(i) for i in range(self.in_dim)]
        return torch.cat(parts, dim=-2)[..., back, :]

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_dim, f"KANLinear({self.in_dim}, {self.out_dim})")
        return self.base(F.silu(x)) + einsum(self.basis(x), self.coefficients, "... i g, o i g -> ... o")

    def extra_repr(self) -> str:
        return f"{self.in_dim}, {self.out_dim}, family={'+'.join(self.columns)}, num_basis={self.num_basis}"


@implements("s-kan", example=lambda: (SelectableKANLinear(3, 4, num_basis=5), torch.randn(2, 3)))
class SelectableKANLinear(nn.Module):
    r"""A Kolmogorov-Arnold layer that finds out by training which family of functions each input needs.

    .. math:: y_j = \sum_i w_{ji}\, \mathrm{SiLU}(x_i)
        + \sum_i \sum_m a_{im} \sum_g c^m_{jig}\, B^m_g(\tanh x_i),
        \qquad a_i = \mathrm{softmax}(\ell_i)

    Training has three stages: in "full" all families count; in "selective" those of less than average
    weight are masked and the others share out the whole; :meth:`prune` then keeps one family for each input.

    Args:
        in_dim: number of inputs i.
        out_dim: number of outputs j.
        families: the pool m.
        num_basis: functions g per edge and family.
        granularity: "node" gives every input its own weights a, "layer" one set to all.
        squash: pass the input through tanh before the basis.

    Shape: ``(*b, in_dim)`` to ``(*b, out_dim)``.

    Raises:
        ValueError: for an unknown family or granularity, or a wrong width.

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
        in_dim: int,
        out_dim: int,
        *,
        families: Sequence[str] = tuple(KAN_FAMILIES),
        num_basis: int = 8,
        granularity: str = "node",
        squash: bool = True,
    ) -> None:
        super().__init__()
        if granularity not in ("node", "layer"):
            raise ValueError(f"granularity must be 'node' or 'layer', got {granularity!r}")
        self.in_dim, self.out_dim, self.num_basis = in_dim, out_dim, num_basis
        self.squash, self.granularity, self.selective = squash, granularity, False
        self.families = nn.ModuleDict({name: _make_family(name, in_dim, num_basis) for name in families})
        self.base = nn.Linear(in_dim, out_dim, bias=False)
        self.coefficients = nn.Parameter(torch.empty(len(self.families), out_dim, in_dim, num_basis))
        self.logits = nn.Parameter(torch.empty(in_dim if granularity == "node" else 1, len(self.families)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As :class:`KANLinear`; all families begin with equal weight."""
        nn.init.xavier_uniform_(self.base.weight)
        nn.init.normal_(self.coefficients, std=0.1 / math.sqrt(self.num_basis))
        nn.init.zeros_(self.logits)

    def weights(self) -> Float[Tensor, "i m"]:
        """The weight of every family for every input; rows sum to one."""
        weights = self.logits.softmax(-1)
        if self.selective:
            kept = weights.detach() >= 1 / len(self.families) - 1e-6
            weights = self.logits.masked_fill(~kept, -math.inf).softmax(-1)
        return weights.expand(self.in_dim, -1)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        require_width(x, self.in_dim, f"SelectableKANLinear({self.in_dim}, {self.out_dim})")
        squashed = torch.tanh(x) if self.squash else x
        bases = torch.stack([family(squashed) for family in self.families.values()])
        mixed = einsum(self.weights(), self.coefficients, "i m, m o i g -> m o i g")
        return self.base(F.silu(x)) + einsum(bases, mixed, "m ... i g, m o i g -> ... o")

    @torch.no_grad()
    def prune(self) -> KANLinear:
        """A plain layer with only the heaviest family of each input, scaled by its weight."""
        weights, names = self.weights(), list(self.families)
        choice = weights.argmax(-1)
        layer = KANLinear(
            self.in_dim,
            self.out_dim,
            family=[names[m] for m in choice.tolist()],
            num_basis=self.num_basis,
            squash=self.squash,
        ).to(self.coefficients)
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
        return f"{self.in_dim}, {self.out_dim}, num_basis={self.num_basis}, granularity={self.granularity!r}"


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
    True
    """
    if stage not in ("full", "selective"):
        raise ValueError(
            f"the stage must be 'full' or 'selective', got {stage!r}; the third is prune_kan(model)"
        )
    layers = [m for m in model.modules() if isinstance(m, SelectableKANLinear)]
    if not layers:
        raise ValueError(f"no SelectableKANLinear in this {type(model).__name__}; was it pruned already?")
    for layer in layers:
        layer.selective = stage == "selective"
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
