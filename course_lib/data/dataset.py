"""What a data set is here: three fixed splits and a card that says what the numbers mean.

:func:`load` gives a set by name, :func:`names` lists them, :func:`describe` shows the card without loading
anything. Nothing here touches the network.
"""

import copy
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.optional import how_to_install

__all__ = [
    "Dataset",
    "Meta",
    "Split",
    "dataset",
    "describe",
    "load",
    "names",
    "package_file",
    "require",
    "split_rows",
]
__numerics__ = 1


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs ``x`` and targets ``y`` with one row per example; unpacks as ``x, y = split``.

    Attributes:
        x: inputs, rows along axis 0.
        y: targets, as many rows.
        lengths: valid entries along axis 1 of ``x``, where rows are padded; None where all are valid.

    >>> split = Split(torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0]))
    >>> len(split), split[1:].y
    (3, tensor([1, 0]))
    """

    x: Tensor
    y: Tensor
    lengths: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim == 0 or self.y.ndim == 0 or len(self.x) != len(self.y):
            raise ValueError(
                f"x and y need equally many rows, got shapes {tuple(self.x.shape)} and {tuple(self.y.shape)}"
            )

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.x, self.y))

    def __getitem__(self, rows: Any) -> "Split | tuple[Tensor, Tensor]":
        """One row as a pair for an integer (a torch ``DataLoader`` takes a split), else a smaller split."""
        if isinstance(rows, int):
            return self.x[rows], self.y[rows]
        return Split(self.x[rows], self.y[rows], None if self.lengths is None else self.lengths[rows])

    def __repr__(self) -> str:
        x, y = (f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in self)
        return f"Split(x: {x}, y: {y})"


@dataclass(frozen=True)
class Meta:
    """The card of a data set: what the numbers are, where they come from and who may use them.

    Attributes:
        name: what :func:`load` is asked for.
        task: what is usually done with it, such as ``"classification"``.
        x: shape, type and meaning of the inputs.
        y: the same of the targets.
        licence: of the data, not of this library.
        source: who made it, and which installed package holds it.
        extra: the extra of this package that installs what holds the data; empty if nothing more is needed.
        classes: names of the classes in the order of their numbers.
        features: names, with units, of the columns of ``x``.
        versions: of Python or packages whose release changes the content.
        options: what :func:`load` was called with.
    """

    name: str
    task: str
    x: str
    y: str
    licence: str
    source: str
    extra: str = ""
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = [(key, value) for key, value in vars(self).items() if value]
        return "\n".join(f"{key:9} {_plain(value)}" for key, value in rows)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits and their card. No row of one split occurs in another.

    >>> from course_lib.data import load
    >>> load("wine")
    Dataset('wine': train 107, validation 35, test 36; x (13,) float32, y () int64)
    """

    train: Split
    validation: Split
    test: Split
    meta: Meta

    @property
    def name(self) -> str:
        """The name under which it is loaded."""
        return self.meta.name

    @property
    def splits(self) -> dict[str, Any]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def standardised(self, *, targets: bool = False) -> "Dataset":
        """The same set with every column of ``x`` at mean 0 and deviation 1 **on the training rows**.

        Columns without spread are only centred. Validation and test are scaled by the training numbers.

        Args:
            targets: treat ``y`` in the same way (regression).

        >>> load("diabetes").standardised().train.x.std(0, correction=0).mean().round(decimals=4)
        tensor(1.)
        """
        x = _standardiser(self.train.x, "x")
        y = _standardiser(self.train.y, "y") if targets else (lambda t: t)
        return replace(self, **{k: Split(x(s.x), y(s.y), s.lengths) for k, s in self.splits.items()})

    def __repr__(self) -> str:
        sizes = ", ".join(f"{key} {len(split)}" for key, split in self.splits.items())
        x, y = (f"{tuple(t.shape[1:])} {str(t.dtype).removeprefix('torch.')}" for t in self.train)
        return f"{type(self).__name__}({self.name!r}: {sizes}; x {x}, y {y})"


@dataclass(frozen=True)
class _Source:
    meta: Meta
    make: Callable[..., Dataset]
    keep: bool


_sources: dict[str, _Source] = {}
_loaded: dict[tuple, Dataset] = {}


