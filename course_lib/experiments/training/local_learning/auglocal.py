"""Trained claims of auglocal."""

from functools import partial

import torch

from course_lib.data.mnist1d import make_mnist1d
from course_lib.experiments.training.local_learning._shared import accuracy, learn
from course_lib.measure import experiment
from course_lib.training.local_learning import (
    AugLocal,
    ResidualBlock1d,
)

PLAN = [(16, 2)] + [(16, 1)] * 9  # channels and stride of ten residual blocks


AUXILIARY = {"backprop": (0, 1), "linear": (0, None), "depth_1": (1, None), "depth_3": (3, None)}


@experiment(paper="auglocal", seeds=4)
def auxiliary_networks(seed: int) -> dict[str, float]:
    """Ten residual blocks on 1500 signals of 80 points, 8 epochs: test accuracy for four kinds of judge."""
    x, y = make_mnist1d(2500, length=80, seed=seed)
    train, test, result = (x[:1500], y[:1500]), (x[1500:], y[1500:]), {}
    for name, (depth, modules) in AUXILIARY.items():
        torch.manual_seed(seed)
        make_optimizer = partial(torch.optim.Adam, lr=3e-3)
        model = AugLocal(
            ResidualBlock1d,
            1,
            PLAN,
            10,
            auxiliary_depth=depth,
            num_modules=modules,
            make_optimizer=make_optimizer,
        )
        learn(model, train, steps=8 * (1500 // 64), seed=seed)
        result[name] = accuracy(model.predict(test[0]), test[1])
    return result
