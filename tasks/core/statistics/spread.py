"""Where differences come from: how much each source contributes to the spread over seeds and between the backends.

A seed decides three random streams: the split, the order of visits and the weights. A study can redraw one of them:
then two cells of one seed, one redrawn and the other not, differ in this stream alone.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from tasks.core.design.columns import DEFAULTS, RANKED_MEASURES, SPREAD, Measure
from tasks.core.design.parts import Level, OneSeed
from tasks.core.design.settings import CellSettings, short
from tasks.core.design.study import Study
from tasks.core.statistics import inference
from tasks.core.statistics.inference import Array, Differences
from tasks.core.statistics.measures import factors, measures, parts, values

DEVIATIONS = ("sd", "low", "high", "least", "most")
STREAMS = ("split", "batch order", "weights")
Levels = tuple[Level, ...]


def components(values: Array) -> Array:
    """Return the variances, (3,), that backend, initializer and their interplay give to values (a, b, n).

    a backends, b initializers and n seeds are crossed. The interplay is the part of a group's mean that backend and
    initializer do not explain by themselves. A seed gives the same split and order to all groups, so it moves them
    together. This common part is not part of the error against which the interplay is tested, which is only what is
    left of a value without its group's mean and its seed's mean.

    The model has random effects, estimated by the method of moments (Searle, Casella & McCulloch, 1992, chapter 4). A
    variance that comes out negative is 0. An axis with one entry has variance 0.

    >>> components(np.array([[[1.0, 2.0, 3.0]], [[2.0, 3.0, 4.0]]])).round(3)
    array([0.5, 0. , 0. ])
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
    return np.array([max(part, 0.0) for part in found])


def deviations(squares: Array) -> tuple[Array, Array, Array]:
    """Return the root mean squares, (k,), of k rows of n squares, and the low and high ends of their 95 % intervals.

    The ends are the roots of those of the mean square, see `inference.intervals`, cut at the largest square: of few
    squares, most of which are ties and 0, the interval of the mean can be far too long.

    >>> sd, low, high = deviations(np.array([[1.0, 4.0, 4.0, 1.0, 1.0, 4.0]]))
    >>> sd.round(2), (low < sd).item(), (sd < high).item()
    (array([1.58]), True, True)
    """
    low, high = inference.intervals(squares, seed=inference.BOOTSTRAP_SEED)
    return np.sqrt(squares.mean(1)), np.sqrt(np.maximum(low, 0.0)), np.sqrt(np.minimum(high, squares.max(1)))


