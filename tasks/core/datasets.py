"""The data: loading, splitting, scaling, and the order in which rows are visited."""

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tasks.core import seeds
from tasks.core.study import Split

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


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
        """Return the start of the SHA-256 of every number in it."""
        return hashlib.sha256(self.x.tobytes() + self.y.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Fold:
    """One division of a dataset: scaled float32 features and labels, and which rows the test ones were."""

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints
    test_rows: Ints


@cache
def load(name: str) -> Dataset:
    """Return a dataset that scikit-learn bundles.

    Iris: 150 flowers, 4 measurements in cm, 3 species (Fisher, 1936).
    """
    from sklearn import datasets  # seconds to import, and only training and publishing need it

    bunch = getattr(datasets, f"load_{name}")()
    return Dataset(name, bunch.data, bunch.target, tuple(bunch.feature_names), len(bunch.target_names))


def divide(dataset: Dataset, split: Split, seed: int) -> Fold:
    """Split and scale a dataset; the same split and seed give the same fold in every backend.

    Raises:
        ValueError: if a part would be empty or, stratified, too small for every class.
    """
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    try:
        train, test = train_test_split(
            np.arange(len(dataset.y)),
            test_size=split.test_fraction,
            stratify=dataset.y if split.stratified else None,
            random_state=seeds.integer(seeds.stream(seed, "split")) if split.seed == "cell" else split.seed,
        )
    except ValueError as error:
        raise ValueError(f"split.test_fraction: {error}; got {split.test_fraction}") from None
    scaler = StandardScaler().fit(dataset.x if split.scaler == "all" else dataset.x[train])
    x = scaler.transform(dataset.x).astype(np.float32)
    return Fold(x[train], dataset.y[train], x[test], dataset.y[test], test)


def visits(rows: int, epochs: int, seed: int, *, shuffle: bool) -> NDArray[np.int32]:
    """Return the row visited at each place of each epoch, (epochs, rows)."""
    order = np.tile(np.arange(rows, dtype=np.int32), (epochs, 1))
    if not shuffle:
        return order
    return np.random.default_rng(seeds.stream(seed, "order")).permuted(order, axis=1)
