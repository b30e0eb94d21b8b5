"""Values of the authors' released code, run once on inputs and weights that a formula gives.

``tests/vectors/<paper>.json`` holds one entry for each object that was run: repository, commit, file and name
of the authors' object, how it was called, the names and shapes of its weights, the inputs and the output. No
line of the authors' code is here, nor anything that builds it. Weights and inputs come from :func:`wave`::

    weight i of the state dict, names in alphabetical order, i = 1, 2, ...:   0.3 wave(shape, i)
    running variances:                                                        1 + 0.5 wave(shape, i)
    input j, in the order of the call, j = 0, 1, ...:                         wave(shape, 100 + j)

all in float64. A test builds ours, gives it the same numbers under our names and compares the output.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["Vector", "fill", "vector", "wave"]

FOLDER = Path(__file__).parent


def wave(shape: tuple[int, ...], phase: float) -> Tensor:
    """Numbers between -1 and 1 without symmetry or repetition: the sine of 0.7 n + phase, n the position."""
    count = torch.Size(shape).numel()
    return torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + phase).reshape(shape)


@dataclass(frozen=True)
class Vector:
    """One object of the authors, as it was run.

    Attributes:
        repository: ``owner/name`` on GitHub.
        commit: of the file.
        file: in the repository.
        call: the object and its arguments, as it was called.
        shapes: of the weights and buffers, by their name there.
        inputs: shapes of the inputs, in the order of the call.
        mode: ``eval`` or ``train``.
        output: what came out; several tensors by name.
    """

    repository: str
    commit: str
    file: str
    call: str
    shapes: dict[str, tuple[int, ...]]
    inputs: tuple[tuple[int, ...], ...]
    mode: str
    output: dict[str, Tensor]

    def weights(self) -> dict[str, Tensor]:
        """What the authors' object was filled with, by its name there."""
        numbers = {}
        for i, name in enumerate(sorted(self.shapes), start=1):
            w = wave(self.shapes[name], i)
            numbers[name] = 1 + 0.5 * w if name.endswith("running_var") else 0.3 * w
        return numbers

    def given(self) -> list[Tensor]:
        """The inputs."""
        return [wave(shape, 100 + j) for j, shape in enumerate(self.inputs)]

    def check(self, *outputs: Tensor, tolerance: float = 1e-6) -> None:
        """Assert that these are the stored outputs, to ``tolerance``, absolute and relative."""
        assert len(outputs) == len(self.output)
        for (name, expected), ours in zip(self.output.items(), outputs, strict=True):
            torch.testing.assert_close(
                ours.detach().double(),
                expected,
                rtol=tolerance,
                atol=tolerance,
                msg=lambda m, n=name: f"{n}: {m}",
            )


def vector(paper: str, name: str) -> Vector:
    """The entry of this name in the file of a paper."""
    entry = json.loads((FOLDER / f"{paper}.json").read_text("utf-8"))[name]
    shapes = {key: tuple(shape) for key, shape in entry["shapes"].items()}
    inputs = tuple(tuple(shape) for shape in entry["inputs"])
    output = {
        key: torch.tensor(row["values"], dtype=torch.float64).reshape(row["shape"])
        for key, row in entry["output"].items()
    }
    return Vector(**{**entry, "shapes": shapes, "inputs": inputs, "output": output})


def fill(
    layer: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str] | Callable[[str], str]
) -> None:
    """Give our layer the numbers of theirs, in float64.

    Args:
        layer: ours; every entry of its state dict is filled, but ``num_batches_tracked``.
        weights: theirs, as :meth:`Vector.weights` gives them.
        names: for each of our names theirs, as a mapping or a function.
    """
    layer.double()
    find = names if callable(names) else names.__getitem__
    ours = [key for key in layer.state_dict() if not key.endswith("num_batches_tracked")]
    given = {key: weights[find(key)].reshape(layer.state_dict()[key].shape) for key in ours}
    layer.load_state_dict(given, strict=False)
