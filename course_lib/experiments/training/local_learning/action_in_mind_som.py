"""Trained claims of action-in-mind-som."""

from typing import Any

import torch
from torch import Tensor

from course_lib.data import load
from course_lib.experiments.training.local_learning._shared import accuracy
from course_lib.measure import experiment
from course_lib.training.local_learning import (
    GrowingGrid,
    HierarchicalSOM,
    SelfOrganizingMap,
    ordered_vector,
    padded_vector,
)

SPEEDS = {"known": (0.8, 1.2), "slow": (0.4, 0.6), "fast": (1.7, 2.5), "mixed": (0.4, 2.5)}


POINTS = 38  # frames of the slowest movement of the training set


def action_recogniser(kind: str) -> HierarchicalSOM:
    """Two maps of at most 64 units and an output layer for six actions."""
    if kind == "growing":
        maps = GrowingGrid(10), GrowingGrid(2 * POINTS)
    else:
        maps = SelfOrganizingMap(10, grid=(8, 8)), SelfOrganizingMap(2 * POINTS, grid=(8, 8))
    to_vector = padded_vector if kind == "padded" else ordered_vector
    return HierarchicalSOM(*maps, 6, num_points=POINTS, to_vector=to_vector)


def sequences(split: Any) -> list[Tensor]:
    """The movements without their padding, each posture a vector of ten numbers."""
    return [frames[:length].flatten(1) for frames, length in zip(split.x, split.lengths, strict=True)]


@experiment(paper="action-in-mind-som", seeds=3)
def actions_at_other_speeds(seed: int) -> dict[str, float]:
    """Six actions learnt at speeds 0.8 to 1.2: test accuracy there and at other speeds, three pipelines."""
    tests = {
        name: load("stick_figure_actions", n=300, test_speed=speed, seed=seed)
        for name, speed in SPEEDS.items()
    }
    train, result = tests["known"].train, {}
    for kind in ("ordered", "padded", "growing"):
        torch.manual_seed(seed)
        model = action_recogniser(kind).fit_maps(sequences(train), steps=6000)
        model.fit_output(sequences(train), train.y, steps=60)
        for name, data in tests.items():
            result[f"{kind}_{name}"] = accuracy(model.predict(sequences(data.test)), data.test.y)
    return result
