"""Trained claims of action-in-mind-som."""

from typing import Any

import torch
from torch import Tensor

from course_lib.data import load
from course_lib.experiments.training.local_learning._shared import accuracy
from course_lib.measure import at_least, at_most, experiment, paper_claim, question
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


TASK = "six stick-figure actions"


@experiment(
    paper="action-in-mind-som",
    seeds=10,
    trained={"*_known": at_least(0.5)},  # a guess is right in one of six; the other speeds are the question
    claims=[
        paper_claim(
            "accuracy on films that were not learnt from, at known speeds",
            where="abstract",
            of=TASK,
            value=lambda m: m["ordered_known"].bounded(0, 1),
            expect=at_least(0.9),
            headline=True,
            scale="300 films of an artificial figure with five joints in the plane; the thesis: postures of "
            "people in three dimensions.",
        ),
        paper_claim(
            "the ordered vector does not depend on time: accuracy lost from known speeds to 0.4 to 2.5",
            where="abstract of its article on hierarchical maps",
            of=TASK,
            value=lambda m: m["ordered_known"] - m["ordered_mixed"],
            expect=at_most(0.1),
        ),
        paper_claim(
            "growing grids recognise actions better than self-organising maps",
            where="abstract of its article on growing grids",
            of=TASK,
            value=lambda m: m["growing_known"] - m["ordered_known"],
            expect=at_least(0.0),
            not_tested="both are right in nearly every film here",
        ),
        paper_claim(
            "actions are recognised online and segmented",
            where="abstract",
            of=TASK,
            not_tested="every film here holds one action, cut out",
        ),
        question(
            "the raw path does as well at known speeds",
            of=TASK,
            value=lambda m: m["padded_known"].bounded(0, 1),
            expect=at_least(0.9),
        ),
        question(
            "accuracy lost by the raw path at twice the speed",
            of=TASK,
            value=lambda m: m["padded_known"] - m["padded_fast"],
            expect=at_least(0.3),
        ),
        question(
            "accuracy lost by the raw path at speeds 0.4 to 2.5",
            of=TASK,
            value=lambda m: m["padded_known"] - m["padded_mixed"],
            expect=at_least(0.3),
            verdict="not as expected",
        ),
    ],
)
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
