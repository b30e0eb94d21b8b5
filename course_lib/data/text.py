"""Text as characters: a vocabulary, random windows to train on and fixed windows to measure on."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split

__all__ = ["Text", "TextDataset", "decode", "encode", "letter_pairs_loss", "passages", "text_dataset"]
__numerics__ = 1


@dataclass(frozen=True, eq=False)
class Text:
    """One split of a text: a long row of character numbers, and where each document in it begins and ends.

    Attributes:
        tokens: all characters as numbers, document after document, an empty line between two.
        documents: ``(title, start, end)`` of each document, as positions in ``tokens``.

    >>> text = Text(torch.arange(10), (("count", 0, 10),))
    >>> text.windows(3).x
    tensor([[0, 1, 2],
            [3, 4, 5],
            [6, 7, 8]])
    """

    tokens: Int64[Tensor, "n"]
    documents: tuple[tuple[str, int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(
        self, generator: torch.Generator, batch_size: int = 64, length: int = 64
    ) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
        """Random windows ``x`` and, as ``y``, the same windows one character later.

        Args:
            generator: of the random numbers, on the CPU; ``fit`` passes its own.
            batch_size: number of windows b.
            length: characters t of a window.

        >>> from course_lib.data import load
        >>> x, y = load("english").train.batch(torch.Generator().manual_seed(0), batch_size=2, length=8)
        >>> x.shape, bool((x[:, 1:] == y[:, :-1]).all())
        (torch.Size([2, 8]), True)
        """
        self._require(length)
        start = torch.randint(len(self) - length, (batch_size, 1), generator=generator)
        window = self.tokens[start + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:]

    def windows(self, length: int = 64, limit: int | None = None) -> Split:
        """Windows that follow each other without overlap, the same on every call: to validate and test on.

        Args:
            length: characters t of a window.
            limit: at most so many windows, spread evenly over the text; None for all.

        >>> from course_lib.data import load
        >>> load("english").validation.windows(64, limit=20)
        Split(x: (20, 64) int64, y: (20, 64) int64)
        """
        self._require(length)
        count = (len(self) - 1) // length
        # Adjacent windows share one character: it is the last target of one and the first input of the next.
        x, y = (self.tokens[i : i + count * length].reshape(count, length) for i in (0, 1))
        if limit is not None and limit < count:
            rows = torch.arange(limit) * count // limit
            x, y = x[rows], y[rows]
        return Split(x.clone(), y.clone())

    def _require(self, length: int) -> None:
        if not 1 <= length < len(self):
            raise ValueError(f"windows of length {length} do not fit a text of {len(self)} characters")

    def __repr__(self) -> str:
        return f"Text({len(self)} characters, {len(self.documents)} documents)"


def letter_pairs_loss(text: Text, held_out: Split, vocab_size: int) -> float:
    """Nats a character of a model that only knows how often each character followed each other in ``text``.

    What a model that looks further back has to beat: with one that does not, attention is unused.

    Args:
        text: to count in; 0.1 is added to every count, so that nothing is impossible.
        held_out: characters and, as ``y``, the next ones.
        vocab_size: number of different characters.

    >>> counted = Text(torch.arange(3).repeat(50))
    >>> round(letter_pairs_loss(counted, counted.windows(4), 3), 3)
    0.004
    """
    pairs = torch.bincount(text.tokens[:-1] * vocab_size + text.tokens[1:], minlength=vocab_size**2)
    counts = pairs.reshape(vocab_size, vocab_size).double() + 0.1
    log_share = (counts / counts.sum(1, keepdim=True)).log()
    return -log_share[held_out.x, held_out.y].mean().item()


@dataclass(frozen=True, eq=False, repr=False)
class TextDataset(Dataset):
    """Three splits of a text and the characters in it; character ``i`` is ``vocabulary[i]``.

    >>> from course_lib.data import load
    >>> english = load("english")
    >>> english.decode(english.encode("a lambda expression"))
    'a lambda expression'
    """

    train: Text
    validation: Text
    test: Text
    meta: Meta
    vocabulary: str

    @property
    def vocab_size(self) -> int:
        """The number of different characters."""
        return len(self.vocabulary)

    def encode(self, text: str) -> Int64[Tensor, "n"]:
        """Characters to numbers; ``ValueError`` for a character outside the vocabulary."""
        return encode(text, self.vocabulary)

    def decode(self, tokens: Int64[Tensor, "n"] | Sequence[int]) -> str:
        """Numbers to characters."""
        return decode(tokens, self.vocabulary)

    def batch(
        self, generator: torch.Generator, batch_size: int = 64, length: int = 64
    ) -> tuple[Int64[Tensor, "b t"], Int64[Tensor, "b t"]]:
        """Random windows of the training text; see :meth:`Text.batch`."""
        return self.train.batch(generator, batch_size, length)

    def standardised(self, *, targets: bool = False) -> "Dataset":
        """Not for text: raises ``ValueError``."""
        raise ValueError(f"{self.name!r} is text: it has no columns to standardise")

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key} {len(split)}" for key, split in self.splits.items())
        return f"TextDataset({self.name!r}: {sizes} characters; vocabulary {self.vocab_size})"


def encode(text: str, vocabulary: str) -> Int64[Tensor, "n"]:
    """Characters to their places in the vocabulary.

    >>> encode("abba", "ab")
    tensor([0, 1, 1, 0])
    """
    characters = sorted(vocabulary)
    known, codes = (np.frombuffer("".join(t).encode("utf-32-le"), "<u4") for t in (characters, text))
    place = np.searchsorted(known, codes).clip(max=len(known) - 1)
    if (unknown := known[place] != codes).any():
        raise ValueError(
            f"the characters {sorted(set(map(chr, codes[unknown])))} are not in the vocabulary of "
            f"{len(vocabulary)}; replace or drop them"
        )
    return torch.from_numpy(np.array([vocabulary.index(c) for c in characters])[place])


def decode(tokens: Int64[Tensor, "n"] | Sequence[int], vocabulary: str) -> str:
    """Places in the vocabulary to characters.

    >>> decode([0, 1, 1, 0], "ab")
    'abba'
    """
    numbers = tokens.tolist() if isinstance(tokens, Tensor) else tokens
    return "".join([vocabulary[number] for number in numbers])


def text_dataset(
    meta: Meta,
    documents: Iterable[tuple[str, Sequence[str]]],
    vocabulary: str,
    *,
    separator: str = "\n",
    share: float = 0.1,
    run: int = 50,
) -> TextDataset:
    """Give whole documents to each split, and keep anything repeated out of validation and test.

    The documents are dealt in an order that depends on their titles only; one that would fill more than a
    quarter of validation or test stays with training. Then every paragraph of validation and test that has a
    passage of ``run`` characters in common with an earlier split is dropped, so that knowing long passages by
    heart cannot help.

    Args:
        meta: the card.
        documents: ``(title, paragraphs)``.
        vocabulary: all characters that occur.
        separator: between the paragraphs of a document; two documents are separated by an empty line.
        share: of the characters that validation, and test, get before repetitions are dropped.
        run: characters of the shortest passage that counts as a repetition.
    """
    documents = [(title, list(paragraphs)) for title, paragraphs in documents]
    sizes = {title: sum(map(len, paragraphs)) for title, paragraphs in documents}
    target = share * sum(sizes.values())
    place = dict.fromkeys(sizes, 0)  # 0 train, 1 validation, 2 test
    filled = [0, 0, 0]
    for title in sorted(sizes, key=lambda title: zlib.crc32(title.encode())):
        part = next((i for i in (1, 2) if filled[i] < target), 0)
        if sizes[title] <= target / 4:
            place[title] = part
            filled[part] += sizes[title]
    parts = [[doc for doc in documents if place[doc[0]] == i] for i in range(3)]
    seen = np.empty(0, np.uint64)
    for i, part in enumerate(parts):
        if i:
            parts[i] = [(title, [p for p in ps if not _any_in(passages(p, run), seen)]) for title, ps in part]
        if not any(paragraphs for _, paragraphs in parts[i]):
            raise ValueError(f"{meta.name!r}: too few documents for three splits, or all repeat each other")
        seen = np.sort(np.concatenate([seen, passages(_joined(parts[i], separator), run)]))
    return TextDataset(*(_text(part, separator, vocabulary) for part in parts), meta, vocabulary)


def passages(text: str, run: int) -> np.ndarray:
    """One hash (uint64) for every passage of ``run`` characters: equal passages have equal hashes.

    >>> passages("abcabc", 3)[0] == passages("abcabc", 3)[3]
    np.True_
    """
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.uint64)
    count = max(len(codes) - run + 1, 0)
    hashes = np.zeros(count, np.uint64)
    for i in range(run):  # a polynomial in an odd number, modulo 2^64 by overflow
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + codes[i : i + count]
    return hashes


def _any_in(hashes: np.ndarray, ordered: np.ndarray) -> bool:
    place = np.searchsorted(ordered, hashes)
    inside = place < len(ordered)
    return bool((ordered[place[inside]] == hashes[inside]).any())


def _joined(documents: list[tuple[str, list[str]]], separator: str) -> str:
    return "\n\n".join(separator.join(paragraphs) for _, paragraphs in documents if paragraphs)


def _text(documents: list[tuple[str, list[str]]], separator: str, vocabulary: str) -> Text:
    places, position = [], 0
    for title, paragraphs in documents:
        if paragraphs:
            end = position + len(separator.join(paragraphs))
            places.append((title, position, end))
            position = end + 2
    return Text(encode(_joined(documents, separator), vocabulary), tuple(places))
