"""Self-organising maps: the unit that fits best, and its neighbours on a grid, move towards the input."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.layers._shapes import require_width
from course_lib.registry import implements

__all__ = ["GrowingGrid", "SelfOrganizingMap", "som_update"]


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
    if not 0 <= lr <= 1 or sigma < 0:
        raise ValueError(f"expected 0 <= lr <= 1 and sigma >= 0, got lr={lr}, sigma={sigma}")
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
        rows: of the grid.
        columns: of the grid.
        dim: width d of the inputs.
        lr: first and last step :math:`\alpha`.
        sigma: first and last width of the neighbourhood, in grid units; the first is half the longer side
            unless given.

    Shape: ``(*b, d)`` to the squared distance from every unit ``(*b, u)``; unit ``i * columns + j`` stands at
        (i, j).

    Raises:
        ValueError: for an empty grid, steps outside 0 to 1, widths that are not positive, or inputs of
            another width.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    The decay is our choice. ``minisom.MiniSom`` makes the same update with other decays. Weights are a
    buffer: no gradient is ever taken.

    >>> som = SelfOrganizingMap(3, 3, 2).fit(torch.rand(50, 2), steps=200)
    >>> som.winners(torch.rand(4, 2)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        dim: int,
        *,
        lr: tuple[float, float] = (0.5, 0.02),
        sigma: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if min(rows, columns, dim) < 1:
            raise ValueError(f"rows, columns and dim must be at least 1, got {rows}, {columns} and {dim}")
        sigma = (max(rows, columns) / 2, 0.5) if sigma is None else sigma
        if not all(0 < step <= 1 for step in lr) or not all(width > 0 for width in sigma):
            raise ValueError(
                f"expected steps in 0 < lr <= 1 and widths sigma > 0, got lr={lr}, sigma={sigma}"
            )
        self.dim, self.lr, self.sigma = dim, lr, sigma
        self.register_buffer("weights", torch.rand(rows * columns, dim))
        self._place_units(rows, columns)

    def _place_units(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(self.weights)
        self.register_buffer("positions", grid, persistent=False)
        gaps = (
            (grid[:, None] - grid).square().sum(-1)
        )  # every pair of units; the fit looks a row up at each step
        self.register_buffer("grid_distance", gaps, persistent=False)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b u"]:
        require_width(x, self.dim, f"{type(self).__name__} for width {self.dim}")
        # Without matrix products: |x|^2 - 2xw + |w|^2 loses the small distances, which decide the winner.
        rows = x.reshape(-1, self.dim)
        distance = torch.cdist(rows, self.weights, compute_mode="donot_use_mm_for_euclid_dist").square()
        return distance.view(*x.shape[:-1], len(self.weights))

    def winners(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 2"]:
        """Row and column of the unit nearest to each input."""
        return self.positions[self(x).argmin(-1)]

    def quantization_error(self, x: Float[Tensor, "b d"]) -> float:
        """Mean distance from an input to its winner."""
        return self(x).amin(-1).sqrt().mean().item()

    @torch.no_grad()
    def train_step(self, x: Float[Tensor, "d"], *, lr: float, sigma: float) -> dict[str, float]:
        """The update for one input with the given step and width; returns its distance from the winner."""
        error = self(x).amin().sqrt().item()
        self.weights.copy_(som_update(self.weights, self.positions, x, lr, sigma))
        return {"error": error}

    def fit(self, x: Float[Tensor, "b d"], *, steps: int) -> "SelfOrganizingMap":
        """Start at random inputs, then update for ``steps`` of them, drawn at random, with decay."""
        self.weights.copy_(x[torch.randint(len(x), (len(self.weights),))])
        return self.fit_in_order(x[torch.randint(len(x), (steps,))])

    @torch.no_grad()
    def fit_in_order(self, x: Float[Tensor, "b d"], *, decay: bool = True) -> "SelfOrganizingMap":
        """Update for each input in turn, from the present weights; ``decay=False`` keeps the first step."""
        require_width(x, self.dim, f"{type(self).__name__} for width {self.dim}")
        s = torch.arange(len(x), dtype=torch.float64) / len(x) * decay
        lr, sigma = (first * (last / first) ** s for first, last in (self.lr, self.sigma))
        log_lr = lr.log().to(self.weights).unbind()  # the step joins the exponent: one operation less
        rates = (-0.5 / sigma**2).tolist()
        weights, grid_distance = self.weights, self.grid_distance[..., None].unbind()
        for x_t, log_step, rate in zip(x.unbind(), log_lr, rates, strict=True):
            winner = torch.linalg.vector_norm(weights - x_t, dim=1).argmin().item()
            pull = torch.add(log_step, grid_distance[winner], alpha=rate).exp_()
            weights.lerp_(x_t, pull)
        return self

    def extra_repr(self) -> str:
        return f"{self.rows}, {self.columns}, {self.dim}, lr={self.lr}, sigma={self.sigma}"


@implements("action-in-mind-som")
class GrowingGrid(SelfOrganizingMap):
    """A map that starts with 2 by 2 units and inserts a row or a column where most inputs arrive.

    Growth: after every ``patience`` inputs per unit, the unit that won most often and, of its direct
    neighbours on the
    grid, the one whose weights are farthest get a whole row or column between them, each new unit half-way
    between its two neighbours. Then fine-tuning on the grown grid with a falling step.

    Args:
        dim: width d of the inputs.
        max_units: growth stops before there are more.
        patience: inputs per unit between two insertions.
        lr: step during growth, and at the end of fine-tuning.
        sigma: width of the neighbourhood during growth, and at the end of fine-tuning.

    Shape: as :class:`SelfOrganizingMap`.

    Raises:
        ValueError: for less than four units or no patience.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870 (constants inferred)

    A state_dict can only be loaded into a grid that has grown to the same size.

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
    ) -> None:
        if max_units < 4 or patience < 1:
            raise ValueError(f"expected max_units >= 4 and patience >= 1, got {max_units} and {patience}")
        super().__init__(2, 2, dim, lr=lr, sigma=sigma)
        self.max_units, self.patience = max_units, patience

    def fit(self, x: Float[Tensor, "b d"], *, steps: int) -> "GrowingGrid":
        """Grow, then fine-tune for ``steps`` inputs; starts at random inputs."""
        self.weights = x[torch.randint(len(x), (len(self.weights),))].clone()
        while len(self.weights) + min(self.rows, self.columns) <= self.max_units:
            batch = x[torch.randint(len(x), (self.patience * len(self.weights),))]
            self.fit_in_order(batch, decay=False)
            # Wins are counted with the weights as they are after the batch: one call, no running count.
            wins = torch.bincount(self(batch).argmin(-1), minlength=len(self.weights))
            row, column = divmod(int(wins.argmax()), self.columns)
            other = self.farthest_neighbour(row, column)
            if len(self.weights) + (self.columns if other[0] != row else self.rows) > self.max_units:
                break
            self.insert_between((row, column), other)
        return self.fit_in_order(x[torch.randint(len(x), (steps,))])

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
            raise ValueError(f"units {unit} and {neighbour} are not next to each other")
        grid = self.weights.view(self.rows, self.columns, -1)
        before, after = grid.tensor_split([max(unit[axis], neighbour[axis])], dim=axis)
        middle = (before.narrow(axis, before.shape[axis] - 1, 1) + after.narrow(axis, 0, 1)) / 2
        grown = torch.cat([before, middle, after], dim=axis)
        self.weights = grown.flatten(0, 1)
        self._place_units(*grown.shape[:2])
