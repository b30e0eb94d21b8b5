"""One task, one budget, many layers: what the table at the end of every chapter is measured with.

A chapter names its variants in a list ``SIDE_BY_SIDE`` and the frame around them as ``FRAME``, in
``course_lib/experiments/<part>/<chapter>/side_by_side.py``; the frame is a small classifier of
scikit-learn's digits in which only the layer in the middle differs::

    FRAME = vector_frame(width=64)
    SIDE_BY_SIDE = [
        Variant("dense", lambda: nn.Linear(64, 64), "torch.nn.Linear", ("baseline",)),
        Variant("low rank 8", lambda: LowRankLinear(64, 64, rank=8), "LowRankLinear"),
    ]

    @experiment(paper=..., seeds=3)
    def side_by_side(seed: int) -> dict[str, float]:
        return compare(SIDE_BY_SIDE, frame=FRAME, seed=seed)

The task is the same in all chapters: digits, each moved by up to one pixel in both directions, so
that what a layer adds shows. The accuracies are this experiment's result; parameters and operations
are counted, times are measured by ``make bench``; ``side_by_side_table("layers/dense")`` shows them
together, and so does the page "Which layer?".

Layers of sequences stand in ``sequence_frame()``: the same digits, read pixel by pixel and named behind
the last one, and beside it the next character of English text.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.contexts import evaluating, isolated
from course_lib.data import load
from course_lib.data.dataset import Split
from course_lib.data.moved import moved_by_a_pixel
from course_lib.layers.norm import ResidualSublayer
from course_lib.training.loop import Run, evaluate, fit


@dataclass(frozen=True)
class Frame:
    """A small classifier of digits with a gap in the middle, into which one layer is put.

    Args:
        kind: what the layer gets: ``"vectors"``, ``"images"``, ``"tokens"`` or ``"sequences"``.
        shape: the shape of what the layer gets, for one example.
        stem: makes what stands before the layer.
        activation: makes what stands after it, pointwise; ``nn.Identity`` for none.
        steps: number of updates by AdamW that each layer gets.
        lr: their rate.
    """

    kind: str
    shape: tuple[int, ...]
    stem: Callable[[], nn.Module]
    activation: Callable[[], nn.Module] = nn.GELU
    steps: int = 300
    lr: float = 1e-2

    def __call__(self, build: Callable[[], nn.Module]) -> nn.Module:
        """The whole network: stem, layer, activation, mean over all positions, ten outputs.

        The stem draws its random numbers first, so under equal seeds it is equal for all layers.

        Raises:
            ValueError: if the layer gives no single tensor with one row per example.
        """
        stem, layer = self.stem(), build()
        if self.kind == "sequences":
            return nn.Sequential(stem, self._block(layer), _Last(), nn.Linear(self.shape[1], 10))
        return nn.Sequential(stem, layer, self.activation(), _Mean(self.kind), self._out(layer))

    def writer(self, build: Callable[[], nn.Module], vocab_size: int) -> nn.Module:
        """The same layer and block in a model of text: the scores of the next character at every position.

        Args:
            build: makes the layer.
            vocab_size: number of characters.

        Raises:
            ValueError: for a frame that is not one of sequences, or a layer that changes the shape.
        """
        if self.kind != "sequences":
            raise ValueError(f"only layers of sequences write text, this frame is one of {self.kind}")
        length, dim = self.shape
        stem, layer = _Characters(vocab_size, length, dim), build()
        return nn.Sequential(stem, self._block(layer), nn.Linear(dim, vocab_size))

    def example(self, batch: int) -> Tensor:
        """Random numbers in the shape that the layer gets."""
        return torch.randn(batch, *self.shape)

    def _block(self, layer: nn.Module) -> nn.Module:
        """The layer, then a feed-forward network that is equal for all, each in a residual, and a norm."""
        self._asked(layer, lambda y: y.shape == (2, *self.shape), "a layer of sequences keeps the shape")
        dim = self.shape[1]
        mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        return nn.Sequential(ResidualSublayer(layer, dim), ResidualSublayer(mlp, dim), nn.LayerNorm(dim))

    def _out(self, layer: nn.Module) -> nn.Linear:
        """Ten outputs from as many features as the layer gives; it is asked, so it may change them."""
        wanted = "wrap it so that it gives one tensor, a row per example"
        y = self._asked(layer, lambda y: y.ndim >= 2 and len(y) == 2, wanted)
        return nn.Linear(_Mean(self.kind)(y).shape[1], 10)

    def _asked(self, layer: nn.Module, fits: Callable[[Tensor], bool], wanted: str) -> Tensor:
        """What the layer gives for two examples."""
        with evaluating(layer), isolated():
            y = layer(self.example(2))
        if not isinstance(y, Tensor) or not fits(y):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise ValueError(f"{type(layer).__name__} gives {got} for {(2, *self.shape)}: {wanted}")
        return y


class _Mean(nn.Module):
    """The mean over all positions: of images (b, c, ...), of tokens (b, ..., d); vectors stay."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, y: Tensor) -> Tensor:
        if self.kind == "vectors" or y.ndim == 2:  # a layer that pools has left no positions
            return y.flatten(1)
        return y.flatten(2).mean(2) if self.kind == "images" else y.flatten(1, -2).mean(1)


