"""Ranks: the order of the initializers in every seed or dataset, and which of them the order tells apart.

A block is what ranks its rivals once: a seed or, where a study varies the dataset, a dataset.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import RANKED_MEASURES, RANKS, Measure
from tasks.core.statistics.inference import ALPHA, ROUNDING, Array, holm
from tasks.core.statistics.measures import factors, parts, values
from tasks.core.statistics.pairing import controlled

LEAST_RIVALS, LEAST_BLOCKS = 3, 2
FEW = 5  # blocks; with fewer Iman and Davenport's F calls up to 19 % of alike rivals different
PERMUTATIONS, PERMUTATION_SEED = 1_999, 0


@dataclass(frozen=True)
class Ranks:
    """The mean ranks of rivals over blocks, and what they show.

    mean: the mean rank of each rival, (rivals,), 1 being the best. blocks: the number of blocks. friedman: the p-value
    of all rivals being alike, which the function of this name returns. p: the p-value of each two rivals being alike,
    adjusted, (rivals, rivals).
    """

    mean: Array
    blocks: int
    friedman: float
    p: Array

    @property
    def apart(self) -> NDArray[np.bool_]:
        """Which rivals differ, (rivals, rivals)."""
        return self.p < ALPHA


def costs(values: Array, *, higher_is_better: bool) -> Array:
    """Return values (rivals, blocks) so that less is better, infinity for a hole, which is NaN.

    >>> costs(np.array([[0.9, np.nan]]), higher_is_better=True)
    array([[-0.9,  inf]])
    """
    return np.where(np.isfinite(values), -values if higher_is_better else values, np.inf)


def signed_ranks(costs: Array, families: int = 1) -> Array:
    """Return the p-values of Wilcoxon's signed-rank test of each two rivals, (rivals, rivals), given their costs.

    costs: (rivals, blocks). The test ranks the differences of two rivals over the blocks by their size, and asks
    whether the ranks of the differences in favour of one rival add up to more than chance would give (Wilcoxon, 1945).
    It uses how far two rivals are apart, and depends on no third one, as tests of mean ranks do (Benavoli, Corani &
    Mangili, 2016). With up to 13 blocks it is exact. A hole is farther off than any number, and two holes are equal.
    The p-values are after Holm over all pairs, and times the number of families.

    >>> signed_ranks(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.1, 2.2, 3.3, 4.4, 5.5, np.inf]])).round(3)
    array([[1.   , 0.031],
           [0.031, 1.   ]])
    """
    from scipy import stats

    left, right = np.triu_indices(len(costs), 1)
    with np.errstate(invalid="ignore"):
        apart = np.nan_to_num(costs[left] - costs[right], nan=0.0, posinf=np.inf, neginf=-np.inf)
    signed = np.sign(apart) * stats.rankdata(np.abs(apart), axis=1)  # Wilcoxon's ranks of these are the same
    differ = signed.any(axis=1)
    own = np.ones(len(left))
    own[differ] = [stats.wilcoxon(each).pvalue for each in signed[differ]]
    p = np.ones((len(costs), len(costs)))
    p[left, right] = p[right, left] = np.minimum(families * holm(own), 1.0)
    return p


def least_blocks(rivals: int, families: int) -> int:
    """Return the number of blocks from which on `signed_ranks` can tell two of so many rivals apart.

    The same rival ahead in each of n blocks has the p-value 2 / 2ⁿ, which is adjusted for all pairs and families.

    >>> least_blocks(2, 1), least_blocks(6, 4)
    (6, 12)
    """
    tests = families * rivals * (rivals - 1) / 2
    return int(np.floor(np.log2(tests / ALPHA))) + 2


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

    blocks: `seeds`, or `datasets` where a study varies the dataset. least: with fewer blocks no two can be told apart;
    0 where the tests of pairs tell them apart.
    """

    title: str
    backend: str
    measure: str
    initializers: list[str]
    blocks: str
    least: int
    ranks: Ranks


