"""The Hopfield view: one step of attention is one retrieval from an associative memory."""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import (
    require_number,
    require_positive,
    require_real,
    require_tokens,
    require_width,
)
from course_lib.layers.attention._common import head_width, reset_projections
from course_lib.layers.attention.dot_product import Mask, attention_weights, scaled_dot_product
from course_lib.registry import implements

torch.fx.wrap("attention_weights")
torch.fx.wrap("rearrange")
torch.fx.wrap("scaled_dot_product")


def hopfield_update_naive(
    state: Float[Tensor, "t d"], patterns: Float[Tensor, "s d"], *, beta: float = 1.0
) -> Float[Tensor, "t d"]:
    r"""The update as written, one state at a time; the columns of X are the patterns.

    .. math:: \xi' = X\, \mathrm{softmax}(\beta X^\top \xi)

    >>> hopfield_update_naive(torch.tensor([[1.0, 0.2]]), torch.eye(2), beta=10.0).round(decimals=3)
    tensor([[1., 0.]])
    """
    x = patterns.T
    return torch.stack([x @ torch.softmax(beta * x.T @ xi, dim=0) for xi in state])


@implements("modern-hopfield")
def hopfield_update(
    state: Float[Tensor, "*b t d"],
    patterns: Float[Tensor, "*b s d"],
    *,
    beta: float = 1.0,
    mask: Mask | None = None,
) -> Float[Tensor, "*b t d"]:
    r"""Move every state to the mean of the stored patterns, weighted by their similarity to it.

    .. math:: \xi' = X\, \mathrm{softmax}(\beta X^\top \xi)

    This is attention with queries :math:`\xi`, the patterns as keys *and* as values, and scale :math:`\beta`.

    Args:
        state: where retrieval starts; every row is a state of its own.
        patterns: what is stored, one pattern per row.
        beta: inverse temperature; towards 0 every state goes to the mean of all patterns, towards infinity
            to the pattern with the largest inner product.
        mask: broadcasts to ``(*b, t, s)``; True where a state may use a pattern.

    Shape: ``(*b, t, d)`` and ``(*b, s, d)`` to ``(*b, t, d)``.

    Raises:
        ValueError: if beta is not positive, or states and patterns do not fit.
        TypeError: for anything but real numbers of one dtype.

    Paper: Hopfield Networks is All You Need - https://arxiv.org/abs/2008.02217

    >>> hopfield_update(torch.tensor([[1.0, 0.2]]), torch.eye(2), beta=10.0).round(decimals=3)
    tensor([[1., 0.]])
    """
    _require_beta("hopfield_update", beta)
    one_head = patterns.unsqueeze(-3)
    mask = None if mask is None else torch.atleast_2d(mask).unsqueeze(-3)
    return scaled_dot_product(state.unsqueeze(-3), one_head, one_head, mask=mask, scale=beta).squeeze(-3)


@implements("modern-hopfield")
def hopfield_energy(
    state: Float[Tensor, "*b t d"], patterns: Float[Tensor, "*b s d"], *, beta: float = 1.0
) -> Float[Tensor, "*b t"]:
    r"""What no update increases: low where a state resembles a stored pattern.

    .. math:: E(\xi) = -\tfrac1\beta \ln \sum_i e^{\beta x_i \cdot \xi} + \tfrac12 \xi \cdot \xi
        + \tfrac1\beta \ln N + \tfrac12 M^2, \qquad M = \max_i \lVert x_i \rVert

    The update is a step of length one down its gradient: :math:`\xi' - \xi = -\nabla E(\xi)`. The two
    constants make it non-negative.

    Args:
        state: every row a state.
        patterns: what is stored, one pattern per row.
        beta: inverse temperature.

    Shape: ``(*b, t, d)`` and ``(*b, s, d)`` to ``(*b, t)``.

    Raises:
        ValueError: if beta is not positive, or states and patterns have another width.
        TypeError: for anything but real numbers.

    Paper: Hopfield Networks is All You Need - https://arxiv.org/abs/2008.02217

    >>> hopfield_energy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.eye(2), beta=10.0).round(decimals=2)
    tensor([0.0700, 0.2500])
    """
    _require_beta("hopfield_energy", beta)
    require_real(state, "hopfield_energy", name="state")
    require_width(patterns, state.shape[-1], "hopfield_energy", name="patterns")
    scores = beta * state @ patterns.mT  # (*b, t, s)
    largest = patterns.square().sum(-1).amax(-1, keepdim=True)
    constants = math.log(patterns.shape[-2]) / beta + largest / 2
    return -scores.logsumexp(-1) / beta + state.square().sum(-1) / 2 + constants


