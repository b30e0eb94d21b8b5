"""Photographs, one slice of a head and one map of heights, whole or as patches.

Patches of one picture are split by place: vertical strips with an unused strip between them, so that no pixel
and no edge runs from one split into another.
"""

import gzip
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, package_file, require

__all__ = ["elevation_map", "mri_slice", "photo"]
__numerics__ = 1

_PHOTOS = {
    "china": ("sklearn", "datasets", "images", "china.jpg"),
    "flower": ("sklearn", "datasets", "images", "flower.jpg"),
    "grace_hopper": ("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg"),
}
_SAMPLE = ("matplotlib", "mpl-data", "sample_data")


def photo(name: str) -> Float[Tensor, "3 h w"]:
    """A colour photograph with values in [0, 1].

    Args:
        name: ``"china"`` (the Summer Palace, 427 x 640) and ``"flower"`` (427 x 640) ship with scikit-learn
            under CC BY 2.0; ``"grace_hopper"`` (600 x 512, by the US Navy, public domain) with matplotlib.

    Raises:
        ValueError: for another name.
        ImportError: where pillow is not installed.

    >>> photo("china").shape
    torch.Size([3, 427, 640])
    """
    if name not in _PHOTOS:
        raise ValueError(f"no photo is called {name!r}; there are {', '.join(_PHOTOS)}")
    image = require("PIL.Image", "photos")
    with image.open(package_file(*_PHOTOS[name])) as file:
        pixels = np.asarray(file.convert("RGB"))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def mri_slice() -> Float[Tensor, "1 h w"]:
    """One magnetic-resonance slice through a head, 256 x 256, scaled to [0, 1] by the largest 16-bit value.

    >>> mri_slice().shape
    torch.Size([1, 256, 256])
    """
    with gzip.open(package_file(*_SAMPLE, "s1045.ima.gz")) as file:
        pixels = np.frombuffer(file.read(), "<u2").reshape(1, 256, 256)
    return torch.tensor(pixels.astype("float32") / 65535)


def elevation_map() -> Float[Tensor, "1 h w"]:
    """Heights in metres around Jacksboro, Tennessee: 344 x 403 points, 3 seconds of arc (about 90 m) apart.

    >>> elevation_map().max()
    tensor(1076.)
    """
    with np.load(package_file(*_SAMPLE, "jacksboro_fault_dem.npz")) as file:
        return torch.tensor(file["elevation"].astype("float32"))[None]


@dataset(
    "photos",
    task="images",
    x="(n, 3, patch, patch) float32 in [0, 1]: patches of two colour photographs",
    y="(n,) int64: the photograph",
    licence="CC BY 2.0",
    source="china.jpg and flower.jpg, photographers named in scikit-learn's datasets/images/README.txt",
    extra="book",
)
def _photos(meta: Meta, patch: int = 32) -> Dataset:
    names = ("china", "flower")
    parts = [_strips(photo(name), patch) for name in names]
    splits = [
        Split(torch.cat(xs), torch.cat([torch.full((len(x),), i) for i, x in enumerate(xs)]))
        for xs in zip(*([x for x, _ in part] for part in parts), strict=True)
    ]
    return Dataset(*splits, replace(meta, classes=names))


@dataset(
    "mri",
    task="images",
    x="(n, 1, patch, patch) float32 in [0, 1]: patches of one slice through one head, empty patches left out",
    y="(n, 2) int64: row and column of the patch's upper left pixel",
    licence="distributed with matplotlib under its licence; origin not recorded there",
    source="s1045.ima of matplotlib's sample data. One person, one slice: nothing here is a medical result",
    extra="book",
)
def _mri(meta: Meta, patch: int = 8) -> Dataset:
    return Dataset(*(Split(x, y) for x, y in _strips(mri_slice(), patch)), meta)


@dataset(
    "elevation",
    task="images",
    x="(n, 1, patch, patch) float32: heights in metres above the sea",
    y="(n, 2) int64: row and column of the patch's upper left point",
    licence="distributed with matplotlib under its licence",
    source="jacksboro_fault_dem.npz of matplotlib's sample data: the Jacksboro fault, Tennessee",
    extra="book",
)
def _elevation(meta: Meta, patch: int = 16) -> Dataset:
    return Dataset(*(Split(x, y) for x, y in _strips(elevation_map(), patch)), meta)


def _strips(picture: Float[Tensor, "c h w"], patch: int) -> list[tuple[Tensor, Tensor]]:
    """Patches and their places: about 3/5 from the left, then 1/5, then 1/5, an unused column between."""
    _, height, width = picture.shape
    if not 4 <= patch <= min(height, width // 16):
        raise ValueError(
            f"patch={patch} is too small or cuts a picture of {height} x {width} into fewer than 16 columns; "
            f"choose 4 to {min(height, width // 16)}"
        )
    patches = (
        picture.unfold(1, patch, patch).unfold(2, patch, patch).permute(2, 1, 0, 3, 4)
    )  # (columns, rows, c, p, p)
    seen: set[bytes] = set()
    kept: list[list[int]] = []  # by column: rows of patches that are neither empty background nor seen before
    for column in patches:
        kept.append([])
        for row, content in enumerate(column):
            pixels = content.numpy().tobytes()
            if content.amin() < content.amax() and pixels not in seen:
                seen.add(pixels)
                kept[-1].append(row)
    share = np.cumsum([len(rows) for rows in kept]) / sum(len(rows) for rows in kept)
    cuts = [0, *(int(np.searchsorted(share, s)) + 1 for s in (0.6, 0.8)), len(kept)]
    parts = []
    for i in range(3):
        columns = range(cuts[i] + (i > 0), cuts[i + 1])
        places = torch.tensor([(row, column) for column in columns for row in kept[column]])
        parts.append((patches[places[:, 1], places[:, 0]].contiguous(), places * patch))
    return parts