def spread(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per measure of RANKED, level and source: the standard deviation that the source gives to it.

    A level that redraws one stream has one row. Let d be the difference between what a seed has in this level and in
    the level that redraws nothing, for one backend and initializer. The SD is √(mean of d² / 2), over seeds and groups:
    the SD that the stream alone gives to a cell, averaged over what the other two streams draw (the total effect;
    Jansen, 1999). `least` and `most` are the ends of what single seeds give, over the groups: a study that holds the
    other streams at one seed would find such a number. The SDs of the streams overlap: where streams act together, more
    than one counts what they do.

    The level that redraws nothing has a row for all streams together, which is the standard deviation over seeds,
    pooled over the groups, and rows for backend, initializer and their interplay. low and high are the ends of the
    95 % interval over seeds.

    Of a measure that is compared by ratios all numbers are geometric standard deviations: factors, exp of the SD of the
    logarithms.

    The table is empty if no level redraws one stream alone.
    """
    rows = [
        {"measure": measure.name, "level": _title(levels), "scale": measure.scale, **_unscaled(row, measure)}
        for base, redrawn in _redrawn(study).items()
        for measure in RANKED_MEASURES
        for levels, row in _of_base(study, cells, base, redrawn, measure)
    ]
    return pd.DataFrame(rows, columns=list(SPREAD)) if rows else pd.DataFrame()


def _unscaled(row: Mapping[str, object], measure: Measure) -> dict[str, object]:
    """Return a row with its standard deviations on the measure's scale."""
    found = {name: measure.unscaled(np.asarray(row[name])).item() for name in DEVIATIONS if name in row}
    return {**row, **found}


def _title(levels: Levels) -> str:
    return " · ".join(f"{short(factor)} {value}" for factor, value in levels)


def _redrawn(study: Study) -> dict[Levels, dict[Levels, str]]:
    """Return by level without a redrawn stream the levels that differ from it in one redrawn stream, with its name."""
    plain = {_drawn_once(study.at(levels)): levels for levels in study.levels() if not _names(study.at(levels))}
    found: dict[Levels, dict[Levels, str]] = {}
    for levels in study.levels():
        names = _names(study.at(levels))
        base = plain.get(_drawn_once(study.at(levels)))
        if base is not None and len(names) == 1:
            found.setdefault(base, {})[levels] = names[0]
    return found


def _drawn_once(study: Study) -> CellSettings:
    """Return the settings of a study's cells as they are if nothing is redrawn."""
    split, recipe, network = study.split, study.recipe, study.network
    return study.model_copy(
        update={
            "split": split.model_copy(update={"seed": _once(split.seed)}),
            "recipe": recipe.model_copy(update={"order_seed": _once(recipe.order_seed)}),
            "network": network.model_copy(update={"weights_seed": _once(network.weights_seed)}),
        }
    ).settings(study.backends[0], ())


def _once(seed: OneSeed) -> OneSeed:
    return "cell" if seed == "redrawn" else seed


def _streams(study: Study) -> dict[str, OneSeed]:
    """Return the seed that a study gives to each random stream."""
    return dict(zip(STREAMS, (study.split.seed, study.recipe.order_seed, study.network.weights_seed), strict=True))


def _names(study: Study) -> list[str]:
    """Return the random streams that a study redraws."""
    return [name for name, seed in _streams(study).items() if seed == "redrawn"]


def told(row: pd.Series) -> str:
    """Return the standard deviation of a row of `spread` with its interval, as a sentence has it.

    >>> told(pd.Series({"scale": "difference", "sd": 0.0402, "low": 0.035, "high": 0.046}))
    '0.040 [0.035, 0.046]'
    >>> told(pd.Series({"scale": "ratio", "sd": 1.22, "low": 1.15, "high": 1.31}))
    '×1.22 [×1.15, ×1.31]'
    """
    sd, low, high = (number(row[name], row["scale"]) for name in ("sd", "low", "high"))
    return f"{sd} [{low}, {high}]"


def number(sd: float, scale: object) -> str:
    """Return a standard deviation, or a factor, as a sentence has it."""
    return f"×{sd:.2f}" if scale == "ratio" else f"{sd:.3f}"


def held(study: Study) -> list[str]:
    """Return the random streams that a study holds at one seed."""
    return [name for name, seed in _streams(study).items() if isinstance(seed, int)]


def _of_base(
    study: Study, cells: pd.DataFrame, base: Levels, redrawn: Mapping[Levels, str], measure: Measure
) -> Iterator[tuple[Levels, dict[str, object]]]:
    """Yield the rows of one measure with their levels: of a level that redraws nothing, and of those that redraw."""
    once = _wide(cells, base, measure)
    varying = [name for name in STREAMS if name not in held(study.at(base))]
    for row in _overall(once.dropna(axis=1), " + ".join(varying)):
        yield base, row
    for levels, stream in redrawn.items():
        between = (_wide(cells, levels, measure) - once).dropna(axis=1)
        if between.shape[1] > 1:
            yield levels, _row(stream, np.square(between.to_numpy(np.float64)) / 2)


def _wide(cells: pd.DataFrame, levels: Levels, measure: Measure) -> pd.DataFrame:
    """Return a measure of the cells of one level on its own scale: groups in rows, seeds in columns, NaN in holes."""
    at = np.logical_and.reduce([cells[short(factor)] == level for factor, level in levels])
    table = cells[at].assign(value=lambda own: measure.scaled(values(own, measure).to_numpy(np.float64)))
    return table.pivot_table("value", ["backend", "initializer"], "seed", dropna=False)


def _row(source: str, squares: Array) -> dict[str, object]:
    """Return the row of a source, given the squares, (groups, seeds), whose mean is its variance."""
    by_seed = squares.mean(0)
    sd, low, high = (ends.item() for ends in deviations(by_seed[None]))
    least, most = np.sqrt(by_seed.min()), np.sqrt(by_seed.max())
    return {"source": source, "sd": sd, "low": low, "high": high, "least": least, "most": most, "seeds": len(by_seed)}


def _overall(once: pd.DataFrame, streams: str) -> Iterator[dict[str, object]]:
    """Yield the rows of backend, initializer, their interplay, and all streams together, of a level's values.

    They are over the seeds that every group finished.
    """
    n = once.shape[1]
    shape = (once.index.get_level_values(0).nunique(), once.index.get_level_values(1).nunique(), n)
    if n < 2 or once.size != np.prod(shape):
        return
    block = once.to_numpy(np.float64).reshape(shape)
    sources = ("backend", "initializer", "backend × initializer")
    for source, sd, low, high in zip(sources, np.sqrt(components(block)), *_interval(block), strict=True):
        yield {"source": source, "sd": sd, "low": low, "high": high, "seeds": n}
    squares = np.square(block - block.mean(2, keepdims=True)) * n / (n - 1)
    yield {**_row(streams, squares.reshape(-1, n)), "least": np.nan, "most": np.nan}


def _interval(block: Array) -> tuple[Array, Array]:
    """Return the ends of the components' 95 % percentile bootstrap intervals over seeds."""
    from scipy import stats

    found = stats.bootstrap(
        (np.arange(block.shape[2]),),
        lambda drawn: np.sqrt(components(block[:, :, drawn])),
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
    and shared: the mean difference between the first backend and the second one under either kind of weights, or their
    geometric mean ratio, as `scale` says. estimate: the mean of native - shared over seeds, or the geometric mean of
    native / shared, with its 95 % interval, low and high. p: the p-value of no difference, after Holm over the
    initializers. n: the number of seeds.

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
    table = cells.assign(value=measure.scaled(values(cells, measure).to_numpy(np.float64)))
    wide = table.pivot_table("value", "initializer", ["weights", "backend", "seed"], dropna=False, sort=False)
    wide = wide.reindex(cells["initializer"].unique())
    first, second = backends
    native, shared = (wide[each][first] - wide[each][second] for each in ("native", "shared"))
    own = Differences.of((native - shared).to_numpy(np.float64), measure.step)
    found = {"native": native.mean(axis=1), "shared": shared.mean(axis=1)}
    found |= {"estimate": own.mean, "low": own.low, "high": own.high}
    rows = pd.DataFrame({name: measure.unscaled(np.asarray(each)) for name, each in found.items()}, wide.index)
    return rows.reset_index().assign(scale=measure.scale, n=own.n, p=inference.holm(own.p_zero()))
