"""Two recordings over time, an electroencephalogram and share prices, cut into windows of past and future."""

import csv
from dataclasses import replace
from datetime import date

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.dataset import Dataset, Meta, Split, dataset, package_file

__all__ = ["eeg_recording", "stock_prices"]
__numerics__ = 1

_SAMPLE = ("matplotlib", "mpl-data", "sample_data")
_SERIES = ("IBM", "AAPL", "MSFT", "XRX", "ADBE", "^GSPC", "^IXIC")


def eeg_recording() -> Float[Tensor, "c t"]:
    """Electroencephalogram, channels PG3, PG5, PG7 and PG9: 800 samples in 10 seconds, unit not recorded.

    >>> eeg_recording().shape
    torch.Size([4, 800])
    """
    samples = np.fromfile(package_file(*_SAMPLE, "eeg.dat"), "<f8").reshape(800, 4)
    return torch.tensor(samples.T.astype("float32"))


def stock_prices() -> tuple[list[date], Float[Tensor, "c t"]]:
    """Prices in US dollars by month, 1990 to 2022: IBM, AAPL, MSFT, XRX, ADBE and two indices.

    Series that begin later, lines without prices and a last, incomplete month are left out.

    >>> dates, prices = stock_prices()
    >>> dates[0].isoformat(), prices.shape[0]
    ('1990-01-01', 7)
    """
    with open(package_file(*_SAMPLE, "Stocks.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    rows = [row for row in rows if row["Date"].endswith("-01") and all(row[s] for s in _SERIES)]
    prices = np.array([[float(row[s]) for row in rows] for s in _SERIES])
    return [date.fromisoformat(row["Date"]) for row in rows], torch.tensor(prices, dtype=torch.float32)


@dataset(
    "eeg",
    task="forecasting",
    x="(n, 4, length) float32: windows of four channels, 80 samples a second, in the file's own unit",
    y="(n, 4, horizon) float32: the samples that follow",
    licence="distributed with matplotlib under its licence; origin not recorded there",
    source="eeg.dat of matplotlib's sample data: 10 seconds of one recording, split in time",
    extra="book",
)
def _eeg(meta: Meta, length: int = 32, horizon: int = 8) -> Dataset:
    return Dataset(
        *_windows(eeg_recording(), length, horizon), replace(meta, features=("PG3", "PG5", "PG7", "PG9"))
    )


@dataset(
    "stocks",
    task="forecasting",
    x="(n, 7, length) float32: logarithm of the ratio of successive monthly prices, no unit",
    y="(n, 7, horizon) float32: the values that follow",
    licence="distributed with matplotlib under its licence; prices from Yahoo Finance",
    source="Stocks.csv of matplotlib's sample data, 1990 to 2022, split in time",
    extra="book",
)
def _stocks(meta: Meta, length: int = 12, horizon: int = 1) -> Dataset:
    returns = stock_prices()[1].double().log().diff().float()
    return Dataset(*_windows(returns, length, horizon), replace(meta, features=_SERIES))


def _windows(series: Float[Tensor, "c t"], length: int, horizon: int) -> list[Split]:
    """All windows inside the first 3/5, the next 1/5 and the last 1/5, with one window left out between."""
    total, span = series.shape[1], length + horizon
    cuts = [0, round(0.6 * total), round(0.8 * total), total]
    if min(length, horizon) < 1 or 2 * span > cuts[2] - cuts[1]:
        raise ValueError(
            f"length={length} and horizon={horizon} must be positive and, together, at most "
            f"{(cuts[2] - cuts[1]) // 2}: a fifth of the {total} samples has to hold a window and a gap"
        )
    splits = []
    for i in range(3):
        part = series[:, cuts[i] + (span if i else 0) : cuts[i + 1]]
        both = part.unfold(1, span, 1).transpose(0, 1).contiguous()  # (n, c, length + horizon)
        splits.append(Split(both[..., :length].clone(), both[..., length:].clone()))
    return splits
