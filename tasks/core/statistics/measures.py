"""The measures of cells: which values count, and what is too small to matter."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import CELLS, MEASURES, Measure


def measures(cells: pd.DataFrame, margins: Mapping[str, float] = MappingProxyType({})) -> list[Measure]:
    """Return the measures with the steps and margins that hold for cells of one level."""
    row = float(np.nan_to_num(1 / cells["test_rows"].max()))  # 0 where no cell was trained, or none recorded it
    horizon = float(cells["horizon"].max())
    accuracy, *others = MEASURES
    known = [
        replace(accuracy, step=row, margin=row),
        *(replace(each, largest=horizon) if each.name == "epochs_to_target" else each for each in others),
    ]
    return [replace(each, margin=margins.get(each.name, each.margin)) for each in known]


def values(cells: pd.DataFrame, measure: str) -> pd.Series:
    """Return a measure of each cell, NaN where its number means nothing, for it did not finish.

    Epochs to target are restricted to the horizon: their mean is the area under the curve of those that have yet to
    reach it (restricted mean survival time; Royston & Parmar, 2013), and one that diverged on the way stays a miss.
    """
    if measure == "epochs_to_target":
        restricted = cells["epochs_to_target"].fillna(cells["horizon"]).astype(float)
        return restricted.where(cells["status"] != "failed")
    return cells[measure].astype(float).where(cells["status"] == "finished")


def sample(cells: pd.DataFrame, measure: str) -> NDArray[np.float64]:
    """Return the independent values of a measure of one group: of train times one a batch, whose cells share it."""
    found = values(cells, measure).dropna()
    if measure == "epochs_to_target" and cells["epochs_to_target"].isna().all():
        return np.empty(0)  # nobody reached it: there is nothing to average
    return (found.drop_duplicates() if measure == "train_seconds" else found).to_numpy(np.float64)


def best(cells: pd.DataFrame, backend: str) -> int | None:
    """Return the place of a backend's best finished cell, by test accuracy, then test loss; None if none finished."""
    finished = cells[(cells["backend"] == backend) & (cells["status"] == "finished")]
    ranked = finished.sort_values(["test_accuracy", "test_loss"], ascending=[False, True], kind="stable")
    return None if ranked.empty else list(cells.index).index(ranked.index[0])


def factors(cells: pd.DataFrame) -> list[str]:
    """Return the columns of cells that are factors."""
    return [name for name in cells.columns if name not in CELLS]


def lucky(comparison: pd.DataFrame) -> pd.Series:
    """Tell which groups of a comparison are left with less than half of their cells."""
    return 2 * comparison["finished"] < comparison[["finished", "diverged", "failed"]].sum(axis=1)
