"""A softmax or a squared hinge on the same network."""

from collections.abc import Iterable

import torch
from torch import nn

from course_lib.data import load
from course_lib.layers.dense import squared_hinge_loss
from course_lib.measure import experiment
from course_lib.training.loop import Run, evaluate, fit


def svm_cnn() -> nn.Module:
    """Two convolutions, two poolings, two dense layers, narrower than the paper's; the last is the head."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


HEAD_STEPS = (300, 1200)


def train_head(head: str, seed: int, steps: int, hooks: Iterable = ()) -> nn.Module:
    """Train the network with a softmax or an SVM head; everything else is equal."""
    torch.manual_seed(seed)
    model = svm_cnn()
    loss = None
    if head == "svm":
        loss = lambda scores, y: squared_hinge_loss(scores, y, model[-1].weight)  # noqa: E731
    data = load("digits").train
    fit(model, data, steps=steps, batch_size=64, lr=1e-3, loss=loss, seed=seed, hooks=hooks)
    return model


@experiment(paper="cnn-svm", seeds=3)
def heads(seed: int) -> dict[str, float]:
    """Digits with a softmax and with a squared-hinge head, seen twice on the way.

    Returns:
        ``{head}_{steps}``: test accuracy (a share) of ``softmax`` or ``svm`` after 300 and after 1200 steps.
    """
    result = {}
    for head in ("softmax", "svm"):

        def note(run: Run, head: str = head) -> None:
            if run.step in HEAD_STEPS:
                result[f"{head}_{run.step}"] = evaluate(run.model, load("digits").test)

        train_head(head, seed, HEAD_STEPS[-1], hooks=[note])
    return result
