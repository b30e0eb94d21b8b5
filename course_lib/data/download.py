"""MNIST, Fashion-MNIST and CIFAR-10: fetched when asked for, checked, and kept in the user's cache folder.

Only :func:`download` touches the network. After it, ``load("mnist")`` works like any other set.
"""

import contextlib
import gzip
import hashlib
import os
import sys
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from course_lib.cache import cache_folder
from course_lib.data.dataset import Dataset, Meta, Split, dataset, require, split_rows

__all__ = ["DownloadError", "data_folder", "download"]
__numerics__ = 1


class DownloadError(OSError):
    """No mirror gave the right file, or it could not be kept; says why for each mirror."""


@dataclass(frozen=True)
class _Remote:
    mirrors: tuple[str, ...]
    md5: dict[str, str]
    megabytes: int


_IDX = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz")
_IDX += ("t10k-labels-idx1-ubyte.gz",)

# The checksums are those that the sets' own pages or torchvision publish for these very files.
_REMOTE = {
    "mnist": _Remote(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
        {
            _IDX[0]: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            _IDX[1]: "d53e105ee54ea40749a09fcbcd1e9432",
            _IDX[2]: "9fb629c4189551a2d022fa330f9573f3",
            _IDX[3]: "ec29112dd5afa0611ce80d1b7f02629c",
        },
        12,
    ),
    "fashion_mnist": _Remote(
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        {
            _IDX[0]: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            _IDX[1]: "25c81989df183df01b3e8a0aad5dffbe",
            _IDX[2]: "bef4ecab320f06d8554ea6380940ec79",
            _IDX[3]: "bb300cfdad3c16e7a12a480ee83cd310",
        },
        31,
    ),
    # The binary version: the one for Python is a pickle, and opening a pickle runs what is in it.
    "cifar10": _Remote(
        ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/"),
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        170,
    ),
}


def data_folder() -> Path:
    """Where downloads are kept: the folder in ``COURSE_LIB_DATA``, or else ``data`` in the cache folder."""
    given = os.environ.get("COURSE_LIB_DATA")
    return Path(given) if given else cache_folder() / "data"


def download(name: str, *, progress: bool | None = None) -> Path:
    """Fetch a data set, check it, and keep it; what is there and whole is not fetched again.

    The mirrors are tried in turn. A file gets its name only when it is complete and its checksum is right.

    Args:
        name: ``"mnist"`` (12 MB), ``"fashion_mnist"`` (31 MB) or ``"cifar10"`` (170 MB).
        progress: show a bar for each file; None shows it in a terminal only.

    Returns:
        The folder with the files.

    Raises:
        ValueError: for another name.
        DownloadError: if no mirror gives the right file, or the disk is full or cannot be written.
        ImportError: where pooch is not installed.
    """
    if name not in _REMOTE:
        raise ValueError(f"{name!r} is not a set to download; there are {', '.join(_REMOTE)}")
    pooch = require("pooch", name, "download")
    folder = data_folder() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, md5 in _REMOTE[name].md5.items():
            if not _is_whole(folder / file, md5):
                (folder / file).unlink(missing_ok=True)
                show = sys.stderr.isatty() if progress is None else progress
                _fetch(pooch, _REMOTE[name].mirrors, folder / file, md5, show)
    except DownloadError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # if it is empty
        raise
    except OSError as error:
        raise DownloadError(
            f"cannot keep {name} in {folder}: {error}; it needs {_REMOTE[name].megabytes} MB; set "
            "COURSE_LIB_DATA to a folder with room"
        ) from error
    return folder


@dataset(
    "mnist",
    keep=False,
    task="classification",
    x="(n, 1, 28, 28) float32 in [0, 1]: handwritten digits",
    y="(n,) int64: the digit, 0 to 9",
    licence="CC BY-SA 3.0",
    source="LeCun, Cortes and Burges 1998; the official test set, validation taken from the training set",
    extra="download",
)
def _mnist(meta: Meta) -> Dataset:
    return _from_idx(replace(meta, classes=tuple("0123456789")))


