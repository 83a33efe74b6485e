"""Verdicts: which initializers are better, worse, equivalent or undecided, in which backend, by which measure.

Differences are paired by seed, for a seed gives every initializer and backend the same split and order of visits. A
family is what Holm's method adjusts together: one measure's pairs in one backend and level, or one measure's
initializers between the backends in one level.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import JUDGED, RANKED, RANKED_MEASURES, Measure
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics import inference
from tasks.core.statistics.inference import ALPHA, Differences, Floats, Ranks, Survival
from tasks.core.statistics.measures import factors, lucky, measures, values

BETTER, WORSE, EQUIVALENT, UNDECIDED, NOT_COMPARABLE = "better", "worse", "equivalent", "undecided", "not comparable"
SPREAD_SEED = 0
TURNED = {BETTER: WORSE, WORSE: BETTER}  # as the other of a pair sees it
HOPELESS = 100_000  # seeds
STREAMS = 3  # split, batch order, weights


@dataclass(frozen=True)
class Grid:
    """A measure of rivals by seed, all arrays (rivals, seeds): NaN where it is not known.

    hole: cells that ran and have no number because they did not finish; missed: those that never reached the target.
    """

    values: Floats
    hole: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    @classmethod
    def of(cls, cells: pd.DataFrame, rivals: pd.Series, measure: str, order: Sequence[str]) -> "Grid":
        """Lay out cells by their rival, in this order; one without cells has neither values nor holes."""
        epochs = measure == "epochs_to_target"
        table = cells.assign(
            rival=rivals,
            value=values(cells, measure),
            hole=cells["status"] == "failed" if epochs else cells["status"] != "finished",
            missed=cells["epochs_to_target"].isna() if epochs else False,
        )
        wide = table.pivot_table(
            ["value", "hole", "missed"], "rival", "seed", aggfunc="first", dropna=False, sort=False
        )
        value, hole, missed = (wide[name].reindex(pd.Index(list(order))) for name in ("value", "hole", "missed"))
        return cls(value.to_numpy(np.float64), hole.eq(True).to_numpy(bool), missed.eq(True).to_numpy(bool))


def judged(grid: Grid, left: list[int], right: list[int], measure: Measure) -> pd.DataFrame:
    """Return one row per couple of rivals, JUDGED: left against right, all of them one family.

    Where a seed has but one of the two, its hole loses, and the couple is judged by a sign test over its seeds.
    """
    a, b, hole_a, hole_b = grid.values[left], grid.values[right], grid.hole[left], grid.hole[right]
    difference = _one_a_batch(a, b) if measure.name == "train_seconds" else a - b
    better = np.sign(difference if measure.higher_is_better else -difference)
    better = np.where(hole_a & ~hole_b & ~np.isnan(b), -1.0, np.where(hole_b & ~hole_a & ~np.isnan(a), 1.0, better))
    wins, losses, seeds = ((better == 1).sum(1), (better == -1).sum(1), np.isfinite(better).sum(1))
    uneven = np.asarray((np.isfinite(better) & np.isnan(difference)).any(1))
    plain = Differences.of(difference, measure.step)
    # where neither reached the target, nobody can tell how far apart they are
    unmeasured = uneven | (grid.missed[left] & grid.missed[right]).any(1) | (measure.margin is None)
    margins = np.where(unmeasured, 0.0, measure.margin or 0.0)
    p = inference.holm(np.where(uneven, inference.sign_test(wins, losses), plain.p_zero()))
    p_equivalent = inference.holm(np.where(unmeasured, 1.0, plain.p_beyond(margins)))
    ahead = np.where(uneven, wins > losses, (plain.mean > 0) == measure.higher_is_better)
    verdict = np.where(p < ALPHA, np.where(ahead, BETTER, WORSE), UNDECIDED)
    verdict = np.where(p_equivalent < ALPHA, EQUIVALENT, verdict)
    by_signs = inference.seeds_for_signs(wins, losses, seeds, len(a))
    needed = np.where(uneven, by_signs, plain.seeds_to_settle(margins, len(a)))
    ties = seeds - wins - losses
    low, high = inference.share_interval(wins + ties / 2, seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Hedges' correction; of two seeds it leaves nothing
        effect = np.where(plain.n > 2, plain.mean / plain.sd * (1 - 3 / (4 * plain.n - 5)), np.nan)
        share = np.where(seeds > 0, (wins + ties / 2) / np.maximum(seeds, 1), np.nan)
    columns = (
        *(plain.n, (hole_a | hole_b).sum(1), plain.mean, plain.low, plain.high, plain.sd, effect),
        *(share, low, high, p, p_equivalent, np.full(len(a), measure.margin or np.nan), verdict),
        np.where(verdict == UNDECIDED, np.maximum(needed - seeds, 1), np.nan),
    )
    return pd.DataFrame(dict(zip(JUDGED, columns, strict=True)))


def _one_a_batch(a: Floats, b: Floats) -> Floats:
    """Return a - b once for each couple of batches, whose cells share their time; one batch is no couple."""
    kept = np.full_like(a, np.nan)
    for row, (left, right) in enumerate(zip(a, b, strict=True)):
        _, first = np.unique(np.stack([left, right]), axis=1, return_index=True)
        kept[row, first] = np.where(left == right, np.nan, left - right)[first]
    return kept


def _families(cells: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    if not by:
        yield {}, cells
        return
    for key, family in cells.groupby(list(by), sort=False):
        yield dict(zip(by, key, strict=True)), family


def pairs(cells: pd.DataFrame, margins: Mapping[str, float]) -> pd.DataFrame:
    """Compare every two initializers of a backend and level by every measure; the first of a pair is `left`.

    One row each: difference is left - right with its 95 % interval; effect_size, Hedges' g of the paired differences;
    better_share, of seeds in which the left is better, ties half; p of no difference and p_equivalent of one beyond the
    margin, both after Holm; verdict of the left; more_seeds that would settle what is undecided.
    """
    found = []
    for key, family in _families(cells, ["backend", *factors(cells)]):
        rivals = list(family["initializer"].unique())
        couples = list(combinations(range(len(rivals)), 2))
        for measure in measures(family, margins) if couples else []:
            left, right = (list(side) for side in zip(*couples, strict=True))
            rows = judged(Grid.of(family, family["initializer"], measure.name, rivals), left, right, measure)
            names = {"left": [rivals[at] for at in left], "right": [rivals[at] for at in right]}
            found.append(rows.assign(**key, measure=measure.name, **names))
    return _framed(found, ["backend", *factors(cells), "measure", "left", "right"])


def against_best(comparison: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison with, for each ranked measure, each initializer's verdict against the best of its level.

    Best is the best mean of those of which at least half the cells finished.
    """
    names = list(comparison.columns)
    keys = names[names.index("backend") : names.index("initializer")]
    found: dict[tuple[object, ...], str] = {}
    for key, group in comparison.groupby(keys, sort=False):
        for measure in RANKED_MEASURES:
            means = group[~lucky(group)].set_index("initializer")[f"{measure.name}_mean"].dropna()
            if len(means) and len(group) > 1:  # one alone is the best of nothing
                found[(*key, measure.name)] = str(means.idxmax() if measure.higher_is_better else means.idxmin())
    rows = {tuple(row[name] for name in (*keys, "measure", "left", "right")): row for _, row in pairs.iterrows()}
    columns = {
        f"{measure}_against_best": [
            _against(found.get((*key, measure), ""), initializer, (*key, measure), rows)
            for *key, initializer in comparison[[*keys, "initializer"]].itertuples(index=False)
        ]
        for measure in RANKED
    }
    return comparison.assign(**columns)


