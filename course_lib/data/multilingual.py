"""The messages of one program in some twenty languages: Sphinx's translation catalogues, stripped of code."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, require
from course_lib.data.text import Text, TextDataset, decode, encode

__all__ = ["MultilingualDataset"]
__numerics__ = 1

_ENOUGH = 8_000  # characters of translated text; below, a language has too little to learn from
_ENGLISHES = ("en_GB", "en_HK")
_PAD = "\0"

_CODE = re.compile(
    r"%\(\w+\)[a-z]|%[-+#0 ]?[\d.]*[a-zA-Z]|\{[^}]*\}"  # places to be filled in
    r"|``[^`]*``|`[^`']*[`']|:\w+:|<[^>]*>|&#?\w+;"  # code, roles, tags, character references
    r"|\S*[_/\\=@|~^*#$+<>{}\[\]`]\S*"  # words with a sign of code
    r"|[A-Za-z]+\.[A-Za-z][A-Za-z.]*|(?<!\S)[-.]+[A-Za-z]\S*|https?:\S+",  # file.names, --options, addresses
)


@dataclass(frozen=True, eq=False, repr=False)
class MultilingualDataset(Dataset):
    """Messages with their language; all translations of a message are in the same split.

    Attributes:
        vocabulary: all characters of the chosen languages; number 0 fills short rows up.
        messages: ``messages[split][language]`` maps the number of a message to its text; the same number is
            the same message in every language that has it.

    >>> from course_lib.data import load
    >>> data = load("multilingual", languages=("en", "fr"))
    >>> data.meta.classes, data.corpus("fr").train.tokens.dtype
    (('en', 'fr'), torch.int64)
    """

    vocabulary: str
    messages: dict[str, dict[str, dict[int, str]]]

    @property
    def vocab_size(self) -> int:
        """The number of different characters, filling included."""
        return len(self.vocabulary)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages by their codes; the classes of ``y``."""
        return self.meta.classes

    def encode(self, text: str) -> Tensor:
        """Characters to numbers; ``ValueError`` for a character outside the vocabulary."""
        return encode(text, self.vocabulary)

    def decode(self, tokens: Tensor) -> str:
        """Numbers to characters, without the filling."""
        return decode(tokens, self.vocabulary).replace(_PAD, "")

    def corpus(self, language: str) -> TextDataset:
        """All messages of one language, one to a line, as text over the common vocabulary."""
        if language not in self.languages:
            raise ValueError(f"no language {language!r} in this set; it has {', '.join(self.languages)}")
        texts = ("\n".join(self.messages[split][language].values()) for split in self.splits)
        parts = (Text(self.encode(text), ((language, 0, len(text)),)) for text in texts)
        return TextDataset(*parts, replace(self.meta, options={"language": language}), self.vocabulary)

    def standardised(self, *, targets: bool = False) -> Dataset:
        """Not for text: raises ``ValueError``."""
        raise ValueError(f"{self.name!r} is text: it has no columns to standardise")

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}; {len(self.languages)} languages, vocabulary {self.vocab_size})"


