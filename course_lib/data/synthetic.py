"""Tasks made on the spot, whose answer is known exactly.

Generators take a ``seed``; :func:`~course_lib.data.dataset.load` makes the three splits from three seeds.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, load

__all__ = [
    "bars_and_stripes",
    "cue_tokens",
    "flip_signs",
    "majority",
    "multi_label_cues",
    "object_patterns",
    "pixel_shift",
    "random_patterns",
]
__numerics__ = 1

OBJECT_PATTERNS = ("AAA", "AAB", "ABA", "ABB", "ABC")


def bars_and_stripes(size: int = 3) -> Float[Tensor, "n d"]:
    """All 2^(size+1) - 2 pictures of ``size`` x ``size`` pixels made of whole rows, or of whole columns.

    >>> bars_and_stripes(2)
    tensor([[0., 0., 0., 0.],
            [0., 0., 1., 1.],
            [0., 1., 0., 1.],
            [1., 0., 1., 0.],
            [1., 1., 0., 0.],
            [1., 1., 1., 1.]])
    """
    _positive(size=size)
    on = torch.arange(2**size)[:, None] >> torch.arange(size) & 1  # (2^size, size): which bars are there
    rows = on[:, :, None].expand(-1, -1, size)
    both = torch.cat([rows, rows.transpose(1, 2)]).reshape(-1, size * size)
    return torch.unique(both, dim=0).float()


def random_patterns(n: int, dim: int, *, seed: int = 0) -> Float[Tensor, "n d"]:
    """``n`` rows of ``dim`` random signs, +1 or -1 with equal chance: what an associative memory stores.

    >>> random_patterns(2, 6).abs().sum()
    tensor(12.)
    """
    _positive(n=n, dim=dim)
    return torch.randint(2, (n, dim), generator=_generator(seed)).float() * 2 - 1


def flip_signs(patterns: Float[Tensor, "n d"], share: float, *, seed: int = 0) -> Float[Tensor, "n d"]:
    """A copy in which exactly ``round(share * d)`` random entries of each row change sign.

    >>> x = random_patterns(3, 20)
    >>> (flip_signs(x, 0.15) != x).sum(1)
    tensor([3, 3, 3])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    n, dim = patterns.shape
    chosen = torch.rand(n, dim, generator=_generator(seed)).argsort(1)[:, : round(share * dim)]
    return patterns.scatter(1, chosen, -patterns.gather(1, chosen))


def majority(n: int, *, classes: int = 5, length: int = 30, seed: int = 0) -> Split:
    """Sequences of random classes; the target, at every position, is the class that occurs most often.

    Each sequence favours some classes a little; one whose most frequent class is not unique is drawn again.

    Args:
        n: number of sequences.
        classes: number of different tokens.
        length: tokens of a sequence.
        seed: of all random numbers.

    Shape:
        x ``(n, length)`` int64, y ``(n, length)`` int64, the same number along a row.

    >>> x, y = majority(4, classes=3, length=7)
    >>> bool((y[:, 0] == x.mode(1).values).all())
    True
    """
    _positive(n=n, classes=classes, length=length)
    if classes < 2:
        raise ValueError(f"a majority needs at least 2 classes, got {classes}")
    g = _generator(seed)
    kept: list[Tensor] = []
    while sum(map(len, kept)) < n:
        chances = torch.rand(n, classes, generator=g) + 0.5
        x = torch.multinomial(chances, length, replacement=True, generator=g)
        top = torch.nn.functional.one_hot(x, classes).sum(1).topk(2).values
        kept.append(x[top[:, 0] > top[:, 1]])
    x = torch.cat(kept)[:n]
    return Split(x, x.mode(1, keepdim=True).values.expand(n, length).clone())