@implements(
    "modern-hopfield",
    example=lambda: (Hopfield(6, 2, steps=2), torch.randn(2, 3, 6), torch.randn(2, 5, 6)),
)
class Hopfield(nn.Module):
    r"""Associate the input, as states, with a second input, as stored patterns.

    .. math:: \xi_h = W^Q_h r_t, \quad x_{hs} = W^K_h y_s, \qquad
        \xi_h \leftarrow X_h\, \mathrm{softmax}(\beta X_h^\top \xi_h), \qquad
        z_t = b + \sum_h W^V_h \xi_h

    Args:
        dim: width d of states, patterns and output.
        num_heads: memories H, each in a subspace of its own.
        head_dim: width of a subspace, ``dim / num_heads`` unless given.
        beta: inverse temperature, :math:`1/\sqrt{d_h}` unless given.
        steps: updates before the output projection; with one it is attention whose values are projected keys.
        bias: give the three projections a bias.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: states ``(b, t, d)`` and patterns ``(b, s, d)``, the states themselves unless given, to
    ``(b, t, d)``; with ``return_weights=True`` also the weights of the last step ``(b, h, t, s)``.

    Raises:
        ValueError: for sizes that do not fit, no step or a beta that is not positive.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Hopfield Networks is All You Need - https://arxiv.org/abs/2008.02217

    Differs from the authors' ``hflayers.Hopfield``, whose values the tests hold. With
    ``pattern_projection_as_connected=True`` and one head theirs is this layer, but for layer norms before the
    projections, a threshold that may end the updates earlier, dropout, and a value and an output matrix one
    after the other, which are one here; with several heads their value matrix mixes the memories of all heads
    before each head reads, here each reads its own. By default (not connected) their values are a projection
    of the input of their own: one step is then multi-head attention behind three layer norms. Their weights
    start normal with deviation 0.02. Not here: a norm or fixed projections in the subspace, bias or zero
    patterns, an activation of the output.

    >>> Hopfield(6, 2)(torch.randn(2, 3, 6), torch.randn(2, 5, 6)).shape
    torch.Size([2, 3, 6])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        self.dim, self.num_heads = dim, num_heads
        self.head_dim, self.beta, self.steps = _sizes(name, dim, num_heads, head_dim, beta, steps)
        width = num_heads * self.head_dim
        self.query = nn.Linear(dim, width, bias=bias, **factory)
        self.key = nn.Linear(dim, width, bias=bias, **factory)
        self.out = nn.Linear(width, dim, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-uniform projections, biases zero."""
        reset_projections(*self.children())

    def forward(
        self,
        states: Float[Tensor, "b t d"],
        patterns: Float[Tensor, "b s d"] | None = None,
        *,
        mask: Mask | None = None,
        return_weights: bool = False,
    ) -> Float[Tensor, "b t d"] | tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t s"]]:
        patterns = states if patterns is None else patterns
        require_tokens(states, self.dim, self, name="states")
        require_tokens(patterns, self.dim, self, name="patterns")
        xi = rearrange(self.query(states), "b t (h e) -> b h t e", h=self.num_heads)
        x = rearrange(self.key(patterns), "b s (h e) -> b h s e", h=self.num_heads)
        xi, weights = _retrieve(xi, x, x, self.beta, self.steps, mask, return_weights)
        z = self.out(rearrange(xi, "b h t e -> b t (h e)"))
        return (z, weights) if return_weights else z

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}, beta={self.beta:.4g}, steps={self.steps}"


