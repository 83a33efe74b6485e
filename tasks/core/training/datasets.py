"""The data: loading, splitting, scaling, and the order in which rows are visited."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.own import ArrayFile, Loaded, Scaling, Task
from tasks.core.design.settings import REAL, CsvFile, Data, Split
from tasks.core.training import arrays, csv_file, seeds

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
DIGITS = frozenset("0123456789+-.eE")  # what a number is written with; `int` and `float` read others, too


@dataclass(frozen=True)
class Problem:
    """What a network has to learn, whatever the rows: the shape of a row of x, the outputs, and the task.

    outputs: how many classes, or how many real numbers, a network gives. positions: how many classes a row of y has, 0
    if y has one class a row. tokens: whether x holds whole numbers.
    """

    shape: tuple[int, ...]
    outputs: int
    task: Task = "classification"
    positions: int = 0
    tokens: bool = False

    @property
    def given(self) -> tuple[int, ...]:
        """The shape of what a network gives for one row."""
        return (self.positions, self.outputs) if self.positions else (self.outputs,)


@dataclass(frozen=True)
class Dataset:
    """A problem with its data.

    x: (rows, ...), real numbers as float64 or tokens as int64. y: the class of each row, 0 to classes - 1, (rows,), or
    of each position, (rows, positions), or real numbers as float64, (rows, outputs). features: the names of a table's
    columns. classes: 0 if y is real. held: how many of the last rows are the test rows; 0 if a seed decides.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    features: tuple[str, ...]
    classes: int
    scaling: Scaling = "feature"
    held: int = 0

    @property
    def problem(self) -> Problem:
        """What a network has to learn."""
        positions = self.y.shape[1] if self.classes and self.y.ndim > 1 else 0
        task: Task = "classification" if self.classes else "regression"
        tokens = bool(np.issubdtype(self.x.dtype, np.integer))
        return Problem(self.x.shape[1:], self.classes or self.y.shape[1], task, positions, tokens)

    @property
    def checksum(self) -> str:
        """Return the first 16 digits of the SHA-256 of x and y, and of what else decides about arrays."""
        digest = hashlib.sha256(np.ascontiguousarray(self.x).data)  # not of a copy, which may be large
        digest.update(np.ascontiguousarray(self.y).data)
        if not self.features:
            digest.update(repr((self.x.shape, self.x.dtype.str, self.y.dtype.str, self.held, self.scaling)).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Fold:
    """A dataset divided into train, validation and test rows: scaled inputs, and the classes or scaled real targets.

    There may be no validation rows. test_rows: the numbers of the test rows in the dataset. mean, scale: of the inputs,
    (features,) or as one row; scaled inputs are (x - mean) / scale, as float32. y_mean, y_scale: the same of real
    targets, (outputs,), whose mean is 0 and variance 1 over the train rows; 0 and 1 of classes.
    """

    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_validation: NDArray[Any]
    y_validation: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    test_rows: Ints
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    y_mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    y_scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))

    @property
    def real(self) -> bool:
        """Whether targets are real numbers."""
        return bool(np.issubdtype(self.y_train.dtype, np.floating))


_held: dict[Data, Dataset] = {}
_read: ContextVar[dict[Data, Dataset] | None] = ContextVar("read", default=None)


def hold(source: ArrayFile | Loaded, found: Dataset) -> None:
    """Keep a dataset for `load`: that of a function in this process, that of a file in a block of `read_once`."""
    kept = _held if isinstance(source, Loaded) else _read.get()
    if kept is not None:
        kept[source] = found


def holds(source: Loaded) -> bool:
    """Tell whether this process holds the dataset of a function."""
    return source in _held


@contextmanager
def read_once() -> Iterator[None]:
    """Have `load` read each file at most once until the end of the block, which then forgets the data."""
    before = _read.set({})
    try:
        yield
    finally:
        _read.reset(before)


