"""Real cells whose truth is known, as arrays: what `python -m tests.calibration.draw` trained and committed.

The README of this folder says which sets of cells there are and how they were trained.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "cells"
STATUS = ("finished", "diverged")  # a cell's status is stored as a number, its place here


@dataclass(frozen=True)
class Cells:
    """A set of cells: rivals in rows, seeds in columns. Cells of one seed have the same split and order of rows.

    status: numbers of STATUS; values: by measure, (rivals, seeds) float32, as they were measured, so a diverged cell
    has values, too, which may be NaN; epochs_to_target is NaN where a cell missed the target.
    """

    rivals: tuple[str, ...]
    seeds: np.ndarray
    status: np.ndarray
    values: dict[str, np.ndarray]
    horizon: int
    test_rows: int

    @property
    def diverged(self):
        """Which cells diverged, (rivals, seeds)."""
        return self.status == STATUS.index("diverged")


def read(path) -> Cells:
    with np.load(path) as stored:
        arrays = dict(stored)
    own = {name: arrays.pop(name) for name in ("rivals", "seeds", "status", "horizon", "test_rows")}
    rivals = tuple(map(str, own["rivals"]))
    return Cells(rivals, own["seeds"], own["status"], arrays, int(own["horizon"]), int(own["test_rows"]))


def write(path, cells: Cells) -> None:
    own = {name: getattr(cells, name) for name in ("rivals", "seeds", "status", "horizon", "test_rows")}
    np.savez_compressed(path, allow_pickle=False, **own, **cells.values)


@cache
def cells(dataset, kind) -> Cells:
    """Return the committed cells of a dataset, `kind` being null, truth, holes or keras."""
    return read(FOLDER / f"{dataset}-{kind}.npz")


def values(dataset, kind, measure):
    """Return a measure as verdicts take it, (rivals, seeds) float64: NaN is a hole, a missed target the horizon.

    >>> values("iris", "null", "test_accuracy").shape
    (8, 2000)
    """
    found = cells(dataset, kind)
    array = found.values[measure].astype(np.float64)
    if measure == "epochs_to_target":
        return np.nan_to_num(array, nan=found.horizon)
    return np.where(found.diverged, np.nan, array)
