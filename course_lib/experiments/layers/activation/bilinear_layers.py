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
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


@experiment(paper="bilinear-layers", seeds=5)
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
