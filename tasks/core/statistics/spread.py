"""Where differences come from: how much each source contributes to the spread over seeds and between the backends.

A seed decides three random streams: the split, the order of visits and the weights. A study can hold a stream at one
seed, so that it is the same in every cell.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import DEFAULTS, RANKED_MEASURES, SPREAD, Measure
from tasks.core.design.settings import Level, short
from tasks.core.design.study import Study
from tasks.core.statistics import inference
from tasks.core.statistics.inference import Array, Differences
from tasks.core.statistics.measures import factors, measures, parts, values

STREAMS = 3  # split, order of visits, weights


def components(values: Array) -> Array:
    """Return the variances, (4,), that backend, initializer, their interplay and the seeds give to values (a, b, n).

    a backends, b initializers and n seeds are crossed. The interplay is the part of a group's mean that backend and
    initializer do not explain by themselves. A seed gives the same split and order to all groups, so it moves them
    together. This common part is counted with the seeds. It is not part of the error against which the interplay is
    tested, which is only what is left of a value without its group's mean and its seed's mean.

    The model has random effects, estimated by the method of moments (Searle, Casella & McCulloch, 1992, chapter 4). A
    variance that comes out negative is 0. An axis with one entry has variance 0.

    >>> components(np.array([[[1.0, 2.0, 3.0]], [[2.0, 3.0, 4.0]]])).round(3)
    array([0.5, 0. , 0. , 1. ])
    """
    a, b, n = values.shape
    cell, seed = values.mean(2), values.mean((0, 1))
    rows, columns, grand = cell.mean(1), cell.mean(0), cell.mean()
    several = a * b > 1 and n > 1
    residual = values - cell[:, :, None] - seed + grand
    error = np.square(residual).sum() / ((a * b - 1) * (n - 1)) if several else 0.0
    row_square = n * b * np.square(rows - grand).sum() / (a - 1) if a > 1 else 0.0
    column_square = n * a * np.square(columns - grand).sum() / (b - 1) if b > 1 else 0.0
    rest = cell - rows[:, None] - columns + grand
    both = n * np.square(rest).sum() / ((a - 1) * (b - 1)) if a > 1 and b > 1 else error
    interplay = (both - error) / n if a > 1 and b > 1 else 0.0
    found = [(row_square - both) / (n * b), (column_square - both) / (n * a), interplay]
    over_seeds = values.var(2, ddof=1).mean() if n > 1 else 0.0
    return np.array([*(max(part, 0.0) for part in found), over_seeds])


def spread(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per measure of RANKED, level and source: the standard deviation that the source gives to it.

    A level that varies one stream alone has one row: the standard deviation over seeds, pooled over the groups of one
    backend and initializer. The level in which all streams vary has rows for backend, initializer and their interplay,
    too. low and high are the ends of the 95 % percentile bootstrap interval over seeds.

    The table is empty if no level varies one stream alone.
    """
    varied = {levels: _varied(study.at(levels)) for levels in study.levels()}
    if not any(len(streams) == 1 for streams in varied.values()):
        return pd.DataFrame()
    names = list(map(short, study.factors))
    rows = [row for levels, streams in varied.items() for row in _of_level(cells, names, levels, streams)]
    return pd.DataFrame(rows, columns=list(SPREAD))


def _of_level(
    cells: pd.DataFrame, names: Sequence[str], levels: Sequence[Level], streams: Sequence[str]
) -> Iterator[dict[str, object]]:
    at = np.logical_and.reduce([cells[name] == level for name, (_, level) in zip(names, levels, strict=True)])
    title = " · ".join(f"{short(factor)} {value}" for factor, value in levels)
    for measure in RANKED_MEASURES:
        block = _block(cells[at], measure)
        if block.shape[2] > 1 and block.size:
            yield from ({"measure": measure.name, "level": title, **row} for row in _sources(block, streams))


def held(study: Study) -> list[str]:
    """Return the random streams that a study holds at one seed."""
    return [name for name, varies in _streams(study).items() if not varies]


def _varied(study: Study) -> list[str]:
    return [name for name, varies in _streams(study).items() if varies]


