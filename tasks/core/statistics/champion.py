"""The champion: which cell of a backend becomes its model, and which accuracy one may expect of it.

The best of many cells owes its accuracy to an easy split and to luck. So does, to a lesser degree, the best mean of
many groups. The champion is therefore the median cell of the best group, and the accuracy that is expected of it comes
from seeds that had no part in the choice. A group is the cells of one level of every factor and one initializer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import RANKED_MEASURES
from tasks.core.design.grid import Cell
from tasks.core.design.study import Study
from tasks.core.statistics import inference
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.inference import Array
from tasks.core.statistics.measures import factors, lucky, measures, values
from tasks.core.statistics.spread import held
from tasks.core.statistics.verdicts import BETTER, WORSE

CHOSEN_BY = RANKED_MEASURES[0]
SAME_ROWS = " All seeds have the same test rows, so on other rows expect another number."
HALVES = 999  # random halves of the seeds that are held out


@dataclass(frozen=True)
class Champion:
    """The cell that stands for the best group of a backend.

    row: the row number of the cell. finished, cells: how many cells of its group finished, and how many there are.
    mean, low, high: the value of CHOSEN_BY that is expected of a network that is trained so, with its 95 % interval.
    """

    row: int
    finished: int
    cells: int
    mean: float
    low: float
    high: float

    @property
    def numbers(self) -> dict[str, float]:
        """What is expected, by the name of the measure and of each end of its interval."""
        name = CHOSEN_BY.name
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high, "finished": self.finished}

    def describe(self, cell: Cell, study: Study) -> str:
        """Return what the cell of a study is, and what one may expect of it, in sentences."""
        title, held_rows = CHOSEN_BY.title, SAME_ROWS if "split" in held(study.at(cell.levels)) else ""
        expected = f"Expected {title}: {self.mean:.4f}, 95 % interval {self.low:.4f} to {self.high:.4f}, from seeds"
        if np.isnan(self.low):
            expected = f"There are too few seeds to say which {title} to expect: a number must come from seeds"
        return (
            f"{cell}: the median cell, by {title}, of the initializer with the best mean; {self.finished} of its "
            f"{self.cells} cells finished. {expected} that had no part in choosing the initializer."
            f"{held_rows} The model takes unscaled features and gives logits."
        )


def champion(findings: Findings, backend: str) -> Champion | None:
    """Return the champion of a backend; None if no group may be the best, or the study has several datasets.

    The best group has the best mean of the first ranked measure, which is the test accuracy, and among equals of the
    next one, the test loss. A group is not the best if less than half of its cells finished, or if it is worse than
    another one of its level. The median cell is that of the same order among the group's finished cells; of two in the
    middle it is the worse one. What is expected is the mean of `unseen`, with the interval of `inference.intervals`.

    Accuracies on different datasets cannot be compared, so a study of several has no champion.
    """
    groups = _groups(findings, backend)
    if not groups or len(findings.study.datasets) > 1:
        return None
    costs = [np.stack([_cost(group, at) for group in groups]) for at in range(len(RANKED_MEASURES))]
    best = groups[int(_best(costs, np.ones((1, costs[0].shape[1]), np.bool_))[0])]
    finished = best[best["status"] == "finished"]
    order = np.lexsort([-_cost(finished, at) for at in reversed(range(len(RANKED_MEASURES)))])
    label = finished.index[order[(len(order) - 1) // 2]]
    row = int(np.flatnonzero(findings.cells.index == label)[0])
    return Champion(row, len(finished), len(best), *_expected(unseen(costs, seed=inference.BOOTSTRAP_SEED), best))


def _groups(findings: Findings, backend: str) -> list[pd.DataFrame]:
    """Return the cells of each group of a backend that may be the best."""
    of_backend = findings.cells[findings.cells["backend"] == backend]
    names = [*factors(of_backend), "initializer"]
    able = _keys(findings.comparison[~lucky(findings.comparison)], backend, names)
    pairs = findings.pairs[findings.pairs["measure"] == CHOSEN_BY.name]
    for side, verdict in (("left", WORSE), ("right", BETTER)):
        able -= _keys(pairs[pairs["verdict"] == verdict], backend, [*names[:-1], side])
    found = of_backend.groupby(names, sort=False)
    return [group for key, group in found if key in able]


def _keys(rows: pd.DataFrame, backend: str, names: Sequence[str]) -> set[tuple[object, ...]]:
    return set(rows.loc[rows["backend"] == backend, list(names)].itertuples(index=False, name=None))


def _cost(cells: pd.DataFrame, at: int) -> Array:
    """Return a ranked measure of cells on its scale, so that less is better, NaN where a cell did not finish."""
    found = RANKED_MEASURES[at].scaled(values(cells, RANKED_MEASURES[at]).to_numpy(np.float64))
    return -found if RANKED_MEASURES[at].higher_is_better else found


def _means(cost: Array, counted: NDArray[np.bool_]) -> Array:
    """Return the mean of each row over each draw of seeds, (groups, draws), infinity where there are only holes.

    cost: (groups, seeds). counted: which seeds are in a draw, (draws, seeds).
    """
    there = np.isfinite(cost)
    number = there.astype(np.float64) @ counted.T
    return np.where(number > 0, np.where(there, cost, 0.0) @ counted.T / np.maximum(number, 1), np.inf)


def _best(costs: Sequence[Array], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the group with the least mean cost over each draw of seeds, (draws,).

    Where groups are equal by a cost, the next cost decides.
    """
    means = [_means(cost, counted).round(inference.DECIMALS) for cost in costs]
    return np.asarray(np.lexsort(means[::-1], axis=0)[0])


def unseen(costs: Sequence[Array], *, seed: int) -> Array:
    """Return, for each seed, the mean first cost of the groups that are chosen without it, (seeds,).

    costs: (groups, seeds) each, less is better, NaN is a hole; a later cost decides between groups that are equal by
    the earlier ones. Many times a random half of the seeds is held out, and the others choose the best group. The value
    of a held-out seed has no part in that choice. So the mean over seeds is an unbiased estimate of the true mean of
    the group that half of the seeds choose, where the mean of the best group is biased towards good values (Varma &
    Simon, 2006). One seed cannot be divided, so it has no value.

    >>> unseen([np.array([[0.0, 3.0], [1.0, 1.0]])], seed=0)
    array([1., 3.])
    """
    seeds = costs[0].shape[1]
    if seeds < 2:
        return np.empty(0)
    order = np.random.default_rng(seed).random((HALVES, seeds)).argsort(1)
    held_out = order < seeds // 2
    values = costs[0][_best(costs, ~held_out)]
    told = held_out & np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(told, values, 0.0).sum(0) / told.sum(0))


def _expected(unseen: Array, cells: pd.DataFrame) -> tuple[float, float, float]:
    """Return the mean of what no choice had seen, as a value of CHOSEN_BY, and the ends of its interval."""
    sample = unseen[np.isfinite(unseen)] * (-1 if CHOSEN_BY.higher_is_better else 1)
    if not len(sample):
        return np.nan, np.nan, np.nan
    (known,) = (measure for measure in measures(cells) if measure.name == CHOSEN_BY.name)
    ends = inference.intervals(sample[None], steps=known.step, seed=inference.BOOTSTRAP_SEED)
    low, high = (float(np.clip(end, known.least, known.largest)[0]) for end in ends)
    return float(sample.mean()), low, high
