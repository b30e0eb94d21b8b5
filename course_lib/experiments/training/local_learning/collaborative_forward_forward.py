"""Trained claims of collaborative-forward-forward."""

from functools import partial

from course_lib.experiments.training.local_learning._shared import (
    accuracy,
    best_on_validation,
    flat_digits,
    linear_probe,
)
from course_lib.measure import experiment
from course_lib.training.local_learning import (
    ForwardForward,
)

THETAS = (20.0, 40.0)


@experiment(paper="collaborative-forward-forward", seeds=3)
def layer_collaboration(seed: int) -> dict[str, float]:
    """Three layers of 128, 30 epochs: test error of the first layer, of all together, of each alone."""
    data = flat_digits()
    x, y = data["test"]
    result = {"pixels_error": 1 - accuracy(linear_probe(*data["train"], x), y)}
    for kind in ("none", "all"):
        builders = [
            partial(ForwardForward, 64, [128] * 3, 10, collaboration=kind, theta=theta, lr=3e-3)
            for theta in THETAS
        ]
        best, model = best_on_validation(builders, data, steps=30 * (1197 // 64), seed=seed)
        result[f"{kind}_theta"] = THETAS[best]
        for i, answers in enumerate(model.read_out(x), 1):
            result[f"{kind}_layer_{i}"] = 1 - accuracy(answers, y)
        result[f"{kind}_error"] = 1 - accuracy(model.predict(x), y)
    return result
