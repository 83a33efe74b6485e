"""The values of measures: which cells have one, how far apart two values are before the difference matters.

`tasks/core/design/columns.py` defines the measures themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import CELLS, MEASURES, Measure
from tasks.core.statistics.inference import Array

UNEXPLAINED = 0.1  # of R²: the share of what the best leaves unexplained that is too small to matter, as of a loss
ERRORS = 1 / 3
"""The share of an error rate that is too small to matter.

Another sample of as many rows from where a dataset comes from would move its error rate e by about √(e / rows): by 15 %
of e on digits, 25 % on breast cancer, 37 % on Iris and 50 % on wine, at the error rates of the default study. A
difference that another sample of rows could turn round does not matter.
"""


def measures(cells: pd.DataFrame, margins: Mapping[str, float] = MappingProxyType({})) -> list[Measure]:
    """Return the measures with the steps, margins, least and largest values that hold for cells of one level.

    The margin of a measure that is a share of the test rows is that of `margin_of_errors`, unless the study sets
    another one.

    >>> rows = {"backend": "keras", "initializer": "zeros", "status": "finished", "test_rows": 30.0, "horizon": 20}
    >>> cells = pd.DataFrame({**rows, "seed": [0, 1], "test_accuracy": [0.9, 1.0]})
    >>> accuracy, loss, *_ = measures(cells, {"test_loss": 0.05})
    >>> round(accuracy.step, 4), round(accuracy.margin, 4), loss.margin
    (0.0333, 0.0167, 0.05)
    """
    return [
        replace(known, margin=margins[each.name]) if each.name in margins else _with_margin(each, known, cells)
        for each, known in zip(MEASURES, stepped(cells), strict=True)
    ]


def stepped(cells: pd.DataFrame) -> list[Measure]:
    """Return the measures with the steps, least and largest values that hold for cells of one level.

    A measure that is a share of the test rows is a multiple of 1 / test_rows, so this is its step; R², which stands in
    its place where targets are real numbers, has no step and no least value. A censored measure is at most the horizon,
    which is the number of epochs trained.
    """
    row = float(np.nan_to_num(1 / cells["test_rows"].max()))  # 0 where no cell recorded its test rows
    horizon, of_rows = float(cells["horizon"].max()), not real(cells)
    found = []
    for each in MEASURES:
        if each.step_is_a_test_row:
            each = replace(each, step=row) if of_rows else replace(each, least=-np.inf, step_is_a_test_row=False)
        found.append(replace(each, largest=horizon) if each.censored else each)
    return found


def _with_margin(measure: Measure, known: Measure, cells: pd.DataFrame) -> Measure:
    """Return what `stepped` has returned for a measure with its default margin."""
    if not measure.step_is_a_test_row:
        return replace(known, margin=measure.margin)
    share = 1.0 if known.step_is_a_test_row else UNEXPLAINED / ERRORS
    margin, error = margin_of_errors(cells, measure, known.step)
    return replace(known, margin=share * margin, margin_error=share * error)


def real(cells: pd.DataFrame) -> bool:
    """Tell whether the targets of cells are real numbers: then a cell that finished has no Brier score.

    >>> real(pd.DataFrame({"status": ["finished", "failed"], "brier_score": [0.5, np.nan]}))
    False
    """
    finished = cells["status"].to_numpy() == "finished"
    return "brier_score" in cells and bool(finished.any() and cells["brier_score"].isna().to_numpy()[finished].all())


def margin_of_errors(cells: pd.DataFrame, measure: Measure, row: float) -> tuple[float, float]:
    """Return the margin of an accuracy, from the group that makes the fewest errors, and its standard error.

    A group of which less than half of the cells finished does not count. row: 1 / test_rows.
    """
    groups = [cells[name] for name in ("run", "backend", "initializer") if name in cells]
    own = pd.DataFrame({"finished": cells["status"] == "finished", "value": values(cells, measure)})
    grouped, seeds = own.groupby(groups, sort=False), max(cells["seed"].nunique(), 1)
    mean = grouped["value"].mean().where(grouped["finished"].mean() >= 0.5)
    best = grouped["value"].var()[mean == mean.max()]
    return margin_of_rate(1 - mean.max(), best.max(), row, seeds)


def margin_of_rate(rate: float, variance: float, row: float, seeds: int) -> tuple[float, float]:
    """Return ERRORS of an error rate that is a mean over seeds, and the standard error of that.

    The margin is at least row / seeds, one error more in the test rows of all seeds together, because no smaller
    difference can be seen. variance: that of the rate over seeds, which counts at least as that of a count of errors
    (Poisson's law). NaN is what nobody knows.

    >>> margin, error = margin_of_rate(0.05, 0.0, row=1 / 30, seeds=10)
    >>> round(margin, 4), round(error, 4)
    (0.0167, 0.0043)
    """
    rate = np.fmax(rate, row / seeds / ERRORS)
    return float(ERRORS * rate), float(ERRORS * np.sqrt(np.fmax(variance, rate * row) / seeds))


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


def samples(cells: pd.DataFrame, measure: Measure, groups: Sequence[NDArray[np.int64]]) -> list[Array]:
    """Return the independent values of a measure of each group of cells, (n,) each; groups: the places of its rows.

    Cells of one batch share its train time, so the train times of a batch are one value. A censored measure has no
    values if no cell reached the target: then there is nothing to average.

    >>> cells = pd.DataFrame({"status": ["finished"] * 3, "train_seconds": [0.2, 0.2, 0.3]})
    >>> from tasks.core.design.columns import MEASURES_BY_NAME
    >>> samples(cells, MEASURES_BY_NAME["train_seconds"], [np.array([0, 1, 2]), np.array([2])])
    [array([0.2, 0.3]), array([0.3])]
    """
    value, missed = values(cells, measure).to_numpy(np.float64), cells[measure.name].isna().to_numpy()
    own = [value[at[:0] if measure.censored and missed[at].all() else at] for at in groups]
    known = [each[~np.isnan(each)] for each in own]
    return [pd.unique(each) for each in known] if measure.per_batch else known


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
