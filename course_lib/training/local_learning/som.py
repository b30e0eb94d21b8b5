"""Self-organising maps: the unit that fits best, and its neighbours on a grid, move towards the input."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_fraction,
    require_number,
    require_pair,
    require_positive,
    require_sequence,
    require_width,
)
from course_lib.registry import implements
from course_lib.training.local_learning._checks import require_as, require_rows


@implements("action-in-mind-som")
def som_update(
    weights: Float[Tensor, "u d"],
    positions: Float[Tensor, "u p"],
    x: Float[Tensor, "d"],
    lr: float,
    sigma: float,
) -> Float[Tensor, "u d"]:
    r"""One step of the map for one input: find the winner, pull it and its neighbourhood towards the input.

    .. math:: c = \arg\min_i \|x - w_i\|, \qquad
        w_i \leftarrow w_i + \alpha \exp\Bigl(-\frac{\|r_i - r_c\|^2}{2 \sigma^2}\Bigr) (x - w_i)

    Args:
        weights: one vector per unit.
        positions: where the units stand on the grid.
        x: the input.
        lr: step :math:`\alpha`, from 0 to 1.
        sigma: width of the neighbourhood; 0 moves the winner alone, which is online k-means.

    Shape: ``(u, d)`` to the same, as a new tensor.

    Raises:
        ValueError: for a step outside 0 to 1 or a negative width.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    >>> weights, positions = torch.tensor([[0.0], [4.0]]), torch.tensor([[0.0], [1.0]])
    >>> som_update(weights, positions, torch.tensor([1.0]), lr=0.5, sigma=0.0)
    tensor([[0.5000],
            [4.0000]])
    """
    require_fraction("som_update", lr=lr)
    require_number("som_update", 0, sigma=sigma)
    winner = (weights - x).square().sum(-1).argmin()
    distance = (positions - positions[winner]).square().sum(-1)
    neighbourhood = torch.exp(-distance / (2 * sigma**2)) if sigma else (distance == 0).to(weights.dtype)
    return weights + lr * neighbourhood[:, None] * (x - weights)


@implements("action-in-mind-som")
class SelfOrganizingMap(nn.Module):
    r"""A grid of units that spreads over the data so that neighbours on the grid answer to similar inputs.

    The update is :func:`som_update`; its step and width shrink geometrically during :meth:`fit`:

    .. math:: \alpha(s) = \alpha_0 \Bigl(\frac{\alpha_1}{\alpha_0}\Bigr)^{s}, \qquad
        \sigma(s) = \sigma_0 \Bigl(\frac{\sigma_1}{\sigma_0}\Bigr)^{s}, \qquad s = t / T

    Args:
        dim: width d of the inputs.
        grid: rows and columns; one number for both.
        lr: first and last step :math:`\alpha`.
        sigma: first and last width of the neighbourhood, in grid units; the first is half the longer side
            unless given.
        device, dtype: of the weights, as in torch.

    Shape: ``(*b, d)`` to the squared distance from every unit ``(*b, u)``; unit ``i * columns + j`` stands at
        (i, j).

    Raises:
        ValueError: for an empty grid, steps outside 0 to 1, widths that are not positive, or inputs of
            another width; when fitted, also for no inputs and for inputs that are not finite. The map is as
            it was then.
        TypeError: for arguments of another type, and inputs of another dtype than the weights.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    The decay is our choice. ``minisom.MiniSom`` makes the same update with other decays. Weights are a
    buffer: no gradient is ever taken.

    >>> som = SelfOrganizingMap(2, grid=(3, 3)).fit(torch.rand(50, 2), steps=200)
    >>> som.winners(torch.rand(4, 2)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int] | int,
        lr: tuple[float, float] = (0.5, 0.02),
        sigma: tuple[float, float] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        require_positive(name, dim=dim)
        self.rows, self.columns = require_pair(name, grid=grid)
        sigma = (max(self.rows, self.columns) / 2, 0.5) if sigma is None else sigma
        for argument, pair, high in (("lr", lr, 1), ("sigma", sigma, math.inf)):
            require_sequence(name, 2, **{argument: pair})
            for value in pair:
                require_number(name, 0, high, open_low=True, **{argument: value})
        self.dim, self.lr, self.sigma = dim, tuple(lr), tuple(sigma)
        units = self.rows * self.columns
        self.register_buffer("weights", torch.empty(units, dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights at random between 0 and 1; :meth:`fit` starts from the data instead."""
        nn.init.uniform_(self.weights)

    @property
    def positions(self) -> Float[Tensor, "u 2"]:
        """Row and column at which each unit stands."""
        units = torch.arange(self.rows * self.columns, device=self.weights.device)
        return torch.stack([units // self.columns, units % self.columns], dim=1).to(self.weights.dtype)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b u"]:
        require_width(x, self.dim, self)
        require_as(x, self, self.weights)
        # Without matrix products: |x|^2 - 2xw + |w|^2 loses the small distances, which decide the winner.
        rows = x.reshape(-1, self.dim)
        distance = torch.cdist(rows, self.weights, compute_mode="donot_use_mm_for_euclid_dist").square()
        return distance.view(*x.shape[:-1], len(self.weights))

    def winners(self, x: Float[Tensor, "*b d"]) -> Int64[Tensor, "*b 2"]:
        """Row and column of the unit nearest to each input."""
        unit = self(x).argmin(-1)
        return torch.stack([unit // self.columns, unit % self.columns], dim=-1)

    def quantization_error(self, x: Float[Tensor, "b d"]) -> float:
        """Mean distance from an input to its winner."""
        return self(x).amin(-1).sqrt().mean().item()

    @torch.no_grad()
    def train_step(self, x: Float[Tensor, "d"], *, lr: float, sigma: float) -> dict[str, float]:
        """The update for one input with the given step and width; returns its distance from the winner."""
        self._require_rows(x[None])
        error = self(x).amin().sqrt().item()
        self.weights.copy_(som_update(self.weights, self.positions, x, lr, sigma))
        return {"error": error}

    def fit(self, x: Float[Tensor, "b d"], *, steps: int) -> "SelfOrganizingMap":
        """Start at random inputs, then update for ``steps`` of them, drawn at random, with decay."""
        self._require_rows(x)
        require_at_least(0, type(self).__name__, steps=steps)
        self.weights.copy_(x[torch.randint(len(x), (len(self.weights),))])
        return self._update_for(x[torch.randint(len(x), (steps,))])

    def fit_in_order(self, x: Float[Tensor, "b d"], *, decay: bool = True) -> "SelfOrganizingMap":
        """Update for each input in turn, from the present weights; ``decay=False`` keeps the first step."""
        self._require_rows(x)
        return self._update_for(x, decay=decay)

    def _require_rows(self, x: Tensor) -> None:
        require_rows(x, self.dim, self, self.weights)

    @torch.no_grad()
    def _update_for(self, x: Tensor, *, decay: bool = True) -> "SelfOrganizingMap":
        s = torch.arange(len(x), dtype=torch.float64) / max(1, len(x)) * decay
        lr, sigma = (first * (last / first) ** s for first, last in (self.lr, self.sigma))
        log_lr = lr.log().to(self.weights).unbind()  # the step joins the exponent: one operation less
        rates = (-0.5 / sigma**2).tolist()
        positions = self.positions  # and the distances of every pair of units: each step looks a row up
        apart = (positions[:, None] - positions).square().sum(-1)[..., None].unbind()
        weights = self.weights
        for x_t, log_step, rate in zip(x.unbind(), log_lr, rates, strict=True):
            winner = torch.linalg.vector_norm(weights - x_t, dim=1).argmin().item()
            pull = torch.add(log_step, apart[winner], alpha=rate).exp_()
            weights.lerp_(x_t, pull)
        return self

    def extra_repr(self) -> str:
        return f"{self.dim}, grid=({self.rows}, {self.columns}), lr={self.lr}, sigma={self.sigma}"


@implements("action-in-mind-som")
class GrowingGrid(SelfOrganizingMap):
    """A map that starts with 2 by 2 units and inserts a row or a column where most inputs arrive.

    Growth: after every ``patience`` inputs per unit, the unit that won most often and, of its direct
    neighbours on the grid, the one whose weights are farthest get a whole row or column between them, each
    new unit half-way between its two neighbours. Then fine-tuning on the grown grid with a falling step.

    Args:
        dim: width d of the inputs.
        max_units: growth stops before there are more; at least 4.
        patience: inputs per unit between two insertions.
        lr: step during growth, and at the end of fine-tuning.
        sigma: width of the neighbourhood during growth, and at the end of fine-tuning.
        device, dtype: of the weights, as in torch.

    Shape: as :class:`SelfOrganizingMap`.

    Raises:
        ValueError: for less than four units or no patience; and as :class:`SelfOrganizingMap` does.
        TypeError: for arguments of another type, and inputs of another dtype than the weights.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870 (constants inferred)

    A state_dict says how far its grid had grown; the grid that loads it takes that size.

    >>> grid = GrowingGrid(2, max_units=12).fit(torch.rand(50, 2), steps=200)
    >>> 6 < grid.rows * grid.columns <= 12
    True
    """

    def __init__(
        self,
        dim: int,
        *,
        max_units: int = 64,
        patience: int = 30,
        lr: tuple[float, float] = (0.2, 0.01),
        sigma: tuple[float, float] = (0.7, 0.5),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        require_at_least(4, type(self).__name__, max_units=max_units)
        require_positive(type(self).__name__, patience=patience)
        super().__init__(dim, grid=(2, 2), lr=lr, sigma=sigma, device=device, dtype=dtype)
        self.max_units, self.patience = max_units, patience
        self.register_buffer("grid_size", torch.empty(2, dtype=torch.int64, device=device))
        self._take(self.weights.view(2, 2, dim))

    def reset_parameters(self) -> None:
        """Two by two units again, with weights at random."""
        self._take(self.weights.new_empty(2, 2, self.dim).uniform_())

    def _take(self, grid: Float[Tensor, "i j d"]) -> None:
        """Have these units from now on."""
        self.rows, self.columns = grid.shape[:2]
        self.weights = grid.flatten(0, 1)
        if "grid_size" in self._buffers:  # not yet where the base class starts
            self.grid_size = torch.tensor(grid.shape[:2], device=grid.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        size = state_dict.get(f"{prefix}grid_size")
        if size is not None:
            self._take(self.weights.new_empty(*size.tolist(), self.dim))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def fit(self, x: Float[Tensor, "b d"], *, steps: int) -> "GrowingGrid":
        """Grow, then fine-tune for ``steps`` inputs; starts at random inputs."""
        self._require_rows(x)
        require_at_least(0, type(self).__name__, steps=steps)
        self.weights = x[torch.randint(len(x), (len(self.weights),))].clone()
        while len(self.weights) + min(self.rows, self.columns) <= self.max_units:
            batch = x[torch.randint(len(x), (self.patience * len(self.weights),))]
            self._update_for(batch, decay=False)
            # Wins are counted with the weights as they are after the batch: one call, no running count.
            wins = torch.bincount(self(batch).argmin(-1), minlength=len(self.weights))
            row, column = divmod(int(wins.argmax()), self.columns)
            other = self.farthest_neighbour(row, column)
            if len(self.weights) + (self.columns if other[0] != row else self.rows) > self.max_units:
                break
            self.insert_between((row, column), other)
        return self._update_for(x[torch.randint(len(x), (steps,))])

    def farthest_neighbour(self, row: int, column: int) -> tuple[int, int]:
        """Of the up to four units next to this one, the one whose weights differ most from its own."""
        grid = self.weights.view(self.rows, self.columns, -1)
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        inside = [(i, j) for i, j in around if 0 <= i < self.rows and 0 <= j < self.columns]
        return max(inside, key=lambda unit: (grid[unit] - grid[row, column]).norm().item())

    def insert_between(self, unit: tuple[int, int], neighbour: tuple[int, int]) -> None:
        """Insert a row or column between two neighbouring units, half-way between its two sides."""
        axis = 0 if unit[0] != neighbour[0] else 1
        if abs(unit[0] - neighbour[0]) + abs(unit[1] - neighbour[1]) != 1:
            raise ValueError(f"GrowingGrid: units {unit} and {neighbour} are not next to each other")
        if not all(0 <= i < self.rows and 0 <= j < self.columns for i, j in (unit, neighbour)):
            raise ValueError(f"{layer_name(self)} has no unit {unit} or {neighbour}")
        grid = self.weights.view(self.rows, self.columns, -1)
        before, after = grid.tensor_split([max(unit[axis], neighbour[axis])], dim=axis)
        middle = (before.narrow(axis, before.shape[axis] - 1, 1) + after.narrow(axis, 0, 1)) / 2
        self._take(torch.cat([before, middle, after], dim=axis))