def cue_tokens(labels: int = 6, cues: int = 3) -> Int64[Tensor, "l c"]:
    """The tokens that announce each label in :func:`multi_label_cues`: some numbers per label, none shared.

    >>> cue_tokens(2, 3)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return torch.arange(labels * cues).reshape(labels, cues)


def multi_label_cues(
    n: int, *, labels: int = 6, cues: int = 3, tokens: int = 40, length: int = 24, seed: int = 0
) -> Split:
    """Sequences in which each label is present with chance 1/2 and then shows one or two of its tokens.

    All other places hold tokens that belong to no label; the places are random.

    Args:
        n: number of sequences.
        labels: number of labels; each present or absent on its own.
        cues: private tokens of a label, see :func:`cue_tokens`.
        tokens: number of different tokens; those from ``labels * cues`` on mean nothing.
        length: tokens of a sequence.
        seed: of all random numbers.

    Shape:
        x ``(n, length)`` int64, y ``(n, labels)`` float32 of zeros and ones.

    >>> x, y = multi_label_cues(100)
    >>> x.shape, y.mean(0).min() > 0.3
    (torch.Size([100, 24]), tensor(True))
    """
    _positive(n=n, labels=labels, cues=cues, length=length)
    if tokens <= labels * cues or length < 2 * labels:
        raise ValueError(
            f"{labels} labels with {cues} cues need more than {labels * cues} tokens and a length of at "
            f"least {2 * labels}, got tokens={tokens} and length={length}"
        )
    g = _generator(seed)
    x = torch.randint(labels * cues, tokens, (n, length), generator=g)
    present = torch.rand(n, labels, generator=g) < 0.5
    shown = torch.randint(cues, (n, labels, 2), generator=g) + torch.arange(labels)[:, None] * cues
    twice = torch.rand(n, labels, generator=g) < 0.5
    # Two random places per label, no place twice; a label that is absent leaves its places alone.
    places = torch.rand(n, length, generator=g).argsort(1)[:, : 2 * labels]
    writes = torch.stack([present, present & twice], -1).reshape(n, -1)
    x.scatter_(1, places, torch.where(writes, shown.reshape(n, -1), x.gather(1, places)))
    return Split(x, present.float())


def object_patterns(n: int, *, dim: int = 16, pool: int | None = None, seed: int = 0) -> Split:
    """Three objects (vectors) in a row; the class is which of them are equal: AAA, AAB, ABA, ABB or ABC.

    Args:
        n: number of rows; the classes take turns.
        dim: entries of an object, independent and normal.
        pool: number of different objects to draw from; None draws fresh objects for every row.
        seed: of all random numbers; other seeds give other objects.

    Shape:
        x ``(n, 3, dim)`` float32, y ``(n,)`` int64.

    >>> x, y = object_patterns(5)
    >>> y.tolist(), bool((x[1, 0] == x[1, 1]).all()), bool((x[1, 0] == x[1, 2]).any())
    ([0, 1, 2, 3, 4], True, False)
    """
    _positive(n=n, dim=dim)
    if pool is not None and pool < 3:
        raise ValueError(f"the class ABC needs a pool of at least 3 objects, got {pool}")
    g = _generator(seed)
    if pool is None:
        objects = torch.randn(n, 3, dim, generator=g)
    else:
        chosen = torch.rand(n, pool, generator=g).argsort(1)[:, :3]  # three different ones
        objects = torch.randn(pool, dim, generator=g)[chosen]
    y = torch.arange(n) % len(OBJECT_PATTERNS)
    which = torch.tensor([["ABC".index(letter) for letter in pattern] for pattern in OBJECT_PATTERNS])[y]
    return Split(objects.gather(1, which[:, :, None].expand(-1, -1, dim)), y)


def pixel_shift(images: Float[Tensor, "n c h w"], shift: int = 2) -> Split:
    """Images and, as targets, what stands ``shift`` columns further left; 0 where that is outside.

    >>> pixel_shift(torch.arange(4.0).reshape(1, 1, 1, 4), shift=1).y
    tensor([[[[0., 0., 1., 2.]]]])
    """
    if not 1 <= shift < images.shape[-1]:
        raise ValueError(
            f"shift must be between 1 and {images.shape[-1] - 1} for images of width {images.shape[-1]}"
        )
    y = torch.zeros_like(images)
    y[..., shift:] = images[..., :-shift]
    return Split(images, y)


_MADE = {"licence": "MIT (made by this package)"}


@dataset(
    "majority",
    task="classification of sequences",
    x="(n, length) int64: tokens",
    y="(n, length) int64: the most frequent token of the row, repeated",
    source="our own generator, after 'On the Expressivity Role of LayerNorm in Transformers' Attention'",
    **_MADE,
)
def _majority(meta: Meta, n: int = 2000, classes: int = 5, length: int = 30, seed: int = 0) -> Dataset:
    meta = replace(meta, classes=tuple(map(str, range(classes))))
    return _three(meta, n, seed, lambda n, seed: majority(n, classes=classes, length=length, seed=seed))


@dataset(
    "multi_label_cues",
    task="classification with several labels",
    x="(n, length) int64: tokens",
    y="(n, labels) float32: 1 where the label is present",
    source="our own generator",
    **_MADE,
)
def _multi_label_cues(
    meta: Meta,
    n: int = 2000,
    labels: int = 6,
    cues: int = 3,
    tokens: int = 40,
    length: int = 24,
    seed: int = 0,
) -> Dataset:
    sizes = {"labels": labels, "cues": cues, "tokens": tokens, "length": length}
    return _three(meta, n, seed, lambda n, seed: multi_label_cues(n, **sizes, seed=seed))


@dataset(
    "object_patterns",
    task="classification",
    x="(n, 3, dim) float32: three objects; no object occurs in two splits",
    y="(n,) int64: which of the three are equal",
    source="our own generator",
    **_MADE,
)
def _object_patterns(
    meta: Meta, n: int = 1000, dim: int = 16, pool: int | None = None, seed: int = 0
) -> Dataset:
    meta = replace(meta, classes=OBJECT_PATTERNS)
    return _three(meta, n, seed, lambda n, seed: object_patterns(n, dim=dim, pool=pool, seed=seed))


@dataset(
    "pixel_shift",
    task="regression",
    x="(n, 1, 8, 8) float32 in [0, 1]: the digits",
    y="(n, 1, 8, 8) float32: the same, shifted to the right by some columns",
    licence="CC BY 4.0",
    source="made from the data set 'digits', with its splits",
)
def _pixel_shift(meta: Meta, shift: int = 2) -> Dataset:
    return Dataset(*(pixel_shift(split.x, shift) for split in load("digits").splits.values()), meta)


def _three(meta: Meta, n: int, seed: int, make: Callable[[int, int], Split]) -> Dataset:
    """``n``, 500 and 1000 rows from three seeds; a row of an earlier split does not come again."""
    seen: set[bytes] = set()
    splits = []
    for i, size in enumerate((n, 500, 1000)):
        split = make(size, 3 * seed + i)
        rows = [row.numpy().tobytes() for row in split.x]
        splits.append(split[torch.tensor([row not in seen for row in rows])])
        seen.update(rows)
    return Dataset(*splits, meta)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
