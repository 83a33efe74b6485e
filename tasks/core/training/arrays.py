"""Data of one's own: arrays from a NumPy file, a function or a Parquet file, and the checks that they have to pass."""

import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.design.float32 import LARGEST
from tasks.core.design.nearest import choice
from tasks.core.design.own import ArrayFile, Loaded, Scaling, Task
from tasks.core.design.settings import CsvFile

PARTS = ("x", "y", "x_test", "y_test")
DAMAGED = "it is damaged, or another kind of file"
TABLE = 2  # axes of a table: rows and features
Arrays = tuple[NDArray[Any], ...]
"""x and y, and perhaps x_test and y_test."""


def in_file(source: ArrayFile) -> Arrays:
    """Return the arrays in a .npz file.

    Raises:
        ValueError: if the file cannot be read, or has no x and y.
    """
    try:
        zipfile.ZipFile(source.path).close()  # NumPy would take what is no archive for a pickle
        with np.load(source.path, allow_pickle=False) as file:
            found: Mapping[str, NDArray[Any]] = {name: file[name] for name in PARTS if name in file}
            there = ", ".join(file) or "nothing"
    except OSError as error:
        raise ValueError(f"dataset.path must be a file that can be read; {source.path}: {error.strerror}") from None
    except Exception as error:  # a damaged archive raises errors of many kinds
        rule = "dataset.path must be a .npz file of arrays of numbers, as numpy.savez writes it"
        why = "arrays of objects are not unpickled" if "Object arrays" in str(error) else DAMAGED
        raise ValueError(f"{rule}; {source.path}: {why}") from None
    if tuple(found) not in (PARTS[:2], PARTS):
        raise ValueError(f"{source.path} must have x and y, and x_test with y_test or neither; it has {there}")
    return tuple(found.values())


def returned(reference: str, found: object) -> Arrays:
    """Return the arrays that a function has returned.

    Raises:
        ValueError: if it has returned anything else than two or four arrays.
    """
    parts = found if isinstance(found, tuple | list) else ()
    if len(parts) not in (2, len(PARTS)):
        raise ValueError(f"{reference} must return (x, y) or (x, y, x_test, y_test); it returned {_described(found)}")
    try:
        arrays = tuple(np.asarray(part) for part in parts)
    except ValueError as error:
        raise ValueError(f"{reference} must return arrays of numbers; {error}") from None
    for name, array in zip(PARTS, arrays, strict=False):
        if array.dtype == object:
            raise ValueError(f"{reference} must return arrays of numbers; its {name} is an array of objects")
    return arrays


def _described(found: object) -> str:
    return f"{len(found)} values" if isinstance(found, tuple | list) else type(found).__name__


def checked(source: ArrayFile | Loaded, where: str, arrays: Arrays) -> tuple[NDArray[Any], NDArray[Any], int, Task]:
    """Return x and y of all rows, how many of the last rows are the test rows (0: a seed decides), and the task.

    x: real numbers as float64, or tokens as int64. y: classes as int64, (rows,) or (rows, positions), or real numbers
    as float64, (rows, outputs). where: the file or the function, for errors.

    Raises:
        ValueError: if the arrays do not fit together, or hold what no network can learn.
    """
    for inputs, targets in zip(arrays[::2], arrays[1::2], strict=True):
        shapes = f"they are {inputs.shape} and {targets.shape}"
        if inputs.ndim < TABLE or targets.ndim not in (1, 2):
            raise ValueError(f"{where}: x must be (rows, ...) and y (rows,) or (rows, n); {shapes}")
        if len(inputs) != len(targets) or not len(inputs):
            raise ValueError(f"{where}: x and y must have equally many rows, and at least one; {shapes}")
        if not inputs.size or not targets.size:
            raise ValueError(f"{where}: rows of x and y must have one number or more; {shapes}")
    if len({array.shape[1:] for array in arrays[::2]}) > 1 or len({array.shape[1:] for array in arrays[1::2]}) > 1:
        raise ValueError(f"{where}: rows of x_test and y_test must have the shapes of those of x and y")
    x, y = (np.concatenate(arrays[at::2]) for at in (0, 1))
    task = source.task or ("regression" if np.issubdtype(y.dtype, np.floating) else "classification")
    return _inputs(where, x), _targets(where, y, task), len(arrays[2]) if len(arrays) > TABLE else 0, task


