"""What initializers pick for themselves before they are compared, and how much a verdict depends on the learning rate.

At one recipe an initializer can be ahead because the recipe suits it. A fair comparison tunes every competitor alike,
with a budget that is told, and on data that do not judge (Bouthillier et al., 2021; Dahl et al., 2023, AlgoPerf).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tasks.core.design.columns import BY_VALUE, COMPARED, OVER_RATES, RANKED, TITLES
from tasks.core.design.grid import UNTUNED, Picks
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics.measures import factors
from tasks.core.statistics.verdicts import BETTER, NOT_COMPARABLE, UNDECIDED, WORSE

RATE = "recipe.learning_rate"
LISTED = 4  # of picks or pairs that a sentence names
AT_ONE_RECIPE = "at one recipe"
NOWHERE = (UNDECIDED, NOT_COMPARABLE)


def tuned(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return one row per backend, level, initializer and value of the tuned setting, with the columns `BY_VALUE`.

    cells: the cells of `study.tuning()`. score: the mean over seeds of what the study tunes by, score_sd its standard
    deviation, over the cells that finished. picked: the value has the best score of its group; a value at which fewer
    cells finished comes after the others, and of equals the first is picked. edge: the value is picked, and it is the
    smallest or the largest of its grid.
    """
    if study.tune is None:
        return pd.DataFrame()
    name = short(study.tune.setting)
    keys = ["backend", *(factor for factor in factors(cells) if factor != name), "initializer"]
    finished = cells["status"] == "finished"
    score, failed = cells[study.tune.by].where(finished), cells["status"] == "failed"
    table = cells.assign(value=cells[name], score=score, ran=finished, broke=failed)
    by_value = table.groupby([*keys, "value"], sort=False)
    found = by_value.agg(
        score=("score", "mean"),
        score_sd=("score", "std"),
        finished=("ran", "sum"),
        failed=("broke", "sum"),
        cells=("ran", "size"),
    ).reset_index()
    lower_is_better = study.tune.by == "validation_loss"
    ranked = found.sort_values(["finished", "score"], ascending=[False, lower_is_better], kind="stable")
    picked = found.index.isin(ranked.drop_duplicates(keys).index)
    ends = found["value"].isin([min(study.tune.values), max(study.tune.values)])
    return found.assign(picked=picked, edge=picked & ends)[[*keys, *BY_VALUE]]


def picks(study: Study, cells: pd.DataFrame) -> Picks:
    """Return what each group has picked; the cells are those of `study.tuning()`."""
    if study.tune is None:
        return UNTUNED
    rows = tuned(study, cells)
    chosen = rows[rows["picked"]]
    levels = zip(*([(factor, level) for level in chosen[short(factor)]] for factor in study.factors), strict=True)
    groups = zip(chosen["backend"], levels if study.factors else [()] * len(chosen), chosen["initializer"], strict=True)
    by_value = {value: (study.tune.setting, value) for value in study.tune.values}  # as the study has them, not pandas
    return {group: by_value[value] for group, value in zip(groups, chosen["value"], strict=True)}


def _keys(rows: pd.DataFrame) -> list[str]:
    """Return the columns that identify backend, levels and initializer."""
    return [name for name in rows.columns if name not in BY_VALUE]