def load(source: Data | str) -> Dataset:
    """Return a dataset: one that scikit-learn bundles, one in a file, or one that a function has returned.

    iris: 150 flowers, 4 measurements in cm, 3 species (Fisher, 1936). wine: 178 wines, 13 analyses, 3 growers.
    breast_cancer: 569 tumours, 30 features of cell nuclei, 2 diagnoses. digits: 1797 images of 8 × 8 pixels, 10 digits.
    diabetes: 442 patients, 10 features, a real number for the progression of the disease (Efron et al., 2004).

    Raises:
        LookupError: if a function's dataset is not held in this process, see `hold`.
        ValueError: if a file cannot be read, or does not hold numeric features and a target of two or more classes.

    >>> load("iris").x.shape, load("iris").classes
    ((150, 4), 3)
    """
    match source:
        case str():
            return _bundled(source)
        case CsvFile() | ArrayFile():
            known = _read.get()
            if known is None:
                return _from_file(source)
            if source not in known:
                known[source] = _from_file(source)
            return known[source]
    if source not in _held:
        raise LookupError(f"the dataset of {source.load} is not held in this process")
    return _held[source]


def of_arrays(source: ArrayFile | Loaded, where: str, found: arrays.Arrays) -> Dataset:
    """Return the dataset in arrays, (x, y) or (x, y, x_test, y_test); where: the file or function, for errors.

    Raises:
        ValueError: if the arrays do not fit together, or hold what no network can learn.
    """
    x, y, held, task = arrays.checked(source, where, found)
    name = where.replace("\\", "/").rpartition("/")[2].removesuffix(".npz")
    classes = int(y.max()) + 1 if task == "classification" else 0
    return Dataset(name, x, y, (), classes, arrays.scaling(source.scaling, x), held)


def unchanged(source: Data | str, checksum: str) -> None:
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
    names = tuple(map(str, bunch.feature_names))
    if name in REAL:
        return Dataset(name, bunch.data, bunch.target.astype(np.float64)[:, None], names, 0)
    return Dataset(name, bunch.data, bunch.target, names, len(bunch.target_names))


def _from_file(source: CsvFile | ArrayFile) -> Dataset:
    if isinstance(source, ArrayFile):
        return of_arrays(source, source.path, arrays.in_file(source))
    return _from_parquet(source) if source.parquet else _from_csv(source)


def _from_csv(source: CsvFile) -> Dataset:
    table = csv_file.read(source)
    return _labelled(source, table.x, _spelled(table.labels), table.names)


def _from_parquet(source: CsvFile) -> Dataset:
    x, target, names = arrays.parquet(source)
    if target.dtype.kind == "f":
        words = f"{source.target} holds real numbers; for regression, save x and y as .npz"
        raise ValueError(f"dataset.target must hold classes; {words}")
    return _labelled(source, x, _spelled([str(each) for each in target]), names)


def _labelled(source: CsvFile, x: NDArray[np.float64], labels: Sequence[str], names: tuple[str, ...]) -> Dataset:
    rows = Counter(labels)
    fewest = min(rows, key=lambda label: (rows[label], label))
    if len(rows) < 2 or rows[fewest] < 2:
        raise ValueError(
            f"dataset.target must hold two classes or more, with two rows or more of each; {source.target} has "
            f"{len(rows)}, of {fewest!r} {rows[fewest]} rows"
        )
    number = {label: at for at, label in enumerate(sorted(rows))}
    name = source.path.replace("\\", "/").rpartition("/")[2].removesuffix(".csv").removesuffix(".parquet")
    return Dataset(name, x, np.array([number[label] for label in labels]), names, len(number))


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
    rows = np.arange(len(dataset.y))
    train, test = rows[: len(rows) - dataset.held], rows[len(rows) - dataset.held :]
    if not dataset.held:
        train, test = _parted(dataset, split, rows, "test_fraction", _split_seed(split, seed))
    validation = train[:0]
    if split.validation_fraction:
        drawn = seeds.integer(seeds.stream(seeds.chosen(split.seed, seed), "validation"))
        train, validation = _parted(dataset, split, train, "validation_fraction", drawn)
    x, mean, scale = _scaled(dataset, dataset.x if split.scaler == "all" else dataset.x[train])
    y, y_mean, y_scale = _targets(dataset, train)
    parts = (x[train], y[train], x[validation], y[validation], x[test], y[test])
    return Fold(*parts, test, mean, scale, y_mean, y_scale)