class _Tokens(nn.Module):
    """An image as tokens: square patches, embedded, each with a learned position."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.patches = nn.PixelUnshuffle(patch)
        self.embed = nn.Linear(patch * patch, dim)
        self.position = nn.Parameter(0.02 * torch.randn((8 // patch) ** 2, dim))

    def forward(self, images: Float[Tensor, "b 1 8 8"]) -> Float[Tensor, "b t d"]:
        return self.embed(self.patches(images).flatten(2).mT) + self.position


class _Characters(nn.Module):
    """Characters, embedded, each with a learned position."""

    def __init__(self, vocab_size: int, length: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, dim)
        self.position = nn.Parameter(0.02 * torch.randn(length, dim))

    def forward(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        return self.embed(tokens) + self.position


class _Last(nn.Module):
    """What stands at the last position."""

    def forward(self, y: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        return y[:, -1]


def vector_frame(width: int = 64, *, activation: Callable[[], nn.Module] = nn.GELU) -> Frame:
    """For layers of vectors: 64 pixels, a linear map to ``width``, the layer, the activation.

    Args:
        width: of the vectors that the layer gets.
        activation: after the layer; ``nn.Identity`` where the layer is an activation itself.

    >>> vector_frame(32).shape
    (32,)
    """

    def stem() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width))

    return Frame("vectors", (width,), stem, activation)


def image_frame(channels: int = 16, *, activation: Callable[[], nn.Module] = nn.GELU) -> Frame:
    """For layers of images: a 3 x 3 convolution to ``channels`` x 8 x 8, the layer, the mean.

    Args:
        channels: of the images that the layer gets.
        activation: after the layer; ``nn.Identity`` where the layer is an activation itself.

    >>> image_frame(8).shape
    (8, 8, 8)
    """

    def stem() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.GELU())

    return Frame("images", (channels, 8, 8), stem, activation)


def token_frame(dim: int = 32, *, patch: int = 2, activation: Callable[[], nn.Module] = nn.GELU) -> Frame:
    """For layers that mix tokens: patches with their positions, the layer, the mean.

    Args:
        dim: width of the tokens that the layer gets.
        patch: side of a patch: 1 gives 64 tokens, 2 gives 16, 4 gives 4.
        activation: after the layer; ``nn.Identity`` where the layer is an activation itself.

    >>> token_frame(32).shape, token_frame(32, patch=1).shape
    ((16, 32), (64, 32))
    """
    if patch not in (1, 2, 4):
        raise ValueError(f"patch={patch} does not cut 8 x 8 pixels into patches: take 1, 2 or 4")
    stem = partial(_Tokens, patch, dim)
    return Frame("tokens", ((8 // patch) ** 2, dim), stem, activation)


def sequence_frame(dim: int = 32) -> Frame:
    """For causal layers of sequences: 64 tokens, the layer, a feed-forward network, two tasks.

    The pixels of a digit, row by row, each with its position; the digit is named behind the last one, so
    what the first rows showed must be carried over up to 63 tokens. And windows of 64 characters, each
    of which is to be foretold from those before it. Embeddings, residuals, norms and the feed-forward
    network of twice the width are the same for all layers.

    Args:
        dim: width of the tokens that the layer gets and gives.

    >>> sequence_frame(32).shape
    (64, 32)
    """
    return Frame("sequences", (64, dim), partial(_Tokens, 1, dim), steps=500, lr=5e-3)


@dataclass(frozen=True)
class Variant:
    """One row of the table: a layer with its sizes.

    Args:
        name: what the row is called; unique in its chapter.
        build: makes the layer, new at every call.
        symbol: the class, as the library exports it (``"KroneckerLinear"``) or torch's full name.
        properties: short words by which a reader may look for it; the row with ``"baseline"`` (else
            the first) is what the times are relative to.
        frame: where this one needs another frame than the rest of its chapter.
    """

    name: str
    build: Callable[[], nn.Module]
    symbol: str = ""
    properties: tuple[str, ...] = ()
    frame: Frame | None = None


def compare(
    variants: Sequence[Variant],
    *,
    frame: Frame,
    seed: int,
    steps: int | None = None,
    batch_size: int = 64,
    lr: float | None = None,
    hooks: Iterable[Callable[[Run], Any]] = (),
) -> dict[str, float]:
    """Train every variant in its frame, with equal steps, batches and rate: test accuracy by name.

    Args:
        variants: the chapter's list.
        frame: what stands around the layer.
        seed: of the weights and of the order of the batches.
        steps: number of updates; the frame's unless given.
        batch_size: rows of a batch.
        lr: learning rate; the frame's unless given.
        hooks: of every run, as for :func:`~course_lib.training.loop.fit`.

    Returns:
        Accuracy by the variant's name; NaN where the run diverged. For a layer of sequences also the loss
        on unseen text in nats per character, by :func:`text_name`.

    Raises:
        ValueError: if two variants have one name.
    """
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"every variant needs a name of its own, got {names}")
    digits, found = load("digits"), {}
    unseen = moved_by_a_pixel(digits.test.x, torch.Generator().manual_seed(0)), digits.test.y
    batch = partial(_moved_batch, digits.train, batch_size)
    for variant in variants:
        around = variant.frame or frame
        tasks = {variant.name: (partial(around, variant.build), batch, unseen, "accuracy")}
        if around.kind == "sequences":
            english, length = load("english"), around.shape[0]
            windows = partial(english.batch, batch_size=batch_size // 4, length=length)
            writer = partial(around.writer, variant.build, english.vocab_size)
            held_out = english.test.windows(length, limit=200)
            tasks[text_name(variant.name)] = writer, windows, held_out, "loss"
        budget = {"steps": around.steps if steps is None else steps, "lr": around.lr if lr is None else lr}
        for name, (build, data, test, metric) in tasks.items():
            torch.manual_seed(seed)
            model = build()
            history = fit(model, data, **budget, seed=seed, on_divergence="stop", hooks=hooks)
            found[name] = math.nan if history.diverged else evaluate(model, test, metric=metric)
    return found


def text_name(name: str) -> str:
    """The name under which :func:`compare` gives a variant's loss on text.

    >>> text_name("LSTM")
    'LSTM: text'
    """
    return f"{name}: text"


def _moved_batch(digits: Split, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    chosen = torch.randint(len(digits.y), (size,), generator=generator)
    return moved_by_a_pixel(digits.x[chosen], generator), digits.y[chosen]
