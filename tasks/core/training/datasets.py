"""The data: loading, splitting, scaling, and the order in which rows are visited."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.settings import CsvFile, Split
from tasks.core.training import csv_file, seeds

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
DIGITS = frozenset("0123456789+-.eE")  # what a number is written with; `int` and `float` read others, too


@dataclass(frozen=True)
class Dataset:
    """A classification problem: x is (rows, features) float64, y the class of each row, 0 to classes - 1."""

    name: str
    x: NDArray[np.float64]
    y: Ints
    features: tuple[str, ...]
    classes: int

    @property
    def checksum(self) -> str:
        """Return the first 16 digits of the SHA-256 of all features and classes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x).data)  # not of a copy, which may be large
        digest.update(np.ascontiguousarray(self.y).data)
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Fold:
    """A dataset divided into train, validation and test rows: scaled features as float32, and the classes.

    There may be no validation rows. test_rows: the numbers of the test rows in the dataset. mean, scale: both
    (features,); scaled features are (x - mean) / scale.
    """

    x_train: Floats
    y_train: Ints
    x_validation: Floats
    y_validation: Ints
    x_test: Floats
    y_test: Ints
    test_rows: Ints
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]


def load(source: str | CsvFile) -> Dataset:
    """Return a dataset that scikit-learn bundles, or the dataset in a CSV file.

    iris: 150 flowers, 4 measurements in cm, 3 species (Fisher, 1936). wine: 178 wines, 13 analyses, 3 growers.
    breast_cancer: 569 tumours, 30 features of cell nuclei, 2 diagnoses. digits: 1797 images of 8 × 8 pixels, 10 digits.

    Raises:
        ValueError: if a file cannot be read, or does not hold numeric features and a target of two or more classes.

    >>> load("iris").x.shape, load("iris").classes
    ((150, 4), 3)
    """
    return _bundled(source) if isinstance(source, str) else _from_csv(source)


def unchanged(source: str | CsvFile, checksum: str) -> None:
    """Check that a dataset still has the checksum that it had when its cells were planned.

    Raises:
        ValueError: if the checksum is another one: cells must be recorded under the key of the data they trained on.
    """
    if load(source).checksum != checksum:
        raise ValueError("the dataset must stay as it is while cells are trained on it; it has changed")


@cache
def _bundled(name: str) -> Dataset:
    from sklearn import datasets  # seconds to import, and only training and publishing need it

    bunch = getattr(datasets, f"load_{name}")()
    return Dataset(name, bunch.data, bunch.target, tuple(map(str, bunch.feature_names)), len(bunch.target_names))


def _from_csv(source: CsvFile) -> Dataset:
    table = csv_file.read(source)
    rows = Counter(labels := _spelled(table.labels))
    fewest = min(rows, key=lambda label: (rows[label], label))
    if len(rows) < 2 or rows[fewest] < 2:
        raise ValueError(
            f"dataset.target must hold two classes or more, with two rows or more of each; {source.target} has "
            f"{len(rows)}, of {fewest!r} {rows[fewest]} rows"
        )
    number = {label: at for at, label in enumerate(sorted(rows))}
    name = source.path.replace("\\", "/").rpartition("/")[2].removesuffix(".csv")
    return Dataset(name, table.x, np.array([number[label] for label in labels]), table.names, len(number))


def _spelled(labels: Sequence[str]) -> list[str]:
    """Return labels in one spelling: if all are numbers, equal numbers are one class, however they are written.

    >>> _spelled(["1", "01", "2"]), _spelled(["1", "1.0", "2"]), _spelled(["1", "01", "None"])
    (['1', '1', '2'], ['1.0', '1.0', '2.0'], ['1', '01', 'None'])
    """
    if DIGITS.issuperset("".join(labels)):
        for kind in (int, float):
            with suppress(ValueError):
                return [str(kind(label)) for label in labels]
    return list(labels)


def counting(dataset: Dataset) -> list[str]:
    """Return the features that are whole numbers which rise from each row to the next, as the number of a row does.

    >>> counting(Dataset("mine", np.array([[1, 5], [2, 7], [3, 6.0]]), np.array([0, 1, 0]), ("Id", "length"), 2))
    ['Id']
    """
    rises = (np.diff(dataset.x, axis=0) > 0).all(axis=0) & (dataset.x == np.round(dataset.x)).all(axis=0)
    return [name for name, rising in zip(dataset.features, rises, strict=True) if rising]


def divide(dataset: Dataset, split: Split, seed: int) -> Fold:
    """Split a dataset into train, validation and test rows, and scale its features; equal arguments give the same fold.

    The validation rows are taken from the train rows. They do not change which rows are test rows.

    Raises:
        ValueError: if a part would be empty or, with stratification, smaller than the classes.

    >>> fold = divide(load("iris"), Split(test_fraction=0.2, validation_fraction=0.25), seed=0)
    >>> fold.x_train.shape, fold.x_validation.shape, fold.x_test.shape
    ((90, 4), (30, 4), (30, 4))
    """
    from sklearn.preprocessing import StandardScaler

    train, test = _parted(dataset, split, np.arange(len(dataset.y)), "test_fraction", _split_seed(split, seed))
    validation = train[:0]
    if split.validation_fraction:
        drawn = seeds.integer(seeds.stream(seeds.chosen(split.seed, seed), "validation"))
        train, validation = _parted(dataset, split, train, "validation_fraction", drawn)
    scaler = StandardScaler().fit(dataset.x if split.scaler == "all" else dataset.x[train])
    x, y = scaler.transform(dataset.x).astype(np.float32), dataset.y
    parts = (x[train], y[train], x[validation], y[validation], x[test], y[test])
    return Fold(*parts, test, scaler.mean_, scaler.scale_)


def _parted(dataset: Dataset, split: Split, rows: Ints, fraction: str, seed: int) -> tuple[Ints, Ints]:
    """Return rows in two parts, of which the second has the share that a field of the split says."""
    from sklearn.model_selection import train_test_split

    share = getattr(split, fraction)
    try:
        kept, held = train_test_split(
            rows, test_size=share, stratify=dataset.y[rows] if split.stratified else None, random_state=seed
        )
    except ValueError as error:
        raise ValueError(f"split.{fraction}: {error}; got {share}") from None
    return kept, held


def _split_seed(split: Split, seed: int) -> int:
    """Return scikit-learn's random state for a split: a number that the study gives stays as it is."""
    if isinstance(split.seed, int):
        return split.seed
    return seeds.integer(seeds.stream(seeds.chosen(split.seed, seed), "split"))


def visits(rows: int, epochs: int, seed: int, *, shuffle: bool) -> NDArray[np.int32]:
    """Return the order in which each epoch visits the train rows, as row numbers: (epochs, rows).

    >>> visits(3, epochs=2, seed=0, shuffle=False).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    order = np.tile(np.arange(rows, dtype=np.int32), (epochs, 1))
    if not shuffle:
        return order
    return np.random.default_rng(seeds.stream(seed, "order")).permuted(order, axis=1)