def _streams(study: Study) -> dict[str, bool]:
    """Tell of each random stream whether it differs from seed to seed."""
    own = {"split": study.split.seed, "batch order": study.recipe.order_seed, "weights": study.network.weights_seed}
    return {name: seed == "cell" for name, seed in own.items()}


def _block(cells: pd.DataFrame, measure: Measure) -> Array:
    """Return a measure as (backends, initializers, seeds), of the seeds that every group finished."""
    table = cells.assign(value=values(cells, measure))
    wide = table.pivot_table("value", ["backend", "initializer"], "seed", dropna=False).dropna(axis=1)
    shape = (cells["backend"].nunique(), cells["initializer"].nunique(), wide.shape[1])
    return wide.to_numpy(np.float64).reshape(shape) if wide.size == np.prod(shape) else np.empty((0, 0, 0))


def _sources(block: Array, streams: Sequence[str]) -> list[dict[str, object]]:
    """Return a row per source of the spread in a block: its standard deviation, with its interval over seeds."""
    seeds = np.arange(block.shape[2])
    sources = ["backend", "initializer", "backend × initializer", " + ".join(streams) or "nothing"]
    rows = [
        {"source": source, "sd": sd, "low": low, "high": high, "seeds": len(seeds)}
        for source, sd, low, high in zip(sources, _deviations(block, seeds), *_interval(block, seeds), strict=True)
    ]
    return rows if len(streams) == STREAMS else rows[-1:]


def _deviations(block: Array, seeds: NDArray[np.int64]) -> Array:
    return np.sqrt(components(block[:, :, seeds]))


def _interval(block: Array, seeds: NDArray[np.int64]) -> tuple[Array, Array]:
    from scipy import stats

    found = stats.bootstrap(
        (seeds,),
        lambda drawn: _deviations(block, drawn),
        vectorized=False,
        method="percentile",
        confidence_level=inference.CONFIDENCE,
        n_resamples=inference.BAND_RESAMPLES // 2,
        rng=np.random.default_rng(inference.BOOTSTRAP_SEED),
    ).confidence_interval
    return np.asarray(found.low), np.asarray(found.high)


def defaults(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return how much of the backends' difference comes from each framework's own way of drawing weights.

    Where `weights` is a factor, cells have either native weights, drawn by each framework itself, or shared ones, which
    both backends copy from one draw. There is one row per measure, initializer and level of the other factors. native
    and shared: the mean difference between the first backend and the second one under either kind of weights.
    difference: the mean of native - shared over seeds, with its 95 % interval, low and high. p: the p-value of no
    difference, after Holm over the initializers. n: the number of seeds.

    The table is empty where `weights` is no factor. It is empty, too, where the recipes of the backends differ, because
    then the difference comes from the recipes.
    """
    crossed = {*study.factors.get("weights", ())} == {"native", "shared"} and len(study.backends) == 2
    if not crossed or any(study.at(levels).backend_differences() for levels in study.levels()):
        return pd.DataFrame()
    by = [name for name in factors(cells) if name != "weights"]
    found = [
        _native_less_shared(part, measure, study.backends).assign(**key, measure=measure.name)
        for key, part in parts(cells, by)
        for measure in measures(part, study.margins)
    ]
    return pd.concat(found, ignore_index=True)[[*by, *DEFAULTS]]


def _native_less_shared(cells: pd.DataFrame, measure: Measure, backends: Sequence[str]) -> pd.DataFrame:
    """Return a row per initializer: the backends' difference under native weights, under shared ones, and between."""
    table = cells.assign(value=values(cells, measure))
    wide = table.pivot_table("value", "initializer", ["weights", "backend", "seed"], dropna=False, sort=False)
    wide = wide.reindex(cells["initializer"].unique())
    first, second = backends
    native, shared = (wide[each][first] - wide[each][second] for each in ("native", "shared"))
    own = Differences.of((native - shared).to_numpy(np.float64), measure.step)
    rows = pd.DataFrame({"native": native.mean(axis=1), "shared": shared.mean(axis=1)}).reset_index()
    return rows.assign(difference=own.mean, low=own.low, high=own.high, n=own.n, p=inference.holm(own.p_zero()))
