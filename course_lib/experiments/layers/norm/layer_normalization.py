"""Layer Normalization: small batches, and a recurrent network."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.norm._shared import InPieces
from course_lib.layers.norm import BatchNorm, LayerNorm, LayerNormRNNCell
from course_lib.measure import experiment
from course_lib.training.loop import Run, evaluate, fit


def digits_mlp(norm: Callable[[int], nn.Module]) -> nn.Module:
    """64 pixels to 10 classes through two hidden layers of 64, each linear, norm, ReLU."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 64),
        norm(64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


@experiment(paper="layer-normalization", seeds=3)
def tiny_batches(seed: int) -> dict[str, float]:
    """Test accuracy on digits after 200 steps of 64 samples.

    ``layer``: layer norm, for which there are no pieces. ``batch_64``, ``batch_2``: batch norm with
    statistics over all 64, and over 2 at a time.
    """
    digits, result = load("digits"), {}
    norms: dict[str, Callable[[int], nn.Module]] = {
        "layer": LayerNorm,
        "batch_64": BatchNorm,
        "batch_2": partial(InPieces, BatchNorm, batch_size=64, size=2),
    }
    for name, norm in norms.items():
        torch.manual_seed(seed)
        model = digits_mlp(norm)
        fit(model, digits.train, steps=200, batch_size=64, lr=1e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    return result


class RowRNN(nn.Module):
    """Reads a digit row by row, top to bottom, and classifies from the last state."""

    def __init__(self, cell: nn.Module, dim: int) -> None:
        super().__init__()
        self.cell, self.dim, self.out = cell, dim, nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        state = images.new_zeros(len(images), self.dim)
        for row in images.squeeze(1).unbind(1):
            state = self.cell(row, state)
        return self.out(state)


def steps_to_accuracy(model: nn.Module, target: float, *, steps: int, every: int, seed: int) -> int:
    """Training steps on digits until the test accuracy reaches the target; ``steps`` if it never does."""
    digits = load("digits")

    def probe(run: Run) -> None:
        if run.step % every == 0 and evaluate(run.model, digits.test) >= target:
            run.stop("target")

    history = fit(model, digits.train, steps=steps, batch_size=64, lr=1e-3, seed=seed, hooks=[probe])
    return len(history.losses)


@experiment(paper="layer-normalization", seeds=3)
def recurrent_steps(seed: int) -> dict[str, float]:
    """Steps of 64 digits, of at most 400, until a row-by-row recurrent network reads 80 % of the test digits.

    ``plain``: torch's cell; ``layer``: with layer norm.
    """
    result = {}
    for name, make_cell in (
        ("plain", partial(nn.RNNCell, 8, 64)),
        ("layer", partial(LayerNormRNNCell, 8, 64)),
    ):
        torch.manual_seed(seed)
        result[name] = steps_to_accuracy(RowRNN(make_cell(), 64), 0.8, steps=400, every=5, seed=seed)
    return result