@implements("modern-hopfield", example=lambda: (HopfieldPooling(6, 2, num_states=3), torch.randn(2, 5, 6)))
class HopfieldPooling(nn.Module):
    r"""Summarise a set with learned states: the input is what is stored.

    .. math:: x_{hs} = W^K_h y_s, \qquad \xi_h \leftarrow X_h\, \mathrm{softmax}(\beta X_h^\top \xi_h), \qquad
        z = b + \sum_h W^V_h \xi_h, \qquad \xi_h \text{ learned}

    Args:
        dim: width d of patterns and output.
        num_heads: memories H, each in a subspace of its own.
        num_states: learned states t, one output row for each.
        head_dim: width of a subspace, ``dim / num_heads`` unless given.
        beta: inverse temperature, :math:`1/\sqrt{d_h}` unless given.
        steps: updates before the output projection.
        bias: give the two projections a bias.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: patterns ``(b, s, d)`` to ``(b, t, d)``, whatever their order; with ``return_weights=True`` also
    the weights of the last step ``(b, h, t, s)``.

    Raises:
        ValueError: for sizes that do not fit, no step or a beta that is not positive.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Hopfield Networks is All You Need - https://arxiv.org/abs/2008.02217

    Differs from the authors' ``hflayers.HopfieldPooling``, whose values the tests hold: the states are
    learned in the subspace of the heads, where theirs (deviation 0.02 at the start) pass a norm and a
    projection first; the output keeps one row per state, theirs is flattened; and what :class:`Hopfield`
    lists.

    >>> HopfieldPooling(6, 2)(torch.randn(4, 5, 6)).shape
    torch.Size([4, 1, 6])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        num_states: int = 1,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, num_states=num_states)
        self.dim, self.num_heads = dim, num_heads
        self.head_dim, self.beta, self.steps = _sizes(name, dim, num_heads, head_dim, beta, steps)
        self.states = nn.Parameter(torch.empty(num_heads, num_states, self.head_dim, **factory))
        self.key = nn.Linear(dim, num_heads * self.head_dim, bias=bias, **factory)
        self.out = nn.Linear(num_heads * self.head_dim, dim, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard-normal states, Xavier-uniform projections, biases zero."""
        nn.init.normal_(self.states)
        reset_projections(*self.children())

    def forward(
        self, patterns: Float[Tensor, "b s d"], *, mask: Mask | None = None, return_weights: bool = False
    ) -> Float[Tensor, "b t d"] | tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t s"]]:
        require_tokens(patterns, self.dim, self, name="patterns")
        xi = self.states.expand(patterns.shape[0], -1, -1, -1)
        x = rearrange(self.key(patterns), "b s (h e) -> b h s e", h=self.num_heads)
        xi, weights = _retrieve(xi, x, x, self.beta, self.steps, mask, return_weights)
        z = self.out(rearrange(xi, "b h t e -> b t (h e)"))
        return (z, weights) if return_weights else z

    def extra_repr(self) -> str:
        sizes = f"{self.dim}, num_heads={self.num_heads}, num_states={self.states.shape[1]}"
        return f"{sizes}, beta={self.beta:.4g}, steps={self.steps}"


