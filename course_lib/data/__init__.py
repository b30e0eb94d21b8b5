"""Data sets that need no network: real ones from installed packages, and generators; a few to download.

>>> from course_lib.data import load
>>> x, y = load("digits").train
>>> x.shape, y.shape
(torch.Size([1197, 1, 8, 8]), torch.Size([1197]))
"""

# Importing a module registers its data sets.
from course_lib.data import (
    actions,
    canvas,
    corpora,
    download,
    graphs,
    mnist1d,
    multilingual,
    pictures,
    signals,
    synthetic,
    tables,
)
from course_lib.data.dataset import Dataset, Meta, Split, describe, load, names
from course_lib.data.text import Text, TextDataset

__all__ = [
    "Dataset",
    "Meta",
    "Split",
    "Text",
    "TextDataset",
    "actions",
    "canvas",
    "corpora",
    "describe",
    "download",
    "graphs",
    "load",
    "mnist1d",
    "multilingual",
    "names",
    "pictures",
    "signals",
    "synthetic",
    "tables",
]
