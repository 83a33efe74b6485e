"""Pairing: who is compared with whom in a benchmark, and over what their claims are controlled together.

A pair is two initializers in one backend and level, or one initializer in two backends or in two runs. A family
(`family.py`) is all pairs of one backend and level by one measure, or all initializers between two backends, or two
runs, in one level by one measure. The families of all backends and primary measures of a level are controlled together,
so that a run makes few false claims as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

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
from tasks.core.statistics.family import Grid, finishing, judged
from tasks.core.statistics.measures import factors, lucky, measures, parts, real
from tasks.core.statistics.verdicts import NEVER, NOT_COMPARABLE, TURNED, UNDECIDED, seeds_needed

Key = tuple[object, ...]


@dataclass(frozen=True)
class Couples:
    """Which of some rivals are compared: rivals[left[i]] against rivals[right[i]]."""

    rivals: list[str]
    left: list[int]
    right: list[int]

    @classmethod
    def of_all(cls, rivals: list[str]) -> "Couples":
        """Return each two of two rivals or more.

        >>> Couples.of_all(["a", "b", "c"]).right
        [1, 2, 2]
        """
        left, right = zip(*combinations(range(len(rivals)), 2), strict=True)
        return cls(rivals, list(left), list(right))


@dataclass(frozen=True)
class Terms:
    """On what terms pairs are judged.

    margins: those that the study sets, by measure. backends: the number of backends whose false verdicts are controlled
    together. look: 1 for the first benchmark that judges the question, 2 for the next one with other seeds, and so on.
    """

    margins: Mapping[str, float]
    backends: int
    look: int = 1


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
    pair has a hole, one more row compares how often the two finish; its measure is FINISHED. look: as in `Terms`.
    """
    terms = Terms(margins, cells["backend"].nunique(), look)
    found = [rows for key, family in parts(cells, ["backend", *factors(cells)]) for rows in _pairs(key, family, terms)]
    return _framed(found, ["backend", *factors(cells), *COMPARED])


def _pairs(key: Mapping[str, Any], family: pd.DataFrame, terms: Terms) -> Iterator[pd.DataFrame]:
    rivals = list(family["initializer"].unique())
    if len(rivals) > 1:
        couples = Couples.of_all(rivals)
        left, right = (pd.Index(rivals)[places] for places in (couples.left, couples.right))
        for rows in _by_measure(family, family["initializer"], couples, terms):
            yield rows.assign(left=left[rows.index], right=right[rows.index], **key)


def _by_measure(cells: pd.DataFrame, rivals: pd.Series, couples: Couples, terms: Terms) -> Iterator[pd.DataFrame]:
    """Yield the rows of a family by each measure, and by how often cells finish if some do not.

    rivals: of each cell the one that it belongs to.
    """
    sides = couples.left, couples.right
    for measure in measures(cells, terms.margins):
        if measure.of_classes and real(cells):
            continue
        families, grid = controlled(measure, terms.backends), Grid.of(cells, rivals, measure, couples.rivals)
        yield judged(grid, *sides, measure, families=families, look=terms.look).assign(measure=measure.name)
    if (cells["status"] != "finished").any():
        grid = Grid.of(cells, rivals, RANKED_MEASURES[0], couples.rivals)
        yield finishing(grid, *sides, look=terms.look).assign(measure=FINISHED.name)


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
    said = zip(pairs["verdict"], pairs["more_seeds"], pairs["left_out"], strict=True)
    rows = dict(zip(zip(*(pairs[name] for name in (*keys, *COMPARED)), strict=True), said, strict=True))
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


def _against(best: str, initializer: str, key: Key, rows: Mapping[Key, tuple[str, float, int]]) -> str:
    """Return an initializer's verdict against the best one.

    rows: verdict, more_seeds and left_out of pairs by (key, left, right).
    """
    if initializer == best or not best:
        return "best" if best else ""
    turned = (*key, best, initializer) in rows
    verdict, more_seeds, left_out = rows[(*key, best, initializer) if turned else (*key, initializer, best)]
    if verdict == UNDECIDED:
        return f"{UNDECIDED} ({seeds_needed(more_seeds)})"
    seen = TURNED.get(verdict, verdict) if turned else verdict
    return f"{NEVER} (0 of {left_out})" if seen == NEVER else seen


def backends(study: Study, cells: pd.DataFrame, *, look: int = 1) -> pd.DataFrame:
    """Return one row per initializer, level and measure: the study's first backend against its second one.

    The columns are those of `pairs`, with the first backend as left. Where the recipes of the backends differ, the
    verdict is NOT_COMPARABLE.
    """
    if len(study.backends) < 2:
        return _framed([], [*factors(cells), *COMPARED_BY_INITIALIZER])
    rows = _between(cells, factors(cells), "backend", study.backends, Terms(study.margins, 1, look))
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
    return _between(cells, by, "run", ("second", "first"), Terms(margins, cells["backend"].nunique()))


def _between(cells: pd.DataFrame, by: Sequence[str], column: str, named: Sequence[str], terms: Terms) -> pd.DataFrame:
    """Return one row per initializer, measure and value of `by`: of two values of a column, the first is left."""
    found: list[pd.DataFrame] = []
    for key, family in parts(cells, by):
        initializers = list(family["initializer"].unique())
        left = list(range(len(initializers)))
        order = [f"{side} {each}" for side in named for each in initializers]
        couples = Couples(order, left, [len(initializers) + at for at in left])
        rows = _by_measure(family, family[column] + " " + family["initializer"], couples, terms)
        found += [each.assign(initializer=pd.Index(initializers)[each.index], **key) for each in rows]
    return _framed(found, [*by, *COMPARED_BY_INITIALIZER])