@implements(
    "modern-hopfield",
    example=lambda: (HopfieldLookup(6, 2, 7), torch.randn(2, 5, 6)),
    permutation_equivariant=True,
)
class HopfieldLookup(nn.Module):
    r"""Look every state up in a learned memory of patterns and of what belongs to them.

    .. math:: \xi_h = W^Q_h r_t, \qquad
        z_t = b + \sum_h W^O_h \sum_{i=1}^N \mathrm{softmax}_i(\beta\, x_{hi} \cdot \xi_h)\, v_{hi}, \qquad
        x_{hi}, v_{hi} \text{ learned}

    Args:
        dim: width d of states and output.
        num_heads: memories H, each in a subspace of its own.
        num_patterns: learned patterns N.
        head_dim: width of a subspace, ``dim / num_heads`` unless given.
        beta: inverse temperature, :math:`1/\sqrt{d_h}` unless given.
        steps: look-ups; all but the last move the state among the patterns, the last reads the values.
        bias: give the two projections a bias.
        device: where the parameters live.
        dtype: of the parameters.

    Shape: states ``(b, t, d)`` to ``(b, t, d)``; with ``return_weights=True`` also ``(b, h, t, N)``.

    Raises:
        ValueError: for sizes that do not fit, no step or a beta that is not positive.
        TypeError: for sizes that are no integers, or inputs of another dtype.

    Paper: Hopfield Networks is All You Need - https://arxiv.org/abs/2008.02217 (there ``HopfieldLayer``)

    Differs from the authors' ``hflayers.HopfieldLayer``, whose values the tests hold: patterns and values are
    learned in the subspace of the heads, where theirs are two projections of one learned memory (deviation
    0.02 at the start); and what :class:`Hopfield` lists.

    >>> HopfieldLookup(6, 2, 7)(torch.randn(2, 5, 6)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_patterns: int,
        *,
        head_dim: int | None = None,
        beta: float | None = None,
        steps: int = 1,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name, factory = type(self).__name__, {"device": device, "dtype": dtype}
        require_positive(name, num_patterns=num_patterns)
        self.dim, self.num_patterns, self.num_heads = dim, num_patterns, num_heads
        self.head_dim, self.beta, self.steps = _sizes(name, dim, num_heads, head_dim, beta, steps)
        self.query = nn.Linear(dim, num_heads * self.head_dim, bias=bias, **factory)
        self.patterns = nn.Parameter(torch.empty(num_heads, num_patterns, self.head_dim, **factory))
        self.values = nn.Parameter(torch.empty(num_heads, num_patterns, self.head_dim, **factory))
        self.out = nn.Linear(num_heads * self.head_dim, dim, bias=bias, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Standard-normal patterns and values, Xavier-uniform projections, biases zero."""
        nn.init.normal_(self.patterns)
        nn.init.normal_(self.values)
        reset_projections(*self.children())

    def forward(
        self, states: Float[Tensor, "b t d"], *, return_weights: bool = False
    ) -> Float[Tensor, "b t d"] | tuple[Float[Tensor, "b t d"], Float[Tensor, "b h t s"]]:
        require_tokens(states, self.dim, self, name="states")
        xi = rearrange(self.query(states), "b t (h e) -> b h t e", h=self.num_heads)
        x, v = (memory.expand(states.shape[0], -1, -1, -1) for memory in (self.patterns, self.values))
        y, weights = _retrieve(xi, x, v, self.beta, self.steps, None, return_weights)
        z = self.out(rearrange(y, "b h t e -> b t (h e)"))
        return (z, weights) if return_weights else z

    def extra_repr(self) -> str:
        sizes = f"{self.dim}, num_patterns={self.num_patterns}, num_heads={self.num_heads}"
        return f"{sizes}, beta={self.beta:.4g}, steps={self.steps}"


def _retrieve(
    xi: Tensor, x: Tensor, v: Tensor, beta: float, steps: int, mask: Mask | None, return_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Update the states among the patterns x; the last step reads the values v instead."""
    for _ in range(steps - 1):
        xi = scaled_dot_product(xi, x, x, mask=mask, scale=beta)
    if not return_weights:
        return scaled_dot_product(xi, x, v, mask=mask, scale=beta), None
    weights = attention_weights(xi, x, mask=mask, scale=beta)
    return weights @ v, weights


def _sizes(
    layer: str, dim: int, num_heads: int, head_dim: int | None, beta: float | None, steps: int
) -> tuple[int, float, int]:
    """Width of a head, inverse temperature and steps, with their defaults and their errors."""
    head_dim = head_width(layer, dim, num_heads, head_dim)
    require_positive(layer, steps=steps)
    beta = head_dim**-0.5 if beta is None else beta
    _require_beta(layer, beta)
    return head_dim, beta, steps


def _require_beta(layer: str, beta: float) -> None:
    require_number(layer, 0, open_low=True, beta=beta)
