"""What cells are measured by, and the table that holds one row for each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.study import CellMeasure, MarginMeasure, Study, short

CELL_COLUMNS = (
    "study",
    "backend",
    "initializer",
    "seed",
    "status",
    "verdict",
    *get_args(CellMeasure),
    "train_seconds",
    "horizon",
    "test_rows",
    "run_id",
    "reason",
)
"""One row a cell, the factors' columns behind the backend. epochs_to_target is empty where the target was missed in
the horizon, the epochs trained; a failed cell has a reason, no measures."""


@dataclass(frozen=True)
class Measure:
    """What cells are compared by.

    margin: the difference that is too small to matter, unless a study says otherwise; None if there is no such number.
    step: what it moves in, 0 if it is continuous; largest: what it cannot exceed, as it cannot be below 0.
    """

    name: MarginMeasure
    title: str
    unit: str
    higher_is_better: bool
    margin: float | None
    step: float = 0.0
    largest: float = np.inf


MEASURES = (
    Measure("test_accuracy", "test accuracy", "", True, None, largest=1.0),  # its step and margin are one test row
    Measure("test_loss", "test loss", "nat", False, 0.02),
    Measure("brier_score", "Brier score", "", False, 0.01, largest=2.0),
    Measure("epochs_to_target", "epochs to target", "epochs", False, 1.0, step=1.0),
    Measure("loss_area", "area under the test loss", "nat", False, 0.02),
    Measure("train_seconds", "train time", "s", False, None),
)
TITLES: dict[object, str] = {measure.name: measure.title for measure in MEASURES}
RANKED = ("test_accuracy", "test_loss")
"""The measures that rankings and headlines are about."""
RANKED_MEASURES = [measure for measure in MEASURES if measure.name in RANKED]


def measures(cells: pd.DataFrame, margins: Mapping[MarginMeasure, float] = MappingProxyType({})) -> list[Measure]:
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


def columns(study: Study) -> tuple[str, ...]:
    """Return the columns of a study's cells."""
    return (*CELL_COLUMNS[:2], *map(short, study.factors), *CELL_COLUMNS[2:])


def factors(cells: pd.DataFrame) -> list[str]:
    """Return the columns of cells that are factors."""
    return [name for name in cells.columns if name not in CELL_COLUMNS]