def _inputs(where: str, x: NDArray[Any]) -> NDArray[Any]:
    if np.issubdtype(x.dtype, np.integer) and x.dtype != np.uint8:
        if x.min() < 0:
            raise ValueError(f"{where}: tokens in x must not be negative; the smallest is {x.min()}")
        return x.astype(np.int64)
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ValueError(f"{where}: x must be real numbers or whole ones; it is of {x.dtype}")
    found = x.astype(np.float64)
    if not (np.abs(found) <= LARGEST).all():
        row = int(np.argmin((np.abs(found) <= LARGEST).reshape(len(found), -1).all(1)))
        raise ValueError(f"{where}: x must be numbers of at most {LARGEST:.2g} and no NaN; row {row} has another one")
    return found


def _targets(where: str, y: NDArray[Any], task: Task) -> NDArray[Any]:
    if not (np.issubdtype(y.dtype, np.number) or y.dtype == bool) or np.iscomplexobj(y):
        raise ValueError(f"{where}: y must be whole numbers, or real ones for regression; it is of {y.dtype}")
    if task == "regression":
        found = y.astype(np.float64).reshape(len(y), -1)
        if not (np.abs(found) <= LARGEST).all():
            raise ValueError(f"{where}: y must be finite numbers; one is not")
        if not found.std(0).all():
            raise ValueError(f"{where}: y must vary from row to row; all values of one output are equal")
        return found
    whole = y.astype(np.int64)
    classes = np.unique(whole)
    if (whole != y).any() or not np.array_equal(classes, np.arange(len(classes))):
        told = ", ".join(map(str, np.unique(y)[:5]))
        raise ValueError(f"{where}: classes in y must be 0, 1, 2 and so on, each of them there; y has {told}...")
    if len(classes) < 2:
        raise ValueError(f"{where}: y must have two classes or more; it has one")
    return whole


def scaling(given: Scaling | None, x: NDArray[Any]) -> Scaling:
    """Return what is scaled: what the study says or, if it says nothing, the features of a table of real numbers."""
    if np.issubdtype(x.dtype, np.integer):
        return "none"
    return given or ("feature" if x.ndim == TABLE else "none")


def parquet(source: CsvFile) -> tuple[NDArray[np.float64], Any, tuple[str, ...]]:
    """Return the features, the column of targets and the features' names in a Parquet file.

    Raises:
        ValueError: if the file cannot be read, lacks a column, or a feature is no number.
    """
    import pandas as pd
    from pyarrow.parquet import read_schema

    try:
        with open(source.path, "rb") as file:  # noqa: PTH123  # the core knows no paths
            names = read_schema(file).names
            table = pd.read_parquet(file) if len({*names}) == len(names) else None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or DAMAGED
        raise ValueError(f"dataset.path must be a Parquet file that can be read; {source.path}: {why}") from None
    if table is None:
        raise ValueError(f"columns of {source.path} must differ in their names; they are {', '.join(names)}")
    columns = [str(name) for name in table.columns]
    table.columns = pd.Index(columns)
    for setting, asked in (("target", [source.target]), ("exclude", [*source.exclude])):
        if gone := [name for name in asked if name not in columns]:
            rule = f"dataset.{setting} must be in {source.path}"
            raise ValueError(f"{rule}, which has no column {gone[0]!r}; {choice(gone[0], columns)}")
    names = [name for name in columns if name not in (source.target, *source.exclude)]
    if not names or not len(table):
        raise ValueError(f"{source.path} must have rows, and numeric features beside its target")
    if words := [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]:
        raise ValueError(f"features of {source.path} must be numbers; to leave columns out, say `exclude: {words}`")
    x = table[names].to_numpy(np.float64)
    if not (np.abs(x) <= LARGEST).all():
        name = names[int(np.argmin((np.abs(x) <= LARGEST).all(0)))]
        raise ValueError(
            f"features of {source.path} must be numbers of at most {LARGEST:.2g}; column {name} has another"
        )
    if table[source.target].isna().any():
        raise ValueError(f"{source.path} must have no empty field; column {source.target} has one")
    return x, table[source.target], tuple(names)
