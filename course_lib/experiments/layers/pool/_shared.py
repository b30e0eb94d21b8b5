"""What several experiments of this chapter share."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data.canvas import BoxedSplit, make_cluttered_digits


class TokenMean(nn.Module):
    """The average over tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


@cache
def canvases(split: str, n: int, strokes: int) -> BoxedSplit:
    """Cluttered digits; another seed for each split."""
    seed = {"train": 0, "test": 1}[split]
    return make_cluttered_digits(n, split=split, strokes=strokes, seed=seed)


def linear_accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy of a linear map of the pixels, by least squares: what a trained network must beat."""
    (x, y), (x_test, y_test) = train, test
    x, x_test = (F.pad(pixels.flatten(1), (0, 1), value=1.0).double() for pixels in (x, x_test))
    gram = x.mT @ x
    gram.diagonal().add_(1e-3)
    weights = torch.linalg.solve(gram, x.mT @ F.one_hot(y).double())
    return ((x_test @ weights).argmax(1) == y_test).double().mean().item()


PAPERS = (
    "softpool",
    "parameter-free-layers",
    "group-gem-pooling",
    "spatial-pyramid-pooling",
    "attention-pooling",
    "polarized-self-attention",
    "large-context-upsampling",
)
