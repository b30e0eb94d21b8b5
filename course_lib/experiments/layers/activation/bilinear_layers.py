"""A product of two linear maps in the place of a ReLU, whole and from few eigenvectors."""

from functools import partial

import torch
from torch import nn

from course_lib.data import load
from course_lib.experiments.layers.activation._shared import plain_mlp
from course_lib.layers.activation import (
    BilinearMLP,
    bilinear_eigenvectors,
    bilinear_tensor,
    quadratic_forms,
)
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit
from course_lib.training.validation import LINEAR_DIGITS

PLACE = "digits, one hidden layer, 5000 parameters, 400 steps"


@experiment(
    paper="bilinear-layers",
    seeds=5,
    trained={"relu": at_least(LINEAR_DIGITS), "bilinear": at_least(LINEAR_DIGITS)},
    claims=[
        paper_claim(
            "a bilinear layer performs better than a standard MLP of equal size, in accuracy",
            of=PLACE,
            where="abstract",
            value=lambda m: m["bilinear"] - m["relu"],
            expect=at_least(0.0),
            verdict="inconclusive",
        ),
        question(
            "it loses less than a point of accuracy against a ReLU network of equal size",
            of=PLACE,
            value=lambda m: m["relu"] - m["bilinear"],
            expect=at_most(0.01),
        ),
        question(
            "ten of 65 eigenvectors for each class are enough: accuracy lost",
            of=PLACE,
            value=lambda m: m["rank_65"] - m["rank_10"],
            expect=at_most(0.03),
        ),
    ],
)
def bilinear_digits(seed: int) -> dict[str, float]:
    """A bilinear layer and a ReLU network of equal size on digits, 400 steps.

    Returns:
        ``relu``, ``bilinear``: test accuracy (a share). ``rank_{r}``: that of the bilinear layer when each
        class keeps the r largest of its 65 eigenvectors.
    """
    digits, result = load("digits"), {}
    models = {
        "relu": partial(plain_mlp, [64, 64, 10], nn.ReLU),
        "bilinear": partial(BilinearMLP, 64, 34, out_features=10),
    }
    for name, make in models.items():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), make())
        fit(model, digits.train, steps=400, batch_size=64, lr=3e-3, seed=seed)
        result[name] = evaluate(model, digits.test)
    layer = model[1]
    values, vectors = bilinear_eigenvectors(bilinear_tensor(layer).detach())
    x = layer.augment(digits.test.x.flatten(1))
    for rank in (1, 2, 5, 10, 65):
        tensor = torch.einsum("or,ori,orj->oij", values[:, :rank], vectors[:, :rank], vectors[:, :rank])
        right = quadratic_forms(tensor, x).argmax(-1) == digits.test.y
        result[f"rank_{rank}"] = right.double().mean().item()
    return result
