"""Epochs to the target: the share of cells that have yet to reach it, epoch by epoch.

A cell that never reaches the target is censored: one knows only that it needs more epochs than were trained. Its
horizon is the number of epochs trained.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.statistics.inference import CONFIDENCE, Array
from tasks.core.statistics.measures import factors, parts


@dataclass(frozen=True)
class Survival:
    """The share of cells that have yet to reach the target after each epoch, with its 95 % interval; all (epochs,)."""

    epochs: Array
    share: Array
    low: Array
    high: Array


def survival(epochs: Array, horizon: Array) -> Survival:
    """Return Kaplan and Meier's (1958) estimate of the share of cells that have yet to reach the target.

    epochs: the epoch in which each cell reached the target, (cells,), NaN for a cell that is censored at its horizon,
    (cells,).

    >>> survival(np.array([2.0, np.nan]), np.array([10.0, 10.0])).share
    array([0.5, 0.5])
    """
    from scipy import stats

    reached, missed = epochs[np.isfinite(epochs)], horizon[~np.isfinite(epochs)]
    curve = stats.ecdf(stats.CensoredData(uncensored=reached, right=missed)).sf
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where all or no cells are short, the interval has no ends
        band = curve.confidence_interval(CONFIDENCE, method="log-log")
    ends = [getattr(end, "probabilities") for end in (band.low, band.high)]  # noqa: B009  # typed as numbers
    return Survival(curve.quantiles, curve.probabilities, *ends)


def log_rank(epochs: Array, horizon: Array, groups: NDArray[np.str_], seeds: NDArray[np.int64]) -> float:
    """Return the p-value of all groups reaching the target alike (Mantel, 1966), NaN if there is nothing to compare.

    epochs, horizon: as for `survival`. groups, seeds: the group and the seed of each cell, (cells,). The test is
    stratified: it holds a cell only against those of its seed, because these share split and order of visits.

    >>> log_rank(np.array([1.0, 1.0]), np.array([10.0, 10.0]), np.array(["he_normal", "zeros"]), np.array([0, 0]))
    1.0
    """
    from statsmodels.duration.survfunc import survdiff

    if len(np.unique(groups)) < 2 or not np.isfinite(epochs).any():
        return float("nan")
    times = np.where(np.isfinite(epochs), epochs, horizon)
    try:
        _, p = survdiff(times, np.isfinite(epochs).astype(int), groups, strata=seeds)
    except np.linalg.LinAlgError:  # in no seed does one group come before another
        return 1.0
    return float(p)


@dataclass(frozen=True)
class Reaching:
    """How the cells of one backend and level reach the target.

    curves: the survival of each initializer's cells. p: the log-rank test's p-value of all initializers being alike.
    missed: how many of the `cells` never reached the target.
    """

    title: str
    curves: dict[str, Survival]
    p: float
    missed: int
    cells: int


def reaching(cells: pd.DataFrame) -> list[Reaching]:
    """Return how the initializers of every backend and level reach the target.

    A cell that diverged on the way is censored at its horizon. A failed cell was never trained and is left out.
    """
    trained = cells[cells["status"] != "failed"]
    return [
        _reaching(" · ".join([key["backend"], *(f"{name} {key[name]}" for name in factors(cells))]), part)
        for key, part in parts(trained, ["backend", *factors(cells)])
    ]


def _reaching(title: str, cells: pd.DataFrame) -> Reaching:
    epochs, horizon = (cells[name].to_numpy(np.float64) for name in ("epochs_to_target", "horizon"))
    groups = cells["initializer"].to_numpy(str)
    curves = {
        str(name): survival(epochs[groups == name], horizon[groups == name]) for name in cells["initializer"].unique()
    }
    p = log_rank(epochs, horizon, groups, cells["seed"].to_numpy(np.int64))
    return Reaching(title, curves, p, int(np.isnan(epochs).sum()), len(epochs))
