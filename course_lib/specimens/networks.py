"""The recipes of the specimens: how each is built and trained, and when it counts as trained."""

from functools import partial

import torch
from torch import Tensor

from course_lib.data import load
from course_lib.data.corpora import ENGLISH
from course_lib.data.dataset import Split
from course_lib.data.moved import moved_by_a_pixel
from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT, VisionTransformer
from course_lib.specimens._specimen import Check, specimen
from course_lib.training.hooks import Progress
from course_lib.training.loop import cosine_schedule, evaluate, fit

# -- A character model -------------------------------------------------------------------------

CONTEXT = 64


def untrained_char_gpt() -> GPT:
    """The network of :func:`char_gpt` at its random start."""
    blocks = [TransformerBlock(48, 4, causal=True) for _ in range(4)]
    return GPT(len(ENGLISH), 48, blocks, max_length=CONTEXT)


def accept_char_gpt(model: GPT) -> list[Check]:
    """It predicts far better than a trigram model (1.78), which sees two characters of context."""
    loss = evaluate(model, load("english").validation.windows(CONTEXT), metric="loss")
    return [Check("validation loss per character", loss, at_most=1.48)]


@specimen("char_gpt", build=untrained_char_gpt, accept=accept_char_gpt)
def char_gpt() -> GPT:
    """A character model of English with four blocks of four heads."""
    model = untrained_char_gpt()
    fit(
        model,
        partial(load("english").train.batch, batch_size=32, length=CONTEXT),
        steps=2500,
        lr=4e-3,
        schedule=cosine_schedule(warmup=100),
        clip=1.0,
        hooks=[Progress()],
    )
    return model


# -- An image classifier -----------------------------------------------------------------------


def untrained_digit_vit() -> VisionTransformer:
    """The network of :func:`digit_vit` at its random start: 16 patches of 2 x 2 pixels."""
    blocks = [TransformerBlock(32, 4, hidden_dim=64) for _ in range(3)]
    return VisionTransformer(1, 10, image_size=(8, 8), patch=2, dim=32, blocks=blocks)


def accept_digit_vit(model: VisionTransformer) -> list[Check]:
    """It reads digits that it has not seen."""
    return [Check("test accuracy", evaluate(model, load("digits").test), at_least=0.95)]


@specimen("digit_vit", build=untrained_digit_vit, accept=accept_digit_vit)
def digit_vit() -> VisionTransformer:
    """A vision transformer that reads handwritten digits, with three blocks of four heads."""
    model = untrained_digit_vit()
    fit(
        model,
        partial(_moved, load("digits").train),
        steps=1500,
        lr=3e-3,
        optimizer=partial(torch.optim.AdamW, weight_decay=0.05, fused=True),
        schedule=cosine_schedule(warmup=50),
        hooks=[Progress()],
    )
    return model


def _moved(digits: Split, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """64 digits, a quarter of them moved: 1200 are too few to learn from as they are."""
    x, y = digits[torch.randint(len(digits), (64,), generator=generator)]
    return torch.cat([moved_by_a_pixel(x[:16], generator), x[16:]]), y