def _against(best: str, initializer: str, key: tuple[object, ...], rows: Mapping[tuple[object, ...], pd.Series]) -> str:
    if initializer == best or not best:
        return "best" if best else ""
    turned = (*key, best, initializer) in rows
    row = rows[(*key, best, initializer) if turned else (*key, initializer, best)]
    if row["verdict"] == UNDECIDED:
        return f"{UNDECIDED} ({seeds_needed(row['more_seeds'])})"
    verdict = str(row["verdict"])
    return TURNED.get(verdict, verdict) if turned else verdict


def seeds_needed(more: float) -> str:
    """Return how many more seeds in words.

    >>> seeds_needed(37.0), seeds_needed(float("inf"))
    ('+37 seeds', 'no number of seeds')
    """
    if np.isnan(more):
        return "too few seeds to tell how many"
    return f"+{more:,.0f} seed{'s' if more > 1 else ''}" if more < HOPELESS else "no number of seeds"


def _framed(parts: Sequence[pd.DataFrame], first: Sequence[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=[*first, *JUDGED])
    rows = pd.concat(parts, ignore_index=True)
    return rows[[*first, *rows.columns.drop(list(first))]]


def backends(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Compare the two backends under every initializer by every measure, as `pairs` does: left is the first backend.

    Where their recipes differ no verdict is given.
    """
    if len(study.backends) < 2:
        return _framed([], [*factors(cells), "measure", "initializer"])
    rows = _between(cells, factors(cells), "backend", study.backends, study.margins)
    differs = {
        tuple(level for _, level in levels): bool(study.at(levels).backend_differences()) for levels in study.levels()
    }
    unlike = np.array([differs[levels] for levels in _levels(rows, factors(cells))], np.bool_)
    return rows.assign(verdict=rows["verdict"].mask(unlike, NOT_COMPARABLE), more_seeds=rows["more_seeds"].mask(unlike))


def _levels(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name] for name in names), strict=True)) if names else [()] * len(rows)


def runs(cells: pd.DataFrame, margins: Mapping[str, float]) -> pd.DataFrame:
    """Compare two benchmark runs, `first` and `second` in the column `run`, under every initializer, as `pairs` does.

    Left is the second run: it is better or worse than the first.
    """
    by = ["backend", *(name for name in factors(cells) if name != "run")]
    return _between(cells, by, "run", ("second", "first"), margins)


def _between(
    cells: pd.DataFrame,
    by: Sequence[str],
    column: str,
    sides: Sequence[str],
    margins: Mapping[str, float],
) -> pd.DataFrame:
    """Judge the first of two sides, values of a column, against the second under every initializer and measure."""
    found = []
    for key, family in _families(cells, by):
        initializers = list(family["initializer"].unique())
        order = [f"{side} {each}" for side in sides for each in initializers]
        places = list(range(len(initializers)))
        for measure in measures(family, margins):
            grid = Grid.of(family, family[column] + " " + family["initializer"], measure.name, order)
            rows = judged(grid, places, [len(initializers) + at for at in places], measure)
            found.append(rows.assign(**key, measure=measure.name, initializer=initializers))
    return _framed(found, [*by, "measure", "initializer"])


def defaults(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return how much of the backends' difference their own initializers make, where `weights` is a factor.

    One row per measure, initializer and level of the other factors: the difference between the backends under native
    weights less that under shared ones, seed by seed, with its 95 % interval; both differences; and p, after Holm over
    the initializers. Empty where the recipes differ, for then the difference is theirs.
    """
    crossed = {*study.factors.get("weights", ())} == {"native", "shared"} and len(study.backends) == 2
    if not crossed or any(study.at(levels).backend_differences() for levels in study.levels()):
        return pd.DataFrame()
    first, second = study.backends
    found = []
    for key, family in _families(cells, [name for name in factors(cells) if name != "weights"]):
        initializers = list(family["initializer"].unique())
        for measure in measures(family, study.margins):
            table = family.assign(value=values(family, measure.name))
            wide = table.pivot_table("value", "initializer", ["weights", "backend", "seed"], dropna=False, sort=False)
            wide = wide.reindex(initializers)
            native, shared = ((wide[each][first] - wide[each][second]) for each in ("native", "shared"))
            own = Differences.of((native - shared).to_numpy(np.float64), measure.step)
            rows = pd.DataFrame({"native": native.mean(axis=1), "shared": shared.mean(axis=1)}).reset_index()
            ends = {"difference": own.mean, "low": own.low, "high": own.high, "n": own.n}
            found.append(rows.assign(**ends, p=inference.holm(own.p_zero()), **key, measure=measure.name))
    return _framed(found, [*(name for name in factors(cells) if name != "weights"), "measure", "initializer"])


@dataclass(frozen=True)
class Ranking:
    """The ranks of initializers in one backend, level and measure; blocks are seeds, or datasets where these vary."""

    title: str
    backend: str
    measure: str
    initializers: list[str]
    blocks: str
    ranks: Ranks


def rankings(cells: pd.DataFrame) -> list[Ranking]:
    """Rank the initializers of every backend and level; what did not finish is last in its block.

    Over several datasets a block is a dataset, and its value the mean over seeds, a hole if any of them did not finish.
    """
    several = "dataset" in factors(cells) and len(set(cells["dataset"])) > 1
    by = ["backend", *(name for name in factors(cells) if not (several and name == "dataset"))]
    found = []
    for key, family in _families(cells, by):
        for measure in RANKED_MEASURES:
            table = family.assign(value=values(family, measure.name))
            block = "dataset" if several else "seed"
            wide = table.pivot_table("value", "initializer", block, aggfunc=_whole_mean, dropna=False)
            wide = wide.reindex(family["initializer"].unique())
            ranks = inference.ranks(wide.to_numpy(np.float64), higher_is_better=measure.higher_is_better)
            if ranks:
                title = " · ".join([*(f"{name} {level}" for name, level in list(key.items())[1:]), measure.title])
                blocks = "datasets" if several else "seeds"
                found.append(Ranking(title, key["backend"], measure.name, list(wide.index), blocks, ranks))
    return found


def _whole_mean(block: pd.Series) -> float:
    """Return the mean of a block, a hole if there is a hole in it."""
    return float(block.to_numpy(np.float64).mean())


def apart(ranks: Ranks) -> NDArray[np.bool_]:
    """Tell which rivals differ, (rivals, rivals): by Nemenyi's test, and only where Friedman's finds any difference."""
    return (ranks.p < ALPHA) & (ranks.friedman < ALPHA)


def ranks_table(rankings: Sequence[Ranking]) -> pd.DataFrame:
    """Return one row per initializer and ranking."""
    rows = [
        {
            "backend": each.backend,
            "ranking": each.title,
            "initializer": initializer,
            "mean_rank": mean,
            "critical_difference": each.ranks.critical,
            "friedman_p": each.ranks.friedman,
            "blocks": f"{each.ranks.blocks} {each.blocks}",
        }
        for each in rankings
        for initializer, mean in zip(each.initializers, each.ranks.mean, strict=True)
    ]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Reaching:
    """How the initializers of one backend and level reach the target, and the log-rank p of their doing so alike."""

    title: str
    curves: dict[str, Survival]
    p: float
    missed: int
    cells: int


def reaching(cells: pd.DataFrame) -> list[Reaching]:
    """Estimate, for every backend and level, the share of each initializer's cells still short of the target.

    A miss is censored at the last epoch trained, one that diverged on the way too; a failed cell was never under way.
    """
    found = []
    for key, family in _families(cells[cells["status"] != "failed"], ["backend", *factors(cells)]):
        epochs, horizon = (family[name].to_numpy(np.float64) for name in ("epochs_to_target", "horizon"))
        groups = family["initializer"].to_numpy(str)
        curves = {
            str(name): inference.survival(epochs[groups == name], horizon[groups == name])
            for name in family["initializer"].unique()
        }
        title = " · ".join([key["backend"], *(f"{name} {level}" for name, level in list(key.items())[1:])])
        p = inference.log_rank(epochs, horizon, groups)
        found.append(Reaching(title, curves, p, int(np.isnan(epochs).sum()), len(epochs)))
    return found


def spread(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return how much each source makes a measure vary, from levels that vary one random stream alone.

    One row per measure and source: the standard deviation over seeds within a backend and initializer, pooled over
    them; and of backend, initializer and their interplay, from the level in which all streams vary. Each with the 95 %
    percentile bootstrap interval over seeds. Empty unless some level varies one stream alone.
    """
    varied = {levels: _varied(study.at(levels)) for levels in study.levels()}
    if not any(len(streams) == 1 for streams in varied.values()):
        return pd.DataFrame()
    names = list(map(short, study.factors))
    rows = []
    for levels, streams in varied.items():
        at = np.logical_and.reduce([cells[name] == level for name, (_, level) in zip(names, levels, strict=True)])
        level = " · ".join(f"{short(factor)} {value}" for factor, value in levels)
        for measure in RANKED:
            block = _block(cells[at], measure)
            if block.shape[2] > 1 and block.size:
                rows += [{"measure": measure, "level": level, **row} for row in _sources(block, streams)]
    return pd.DataFrame(rows)


def _streams(study: Study) -> dict[str, bool]:
    """Tell of each random stream whether it differs from seed to seed."""
    own = {"split": study.split.seed, "batch order": study.recipe.order_seed, "weights": study.network.weights_seed}
    return {name: seed == "cell" for name, seed in own.items()}


def _varied(study: Study) -> list[str]:
    return [name for name, varies in _streams(study).items() if varies]


def held(study: Study) -> list[str]:
    """Return the random streams that are the same in every seed."""
    return [name for name, varies in _streams(study).items() if not varies]


def _block(cells: pd.DataFrame, measure: str) -> Floats:
    """Return a measure as (backends, initializers, seeds), of the seeds that every group finished."""
    table = cells.assign(value=values(cells, measure))
    wide = table.pivot_table("value", ["backend", "initializer"], "seed", dropna=False).dropna(axis=1)
    shape = (cells["backend"].nunique(), cells["initializer"].nunique(), wide.shape[1])
    return wide.to_numpy(np.float64).reshape(shape) if wide.size == np.prod(shape) else np.empty((0, 0, 0))


def _sources(block: Floats, streams: Sequence[str]) -> list[dict[str, object]]:
    from scipy import stats

    def deviations(seeds: NDArray[np.int64]) -> Floats:
        return np.sqrt(inference.components(block[:, :, seeds]))

    seeds = np.arange(block.shape[2])
    found = stats.bootstrap(
        (seeds,),
        deviations,
        vectorized=False,
        method="percentile",
        confidence_level=inference.CONFIDENCE,
        n_resamples=inference.BAND_RESAMPLES // 2,
        rng=np.random.default_rng(SPREAD_SEED),
    ).confidence_interval
    ends = (np.asarray(end) for end in (found.low, found.high))
    sources = ["backend", "initializer", "backend × initializer", " + ".join(streams) or "nothing"]
    rows = [
        {"source": source, "sd": sd, "low": low, "high": high, "seeds": block.shape[2]}
        for source, sd, low, high in zip(sources, deviations(seeds), *ends, strict=True)
    ]
    return rows if len(streams) == STREAMS else rows[-1:]
