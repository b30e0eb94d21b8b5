"""What several experiments of this chapter share."""

from functools import cache

from torch import Tensor, nn

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


PAPERS = ("softpool", "parameter-free-layers", "group-gem-pooling", "spatial-pyramid-pooling")


PAPERS += ("attention-pooling", "polarized-self-attention", "large-context-upsampling")
