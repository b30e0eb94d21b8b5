"""Small classic tables and the 8x8 digits, read from the files that scikit-learn ships.

The files are read directly: importing scikit-learn takes about a second, reading the digits a twentieth.
"""

import gzip
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from course_lib.data.dataset import Dataset, Meta, Split, dataset, package_file, split_rows

__all__ = ["DIGITS_SIZES"]
__numerics__ = 1

DIGITS_SIZES = (1197, 200, 400)  # train, validation, test

_UCI = "copied from the UCI Machine Learning Repository; ships with scikit-learn"


@dataset(
    "digits",
    task="classification",
    x="(n, 1, 8, 8) float32 in [0, 1]: share of ink in each block of 4x4 pixels, seventeen levels",
    y="(n,) int64: the digit, 0 to 9",
    licence="CC BY 4.0",
    source=f"Alpaydin and Kaynak 1998, test half of 'Optical Recognition of Handwritten Digits', {_UCI}. "
    "Thirteen people wrote them; who wrote which is not recorded, so a hand may occur in several splits",
)
def _digits(meta: Meta) -> Dataset:
    table = _read("digits.csv.gz")
    x, y = table[:, :-1] / 16, table[:, -1].astype(int)
    x = x.reshape(-1, 1, 8, 8)
    return _assemble(replace(meta, classes=tuple("0123456789")), x, y, sizes=DIGITS_SIZES)


_CELLS = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
)
_CELLS += ("symmetry", "fractal dimension")


@dataset(
    "breast_cancer",
    task="classification",
    x="(n, 30) float32: ten measures of cell nuclei, each as mean, standard error and worst value",
    y="(n,) int64: 0 malignant, 1 benign",
    licence="CC BY 4.0",
    source=f"Wolberg, Mangasarian, Street and Street 1995, 'Breast Cancer Wisconsin (Diagnostic)', {_UCI}",
)
def _breast_cancer(meta: Meta) -> Dataset:
    features = [
        f"{form}{cell}{error}"
        for form, error in (("mean ", ""), ("", " error"), ("worst ", ""))
        for cell in _CELLS
    ]
    return _classes(meta, "breast_cancer.csv", features, ("malignant", "benign"))


@dataset(
    "wine",
    task="classification",
    x="(n, 13) float32: chemical analysis of a wine, in the units of its features (where recorded)",
    y="(n,) int64: which of three growers",
    licence="CC BY 4.0",
    source=f"Forina et al. 1988, 'Wine recognition data', {_UCI}",
)
def _wine(meta: Meta) -> Dataset:
    features = (
        "alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,nonflavanoid_phenols,"
    )
    features += "proanthocyanins,color_intensity,hue,od280/od315_of_diluted_wines,proline"
    return _classes(meta, "wine_data.csv", features.split(","), ("class_0", "class_1", "class_2"))


@dataset(
    "iris",
    task="classification",
    x="(n, 4) float32: lengths and widths of the flower's leaves, in centimetres",
    y="(n,) int64: which of three species",
    licence="CC BY 4.0",
    source=f"Fisher 1936, measured by Anderson, {_UCI}. One row occurs twice; both are in the same split",
)
def _iris(meta: Meta) -> Dataset:
    features = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
    return _classes(meta, "iris.csv", features, ("setosa", "versicolor", "virginica"))


@dataset(
    "diabetes",
    task="regression",
    x="(n, 10) float32: age, sex (1 or 2), body mass index, blood pressure, six blood values, not scaled",
    y="(n,) float32: progression of the disease after one year, 25 to 346, no unit",
    licence="not stated by its authors; distributed with scikit-learn (BSD 3-clause)",
    source="Efron, Hastie, Johnstone and Tibshirani 2004, 'Least Angle Regression'; ships with scikit-learn",
)
def _diabetes(meta: Meta) -> Dataset:
    x, y = _read("diabetes_data_raw.csv.gz", delimiter=None), _read("diabetes_target.csv.gz")
    features = ("age (years)", "sex", "bmi (kg/m2)", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
    return _assemble(replace(meta, features=features), x, y)


def _classes(meta: Meta, file: str, features: Any, classes: tuple[str, ...]) -> Dataset:
    table = _read(file, skiprows=1)
    meta = replace(meta, features=tuple(features), classes=classes)
    return _assemble(meta, table[:, :-1], table[:, -1].astype(int))


def _assemble(
    meta: Meta, x: np.ndarray, y: np.ndarray, sizes: tuple[float, ...] = (0.6, 0.2, 0.2)
) -> Dataset:
    inputs = torch.tensor(x, dtype=torch.float32)
    targets = torch.tensor(y, dtype=torch.int64 if y.dtype.kind == "i" else torch.float32)
    parts = split_rows(x, y if y.dtype.kind == "i" else None, sizes=sizes)
    return Dataset(*(Split(inputs[rows], targets[rows]) for rows in parts), meta)


def _read(file: str, *, delimiter: str | None = ",", skiprows: int = 0) -> np.ndarray:
    path = package_file("sklearn", "datasets", "data", file)
    with gzip.open(path, "rt") if file.endswith(".gz") else open(path, encoding="utf-8") as lines:
        return np.loadtxt(lines, delimiter=delimiter, skiprows=skiprows)
