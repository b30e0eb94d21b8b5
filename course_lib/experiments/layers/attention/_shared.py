"""What several experiments of this chapter share."""

from functools import partial

from torch import nn

from course_lib.data import load
from course_lib.data.dataset import Split
from course_lib.data.text import Text, letter_pairs_loss
from course_lib.layers.norm import TransformerBlock
from course_lib.models.transformers import GPT
from course_lib.training.loop import cosine_schedule, evaluate, fit


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def widened_block(mixer: nn.Module, dim: int, budget: int) -> TransformerBlock:
    """A block around the mixer whose feed-forward layer is as wide as the parameters allow."""
    fixed = count(TransformerBlock(dim, 1, mixer=mixer, hidden_dim=1)) - (2 * dim + 1)
    return TransformerBlock(dim, 1, mixer=mixer, hidden_dim=(budget - fixed) // (2 * dim + 1))


WIDTH, LENGTH = 64, 64


def train_gpt(blocks: list[nn.Module], text: Text, *, steps: int, seed: int) -> GPT:
    """A character model around the blocks, trained on windows of 64 characters, 16 at a time."""
    model = GPT(load("english").vocab_size, WIDTH, blocks, max_length=LENGTH)
    fit(
        model,
        partial(text.batch, batch_size=16, length=LENGTH),
        steps=steps,
        lr=6e-3,
        schedule=cosine_schedule(warmup=20),
        clip=1.0,
        seed=seed,
    )
    return model


def validation_loss(model: GPT) -> float:
    """Nats per character on 200 fixed windows."""
    return evaluate(model, load("english").validation.windows(LENGTH, limit=200), metric="loss")


def letter_pairs() -> float:
    """Nats per character of counting which letter follows which: what a model reaches without attention."""
    english = load("english")
    held_out = english.validation.tokens
    return letter_pairs_loss(english.train, Split(held_out[:-1], held_out[1:]), english.vocab_size)
