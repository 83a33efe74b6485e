"""Verdicts: which of two is better, worse, equivalent or undecided, in which backend, by which measure.

A pair is two initializers in one backend and level, or one initializer in two backends or in two runs. The difference
of a pair is taken seed by seed, because a seed gives every initializer and backend the same split and the same order of
visits.

A family is the pairs that are judged together, so that 5 % of families at most hold a false difference: all pairs of
one backend and level by one measure, or all initializers between two backends, or two runs, in one level by one
measure. The range test (`ranges.py`) adjusts the former, Holm's method the latter. The families of all backends and
primary measures of a level are controlled together, so that a run makes few false claims as a whole.

A hole is a cell that ran and did not finish. If only one side of a pair has a hole in a seed, this side loses the seed.
If one side has holes alone and the other one none, the verdict says so, and no test is made. How often the two sides
finish is a family of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import (
    COMPARED,
    COMPARED_BY_INITIALIZER,
    FINISHED,
    JUDGED,
    RANKED,
    RANKED_MEASURES,
    Measure,
    role,
)
from tasks.core.design.study import Study
from tasks.core.statistics import inference, looks, planning, ranges
from tasks.core.statistics.divergence import Finished
from tasks.core.statistics.inference import ALPHA, Array, Differences
from tasks.core.statistics.measures import factors, lucky, measures, parts, values

BETTER, WORSE, EQUIVALENT, UNDECIDED, NOT_COMPARABLE = "better", "worse", "equivalent", "undecided", "not comparable"
ALWAYS, NEVER = "always finishes", "never finishes"
"""Verdicts on a pair of which one side finished in every seed, and the other one in none."""
TURNED = {BETTER: WORSE, WORSE: BETTER, ALWAYS: NEVER, NEVER: ALWAYS}
"""The verdict as the other side of the pair sees it; other verdicts are the same from both sides."""
SMALL_RATIO, LARGE_RATIO = 0.01, 2.0  # a ratio between these is told in per cent, another one as a factor
FAR = 200  # more seeds than this are not told, because they could only be guessed

Key = tuple[object, ...]
Sides = tuple[list[int], list[int]]


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
        table = cells.assign(
            rival=rivals,
            value=values(cells, measure),
            hole=cells["status"] == "failed" if measure.censored else cells["status"] != "finished",
            missed=cells[measure.name].isna() if measure.censored else False,
        )
        wide = table.pivot_table(
            ["value", "hole", "missed"], "rival", "seed", aggfunc="first", dropna=False, sort=False
        )
        value, hole, missed = (wide[name].reindex(pd.Index(list(order))) for name in ("value", "hole", "missed"))
        return cls(value.to_numpy(np.float64), hole.eq(True).to_numpy(bool), missed.eq(True).to_numpy(bool))

    def finished(self, left: list[int], right: list[int]) -> Finished:
        """Return how many cells of each pair finished, of those that ran; a cell without a number did not run."""
        return Finished.of(self.hole, self.hole | np.isfinite(self.values), left, right)


@dataclass(frozen=True)
class _Family:
    """The pairs of one family, a left rival against a right one.

    contrast: what `contrasts` returns, (pairs, seeds). difference: the mean of left - right in the measure's unit,
    (pairs,). better: 1 in the seeds in which the left rival is better, -1 where the right one is, 0 in a tie, NaN where
    nobody can tell. holes: in how many seeds one of the two has a hole, (pairs,). missed: whether in some seed neither
    reached the target, (pairs,). crossed: whether these are all pairs of some rivals, each with values of its own.
    finished: how many cells of each finished. families: over how many families it is controlled together that none of
    them calls one of equals better. look: the how manieth look at these pairs this is.
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
    def of(cls, grid: Grid, left: list[int], right: list[int], measure: Measure, families: int, look: int) -> "_Family":
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

    >>> losses, nothing = np.array([[0.1, 0.2, 0.1], [0.9, 0.8, 1.0]]), np.zeros((2, 3), np.bool_)
    >>> rows = judged(Grid(losses, nothing, nothing), [0], [1], Measure("loss", "", "", False, 0.1, scale="ratio"))
    >>> estimated(rows.iloc[0]), round(rows["difference"].item(), 3), rows["verdict"].item()
    ('-86 % [-96, -51]', -0.767, 'better')
    """
    family = _Family.of(grid, left, right, measure, families, look)
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


def pairs(cells: pd.DataFrame, margins: Mapping[str, float], *, look: int = 1) -> pd.DataFrame:
    """Return one row per pair of initializers of a backend and level, and measure; the first of a pair is `left`.

    role: whether the measure is primary or exploratory. scale: how the measure is compared. estimate, with its 95 %
    interval, low and high: on the scale `difference` the mean over seeds of left - right, on the scale `ratio` the
    geometric mean of left / right. sd: the standard deviation of the differences, or the geometric one of the ratios.
    difference: the mean of left - right in the measure's unit. effect_size: Hedges' g of the paired differences, or of
    the ratios' logarithms. better_share: the share of seeds in which left is better, ties counting half. p: the p-value
    of no difference, adjusted over the family and, of a primary measure, over all backends and primary measures.
    p_equivalent: that of a difference beyond the margin, adjusted over the family. verdict: what left is. more_seeds:
    how many more seeds probably settle a pair that is undecided, the careful end of a range that begins at
    more_seeds_low. n: the seeds in which both have a number; left_out: those in which one has a hole. If a cell of the
    pair has a hole, one more row compares how often the two finish; its measure is FINISHED. look: the how manieth look
    at this question the cells are.
    """
    backends = cells["backend"].nunique()
    found = [
        rows
        for key, family in parts(cells, ["backend", *factors(cells)])
        for rows in _pairs(key, family, margins, backends, look)
    ]
    return _framed(found, ["backend", *factors(cells), *COMPARED])


def _pairs(
    key: Mapping[str, Any], family: pd.DataFrame, margins: Mapping[str, float], backends: int, look: int
) -> Iterator[pd.DataFrame]:
    rivals = list(family["initializer"].unique())
    if len(rivals) > 1:
        left, right = (list(side) for side in zip(*combinations(range(len(rivals)), 2), strict=True))
        names = pd.DataFrame({"left": [rivals[at] for at in left], "right": [rivals[at] for at in right]})
        for rows in _by_measure(family, family["initializer"], rivals, (left, right), margins, backends, look):
            yield rows.join(names).assign(**key)


def _by_measure(
    cells: pd.DataFrame,
    rivals: pd.Series,
    order: Sequence[str],
    sides: Sides,
    margins: Mapping[str, float],
    backends: int,
    look: int,
) -> Iterator[pd.DataFrame]:
    """Yield the rows of a family by each measure, and by how often cells finish if some do not."""
    for measure in measures(cells, margins):
        families, grid = controlled(measure, backends), Grid.of(cells, rivals, measure, order)
        yield judged(grid, *sides, measure, families=families, look=look).assign(measure=measure.name)
    if (cells["status"] != "finished").any():
        grid = Grid.of(cells, rivals, RANKED_MEASURES[0], order)
        yield finishing(grid, *sides, look=look).assign(measure=FINISHED.name)


def controlled(measure: Measure, backends: int) -> int:
    """Return over how many families claims by a measure are controlled: those of all backends and primary measures.

    So a run has a false 'better' anywhere by a primary measure no more often than a single family would have one. An
    exploratory measure is controlled within its family alone. Each level of a factor is a question of its own.
    """
    return backends * len(RANKED) if role(measure.name) == "primary" else 1


def _framed(found: Sequence[pd.DataFrame], first: Sequence[str]) -> pd.DataFrame:
    """Return the rows that were found as one table, in which the columns `first` come before `columns.JUDGED`."""
    columns = [*first, *JUDGED]
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def against_best(comparison: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison with a column `<measure>_against_best` for each measure of RANKED.

    It holds each initializer's verdict against the initializer with the best mean in the same backend and level, which
    itself is `best`. The mean is that of the column `Measure.centre`. An initializer of which less than half the cells
    finished is not the best, and one alone in its level is the best of nothing.
    """
    names = list(comparison.columns)
    keys = names[names.index("backend") : names.index("initializer")]
    best = _best(comparison, keys)
    rows = {tuple(row[name] for name in (*keys, *COMPARED)): row for _, row in pairs.iterrows()}
    columns = {
        f"{measure}_against_best": [
            _against(best.get((*key, measure), ""), initializer, (*key, measure), rows)
            for *key, initializer in comparison[[*keys, "initializer"]].itertuples(index=False)
        ]
        for measure in RANKED
    }
    return comparison.assign(**columns)