def dataset(
    name: str, *, keep: bool = True, **card: Any
) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Register a loader ``make(meta, **options) -> Dataset``.

    Args:
        name: what :func:`load` is asked for.
        keep: whether to keep what was read for the next call; not for sets that fill the memory.
        card: the other fields of :class:`Meta`.
    """

    def register(make: Callable[..., Dataset]) -> Callable[..., Dataset]:
        if name in _sources:
            raise ValueError(f"the data set {name!r} is registered twice")
        _sources[name] = _Source(Meta(name=name, **card), make, keep)
        return make

    return register


def names(*, downloads: bool = False) -> list[str]:
    """The names that :func:`load` knows without the network.

    Args:
        downloads: also those that have to be downloaded first.

    >>> "digits" in names(), "mnist" in names(), "mnist" in names(downloads=True)
    (True, False, True)
    """
    return sorted(name for name, source in _sources.items() if downloads or source.meta.extra != "download")


def describe(name: str) -> Meta:
    """The card of a set, without loading it.

    >>> describe("digits").licence
    'CC BY 4.0'
    """
    return _source(name).meta


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name: offline, with fixed splits, the same on every call.

    A set is read once per process; each call gives fresh copies of the tensors, so writing into them is safe.

    Args:
        name: one of :func:`names`.
        options: of this set, as its card and error messages say.

    Raises:
        ValueError: for an unknown name or option.
        ImportError: where the package that holds the data is not installed; names the extra to install.

    >>> load("digits").train
    Split(x: (1197, 1, 8, 8) float32, y: (1197,) int64)
    """
    source = _source(name)
    known = [key for key in inspect.signature(source.make).parameters if key != "meta"]
    for option in options:
        if option not in known:
            choice = f"its options are {', '.join(known)}" if known else "it has none"
            raise ValueError(f"the data set {name!r} has no option {option!r}; {choice}")
    key = (name, *sorted(options.items()))
    try:
        cached = key in _loaded
    except TypeError:
        raise ValueError(f"options must be plain values or tuples, got {options}") from None
    if cached:
        return copy.deepcopy(_loaded[key])
    made = source.make(replace(source.meta, options=dict(options)), **options)
    if source.keep:
        _loaded[key] = copy.deepcopy(made)
    return made


def split_rows(
    x: np.ndarray, y: np.ndarray | None = None, *, sizes: tuple[float, ...] = (0.6, 0.2, 0.2), seed: int = 0
) -> list[Tensor]:
    """Row numbers of each split: shuffled once for all, classes in proportion, equal rows kept together.

    The rows are ordered so that every prefix of a split holds the classes in proportion too: the first
    hundred rows are a fair small training set.

    Args:
        x: rows along axis 0; rows that are equal in every entry never fall into two splits.
        y: integer classes to keep in proportion, or None.
        sizes: shares, or whole numbers of rows, that add up to all rows.
        seed: of numpy's ``RandomState``, whose stream is fixed for good.

    >>> [len(rows) for rows in split_rows(np.arange(10.0)[:, None])]
    [6, 2, 2]
    """
    n = len(x)
    total = sum(sizes)
    cuts = [round(sum(sizes[:i]) * n / total) for i in range(1, len(sizes))]
    if (abs(total - 1) > 1e-9 and total != n) or min(np.diff([0, *cuts, n])) < 1:
        raise ValueError(f"sizes {sizes} must be positive and add up to 1 or to the {n} rows of the set")
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault(row.tobytes(), i) for i, row in enumerate(x)])  # the first equal row
    place = np.random.RandomState(seed).permutation(n)[first]
    share = np.empty(n)
    for label in [None] if y is None else np.unique(y[first]):
        members = np.arange(n) if y is None else np.flatnonzero(y[first] == label)
        # The rank within the class over the size of the class: sorting by it deals the classes out evenly.
        share[members] = (np.unique(place[members], return_inverse=True)[1] + 0.5) / len(members)
    order = np.lexsort((place, share))
    for i, cut in enumerate(cuts):
        while cut < n and first[order[cut - 1]] == first[order[cut]]:
            cut += 1
        cuts[i] = cut
    return [torch.from_numpy(rows.copy()) for rows in np.split(order, cuts)]


def require(module: str, name: str, extra: str = "book") -> ModuleType:
    """Import an optional package, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the data set {name!r}: {how_to_install(module.split('.')[0], extra)}") from error


def package_file(package: str, *path: str) -> Path:
    """A data file inside an installed package, found without importing it (which may take a second)."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(how_to_install(package))
    file = Path(spec.submodule_search_locations[0]).joinpath(*path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{package} is installed without its data file {'/'.join(path)} ({file}); some system packages "
            f"leave it out, the wheel from PyPI has it: pip install --force-reinstall {package}"
        )
    return file


def _source(name: str) -> _Source:
    if name not in _sources:
        close = difflib.get_close_matches(name, _sources, n=3, cutoff=0.5)
        hint = (
            f"; did you mean {', '.join(close)}?"
            if close
            else f"; known are {', '.join(names(downloads=True))}"
        )
        raise ValueError(f"no data set is called {name!r}{hint}")
    return _sources[name]


def _standardiser(train: Tensor, what: str) -> Callable[[Tensor], Tensor]:
    if not train.is_floating_point():
        raise ValueError(f"{what} is {train.dtype}: only floating-point columns can be standardised")
    mean, spread = train.mean(0), train.std(0, correction=0)
    varies = train.amax(0) > train.amin(0)  # rounding gives a constant column a tiny spread
    return lambda t: (t - mean) / torch.where(varies, spread, 1.0)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return str(value)
