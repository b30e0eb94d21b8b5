"""Trained claims of snnk."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.layers.structured import SNNKLinear, fit_bundled
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit


def least_squares(x: Tensor, y: Tensor) -> nn.Module:
    """Ridge regression of the pixels themselves, with an offset: what random features must beat."""
    rows = torch.cat([x, torch.ones(len(x), 1)], dim=1).double()
    gram = rows.mT @ rows + torch.eye(rows.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, rows.mT @ y.double()).float()
    layer = nn.Linear(x.shape[1], y.shape[1])
    layer.weight.data, layer.bias.data = weight[:-1].mT.contiguous(), weight[-1]
    return nn.Sequential(nn.Flatten(), layer)


@experiment(
    paper="snnk",
    seeds=10,
    trained={"*_accuracy": lambda m: at_least(m["least_squares"].mean)},
    claims=[
        paper_claim(
            "up to 5 times fewer trained parameters at competitive accuracy",
            where="abstract",
            headline=True,
            not_tested="their factor is that of adapters and poolers in pre-trained transformers; none is "
            "fine-tuned here",
        ),
        paper_claim(
            "a bundled network, one linear solve without backpropagation, is no worse than a network of as "
            "many parameters trained by gradient descent (gain in accuracy)",
            where="abstract",
            of="digits, 2560 parameters",
            value=lambda m: m["closed_form_accuracy"] - m["trained_accuracy"],
            expect=at_least(-0.02),
        ),
        question(
            "random features of the pixels are better than the pixels: the same solve on either (gain)",
            of="digits",
            value=lambda m: m["closed_form_accuracy"] - m["least_squares"],
            expect=at_least(0.0),
        ),
    ],
)
def one_solve(seed: int) -> dict[str, float]:
    """Test accuracy on digits of a bundled network in closed form and of a trained one, 2560 parameters each.

    ``closed_form_accuracy``: ridge regression on 256 arc-cosine features; ``trained_accuracy``: 64 to 34 to
    10 units, 600 steps of Adam; ``least_squares``: ridge regression on the pixels.
    """
    digits = load("digits")
    images, labels = digits.train.x.flatten(1), F.one_hot(digits.train.y, 10).float()
    torch.manual_seed(seed)
    layer = fit_bundled(SNNKLinear(64, 10, 256), images, labels, ridge=1.0)
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(64, 34), nn.ReLU(), nn.Linear(34, 10))
    fit(mlp, digits.train, steps=600, lr=3e-3, seed=seed)
    return {
        "closed_form_accuracy": evaluate(nn.Sequential(nn.Flatten(), layer), digits.test),
        "trained_accuracy": evaluate(mlp, digits.test),
        "least_squares": evaluate(least_squares(images, labels), digits.test),
    }
