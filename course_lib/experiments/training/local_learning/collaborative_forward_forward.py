"""Trained claims of collaborative-forward-forward."""

from functools import partial

from course_lib.experiments.training.local_learning._shared import accuracy, best_on_validation, flat_digits
from course_lib.measure import experiment
from course_lib.training.local_learning import (
    ForwardForward,
)

THETAS = (2.0, 4.0, 8.0)


@experiment(paper="collaborative-forward-forward", seeds=3)
def layer_collaboration(seed: int) -> dict[str, float]:
    """Three layers of 128, 15 epochs: test error of the first layer, of all together, of each alone."""
    data, result = flat_digits(), {}
    x, y = data["test"]
    for kind in ("none", "earlier", "all"):
        builders = [
            partial(ForwardForward, 64, [128] * 3, 10, collaboration=kind, theta=theta, lr=1e-2)
            for theta in THETAS
        ]
        best, model = best_on_validation(builders, data, steps=15 * (1197 // 64), seed=seed)
        result[f"{kind}_theta"] = THETAS[best]
        for i, answers in enumerate(model.read_out(x), 1):
            result[f"{kind}_layer_{i}"] = 1 - accuracy(answers, y)
        result[f"{kind}_error"] = 1 - accuracy(model.predict(x), y)
    return result
