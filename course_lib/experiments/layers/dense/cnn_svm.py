"""Trained claims of cnn-svm."""

import torch
from torch import nn

from course_lib.data import load
from course_lib.layers.dense import (
    squared_hinge_loss,
)
from course_lib.measure import experiment
from course_lib.training.loop import evaluate, fit


def svm_cnn() -> nn.Module:
    """Two convolutions, two poolings, two dense layers, narrower than the paper's; the last is the head."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


def train_head(head: str, seed: int, steps: int = 300) -> nn.Module:
    """Train the network with a softmax or an SVM head; everything else is equal."""
    torch.manual_seed(seed)
    model = svm_cnn()
    loss = None
    if head == "svm":
        loss = lambda scores, y: squared_hinge_loss(scores, y, model[-1].weight)  # noqa: E731
    fit(model, load("digits").train, steps=steps, batch_size=64, lr=1e-3, loss=loss, seed=seed)
    return model


@experiment(paper="cnn-svm", seeds=5)
def heads(seed: int) -> dict[str, float]:
    """Test accuracy on digits with a softmax and with a squared-hinge head, 300 steps each."""
    result = {head: evaluate(train_head(head, seed), load("digits").test) for head in ("softmax", "svm")}
    return result


@experiment(paper="cnn-svm", seeds=3)
def heads_longer(seed: int) -> dict[str, float]:
    """The same after 1200 steps each."""
    test = load("digits").test
    result = {head: evaluate(train_head(head, seed, steps=1200), test) for head in ("softmax", "svm")}
    return result
