"""The recipes of the specimens: how each is built, how it is trained, and when it counts as trained."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.corpora import ENGLISH
from course_lib.data.dataset import Split
from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT, VisionTransformer
from course_lib.specimens._catalogue import specimen
from course_lib.specimens._record import Check
from course_lib.training.hooks import Progress
from course_lib.training.loop import cosine_schedule, evaluate, fit

__all__ = [
    "accept_char_gpt",
    "accept_digit_vit",
    "char_gpt",
    "digit_vit",
    "trigram_loss",
    "untrained_char_gpt",
    "untrained_digit_vit",
]

# -- A character model ------------------------------------------------------------------------------

CONTEXT = 64


def untrained_char_gpt() -> GPT:
    """The network of :func:`char_gpt` at its random start."""
    blocks = [TransformerBlock(48, 4, causal=True) for _ in range(4)]
    return GPT(len(ENGLISH), 48, blocks, max_length=CONTEXT)


def accept_char_gpt(model: GPT) -> list[Check]:
    """It predicts far better than a model that sees two characters: it uses its context."""
    text = load("english")
    windows = text.validation.windows(CONTEXT)
    loss = evaluate(model, windows, metric="loss")
    bound = trigram_loss(text.train.tokens, text.validation.tokens, text.vocab_size)
    return [Check("validation loss per character", loss, at_most=bound - 0.3)]


@specimen("char_gpt", build=untrained_char_gpt, accept=accept_char_gpt)
def char_gpt(seed: int) -> GPT:
    """A character model of English with four blocks of four heads.

    Args:
        seed: of its start and its batches.
    """
    model = untrained_char_gpt()
    fit(
        model,
        partial(load("english").train.batch, batch_size=32, length=CONTEXT),
        steps=2500,
        lr=4e-3,
        schedule=cosine_schedule(warmup=100),
        clip=1.0,
        seed=seed,
        hooks=[Progress()],
    )
    return model


def trigram_loss(train: Tensor, held_out: Tensor, vocab_size: int) -> float:
    r"""Loss per character of a model that looks two characters back, on text that it has not seen.

    .. math:: p(c \mid h) = \frac{n(h c) + k(h)\, p(c \mid h')}{n(h) + k(h)}

    where h' is the context h without its first character, n counts in the training text, and k(h) is the
    number of different characters seen after h (Witten-Bell smoothing).

    Args:
        train: characters as numbers, to count in.
        held_out: characters to predict.
        vocab_size: number of different characters.

    >>> trigram_loss(torch.arange(3).repeat(50), torch.arange(3).repeat(20), 3) < 0.1
    True
    """
    p = torch.full((1, vocab_size), 1 / vocab_size, dtype=torch.float64)
    for length in (1, 2, 3):
        n = torch.bincount(_grams(train, length, vocab_size), minlength=vocab_size**length)
        n = n.reshape(-1, vocab_size).double()
        kinds = (n > 0).sum(1, keepdim=True)
        shorter = p.repeat(len(n) // len(p), 1)
        p = torch.where(kinds > 0, (n + kinds * shorter) / (n.sum(1, keepdim=True) + kinds), shorter)
    return -p.flatten()[_grams(held_out, 3, vocab_size)].log().mean().item()


def _grams(tokens: Tensor, length: int, vocab_size: int) -> Tensor:
    """Every run of so many characters as one number."""
    powers = vocab_size ** torch.arange(length - 1, -1, -1)
    return tokens.unfold(0, length, 1) @ powers


# -- An image classifier ----------------------------------------------------------------------------


def untrained_digit_vit() -> VisionTransformer:
    """The network of :func:`digit_vit` at its random start: 16 patches of 2 x 2 pixels."""
    blocks = [TransformerBlock(32, 4, hidden_dim=64) for _ in range(3)]
    return VisionTransformer((8, 8, 1), 2, 32, 10, blocks)


def accept_digit_vit(model: VisionTransformer) -> list[Check]:
    """It reads digits that it has not seen."""
    return [Check("test accuracy", evaluate(model, load("digits").test), at_least=0.95)]


@specimen("digit_vit", build=untrained_digit_vit, accept=accept_digit_vit)
def digit_vit(seed: int) -> VisionTransformer:
    """A vision transformer that reads handwritten digits, with three blocks of four heads.

    Args:
        seed: of its start and its batches.
    """
    model = untrained_digit_vit()
    fit(
        model,
        partial(_moved, load("digits").train),
        steps=1500,
        lr=3e-3,
        optimizer=partial(torch.optim.AdamW, weight_decay=0.05),
        schedule=cosine_schedule(warmup=50),
        seed=seed,
        hooks=[Progress()],
    )
    return model


def _moved(digits: Split, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """64 digits, a quarter of them moved by up to one pixel: 1200 are too few to learn from as they are."""
    x, y = digits[torch.randint(len(digits), (64,), generator=generator)]
    down, right = torch.randint(3, (2, 16), generator=generator)
    places = F.pad(x[:16], (1, 1, 1, 1)).unfold(2, 8, 1).unfold(3, 8, 1)  # (16, 1, 3, 3, 8, 8)
    x[:16] = places[torch.arange(16), :, down, right]
    return x, y