@dataset(
    "multilingual",
    task="classification of languages, language modelling",
    x="(n, length) int64: numbers of characters, cut at length and filled up with 0",
    y="(n,) int64: the language",
    licence="BSD-2-Clause (Sphinx)",
    source="messages of Sphinx and their translations by its community (sphinx/locale), code stripped",
    extra="book",
)
def _multilingual(
    meta: Meta, languages: tuple[str, ...] | None = None, length: int = 64
) -> MultilingualDataset:
    catalogues = _catalogues()
    languages = tuple(catalogues) if languages is None else tuple(languages)
    if unknown := [code for code in languages if code not in catalogues]:
        raise ValueError(
            f"no catalogue with enough text for {', '.join(unknown)}; there are {', '.join(catalogues)}"
        )
    if not languages or length < 1:
        raise ValueError(f"need at least one language and length >= 1, got {languages} and {length}")
    chosen = {code: catalogues[code] for code in languages}
    vocabulary = "".join(
        [_PAD, *sorted({c for texts in chosen.values() for text in texts.values() for c in (text + "\n")})]
    )
    # Split the numbers of the messages, not the texts: translations of a message stay together.
    total = max(catalogues["en"]) + 1
    place = np.searchsorted([0.8, 0.9], np.random.RandomState(0).permutation(total) / total, side="right")
    messages = {
        name: {
            code: {i: text for i, text in texts.items() if place[i] == part} for code, texts in chosen.items()
        }
        for part, name in enumerate(("train", "validation", "test"))
    }
    seen: set[str] = set()
    for by_language in messages.values():
        texts = {text[:length] for texts in by_language.values() for text in texts.values()}
        for texts_of in by_language.values():  # a text may occur in several languages, or begin like another
            for i in [i for i, text in texts_of.items() if text[:length] in seen]:
                del texts_of[i]
        seen |= texts
    splits = [_rows(by_language, vocabulary, length) for by_language in messages.values()]
    meta = replace(
        meta, classes=languages, versions={"sphinx": require("sphinx", "multilingual").__version__}
    )
    return MultilingualDataset(*splits, meta, vocabulary, messages)


def _rows(messages: dict[str, dict[int, str]], vocabulary: str, length: int) -> Split:
    texts = [
        (text[:length], label) for label, code in enumerate(messages) for text in messages[code].values()
    ]
    x = encode("".join(text.ljust(length, _PAD) for text, _ in texts), vocabulary).reshape(-1, length)
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(texts)))
    lengths = torch.tensor([len(text) for text, _ in texts])
    return Split(x[order], torch.tensor([label for _, label in texts])[order], lengths[order])


@cache
def _catalogues() -> dict[str, dict[int, str]]:
    """Of English and each language with enough text: clean messages by number, none twice in a language."""
    sphinx = require("sphinx", "multilingual")
    raw = {}
    for file in sorted(Path(sphinx.__file__).parent.glob("locale/*/LC_MESSAGES/sphinx.mo")):
        code = file.parts[-3]
        if code not in _ENGLISHES:
            raw[code] = {source: text for source, text in _read_catalogue(file) if text != source}
    english: dict[str, str] = {}  # clean text of every message, the first of those that become equal
    for source in sorted({source for texts in raw.values() for source in texts}):
        english[source] = _clean(source)
    number = {text: i for i, text in enumerate(dict.fromkeys(text for text in english.values() if text))}
    catalogues = {"en": {i: text for text, i in number.items()}}
    for code, texts in raw.items():
        clean: dict[str, int] = {}
        for source, text in texts.items():
            if english[source] and (text := _clean(text)):
                clean.setdefault(text, number[english[source]])
        numbered = {i: text for text, i in clean.items()}
        if sum(map(len, numbered.values())) >= _ENOUGH:
            catalogues[code] = dict(sorted(numbered.items()))
    return catalogues


def _read_catalogue(file: Path) -> Iterator[tuple[str, str]]:
    read_mo = require("babel.messages.mofile", "multilingual").read_mo
    with open(file, "rb") as opened:
        for message in read_mo(opened):
            if (
                isinstance(message.id, str)
                and message.id
                and isinstance(message.string, str)
                and message.string
            ):
                yield message.id, message.string


def _clean(text: str) -> str:
    """Plain words in one line; empty where few characters, or hardly any letters, are left."""
    text = _CODE.sub(" ", text)
    text = re.sub(
        r"""(?<!\w)['’]|['’](?!\w)|["«»“”„()（）「」]|:(?=\s|$)""", " ", text
    )  # quotes, not apostrophes
    text = re.sub(r"\s+(?=[,.;!?])", "", " ".join(text.split())).strip(" ,;-")
    # Not isalpha(): the vowel signs of Hindi are marks.
    words = sum(unicodedata.category(c)[0] in "LMZ" for c in text)
    return text if len(text) >= 4 and words >= 0.8 * len(text) else ""
