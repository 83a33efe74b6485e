"""The values of measures: which cells have one, how far apart two values are before the difference matters.

`tasks/core/design/columns.py` defines the measures themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from tasks.core.design.columns import CELLS, MEASURES, Measure
from tasks.core.statistics.inference import Array


def measures(cells: pd.DataFrame, margins: Mapping[str, float] = MappingProxyType({})) -> list[Measure]:
    """Return the measures with the steps, margins and largest values that hold for cells of one level.

    A measure that is a share of the test rows is a multiple of 1 / test_rows, so this is its step, and without another
    margin also its margin. A censored measure is at most the horizon, which is the number of epochs trained.

    >>> cells = pd.DataFrame({"test_rows": [30.0], "horizon": [20]})
    >>> accuracy, loss, *_ = measures(cells, {"test_loss": 0.05})
    >>> round(accuracy.margin, 4), loss.margin
    (0.0333, 0.05)
    """
    row = float(np.nan_to_num(1 / cells["test_rows"].max()))  # 0 where no cell recorded its test rows
    horizon = float(cells["horizon"].max())
    return [_known(each, margins.get(each.name), row, horizon) for each in MEASURES]


def _known(measure: Measure, margin: float | None, row: float, horizon: float) -> Measure:
    """Return a measure of cells, given the margin that the study sets, 1 / test_rows and the horizon."""
    if measure.step_is_a_test_row:
        measure = replace(measure, step=row, margin=row)
    if measure.censored:
        measure = replace(measure, largest=horizon)
    return measure if margin is None else replace(measure, margin=margin)


def values(cells: pd.DataFrame, measure: Measure) -> pd.Series:
    """Return a measure of each cell, NaN where the cell did not finish.

    A censored measure, such as the epochs to the target, is restricted to the horizon: a cell that missed the target
    counts as having taken all epochs. The mean of these values is the area under the curve of the share of cells that
    have yet to reach the target (restricted mean survival time; Royston & Parmar, 2013). A cell that diverged on the
    way counts as a miss; only a failed cell has no value.

    >>> cells = pd.DataFrame({"status": ["finished", "failed"], "epochs_to_target": [np.nan] * 2, "horizon": [20, 20]})
    >>> from tasks.core.design.columns import MEASURES_BY_NAME
    >>> values(cells, MEASURES_BY_NAME["epochs_to_target"]).tolist()
    [20.0, nan]
    """
    if measure.censored:
        restricted = cells[measure.name].fillna(cells["horizon"]).astype(float)
        return restricted.where(cells["status"] != "failed")
    return cells[measure.name].astype(float).where(cells["status"] == "finished")


def sample(cells: pd.DataFrame, measure: Measure) -> Array:
    """Return the independent values of a measure of one group of cells, (n,).

    Cells of one batch share its train time, so the train times of a batch are one value. A censored measure has no
    values if no cell reached the target: then there is nothing to average.

    >>> cells = pd.DataFrame({"status": ["finished"] * 3, "train_seconds": [0.2, 0.2, 0.3]})
    >>> from tasks.core.design.columns import MEASURES_BY_NAME
    >>> sample(cells, MEASURES_BY_NAME["train_seconds"])
    array([0.2, 0.3])
    """
    found = values(cells, measure).dropna()
    if measure.censored and cells[measure.name].isna().all():
        return np.empty(0)
    return (found.drop_duplicates() if measure.per_batch else found).to_numpy(np.float64)


def factors(cells: pd.DataFrame) -> list[str]:
    """Return the columns of cells that are factors.

    >>> factors(pd.DataFrame(columns=["study", "backend", "depth", "initializer", "seed"]))
    ['depth']
    """
    return [name for name in cells.columns if name not in CELLS]


def parts(cells: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield the cells of each combination of values in the columns `by`, and before them these values by column.

    Without columns all cells are one part.

    >>> [key for key, _ in parts(pd.DataFrame({"depth": [2, 2, 5]}), ["depth"])]
    [{'depth': 2}, {'depth': 5}]
    """
    if not by:
        yield {}, cells
        return
    for key, part in cells.groupby(list(by), sort=False):
        yield dict(zip(by, key, strict=True)), part


def lucky(comparison: pd.DataFrame) -> pd.Series:
    """Tell of each group of a comparison whether less than half of its cells finished.

    Its mean rests on a few lucky cells, so such a group is never the best.
    """
    return 2 * comparison["finished"] < comparison[["finished", "diverged", "failed"]].sum(axis=1)