def with_picks(comparison: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the comparison with what each group has picked, in the columns `picked` and `edge`, if there are picks."""
    if rows.empty:
        return comparison
    keys = _keys(rows)
    chosen = rows.loc[rows["picked"], [*keys, "value", "edge"]].rename(columns={"value": "picked"})
    return comparison.merge(chosen, on=keys, how="left")


def over_rates(study: Study, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per pair, measure and level of the other factors: at how many learning rates its verdict holds.

    pairs: as `pairing.pairs` returns them. The columns are `OVER_RATES`. verdict: the one that the left initializer
    has at most rates, *undecided* if it has none at any. holds: at how many rates; rates: of how many. reversed: left
    is better at one rate and worse at another one. The table is empty if the learning rate is no factor.
    """
    if RATE not in study.factors or pairs.empty:
        return pd.DataFrame()
    keys = ["backend", *(short(factor) for factor in study.factors if factor != RATE), *COMPARED]
    rows = [(*key, *_holding(verdicts)) for key, verdicts in pairs.groupby(keys, sort=False)["verdict"]]
    return pd.DataFrame(rows, columns=[*keys, *OVER_RATES])


def _holding(verdicts: pd.Series) -> tuple[str, int, int, bool]:
    counts = verdicts[~verdicts.isin(NOWHERE)].value_counts()
    verdict, holds = (str(counts.index[0]), int(counts.iloc[0])) if len(counts) else (UNDECIDED, 0)
    return verdict, holds, len(verdicts), bool({BETTER, WORSE} <= {*counts.index})


def standpoint(study: Study) -> str:
    """Return in a few words under what settings initializers are compared.

    >>> standpoint(Study()), standpoint(Study(factors={"recipe.epochs": (5, 50)}))
    ('at one recipe', 'at each of 2 recipes')
    """
    if study.tune:
        return f"each at its best {study.tune.title}"
    if RATE in study.factors:
        return f"at each of {len(study.factors[RATE])} learning rates"
    recipes = {study.at(levels).recipe for levels in study.levels()}
    return f"at each of {len(recipes)} recipes" if len(recipes) > 1 else AT_ONE_RECIPE


def sentences(study: Study, rows: pd.DataFrame, over: pd.DataFrame) -> Iterator[str]:
    """Yield how initializers were tuned and which picks are at an edge, or at how many rates the verdicts hold."""
    if study.tune and len(rows):
        yield _budget(study, rows)
        yield from _unsure(rows)
        yield from _at_edges(rows)
    for (backend, measure), part in over.groupby(["backend", "measure"], sort=False) if len(over) else ():
        if measure in RANKED:
            yield _held(str(backend), str(measure), part)


def _budget(study: Study, rows: pd.DataFrame) -> str:
    assert study.tune  # noqa: S101  # for the type checker: only such a study has rows
    values, spent = study.tune.values, int(rows["cells"].sum())
    lost = spent - int(rows["finished"].sum())
    holes = f" {lost} of them did not finish; a value at which cells are lost is picked last." if lost else ""
    return (
        f"Each at its best: every initializer picked its own {study.tune.title}, of {len(values)} values from "
        f"{min(values):g} to {max(values):g}, by the mean {study.tune.by.replace('_', ' ')} over {study.tune.seeds} "
        f"seeds that the comparison does not use. Tuning took {spent} cells, the comparison {study.size}.{holes}"
    )


def _unsure(rows: pd.DataFrame) -> Iterator[str]:
    """Yield how many picks have a score that another value's score equals within the standard error of the pick's."""
    keys = _keys(rows)
    chosen = rows.loc[rows["picked"], [*keys, "score", "score_sd", "finished"]]
    others = rows[~rows["picked"]].merge(chosen, on=keys, suffixes=("", "_picked"))
    error = others["score_sd_picked"] / np.sqrt(others["finished_picked"])
    near = others[(others["score"] - others["score_picked"]).abs() <= error].drop_duplicates(keys)
    if len(near):
        yield (
            f"{len(near)} of {len(chosen)} picks are uncertain: another value scores the same within one standard "
            "error. More seeds to tune on would pick more surely."
        )


def _at_edges(rows: pd.DataFrame) -> Iterator[str]:
    edges = rows[rows["edge"]]
    if len(edges):
        named = edges[[*_keys(rows), "value"]].itertuples(index=False, name=None)
        names = [f"{' '.join(map(str, key))} ({value:g})" for *key, value in named]
        yield f"At the edge of the grid, so that a wider one may serve them better: {_few(names)}."


def _held(backend: str, measure: str, part: pd.DataFrame) -> str:
    """Return at how many learning rates the verdicts of one backend and measure hold."""
    decided = part[part["holds"] > 0]
    always = int((decided["holds"] == decided["rates"]).sum())
    turned = decided[decided["reversed"]]
    names = [f"{left} against {right}" for left, right in zip(turned["left"], turned["right"], strict=True)]
    return (
        f"{backend}, by {TITLES[measure]}: {len(decided)} of {len(part)} pairs have a verdict at some learning rate, "
        f"and {always} of these at all {part['rates'].max()}. Reversed between rates: {_few(names) or 'none'}."
    )


def _few(names: Sequence[str]) -> str:
    """Return a few names, and how many more there are.

    >>> _few(["a", "b"]), _few(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c, d and 1 more')
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def notes(study: Study, rows: pd.DataFrame) -> Iterator[str]:
    """Yield what a reader has to know of the settings under which initializers are compared."""
    if study.tune is None:
        yield (
            f"Initializers are compared {standpoint(study)}. If each had its own best recipe, the order "
            "could differ: a study with `tune` compares them so."
        )
        return
    yield (
        "picked: the value that the initializer picked for itself; edge: the smallest or largest of the grid. Pairs of "
        "initializers, and the two backends, are compared each at its own value."
    )
    if differing := _differing(rows, study.backends):
        yield f"The backends picked different values under {_few(differing)}."


def _differing(rows: pd.DataFrame, backends: Sequence[str]) -> list[str]:
    """Return the levels and initializers for which the backends have picked different values."""
    chosen = rows[rows["picked"]]
    keys = [name for name in rows.columns if name not in (*BY_VALUE, "backend")]
    values = chosen.groupby(keys, sort=False)["value"].nunique()
    names = [" ".join(map(str, key if isinstance(key, tuple) else (key,))) for key in values.index[values > 1]]
    return names if len(backends) > 1 else []
