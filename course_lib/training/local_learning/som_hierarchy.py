"""Two self-organising maps and one layer that name an action; nothing crosses between them but activity."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.layers._shapes import (
    layer_name,
    require_at_least,
    require_callable,
    require_number,
    require_positive,
)
from course_lib.registry import implements
from course_lib.training.local_learning._checks import require_finite, require_labels, require_rows
from course_lib.training.local_learning.som import SelfOrganizingMap


@implements("action-in-mind-som")
def ordered_vector(path: Float[Tensor, "t p"], num_points: int) -> Float[Tensor, "n"]:
    """The way that the winner took over the map, without its timing, as a vector of fixed length.

    The polyline through the path is read at ``num_points`` points, equally far apart along it.
    Consecutive repetitions have no length, so they drop out, and with them the speed of the movement.

    Args:
        path: coordinates of the winner at every time step.
        num_points: points to read, from the start of the path to its end.

    Shape: ``(t, p)`` to ``(num_points * p,)``, point by point.

    Raises:
        ValueError: for a path that is empty or not finite, or fewer than two points.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870 (equal distances along the path are our reading)

    >>> ordered_vector(torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 4.0], [0.0, 4.0]]), 3)
    tensor([0., 0., 0., 2., 0., 4.])
    """
    _require_path(path, num_points)
    lengths = path.diff(dim=0).norm(dim=-1)
    along = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    targets = torch.linspace(0, 1, num_points, dtype=path.dtype, device=path.device) * along[-1]
    after = torch.searchsorted(along, targets).clamp(1, max(len(path) - 1, 1)).clamp(max=len(path) - 1)
    before = (after - 1).clamp(min=0)
    gap = along[after] - along[before]
    share = torch.where(gap > 0, (targets - along[before]) / gap.clamp(min=torch.finfo(gap.dtype).tiny), 0)
    return torch.lerp(path[before], path[after], share[:, None]).flatten()


def _require_path(path: Tensor, num_points: int) -> None:
    require_finite(path, "the vector of a path", name="path")
    require_at_least(2, "the vector of a path", num_points=num_points)


@implements("action-in-mind-som")
def padded_vector(path: Float[Tensor, "t p"], num_points: int) -> Float[Tensor, "n"]:
    """The raw path of the winner, cut or zero-filled to a fixed length: the control for ``ordered_vector``.

    Args:
        path: coordinates of the winner at every time step.
        num_points: time steps to keep.

    Shape: ``(t, p)`` to ``(num_points * p,)``.

    Raises:
        ValueError: for a path that is empty or not finite, or fewer than two points.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    >>> padded_vector(torch.tensor([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]), 4)
    tensor([1., 2., 1., 2., 3., 4., 0., 0.])
    """
    _require_path(path, num_points)
    kept = path[:num_points]
    return F.pad(kept, (0, 0, 0, num_points - len(kept))).flatten()


@implements("action-in-mind-som")
def delta_rule(
    weight: Float[Tensor, "k u"], activity: Float[Tensor, "b u"], target: Float[Tensor, "b k"], lr: float
) -> Float[Tensor, "k u"]:
    r"""One layer's oldest supervised rule: error times input, averaged over the batch.

    .. math:: w_{kj} \leftarrow w_{kj} + \beta\, a_j (d_k - y_k), \qquad y = W a

    Args:
        weight: W.
        activity: inputs a.
        target: wanted outputs d.
        lr: step :math:`\beta`.

    Shape: ``(k, u)`` to the same, as a new tensor.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    >>> delta_rule(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]), lr=0.1)
    tensor([[0.1000, 0.2000]])
    """
    error = target - activity @ weight.T
    return weight + lr * error.T @ activity / len(activity)


@implements("action-in-mind-som")
class HierarchicalSOM(nn.Module):
    r"""Two maps and one layer that name an action; nothing crosses between the three but activity.

    A sequence of postures is a path over the first map; the path becomes a vector (:func:`ordered_vector`),
    which the second map clusters; the activity of the second map goes to a linear layer, which learns by the
    delta rule:

    .. math:: a_j = \exp\Bigl(-\frac{\|v - w_j\|^2}{s}\Bigr), \qquad y = W \frac{a}{\|a\|}

    Args:
        postures: map for single time steps.
        paths: map for vectors; its ``dim`` must be ``2 * num_points``.
        num_classes: number of actions.
        num_points: points of the vector.
        to_vector: :func:`ordered_vector`, or :func:`padded_vector` for the control.
        lr: step of the delta rule.

    Raises:
        ValueError: if the second map's width does not fit, for no classes or a step that is not positive;
            when fitted, for no sequences, time steps that are not finite, or labels that are no classes.
            Everything is as it was then.
        TypeError: for arguments and inputs of another type.

    Paper: Action in Mind: A Neural Network Approach to Action Recognition and Segmentation -
    https://arxiv.org/abs/2104.14870

    No code of the thesis was found. Inferred, and not known to be all that differs: s is the mean squared
    distance from a training vector to its winner, and the activity is divided by its length, so that one step
    of the delta rule fits all sequences.

    >>> maps = SelfOrganizingMap(6, grid=(4, 4)), SelfOrganizingMap(10, grid=(3, 3))
    >>> model = HierarchicalSOM(*maps, 2, num_points=5)
    >>> sequences = [torch.rand(t, 6) for t in (9, 12, 7, 8)]
    >>> model = model.fit_maps(sequences, steps=100)
    >>> model.train_step(sequences, torch.tensor([0, 1, 0, 1])).keys(), model.predict(sequences).shape
    (dict_keys(['error']), torch.Size([4]))
    """

    def __init__(
        self,
        postures: SelfOrganizingMap,
        paths: SelfOrganizingMap,
        num_classes: int,
        *,
        num_points: int,
        to_vector: Callable[[Tensor, int], Tensor] = ordered_vector,
        lr: float = 0.5,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        for argument, seen in (("postures", postures), ("paths", paths)):
            if not isinstance(seen, SelfOrganizingMap):
                raise TypeError(f"{name}: {argument} must be a SelfOrganizingMap, got {seen!r}")
        require_positive(name, num_classes=num_classes)
        require_at_least(2, name, num_points=num_points)
        require_callable(name, to_vector=to_vector)
        require_number(name, 0, open_low=True, lr=lr)
        if paths.dim != 2 * num_points:
            raise ValueError(
                f"{name}: num_points={num_points} makes vectors of {2 * num_points}, but paths, the second "
                f"map, takes {paths.dim}"
            )
        self.postures, self.paths, self.num_classes = postures, paths, num_classes
        self.num_points, self.to_vector, self.lr = num_points, to_vector, lr
        self.register_buffer("weight", paths.weights.new_zeros(num_classes, 0))
        self.register_buffer("spread", paths.weights.new_ones(()))

    def reset_parameters(self) -> None:
        """Nothing learnt at the output; the maps reset themselves."""
        self.weight, self.spread = self.weight.new_zeros(self.num_classes, 0), torch.ones_like(self.spread)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}weight")
        if weight is not None:  # as wide as the second map was when it was fitted
            self.weight = self.weight.new_zeros(self.num_classes, weight.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)

    def vectors(self, sequences: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "b n"]:
        """Each sequence as its path over the first map, made a vector."""
        paths = [self.postures.winners(x).to(self.weight.dtype) for x in sequences]
        return torch.stack([self.to_vector(path, self.num_points) for path in paths])

    def fit_maps(self, sequences: Sequence[Float[Tensor, "_ d"]], *, steps: int) -> "HierarchicalSOM":
        """Fit the first map on all time steps, then the second on the vectors, ``steps`` inputs each."""
        self._require_sequences(sequences)
        require_at_least(0, type(self).__name__, steps=steps)
        self.postures.fit(torch.cat(list(sequences)), steps=steps)
        vectors = self.vectors(sequences)
        self.paths.fit(vectors, steps=steps)
        self.spread = self.paths(vectors).amin(-1).mean().clamp(min=1e-12)
        self.weight = self.weight.new_zeros(self.num_classes, len(self.paths.weights))
        return self

    def forward(self, sequences: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "b u"]:
        """Activity of the second map."""
        # Relative to the winner, so that far inputs do not vanish; dividing by the length undoes the shift.
        distance = self.paths(self.vectors(sequences))
        return F.normalize(torch.exp(-(distance - distance.amin(-1, keepdim=True)) / self.spread), dim=-1)

    def fit_output(
        self, sequences: Sequence[Float[Tensor, "_ d"]], y: Int[Tensor, "b"], *, steps: int
    ) -> "HierarchicalSOM":
        """Teach the output layer, ``steps`` times the delta rule on all sequences; fit the maps first."""
        self._require_fitted()
        self._require_sequences(sequences, y)
        require_at_least(0, type(self).__name__, steps=steps)
        activity = self(sequences)  # the maps stay as they are: once is enough
        for _ in range(steps):
            self._learn(activity, y)
        return self

    def train_step(self, sequences: Sequence[Float[Tensor, "_ d"]], y: Int[Tensor, "b"]) -> dict[str, float]:
        """One step of the delta rule on the output layer; fit the maps first."""
        self._require_fitted()
        self._require_sequences(sequences, y)
        return self._learn(self(sequences), y)

    def _learn(self, activity: Tensor, y: Tensor) -> dict[str, float]:
        target = F.one_hot(y, self.num_classes).to(self.weight)
        self.weight = delta_rule(self.weight, activity, target, self.lr)
        return {"error": (target - activity @ self.weight.T).square().mean().item()}

    def predict(self, sequences: Sequence[Float[Tensor, "_ d"]]) -> Int[Tensor, "b"]:
        """The action whose output unit is most active."""
        self._require_fitted()
        self._require_sequences(sequences)
        return (self(sequences) @ self.weight.T).argmax(-1)

    def _require_fitted(self) -> None:
        if self.weight.shape[1] == 0:
            raise ValueError(f"{layer_name(self)}: the maps have not been fitted; call fit_maps first")

    def _require_sequences(self, sequences: Sequence[Tensor], y: Tensor | None = None) -> None:
        if len(sequences) == 0:
            raise ValueError(f"{layer_name(self)} expects at least one sequence")
        for n, x in enumerate(sequences):
            require_rows(x, self.postures.dim, self, self.postures.weights, name=f"sequences[{n}]")
        if y is not None:
            require_labels(y, self.num_classes, len(sequences), self)

    def extra_repr(self) -> str:
        return f"num_classes={self.num_classes}, num_points={self.num_points}"