def _best(comparison: pd.DataFrame, keys: Sequence[str]) -> dict[Key, str]:
    """Return the initializer with the best mean by (backend, levels, measure), where there is one."""
    found: dict[Key, str] = {}
    for key, group in comparison.groupby(list(keys), sort=False):
        for measure in RANKED_MEASURES:
            means = group[~lucky(group)].set_index("initializer")[measure.centre].dropna()
            if len(means) and len(group) > 1:
                found[(*key, measure.name)] = str(means.idxmax() if measure.higher_is_better else means.idxmin())
    return found


def _against(best: str, initializer: str, key: Key, rows: Mapping[Key, pd.Series]) -> str:
    """Return an initializer's verdict against the best one, given the rows of pairs by (key, left, right)."""
    if initializer == best or not best:
        return "best" if best else ""
    turned = (*key, best, initializer) in rows
    row = rows[(*key, best, initializer) if turned else (*key, initializer, best)]
    if row["verdict"] == UNDECIDED:
        return f"{UNDECIDED} ({seeds_needed(row['more_seeds'])})"
    verdict = str(row["verdict"])
    seen = TURNED.get(verdict, verdict) if turned else verdict
    return f"{NEVER} (0 of {row['left_out']})" if seen == NEVER else seen


def seeds_needed(more: float) -> str:
    """Return a number of further seeds in words.

    >>> seeds_needed(37.0), seeds_needed(float("inf"))
    ('probably +37 seeds', 'probably 200 seeds or more')
    """
    if np.isnan(more):
        return "too few seeds to tell how many"
    return f"probably +{more:,.0f} seed{'s' if more > 1 else ''}" if more <= FAR else f"probably {FAR} seeds or more"


