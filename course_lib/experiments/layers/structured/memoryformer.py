"""Trained claims of memoryformer."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.data import load
from course_lib.data.text import letter_pairs_loss
from course_lib.layers.norm import TransformerBlock
from course_lib.layers.structured import (
    MemoryFormerBlock,
    MemoryLinear,
)
from course_lib.measure import at_least, at_most, experiment, question
from course_lib.models.transformers import GPT
from course_lib.training.loop import cosine_schedule, evaluate, fit


@torch.no_grad()
def used_rows(model: GPT, tokens: Tensor) -> float:
    """Share of all table rows that are read at least once on these tokens."""
    read: dict[MemoryLinear, Tensor] = {}

    def watch(module: MemoryLinear, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        rows, _ = module.address(arguments[0])
        read[module] = F.one_hot(rows.flatten(0, -2), 2**module.bits).sum(0) > 0

    memories = [m for m in model.modules() if isinstance(m, MemoryLinear)]
    hooks = [m.register_forward_hook(watch) for m in memories]
    model(tokens)
    for hook in hooks:
        hook.remove()
    return torch.cat([seen.flatten() for seen in read.values()]).float().mean().item()


SETTING = "GPT of 2 blocks, width 32, 4 bits, 500 steps"


@experiment(
    paper="memoryformer",
    seeds=10,
    trained={"linear": lambda m: at_most(m["pairs"].mean), "memory": lambda m: at_most(m["pairs"].mean)},
    claims=[
        question(
            "tables in place of all linear layers cost less than 0.15 nats (loss with tables minus without)",
            of=SETTING,
            value=lambda m: m["memory"] - m["linear"],
            expect=at_most(0.15),
            verdict="open",
        ),
        question(
            "learned tables beat random ones by half a nat (random minus learned)",
            of=SETTING,
            value=lambda m: m["frozen"] - m["memory"],
            expect=at_least(0.5),
            verdict="open",
        ),
        question(
            "nearly all rows of all tables are read on validation text (share)",
            of=SETTING,
            value=lambda m: m["used_rows"],
            expect=at_least(0.9),
        ),
    ],
)
def memory_gpt(seed: int) -> dict[str, float]:
    """Validation loss, in nats a character, of a GPT after 500 steps.

    ``linear``: linear layers; ``memory``: tables; ``frozen``: tables that stay random; ``used_rows``: share
    of the rows of all tables that are read on that text; ``pairs``: the loss of counting letter pairs.
    """
    text = load("english")
    windows = text.validation.windows(32, limit=128)
    result = {"pairs": letter_pairs_loss(text.train, windows, text.vocab_size)}
    for name in ("linear", "memory", "frozen"):
        torch.manual_seed(seed)
        if name == "linear":
            blocks = [TransformerBlock(32, 2, norm="pre", causal=True) for _ in range(2)]
        else:
            blocks = [MemoryFormerBlock(32, 2, bits=4, causal=True) for _ in range(2)]
        model = GPT(text.vocab_size, 32, blocks, max_length=32)
        if name == "frozen":
            for memory in (m for m in model.modules() if isinstance(m, MemoryLinear)):
                memory.tables.requires_grad_(False)
        batch = partial(text.batch, batch_size=16, length=32)
        fit(model, batch, steps=500, lr=5e-3, clip=1.0, schedule=cosine_schedule(warmup=20), seed=seed)
        result[name] = evaluate(model, windows, metric="loss")
        if name == "memory":
            result["used_rows"] = used_rows(model, windows.x)
    return result
