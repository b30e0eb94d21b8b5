"""Layer Normalization: small batches, and a recurrent network."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.experiments.layers.norm._shared import InPieces, linear_digits
from course_lib.layers.norm import BatchNorm, LayerNorm, LayerNormRNNCell
from course_lib.measure import Sample, at_least, at_most, each, experiment, paper_claim, question
from course_lib.training.loop import Run, evaluate, fit

RATES = (1, 3, 10)


def fewest(steps: Mapping[str, Sample], name: str) -> Sample:
    """The fewest steps of a network over its learning rates, for every seed."""
    return each(min, *(steps[f"{name}_{rate}"] for rate in RATES))


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


@experiment(
    paper="layer-normalization",
    seeds=10,
    trained={name: lambda m: at_least(m["linear"].mean) for name in ("layer", "batch_64")},
    claims=[
        paper_claim(
            "the effect of batch norm depends on the mini-batch: accuracy lost by statistics over 2 samples "
            "in place of 64",
            where="abstract",
            of="digits, two hidden layers, 200 steps of 64",
            value=lambda m: m["batch_64"] - m["batch_2"],
            expect=at_least(0.02),
        ),
    ],
)
def tiny_batches(seed: int) -> dict[str, float]:
    """Test accuracy on digits after 200 steps of 64 samples.

    ``layer``: layer norm, for which there are no pieces. ``batch_64``, ``batch_2``: batch norm with
    statistics over all 64, and over 2 at a time. ``linear``: a linear classifier.
    """
    digits, result = load("digits"), {"linear": linear_digits(seed)}
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


def steps_to_accuracy(model: nn.Module, target: float, *, steps: int, lr: float, seed: int) -> int:
    """Training steps on digits until the test accuracy reaches the target; ``steps`` if it never does."""
    digits = load("digits")

    def probe(run: Run) -> None:
        if run.step % 5 == 0 and evaluate(run.model, digits.test) >= target:
            run.stop("target")

    history = fit(model, digits.train, steps=steps, batch_size=64, lr=lr, seed=seed, hooks=[probe])
    return len(history.losses)


@experiment(
    paper="layer-normalization",
    seeds=10,
    trained={"*_1": at_most(399)},
    claims=[
        paper_claim(
            "layer norm substantially reduces the training time: steps to 80 % accuracy, relative to the "
            "same network without",
            where="abstract",
            headline=True,
            of="digits read row by row, 64 tanh units",
            scale="a plain recurrent network of 64 units and steps to 80 % on digits; the paper: gated "
            "networks on retrieval, reading and handwriting, and time to their best result",
            value=lambda m: m["layer_1"] / m["plain_1"],
            expect=at_most(0.8),
        ),
        question(
            "the same where each of the two has the best of three learning rates",
            of="digits read row by row, 64 tanh units",
            value=lambda m: fewest(m, "layer") / fewest(m, "plain"),
            expect=at_most(0.8),
        ),
    ],
)
def recurrent_steps(seed: int) -> dict[str, float]:
    """Steps of 64 digits, of at most 400, until a row-by-row recurrent network reads 80 % of the test digits.

    ``plain_r``: torch's cell at the learning rate of r thousandths, 400 if never; ``layer_r``: with layer
    norm.
    """
    result = {}
    for name, make_cell in (
        ("plain", partial(nn.RNNCell, 8, 64)),
        ("layer", partial(LayerNormRNNCell, 8, 64)),
    ):
        for rate in RATES:
            torch.manual_seed(seed)
            model = RowRNN(make_cell(), 64)
            result[f"{name}_{rate}"] = steps_to_accuracy(model, 0.8, steps=400, lr=1e-3 * rate, seed=seed)
    return result
