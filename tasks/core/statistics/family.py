"""Families: the pairs that are judged together, so that 5 % of families at most hold a false difference.

The difference of a pair is taken seed by seed, because a seed gives every initializer and backend the same split and
the same order of visits. The range test (`ranges.py`) adjusts a family of all pairs of some rivals, Holm's method any
other one.

A hole is a cell that ran and did not finish. If only one side of a pair has a hole in a seed, this side loses the seed.
If one side has holes alone and the other one none, the verdict says so, and no test is made. How often the two sides
finish is a family of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import FINISHED, JUDGED, Measure, role
from tasks.core.statistics import inference, looks, planning, ranges
from tasks.core.statistics.divergence import Finished
from tasks.core.statistics.inference import ALPHA, Array, Differences
from tasks.core.statistics.measures import values
from tasks.core.statistics.verdicts import ALWAYS, BETTER, EQUIVALENT, NEVER, UNDECIDED, WORSE


@dataclass(frozen=True)
class Grid:
    """One measure of rivals, seed by seed; rivals are what is compared. All arrays are (rivals, seeds).

    values: the measure, NaN where there is no number. hole: the cell ran and did not finish. missed: the cell never
    reached the target, which only matters to a censored measure.
    """

    values: Array
    hole: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @classmethod
    def of(cls, cells: pd.DataFrame, rivals: pd.Series, measure: Measure, order: Sequence[str]) -> "Grid":
        """Lay out cells by their rival, in the given order; a rival without cells has neither values nor holes."""
        seed, seeds = pd.factorize(cells["seed"])
        at, shape = (pd.Index(list(order)).get_indexer(pd.Index(rivals)), seed), (len(order), len(seeds))
        value, hole, missed = np.full(shape, np.nan), np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
        value[at] = values(cells, measure).to_numpy(np.float64)
        hole[at] = cells["status"] == "failed" if measure.censored else cells["status"] != "finished"
        missed[at] = cells[measure.name].isna() if measure.censored else False
        return cls(value, hole, missed)

    def finished(self, left: list[int], right: list[int]) -> Finished:
        """Return how many cells of each pair finished, of those that ran; a cell without a number did not run."""
        return Finished.of(self.hole, self.hole | np.isfinite(self.values), left, right)


@dataclass(frozen=True)
class Family:
    """The pairs of one family, a left rival against a right one.

    contrast: what `contrasts` returns, (pairs, seeds). difference: the mean of left - right in the measure's unit,
    (pairs,). better: 1 in the seeds in which the left rival is better, -1 where the right one is, 0 in a tie, NaN where
    nobody can tell. holes: in how many seeds one of the two has a hole, (pairs,). missed: whether in some seed neither
    reached the target, (pairs,). crossed: whether these are all pairs of some rivals, each with values of its own.
    finished: how many cells of each finished. families: the number of families whose false verdicts are controlled
    together. look: 1 for the first benchmark that judges these pairs, 2 for the next one with other seeds, and so on.
    """

    measure: Measure
    contrast: Array
    difference: Array
    better: Array
    holes: NDArray[np.int64]
    missed: NDArray[np.bool_]
    crossed: bool
    finished: Finished
    families: int
    look: int

    @classmethod
    def of(cls, grid: Grid, left: list[int], right: list[int], measure: Measure, families: int, look: int) -> "Family":
        a, b, hole_a, hole_b = grid.values[left], grid.values[right], grid.hole[left], grid.hole[right]
        contrast = contrasts(a, b, measure)
        difference = inference.mean(np.where(np.isfinite(contrast), a - b, np.nan))
        better = np.sign(contrast if measure.higher_is_better else -contrast)
        better = np.where(hole_a & ~hole_b & ~np.isnan(b), -1.0, np.where(hole_b & ~hole_a & ~np.isnan(a), 1.0, better))
        missed = np.asarray((grid.missed[left] & grid.missed[right]).any(1))
        crossed = len(left) == comb(len(grid.values), 2) and not measure.per_batch
        holes, finished = (hole_a | hole_b).sum(1), grid.finished(left, right)
        return cls(measure, contrast, difference, better, holes, missed, crossed, finished, families, look)

    @cached_property
    def paired(self) -> Differences:
        return Differences.of(self.contrast, self.measure.step)

    @cached_property
    def wins(self) -> NDArray[np.int64]:
        return np.asarray((self.better == 1).sum(1))

    @cached_property
    def losses(self) -> NDArray[np.int64]:
        return np.asarray((self.better == -1).sum(1))

    @cached_property
    def seeds(self) -> NDArray[np.int64]:
        return np.asarray(np.isfinite(self.better).sum(1))

    @cached_property
    def by_signs(self) -> NDArray[np.bool_]:
        """The pairs with a seed in which one side alone has a hole: a sign test over seeds judges these."""
        return np.asarray((np.isfinite(self.better) & np.isnan(self.contrast)).any(1))

    @cached_property
    def tested(self) -> NDArray[np.bool_]:
        """The pairs that tests judge: some seed compares them, and not for holes alone."""
        return np.asarray((self.seeds > 0) & ~self.finished.always & ~self.finished.never)

    @cached_property
    def unmeasured(self) -> NDArray[np.bool_]:
        """The pairs that cannot be equivalent.

        A measure without a margin has no difference that is too small to matter. With a hole on one side there is no
        difference to compare with the margin. Where neither side reached the target, both need more epochs than were
        trained, and nobody knows how many more.
        """
        return self.by_signs | self.missed | (self.measure.margin is None)

    @cached_property
    def margins(self) -> Array:
        return np.where(self.unmeasured, 0.0, self.measure.scaled_margin(self.measure.margin or 0.0))

    def p(self) -> Array:
        """Return the p-values of no difference, adjusted over the family and paid for families and looks, (pairs,)."""
        alone = np.where(self.by_signs, inference.sign_test(self.wins, self.losses), self.paired.p_zero())
        p, tested = np.ones(len(alone)), self.tested
        if self.crossed:
            p[tested] = ranges.adjusted(self.contrast[tested], alone[tested], self.measure.step)
        else:
            p[tested] = inference.holm(alone[tested])
        return np.minimum(self.families * looks.price(self.look) * p, 1.0)

    def p_equivalent(self) -> Array:
        """Return the p-values of a difference at or beyond the margin, after Holm, (pairs,)."""
        p = np.where(self.unmeasured, 1.0, self.paired.p_beyond(self.margins))
        p[self.tested] = inference.holm(p[self.tested])
        return np.minimum(looks.price(self.look) * p, 1.0)

    def verdicts(self, p: Array, p_equivalent: Array) -> NDArray[np.str_]:
        """Return the verdict of each left rival, (pairs,). A pair that is better and equivalent is equivalent."""
        ahead = np.where(
            self.by_signs, self.wins > self.losses, (self.paired.mean > 0) == self.measure.higher_is_better
        )
        verdict = np.where(p < ALPHA, np.where(ahead, BETTER, WORSE), UNDECIDED)
        verdict = np.where(p_equivalent < ALPHA, EQUIVALENT, verdict)
        return np.where(self.finished.always, ALWAYS, np.where(self.finished.never, NEVER, verdict))

    def more_seeds(self, undecided: NDArray[np.bool_]) -> tuple[Array, Array]:
        """Return the low and high ends of how many more seeds settle each undecided pair, at least one, (pairs,)."""
        tests = self.families * max(self.tested.sum(), 1) * looks.price(self.look + 1)
        signs = self.by_signs & undecided
        ends = planning.seeds_to_settle(self.paired, self.margins, tests, undecided & ~self.by_signs)
        if signs.any():
            wins, losses, seeds = self.wins[signs], self.losses[signs], self.seeds[signs]
            decided = np.maximum(wins + losses, 1) / seeds
            for end, share in zip(ends, planning.shares_of_wins(wins, losses), strict=True):
                end[signs] = planning.seeds_for_signs(share, decided, tests)
        low, high = (np.maximum(end - self.seeds, 1) for end in ends)
        return low, high

    def better_share(self) -> tuple[Array, Array, Array]:
        """Return the share of seeds in which the left rival is better, ties counting half, and its 95 % interval."""
        won = self.wins + (self.seeds - self.wins - self.losses) / 2
        share = np.where(self.seeds > 0, won / np.maximum(self.seeds, 1), np.nan)
        return share, *inference.share_interval(won, self.seeds)


def contrasts(a: Array, b: Array, measure: Measure) -> Array:
    """Return a pair's contrast in each seed, (pairs, seeds): a - b on the measure's scale, NaN where one has no number.

    Of a measure that is compared by ratios this is the logarithm of a / b. Cells of a batch share a measure such as
    their time, so each pair of batches counts once; the other entries are NaN. Two cells of the same batch have the
    same time, so their entry is NaN, too.

    >>> loss = Measure("loss", "", "", False, None, scale="ratio")
    >>> contrasts(np.array([[0.1, 0.4]]), np.array([[0.2, 0.4]]), loss).round(2)
    array([[-0.69,  0.  ]])
    """
    found = measure.scaled(a) - measure.scaled(b)
    if not measure.per_batch:
        return found
    kept = np.full_like(a, np.nan)
    for row, (left, right) in enumerate(zip(a, b, strict=True)):
        _, first = np.unique(np.stack([left, right]), axis=1, return_index=True)
        kept[row, first] = np.where(left == right, np.nan, found[row])[first]
    return kept


def judged(
    grid: Grid, left: list[int], right: list[int], measure: Measure, *, families: int = 1, look: int = 1
) -> pd.DataFrame:
    """Return one row per pair, with the columns `columns.JUDGED`: rival left[i] of the grid against rival right[i].

    All pairs are one family. The range test judges a pair if these are all pairs of the rivals, else the paired t-test,
    and two one-sided t-tests judge it against the margin, all of them by its contrasts. If in some seed only one side
    of the pair has a hole, a sign test over the seeds judges the pair instead. p-values of no difference are multiplied
    by the number of families that are controlled together. All p-values of a later look at the same pairs are
    multiplied by its price.

    >>> from tasks.core.statistics.verdicts import estimated
    >>> losses, nothing = np.array([[0.1, 0.2, 0.1], [0.9, 0.8, 1.0]]), np.zeros((2, 3), np.bool_)
    >>> rows = judged(Grid(losses, nothing, nothing), [0], [1], Measure("loss", "", "", False, 0.1, scale="ratio"))
    >>> estimated(rows.iloc[0]), round(rows["difference"].item(), 3), rows["verdict"].item()
    ('-86 % [-96, -51]', -0.767, 'better')
    """
    family = Family.of(grid, left, right, measure, families, look)
    paired, p, p_equivalent = family.paired, family.p(), family.p_equivalent()
    verdict = family.verdicts(p, p_equivalent)
    estimate = (measure.unscaled(each) for each in (paired.mean, paired.low, paired.high, paired.sd))
    columns = (
        *(role(measure.name), paired.n, family.holes, measure.scale),
        *(*estimate, family.difference, paired.effect_size()),
        *(*family.better_share(), p, p_equivalent, np.full(len(p), measure.margin or np.nan), verdict),
        *family.more_seeds(verdict == UNDECIDED),
    )
    return pd.DataFrame(dict(zip(JUDGED, columns, strict=True)))


def finishing(grid: Grid, left: list[int], right: list[int], *, look: int = 1) -> pd.DataFrame:
    """Return one row per pair, with the columns `columns.JUDGED`: which of the two finishes more often.

    The difference is that of the shares of cells that finish.

    >>> values, nothing = np.array([[0.1, 0.2, 0.1], [np.nan] * 3]), np.zeros((2, 3), np.bool_)
    >>> finishing(Grid(values, np.isnan(values), nothing), [0], [1])["verdict"].item()
    'always finishes'
    """
    found, none = grid.finished(left, right), np.full(len(left), np.nan)
    p, more = np.minimum(looks.price(look) * found.p(), 1.0), found.difference > 0
    tested = np.where(p < ALPHA, np.where(more, BETTER, WORSE), UNDECIDED)
    verdict = np.where(found.always, ALWAYS, np.where(found.never, NEVER, tested))
    n = np.minimum(found.left_of, found.right_of)
    about = role(FINISHED.name), n, 0 * n, FINISHED.scale
    estimate = found.difference, *found.ends(), none, found.difference, none
    columns = (*about, *estimate, *[none] * 3, p, none, none, verdict, none, none)
    return pd.DataFrame(dict(zip(JUDGED, columns, strict=True)))[found.holed]
