"""Ranks: the order of the initializers in every seed or dataset, and which of them the order tells apart.

A block is what ranks its rivals once: a seed or, where a study varies the dataset, a dataset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import RANKED_MEASURES, RANKS, Measure
from tasks.core.statistics.inference import ALPHA, CONFIDENCE, ROUNDING, Array
from tasks.core.statistics.measures import factors, parts, values

LEAST_RIVALS, LEAST_BLOCKS = 3, 2
FEW = 5  # blocks; with fewer Iman and Davenport's F calls up to 19 % of alike rivals different
PERMUTATIONS, PERMUTATION_SEED = 1_999, 0


@dataclass(frozen=True)
class Ranks:
    """The mean ranks of rivals over blocks, and what they show.

    mean: the mean rank of each rival, (rivals,), 1 being the best. blocks: the number of blocks. friedman: the p-value
    of all rivals being alike, which the function of this name returns. critical: the difference of mean ranks from
    which on Nemenyi's test tells two rivals apart. p: the p-values of Nemenyi's test, (rivals, rivals).
    """

    mean: Array
    blocks: int
    friedman: float
    critical: float
    p: Array

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Which rivals differ, (rivals, rivals): by Nemenyi's test, and only if Friedman's test finds a difference."""
        return (self.p < ALPHA) & (self.friedman < ALPHA)


def ranks(values: Array, *, higher_is_better: bool) -> Ranks | None:
    """Return the ranks of values (rivals, blocks), or None if there are fewer than 3 rivals or 2 blocks.

    NaN is a hole: the rival did not finish. Holes come last in their block and tie with each other. Nemenyi's critical
    difference is q √(k (k + 1) / (6 n)) for k rivals and n blocks, q being the studentized range's quantile divided by
    √2 (Demšar, 2006).

    >>> ranks(np.array([[0.9, 0.8], [0.7, 0.6], [0.5, np.nan]]), higher_is_better=True).mean
    array([1., 2., 3.])
    """
    from scipy import stats

    rivals, blocks = values.shape
    if rivals < LEAST_RIVALS or blocks < LEAST_BLOCKS:
        return None
    cost = np.where(np.isfinite(values), -values if higher_is_better else values, np.inf)
    ranked = stats.rankdata(cost, axis=0)
    error = np.sqrt(rivals * (rivals + 1) / (6 * blocks))
    mean = ranked.mean(1)
    q = np.abs(mean[:, None] - mean) / error * np.sqrt(2)
    critical = stats.studentized_range.ppf(CONFIDENCE, rivals, np.inf) / np.sqrt(2) * error
    return Ranks(mean, blocks, friedman(ranked), float(critical), stats.studentized_range.sf(q, rivals, np.inf))


def friedman(ranked: Array) -> float:
    """Return the p-value of all rivals being alike, given their ranks in every block, (rivals, blocks).

    Friedman's statistic χ², which takes account of ties, becomes F = (n - 1) χ² / (n (k - 1) - χ²) for k rivals and n
    blocks, with k - 1 and (k - 1) (n - 1) degrees of freedom (Iman & Davenport, 1980). Held against the χ² distribution
    itself, as Friedman did, it finds too little. With fewer than FEW blocks F finds too much, so the p-value is that of
    permuting the ranks in every block; up to PERMUTATIONS it is exact.

    >>> round(friedman(np.array([[1.0, 1, 1, 2, 1], [2, 2, 3, 1, 3], [3, 3, 2, 3, 2]])), 3)
    0.053
    """
    from scipy import stats

    rivals, blocks = ranked.shape
    if np.all(ranked == ranked[0]):
        return 1.0
    if blocks < FEW:
        return _permuted(ranked)
    square = stats.friedmanchisquare(*ranked).statistic
    left = blocks * (rivals - 1) - square
    f = (blocks - 1) * square / left if left > ROUNDING else np.inf
    return float(stats.f.sf(f, rivals - 1, (rivals - 1) * (blocks - 1)))


def _permuted(ranked: Array) -> float:
    """Return the share of permutations within blocks whose rank sums are as far apart as those of ranks."""
    from scipy import stats

    def apart(*rivals: Array, axis: int) -> Array:
        return np.asarray(np.square([rival.sum(axis) for rival in rivals]).sum(0))

    rng = np.random.default_rng(PERMUTATION_SEED)
    found = stats.permutation_test(
        ranked, apart, permutation_type="samples", alternative="greater", n_resamples=PERMUTATIONS, rng=rng
    )
    return float(found.pvalue)


@dataclass(frozen=True)
class Ranking:
    """The ranks of the initializers of one backend and level by one measure.

    blocks: `seeds`, or `datasets` where a study varies the dataset.
    """

    title: str
    backend: str
    measure: str
    initializers: list[str]
    blocks: str
    ranks: Ranks


def rankings(cells: pd.DataFrame) -> list[Ranking]:
    """Return the rankings of the initializers of every backend and level, by each measure of RANKED.

    Where the cells have several datasets, a dataset is a block, and its value is the mean over seeds. The value is a
    hole if the initializer did not finish in one of these seeds.
    """
    several = "dataset" in factors(cells) and len(set(cells["dataset"])) > 1
    by = ["backend", *(name for name in factors(cells) if not (several and name == "dataset"))]
    found = (
        _ranking(key, part, measure, "dataset" if several else "seed")
        for key, part in parts(cells, by)
        for measure in RANKED_MEASURES
    )
    return [each for each in found if each]


def _ranking(key: dict[str, Any], cells: pd.DataFrame, measure: Measure, block: str) -> Ranking | None:
    """Return the ranking of the initializers of cells, whose blocks are the values of a column."""
    table = cells.assign(value=values(cells, measure))
    wide = table.pivot_table("value", "initializer", block, aggfunc=_whole_mean, dropna=False)
    wide = wide.reindex(cells["initializer"].unique())
    found = ranks(wide.to_numpy(np.float64), higher_is_better=measure.higher_is_better)
    title = " · ".join([*(f"{name} {level}" for name, level in list(key.items())[1:]), measure.title])
    return Ranking(title, key["backend"], measure.name, list(wide.index), f"{block}s", found) if found else None


def _whole_mean(block: pd.Series) -> float:
    """Return the mean of a block's values, NaN if any of them is NaN."""
    return float(block.to_numpy(np.float64).mean())


def ranks_table(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """Return one row per ranking and initializer, with the columns `columns.RANKS`; without rankings, no columns."""
    rows = [
        (each.backend, each.title, initializer, mean, each.ranks.critical, each.ranks.friedman, _blocks(each))
        for each in rankings
        for initializer, mean in zip(each.initializers, each.ranks.mean, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(RANKS)) if rows else pd.DataFrame()


def _blocks(ranking: Ranking) -> str:
    return f"{ranking.ranks.blocks} {ranking.blocks}"