@dataset(
    "fashion_mnist",
    keep=False,
    task="classification",
    x="(n, 1, 28, 28) float32 in [0, 1]: pictures of clothes",
    y="(n,) int64: the kind of clothes",
    licence="MIT (Zalando SE)",
    source="Xiao, Rasul and Vollgraf 2017; the official test set, validation taken from the training set",
    extra="download",
)
def _fashion_mnist(meta: Meta) -> Dataset:
    classes = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
    return _from_idx(replace(meta, classes=tuple(classes.split(","))))


@dataset(
    "cifar10",
    keep=False,
    task="classification",
    x="(n, 3, 32, 32) float32 in [0, 1]: small colour photographs",
    y="(n,) int64: what is to be seen",
    licence="not stated by its authors",
    source="Krizhevsky 2009; the official test set, validation taken from the training set",
    extra="download",
)
def _cifar10(meta: Meta) -> Dataset:
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    members = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    with tarfile.open(_folder_of(meta.name) / "cifar-10-binary.tar.gz") as archive:
        # Read inside the archive: nothing is unpacked to the disk.
        raw = [archive.extractfile(f"cifar-10-batches-bin/{member}").read() for member in members]
    rows = np.concatenate([np.frombuffer(part, np.uint8) for part in raw]).reshape(-1, 1 + 3 * 32 * 32)
    x, y = rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
    test = len(raw[-1]) // rows.shape[1]
    return _assemble(replace(meta, classes=classes), x[:-test], y[:-test], x[-test:], y[-test:])


def _from_idx(meta: Meta) -> Dataset:
    folder = _folder_of(meta.name)
    x, y, test_x, test_y = (_read_idx(folder / file) for file in _IDX)
    return _assemble(meta, x[:, None], y.astype(np.int64), test_x[:, None], test_y.astype(np.int64))


def _assemble(meta: Meta, x: np.ndarray, y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> Dataset:
    """A twelfth of the training rows becomes validation; those that the test set repeats are dropped."""
    tested = {row.tobytes() for row in test_x}
    fresh = np.array([row.tobytes() not in tested for row in x])
    x, y = x[fresh], y[fresh]
    rows = [part.numpy() for part in split_rows(x, y, sizes=(11 / 12, 1 / 12))]
    parts = [(x[rows[0]], y[rows[0]]), (x[rows[1]], y[rows[1]]), (test_x, test_y)]
    return Dataset(*(Split(torch.from_numpy(a).float() / 255, torch.from_numpy(b)) for a, b in parts), meta)


def _read_idx(path: Path) -> np.ndarray:
    """The format of MNIST: two zeros, the type, the number of axes, their sizes (big-endian), the values."""
    with gzip.open(path) as file:
        content = file.read()
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape.tolist()).copy()


def _folder_of(name: str) -> Path:
    """The folder of a set whose files are all there and whole."""
    folder, remote = data_folder() / name, _REMOTE[name]
    how = f'from course_lib.data.download import download; download("{name}")'
    for file, md5 in remote.md5.items():
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{name} is not on this machine (no file {folder / file}); fetch its {remote.megabytes} MB "
                f"once: {how}"
            )
        if not _is_whole(folder / file, md5):
            (folder / file).unlink()
            raise ValueError(f"{folder / file} was damaged and has been removed; fetch it again: {how}")
    return folder


def _is_whole(path: Path, md5: str) -> bool:
    if not path.is_file():
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == md5


def _fetch(pooch: ModuleType, mirrors: tuple[str, ...], path: Path, md5: str, progress: bool) -> None:
    refused = require("requests", "download", "download").exceptions.RequestException
    reasons = []
    for mirror in mirrors:
        try:
            # pooch writes beside the target, checks, and moves: no half a file ever has the name.
            pooch.retrieve(
                mirror + path.name,
                known_hash=f"md5:{md5}",
                fname=path.name,
                path=path.parent,
                downloader=pooch.HTTPDownloader(progressbar=progress, timeout=30),
            )
            return
        except refused as error:
            reasons.append(f"{mirror}: {_short(error)}")
        except ValueError:
            reasons.append(f"{mirror}: the file has another checksum than {md5}")
    raise DownloadError(
        f"cannot download {path.name}; nothing was kept of it. Tried\n  " + "\n  ".join(reasons) + "\n"
        "Check the connection, or put the file into " + str(path.parent)
    )


def _short(error: Exception) -> str:
    """The cause at the bottom, without the address, which is said already."""
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return f"{type(error).__name__}: {str(cause)[:160]}"
