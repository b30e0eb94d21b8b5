"""Eighteen functions in the same network, and six of them at three depths."""

import torch

from course_lib.data import load
from course_lib.experiments.layers.activation._shared import plain_mlp
from course_lib.layers.activation import ACTIVATIONS
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit

RATES = (3e-3, 1e-2)


@experiment(paper="activation-survey", seeds=3)
def zoo(seed: int) -> dict[str, float]:
    """Eighteen functions on mnist1d: four hidden layers of 100, 200 steps, the better of two rates.

    Returns:
        Test accuracy (a share) by the name of the function; the rate is chosen on the validation set.
    """
    data, result = load("mnist1d"), {}
    for name, make in ACTIVATIONS.items():
        best = -1.0
        for rate in RATES:
            torch.manual_seed(seed)
            model = plain_mlp([40, 100, 100, 100, 100, 10], make)
            fit(model, data.train, steps=200, batch_size=64, lr=rate, seed=seed)
            valid = evaluate(model, data.validation)
            if valid > best:
                best, result[name] = valid, evaluate(model, data.test)
    return result


EXPLORED = ("Sigmoid", "Tanh", "ReLU", "SELU", "GELU", "LiSHT")
DEPTHS = (2, 6, 12)


@experiment(paper="activation-survey", seeds=3)
def depths(seed: int) -> dict[str, float]:
    """Six functions in 2, 6 and 12 layers of 64 on digits, 100 steps.

    Returns:
        ``{function}_{layers}_{step}``: training loss (nats), mean of the ten steps before this one.
    """
    digits, result = load("digits"), {}
    for name in EXPLORED:
        for depth in DEPTHS:
            torch.manual_seed(seed)
            model = plain_mlp([64] * (depth + 1) + [10], ACTIVATIONS[name])
            history = fit(model, digits.train, steps=100, batch_size=64, lr=3e-3, seed=seed)
            for step in range(20, 101, 20):
                result[f"{name}_{depth}_{step:03d}"] = sum(history.losses[step - 10 : step]) / 10
    return result