def turned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of pairs as the other side sees them: verdict, estimate with its interval, difference, effect size.

    >>> row = {"scale": "ratio", "estimate": 0.5, "low": 0.4, "high": 0.8, "difference": -1.0, "effect_size": -2.0}
    >>> other = turned(pd.DataFrame([{**row, "verdict": "better"}]))
    >>> other[["estimate", "low", "high"]].to_numpy().tolist(), other["verdict"].item()
    ([[2.0, 1.25, 2.5]], 'worse')
    """
    ratio = rows["scale"] == "ratio"
    ends = {"estimate": "estimate", "low": "high", "high": "low"}
    return rows.assign(
        **{name: (1 / rows[other]).where(ratio, -rows[other]) for name, other in ends.items()},
        **{name: -rows[name] for name in ("difference", "effect_size")},
        verdict=rows["verdict"].replace(TURNED),
    )


def estimated(row: pd.Series) -> str:
    """Return the estimate of a row of pairs with its interval in brackets, nothing if there is none.

    >>> estimated(pd.Series({"scale": "ratio", "estimate": 0.88, "low": 0.82, "high": 0.95}))
    '-12 % [-18, -5]'
    >>> estimated(pd.Series({"scale": "difference", "estimate": 0.5, "low": 0.25, "high": 0.75}))
    '+0.500 [+0.250, +0.750]'
    """
    middle, low, high = (float(row[name]) for name in ("estimate", "low", "high"))
    if np.isnan(middle):
        return ""
    if np.isnan(low):
        return amount(middle, row["scale"])
    ends = ", ".join(amount(end, row["scale"], like=middle).removesuffix(" %") for end in (low, high))
    return f"{amount(middle, row['scale'])} [{ends}]"


def amount(estimate: float, scale: object, *, like: float | None = None) -> str:
    """Return an estimate in figures: a difference, or a ratio in per cent or as a factor.

    A ratio is told as a factor if it, or the ratio `like` which it stands beside, is above 2 or below 0.01.

    >>> amount(-0.5, "difference"), amount(0.88, "ratio"), amount(7.25, "ratio"), amount(1.5, "ratio", like=3.0)
    ('-0.500', '-12 %', '×7.25', '×1.5')
    """
    if scale == "difference":
        return f"{estimate:+.3f}"
    per_cent = SMALL_RATIO <= (estimate if like is None else like) <= LARGE_RATIO
    return f"{100 * (estimate - 1):+.0f} %" if per_cent else f"×{estimate:.3g}"


def backends(study: Study, cells: pd.DataFrame, *, look: int = 1) -> pd.DataFrame:
    """Return one row per initializer, level and measure: the study's first backend against its second one.

    The columns are those of `pairs`, with the first backend as left. Where the recipes of the backends differ, the
    verdict is NOT_COMPARABLE.
    """
    if len(study.backends) < 2:
        return _framed([], [*factors(cells), *COMPARED_BY_INITIALIZER])
    rows = _between(cells, factors(cells), "backend", study.backends, study.margins, look)
    differs = {
        tuple(level for _, level in levels): bool(study.at(levels).backend_differences()) for levels in study.levels()
    }
    unlike = np.array([differs[levels] for levels in _levels(rows, factors(cells))], np.bool_)
    return rows.assign(verdict=rows["verdict"].mask(unlike, NOT_COMPARABLE), more_seeds=rows["more_seeds"].mask(unlike))


def _levels(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name] for name in names), strict=True)) if names else [()] * len(rows)


def runs(cells: pd.DataFrame, margins: Mapping[str, float]) -> pd.DataFrame:
    """Return one row per initializer, backend, level and measure: the second run against the first one.

    The column `run` of the cells says `first` or `second`. The columns are those of `pairs`, with the second run as
    left: `better` means that the second run is better than the first.
    """
    by = ["backend", *(name for name in factors(cells) if name != "run")]
    return _between(cells, by, "run", ("second", "first"), margins)


def _between(
    cells: pd.DataFrame,
    by: Sequence[str],
    column: str,
    named: Sequence[str],
    margins: Mapping[str, float],
    look: int = 1,
) -> pd.DataFrame:
    """Return one row per initializer, measure and value of `by`: of two values of a column, the first is left."""
    found: list[pd.DataFrame] = []
    for key, family in parts(cells, by):
        initializers = list(family["initializer"].unique())
        order = [f"{side} {each}" for side in named for each in initializers]
        places, rivals = list(range(len(initializers))), family[column] + " " + family["initializer"]
        sides = places, [len(initializers) + at for at in places]
        controls = cells["backend"].nunique() if "backend" in by else 1
        rows = _by_measure(family, rivals, order, sides, margins, controls, look)
        found += [each.join(pd.Series(initializers, name="initializer")).assign(**key) for each in rows]
    return _framed(found, [*by, *COMPARED_BY_INITIALIZER])
