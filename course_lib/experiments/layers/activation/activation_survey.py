"""Eighteen functions in the same network, and six of them at three depths."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch

from course_lib.data import load
from course_lib.experiments.layers.activation._shared import plain_mlp
from course_lib.layers.activation import ACTIVATIONS
from course_lib.measure import Sample, at_least, at_most, each, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit

RATES = (3e-3, 1e-2)


KINKED = ("ReLU", "LReLU", "PReLU", "ABReLU")
SMOOTH = ("ELU", "CELU", "GELU", "Swish", "Mish", "Softplus")
LAST = ("Sigmoid", "Elliott")
MODERN = ("ReLU", "ELU", "GELU", "Swish", "Mish")
LINEAR = 0.25  # test accuracy of a linear map fitted to mnist1d by least squares
PLACE = "four layers without norm on mnist1d, 200 steps"


def _over(choose: Callable[..., float], measured: Mapping[str, Sample], names: Iterable[str]) -> Sample:
    """The best or worst of these functions, seed by seed."""
    return each(choose, *(measured[name] for name in names))


@experiment(
    paper="activation-survey",
    seeds=10,
    trained={name: at_least(LINEAR) for name in ACTIVATIONS},
    claims=[
        paper_claim(
            "a comparison of 18 functions with different networks and data helps to choose among them",
            where="abstract",
            headline=True,
            scale="a perceptron of four layers after 200 steps; the survey: six convolutional networks on "
            "CIFAR, translation and speech, trained to the end",
            not_tested="the order of the functions after long training needs the survey's networks and data",
        ),
        question(
            "Sigmoid and Elliott are last by at least 4 points of accuracy",
            of=PLACE,
            value=lambda m: _over(min, m, ACTIVATIONS.keys() - set(LAST)) - _over(max, m, LAST),
            expect=at_least(0.04),
            verdict="not as expected",
        ),
        question(
            "ReLU, ELU, GELU, Swish and Mish lie within 4 points of accuracy",
            of=PLACE,
            value=lambda m: _over(max, m, MODERN) - _over(min, m, MODERN),
            expect=at_most(0.04),
            verdict="not as expected",
        ),
        question(
            "the worst of four functions with a corner beats the best of six smooth ones",
            of=PLACE,
            value=lambda m: _over(min, m, KINKED) - _over(max, m, SMOOTH),
            expect=at_least(0.0),
        ),
    ],
)
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


@experiment(
    paper="activation-survey",
    seeds=10,
    claims=[
        question(
            "twelve sigmoid layers do not begin to learn: distance of the loss from that of guessing, ln 10",
            of="width 64, no norm, digits, 100 steps",
            value=lambda m: each(lambda loss: abs(loss - math.log(10)), m["Sigmoid_12_100"]),
            expect=at_most(0.1),
        ),
        question(
            "twelve ReLU layers do: training loss (guessing has 2.30)",
            of="width 64, no norm, digits, 100 steps",
            value=lambda m: m["ReLU_12_100"],
            expect=at_most(2.0),
        ),
    ],
)
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