def _scaled(dataset: Dataset, fitted: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Return the scaled inputs of all rows, with mean and scale of the rows to which the scaler is fitted."""
    from sklearn.preprocessing import StandardScaler

    x, nothing = dataset.x, (np.zeros(1), np.ones(1))
    if dataset.scaling == "none":
        return x if dataset.problem.tokens else x.astype(np.float32), *nothing
    if dataset.scaling == "feature":
        scaler = StandardScaler().fit(fitted.reshape(len(fitted), -1))
        scaled = scaler.transform(x.reshape(len(x), -1)).astype(np.float32).reshape(x.shape)
        return scaled, scaler.mean_.reshape(x.shape[1:]), scaler.scale_.reshape(x.shape[1:])
    channels = 1 if dataset.scaling == "channels_first" else x.ndim - 1
    others = tuple(axis for axis in range(x.ndim) if axis != channels)
    mean, scale = (each(fitted, axis=others, keepdims=True)[0] for each in (np.mean, np.std))
    scale = np.where(scale > 0, scale, 1.0)
    return ((x - mean) / scale).astype(np.float32), mean, scale


def _targets(dataset: Dataset, train: Ints) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Return the targets as a network learns them, with mean and scale over the train rows."""
    if dataset.classes:
        return dataset.y, np.zeros(1), np.ones(1)
    mean, scale = dataset.y[train].mean(0), dataset.y[train].std(0)
    scale = np.where(scale > 0, scale, 1.0)
    return ((dataset.y - mean) / scale).astype(np.float32), mean, scale


def _parted(dataset: Dataset, split: Split, rows: Ints, fraction: str, seed: int) -> tuple[Ints, Ints]:
    """Return rows in two parts, of which the second has the share that a field of the split says."""
    from sklearn.model_selection import train_test_split

    share, stratified = getattr(split, fraction), split.stratified and dataset.classes and dataset.y.ndim == 1
    labels = dataset.y[rows] if stratified else None
    _check_parts(dataset, labels, len(rows), fraction, share)
    kept, held = train_test_split(rows, test_size=share, stratify=labels, random_state=seed)
    return kept, held


def _check_parts(dataset: Dataset, labels: Ints | None, rows: int, fraction: str, share: float) -> None:
    """Check that each of two parts of the rows can have a row, or a row of each class; labels: if it must be of each.

    Raises:
        ValueError: if it cannot, with the shares that are allowed.
    """
    counts = [rows] if labels is None else [count for count in np.bincount(labels) if count]
    least, held = len(counts), ceil(share * rows)  # rows of the second part, as scikit-learn rounds them
    each = "a row" if labels is None else f"a row of each of the {least} classes of {dataset.name}"
    if min(counts) < 2:
        words = "the rarest class has 1" if labels is not None else "there is 1"
        raise ValueError(
            f"split.{fraction}: both parts must have {each}, but of the rows to split {words}; got {share}"
        )
    if not least <= held <= rows - least:
        low, high = ceil(1e4 * (least - 1) / rows + 1e-6) / 1e4, floor(1e4 * (1 - least / rows) + 1e-6) / 1e4
        allowed = f"of {rows} rows, shares from {low:g} to {high:g} do" if low <= high else f"{rows} rows are too few"
        raise ValueError(f"split.{fraction}: both parts must have {each}; {allowed}; got {share}")


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
