"""Performance profiles over several datasets: the share of cells that reach each target accuracy.

A mean over datasets hides on which of them an initializer fails. A profile shows the whole distribution: its height at
a target is the share of cells that reach it, and a curve that lies above another one everywhere is better at every
target.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from tasks.core.design.columns import MEASURES_BY_NAME
from tasks.core.statistics.inference import ALPHA, BAND_RESAMPLES, BOOTSTRAP_SEED, Array
from tasks.core.statistics.measures import factors, parts, values

TARGETS = 201  # on the axis, from the lowest accuracy to 1
ACCURACY = MEASURES_BY_NAME["test_accuracy"]


@dataclass(frozen=True)
class Profile:
    """The share of cells that reach at least each target, with its 95 % interval; all (targets,)."""

    targets: Array
    share: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Profiles:
    """The profiles of all initializers of one backend and level, over so many datasets."""

    title: str
    datasets: int
    curves: dict[str, Profile]


def profile(scores: Array, targets: Array, *, seed: int) -> Profile:
    """Return the share of scores that are at least each target, (targets,), every dataset counting the same.

    scores: (datasets, seeds), NaN for a cell that did not finish, which reaches no target. The interval is the
    percentile bootstrap's, stratified: seeds are drawn again within each dataset (Agarwal et al., 2021).

    >>> profile(np.array([[0.9, 0.7], [0.8, np.nan]]), np.array([0.5, 0.8, 1.0]), seed=0).share
    array([0.75, 0.5 , 0.  ])
    """
    datasets, seeds = scores.shape
    reached = (scores[:, :, None] >= targets).astype(np.float64)
    drawn = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), (BAND_RESAMPLES, datasets))
    resampled = np.einsum("bds,dst->bt", drawn / seeds, reached, optimize=True) / datasets
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return Profile(targets, reached.mean((0, 1)), low, high)


def profiles(cells: pd.DataFrame) -> list[Profiles]:
    """Return the profiles of every backend and level of the factors beside `dataset`; of one dataset there are none."""
    if "dataset" not in factors(cells) or cells["dataset"].nunique() < 2:
        return []
    by = ["backend", *(name for name in factors(cells) if name != "dataset")]
    return [_profiles(key, part) for key, part in parts(cells, by)]


def _profiles(key: dict[str, object], cells: pd.DataFrame) -> Profiles:
    scored = cells.assign(value=values(cells, ACCURACY))
    targets = np.linspace(scored["value"].fillna(1.0).min(), 1.0, TARGETS)
    curves = {
        str(name): profile(
            np.stack([rows["value"].to_numpy(np.float64) for _, rows in group.groupby("dataset", sort=False)]),
            targets,
            seed=BOOTSTRAP_SEED,
        )
        for name, group in scored.groupby("initializer", sort=False)
    }
    title = " · ".join([str(key["backend"]), *(f"{name} {level}" for name, level in list(key.items())[1:])])
    return Profiles(title, cells["dataset"].nunique(), curves)
