"""Trained claims of auglocal."""

from functools import partial

import torch

from course_lib.data.mnist1d import make_mnist1d
from course_lib.experiments.training.local_learning._shared import accuracy, learn, linear_probe
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
from course_lib.training.local_learning import (
    AugLocal,
    ResidualBlock1d,
)

PLAN = [(16, 2)] + [(16, 1)] * 9  # channels and stride of ten residual blocks


# Depth of the auxiliary networks and number of modules. The last module is the same for both kinds of judge:
# four blocks and the classifier, as the authors' code has it for a depth of three.
AUXILIARY = {"backprop": (0, 1), "linear": (0, 7), "depth_3": (3, 7)}


NETWORK = "ten residual blocks, 6 epochs of 1500 signals"


@experiment(
    paper="auglocal",
    seeds=10,
    trained={name: lambda m: at_least(m["straight_line"].mean) for name in AUXILIARY},
    claims=[
        paper_claim(
            "accuracy of backpropagation minus AugLocal's (d = 3) is small",
            where="abstract",
            of=NETWORK,
            value=lambda m: m["backprop"] - m["depth_3"],
            expect=at_most(0.03),
            verdict="not reproduced",
            headline=True,
            scale="Seven local modules of 16 channels, 1500 artificial signals, 138 updates; the paper: "
            "tens of local layers on CIFAR-10, SVHN, STL-10 and ImageNet, in the authors' script for "
            "400 epochs.",
        ),
        paper_claim(
            "AugLocal (d = 3) is more accurate than the same modules behind linear classifiers",
            where="abstract",
            of=NETWORK,
            value=lambda m: m["depth_3"] - m["linear"],
            expect=at_least(0.0),
        ),
        question(
            "AugLocal (d = 3) closes at least half of the gap between linear classifiers and backpropagation",
            of=NETWORK,
            value=lambda m: (m["depth_3"] - m["linear"]) / (m["backprop"] - m["linear"]),
            expect=at_least(0.5),
            verdict="open",
        ),
    ],
)
def auxiliary_networks(seed: int) -> dict[str, float]:
    """Ten residual blocks on 1500 signals of 40 points, 6 epochs: test accuracy for three kinds of judge."""
    x, y = make_mnist1d(2500, seed=seed)
    train, test = (x[:1500], y[:1500]), (x[1500:], y[1500:])
    probe = linear_probe(train[0].flatten(1), train[1], test[0].flatten(1))
    result = {"straight_line": accuracy(probe, test[1])}
    for name, (depth, modules) in AUXILIARY.items():
        torch.manual_seed(seed)
        make_optimizer = partial(torch.optim.Adam, lr=3e-3, fused=True)
        model = AugLocal(
            ResidualBlock1d,
            1,
            PLAN,
            10,
            auxiliary_depth=depth,
            num_modules=modules,
            make_optimizer=make_optimizer,
        )
        learn(model, train, steps=6 * (1500 // 64), seed=seed)
        result[name] = accuracy(model.predict(test[0]), test[1])
        if modules > 1:
            result[f"{name}_first"] = accuracy(model.read_out(test[0])[0], test[1])
    return result
