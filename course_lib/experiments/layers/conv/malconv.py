"""Trained claims of malconv."""

import torch
from torch import Tensor, nn

from course_lib.data import load
from course_lib.layers.conv import (
    MalConv,
    locate_activation,
)
from course_lib.measure import at_least, experiment, paper_claim, question
from course_lib.training.loop import evaluate, fit

WINDOW = 32


LENGTHS = (512, 2048, 8192)


SIGNATURES = (b"vqz_kx", b"jw.qhz")  # ordinary characters; what counting bytes makes of them is measured


PLACES = (4, 20)  # both within one window


class MeanConv(MalConv):
    """The same network with the mean over all windows in place of the maximum."""

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.features(x).mean(2))


class NormedMalConv(MalConv):
    """The same network with batch normalisation behind the gated convolution."""

    def __init__(self, num_classes: int, *, channels: int, **options: int) -> None:
        super().__init__(num_classes, channels=channels, **options)
        self.norm = nn.BatchNorm1d(channels)

    def features(self, x: Tensor) -> Tensor:
        return self.norm(super().features(x))


class ByteCounts(nn.Module):
    """The simple thing to beat: a linear classifier of how often each byte occurs in a file."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(256, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        counts = torch.zeros(len(x), 256).scatter_add_(1, x, torch.ones(x.shape))
        return self.out(counts.log1p())


def planted_files(
    text: Tensor, length: int, generator: torch.Generator, *, size: int = 16
) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of source code; every second one carries both signatures in one random window.

    Returns the bytes, which files are infected, and in which window.
    """
    start = torch.randint(len(text) - length, (size, 1), generator=generator)
    files = text[start + torch.arange(length)]
    infected = torch.arange(size) % 2
    block = torch.randint(length // WINDOW, (size,), generator=generator)
    for signature, place in zip(SIGNATURES, PLACES, strict=True):
        where = (block * WINDOW + place)[:, None] + torch.arange(len(signature))
        planted = files.scatter(1, where, torch.tensor(list(signature)).expand(size, -1))
        files = torch.where(infected[:, None].bool(), planted, files)
    return files, infected, block


def source_bytes(split: str) -> Tensor:
    """Python's standard library as bytes; the rare character beyond one byte becomes a question mark."""
    source = load("source_code")
    characters = source.decode(getattr(source, split).tokens)
    return torch.tensor(list(characters.encode("latin-1", "replace")))


LONGEST = LENGTHS[-1]


@experiment(
    paper="malconv",
    seeds=10,
    trained={f"max_{n}": lambda m, n=n: at_least(m[f"counts_{n}"].mean) for n in LENGTHS},
    claims=[
        paper_claim(
            "malware is detected from the raw bytes of whole files of up to two million bytes",
            where="abstract",
            headline=True,
            not_tested="no malware is used here, and the longest file has 8192 bytes of source code",
            scale="two planted strings in up to 8192 bytes of source code, 100 steps of 16 files; the paper: "
            "hundreds of thousands of executables of up to two million bytes",
        ),
        paper_claim(
            "the sub-region that gave the decision can be named: share of recognised files in which the most "
            "relevant window is the one with the planted strings",
            where="abstract",
            of=f"strings planted in {LONGEST} bytes of source code",
            value=lambda m: m[f"max_{LONGEST}_located"],
            expect=at_least(0.9),
            verdict="inconclusive",
        ),
        paper_claim(
            "batch normalisation hinders learning: accuracy without it minus accuracy with it",
            where="abstract",
            of=f"strings planted in {LONGEST} bytes of source code",
            value=lambda m: m[f"max_{LONGEST}"] - m[f"normed_{LONGEST}"],
            expect=at_least(0.1),
            not_tested="the paper speaks of executables of up to two million bytes; these are pieces of text",
        ),
        question(
            "the mean over all windows still misses the planted strings that the maximum finds (difference "
            "of the accuracies)",
            of=f"{LONGEST} bytes of source code, 100 steps of 16 files",
            value=lambda m: m[f"max_{LONGEST}"] - m[f"mean_{LONGEST}"],
            expect=at_least(0.1),
        ),
    ],
)
def needle(seed: int) -> dict[str, float]:
    """Pooling on files of three lengths, 100 steps of 16 files.

    ``<pooling>_<length>``: accuracy on 200 files, with ``counts`` for a linear classifier of byte counts and
    ``normed`` for the maximum behind batch normalisation; ``max_<length>_located``: share of the infected
    files that the maximum recognises in which the window with the largest relevance is the planted one.
    """
    train, test = source_bytes("train"), source_bytes("test")
    options = {"channels": 32, "kernel_size": WINDOW, "hidden_dim": 32}
    result = {}
    for length in LENGTHS:
        models = {"max": MalConv, "mean": MeanConv, "counts": ByteCounts}
        models |= {"normed": NormedMalConv} if length == LONGEST else {}
        held_out = planted_files(test, length, torch.Generator().manual_seed(99 + seed), size=200)
        for name, build in models.items():
            torch.manual_seed(seed)
            model = ByteCounts(2) if name == "counts" else build(2, **options)

            def batch(generator: torch.Generator, n: int = length) -> tuple[Tensor, Tensor]:
                return planted_files(train, n, generator)[:2]

            fit(model, batch, steps=100, lr=3e-3, seed=seed)
            result[f"{name}_{length}"] = evaluate(model, held_out[:2])
            if name == "max":
                files, _, block = (t[held_out[1] == 1] for t in held_out)
                with torch.no_grad():
                    found = model(files).argmax(1) == 1
                best = locate_activation(model, files, target=1).argmax(1)
                result[f"max_{length}_located"] = (best == block)[found].float().mean().item()
    return result


@experiment(
    paper="malconv",
    seeds=10,
    claims=[
        question(
            "the mean over all windows finds the planted strings too",
            of=f"{LONGEST} bytes of source code, 300 steps of 32 files",
            value=lambda m: m["mean"],
            expect=at_least(0.95),
        ),
    ],
)
def needle_longer(seed: int) -> dict[str, float]:
    """The mean on the longest files, with three times the steps and twice the batch."""
    train, length = source_bytes("train"), LENGTHS[-1]
    held_out = planted_files(source_bytes("test"), length, torch.Generator().manual_seed(99 + seed), size=200)
    torch.manual_seed(seed)
    model = MeanConv(2, channels=32, kernel_size=WINDOW, hidden_dim=32)
    fit(
        model,
        lambda generator: planted_files(train, length, generator, size=32)[:2],
        steps=300,
        lr=3e-3,
        seed=seed,
    )
    return {"mean": evaluate(model, held_out[:2])}