def rankings(cells: pd.DataFrame, pairs: pd.DataFrame) -> list[Ranking]:
    """Return the rankings of the initializers of every backend and level, by each measure of RANKED.

    Over the seeds of one dataset the p-values are those of `pairs`, which `pairing.pairs` returns. Where the cells
    have several datasets, a dataset is a block, and `signed_ranks` tests. A block's value is the mean over seeds, on
    the measure's scale. It is a hole if the initializer did not finish in one of these seeds.
    """
    several = "dataset" in factors(cells) and len(set(cells["dataset"])) > 1
    by = ["backend", *(name for name in factors(cells) if not (several and name == "dataset"))]
    found = []
    for key, part in parts(cells, by):
        for measure in RANKED_MEASURES:
            title = " · ".join([*(f"{name} {level}" for name, level in list(key.items())[1:]), measure.title])
            names = list(part["initializer"].unique())
            means = _means(part, measure, names, "dataset" if several else "seed")
            cost = costs(means, higher_is_better=measure.higher_is_better)
            if len(cost) < LEAST_RIVALS or cost.shape[1] < LEAST_BLOCKS:
                continue
            families = controlled(measure, cells["backend"].nunique())
            p = signed_ranks(cost, families) if several else _of_pairs(pairs, {**key, "measure": measure.name}, names)
            blocks, least = ("datasets", least_blocks(len(cost), families)) if several else ("seeds", 0)
            found.append(Ranking(title, key["backend"], measure.name, names, blocks, least, ranked(cost, p)))
    return found


def ranked(costs: Array, p: Array) -> Ranks:
    """Return the ranks of costs (rivals, blocks), given the p-values of each two rivals.

    Holes, which are infinite, come last in their block and tie with each other.

    >>> ranked(np.array([[0.1, 0.2], [0.3, 0.4], [0.5, np.inf]]), np.ones((3, 3))).mean
    array([1., 2., 3.])
    """
    from scipy import stats

    found = stats.rankdata(costs, axis=0)
    return Ranks(found.mean(1), costs.shape[1], friedman(found), p)


def _means(cells: pd.DataFrame, measure: Measure, names: Sequence[str], block: str) -> Array:
    """Return the mean of a measure on its scale by initializer and block, (names, blocks); NaN if any value is NaN.

    block: the column whose values are the blocks, which are sorted.
    """
    value = measure.scaled(values(cells, measure).to_numpy(np.float64))
    column, blocks = pd.factorize(cells[block], sort=True)
    row, found = pd.Index(names).get_indexer(pd.Index(cells["initializer"])), np.full((len(names), len(blocks)), np.nan)
    for at in {*zip(row, column, strict=True)}:
        found[at] = value[(row == at[0]) & (column == at[1])].mean()
    return found


def _of_pairs(pairs: pd.DataFrame, key: Mapping[str, object], names: Sequence[str]) -> Array:
    """Return the p-values of pairs as a matrix, (names, names); key: the values of columns that the pairs have."""
    own = pairs[np.logical_and.reduce([pairs[name] == value for name, value in key.items()])]
    left, right = (pd.Index(names).get_indexer(pd.Index(own[side])) for side in ("left", "right"))
    p = np.ones((len(names), len(names)))
    p[left, right] = p[right, left] = own["p"].fillna(1.0)
    return p


def ranks_table(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """Return one row per ranking and initializer, with the columns `columns.RANKS`; without rankings, no columns."""
    rows = [
        (each.backend, each.title, initializer, mean, _apart(each, apart), each.ranks.friedman, _blocks(each))
        for each in rankings
        for initializer, mean, apart in zip(each.initializers, each.ranks.mean, each.ranks.apart, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(RANKS)) if rows else pd.DataFrame()


def _apart(ranking: Ranking, apart: NDArray[np.bool_]) -> str:
    return ", ".join(name for name, differs in zip(ranking.initializers, apart, strict=True) if differs)


def _blocks(ranking: Ranking) -> str:
    return f"{ranking.ranks.blocks} {ranking.blocks}"
