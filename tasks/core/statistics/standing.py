"""Standings: how the initializers of one place stand by one measure, seen from the one that does best.

A place is a backend with a level of every factor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from tasks.core.design.columns import Measure
from tasks.core.statistics.measures import lucky
from tasks.core.statistics.verdicts import BETTER, EQUIVALENT, UNDECIDED, WORSE, turned


@dataclass(frozen=True)
class Standing:
    """The initializers of a place by a measure.

    best: the best mean, by the column `Measure.centre`, among those that are worse than no other. rivals: one row per
    pair of `best` with another initializer, seen from `best`: its `rival`, and the columns `columns.JUDGED`. idle:
    initializers of which less than half of the cells finished, which are no rivals.
    """

    measure: Measure
    best: str
    rivals: pd.DataFrame
    idle: list[str]

    @classmethod
    def of(cls, group: pd.DataFrame, pairs: pd.DataFrame, measure: Measure) -> "Standing | None":
        """Return the standing, given a place's rows of the comparison and its pairs; None if all are idle."""
        able = group[~lucky(group)].dropna(subset=measure.centre)
        names = list(
            able.sort_values(measure.centre, ascending=not measure.higher_is_better, kind="stable")["initializer"]
        )
        if not names:
            return None
        here = pairs[(pairs["measure"] == measure.name) & pairs["left"].isin(names) & pairs["right"].isin(names)]
        beaten = {*here.loc[here["verdict"] == WORSE, "left"], *here.loc[here["verdict"] == BETTER, "right"]}
        best = next((name for name in names if name not in beaten), names[0])
        return cls(measure, best, seen_from(best, here), [each for each in group["initializer"] if each not in names])

    def rows(self, *verdicts: str) -> pd.DataFrame:
        """Return the rivals on which the best has one of these verdicts."""
        return self.rivals[self.rivals["verdict"].isin(verdicts)]

    @cached_property
    def worse(self) -> list[str]:
        """The rivals that the best is better than."""
        return list(self.rows(BETTER)["rival"])

    @cached_property
    def alike(self) -> list[str]:
        """The rivals that are equivalent to the best, or undecided with a difference within the margin."""
        estimate, margin = (self.rivals[name].to_numpy(np.float64) for name in ("estimate", "margin"))
        contrast = self.measure.scaled(estimate)
        small = np.abs(contrast) <= self.measure.scaled_margin(margin)
        open_ = self.rivals["verdict"] == UNDECIDED
        return list(self.rivals.loc[(self.rivals["verdict"] == EQUIVALENT) | (open_ & small), "rival"])

    @cached_property
    def seeming(self) -> pd.DataFrame:
        """The rivals that look worse by more than the margin, without a verdict."""
        undecided = self.rows(UNDECIDED)
        return undecided[~undecided["rival"].isin(self.alike)]

    @cached_property
    def open(self) -> bool:
        """Whether the place has several initializers and no verdict at all."""
        return len(self.rivals) > 0 and len(self.rows(UNDECIDED)) == len(self.rivals)


def seen_from(initializer: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of an initializer with its rivals, one row each, as the initializer is the left one.

    The column `rival` names the other side; the differences that are soonest to settle come first.
    """
    left, right = pairs[pairs["left"] == initializer], pairs[pairs["right"] == initializer]
    seen = [left.assign(rival=left["right"]), turned(right).assign(rival=right["left"])]
    rows: pd.DataFrame = pd.concat(seen).sort_values("more_seeds")
    return rows


def standings(
    comparison: pd.DataFrame, pairs: pd.DataFrame, names: Sequence[str], measure: Measure
) -> "list[Standing | None]":
    """Return the standing of each place of one backend; names: the columns of the factors."""
    if not names:
        return [Standing.of(comparison, pairs, measure)]
    own = dict(iter(pairs.groupby(list(names), sort=False)))
    groups = comparison.groupby(list(names), sort=False)
    return [Standing.of(group, own.get(key, pairs[:0]), measure) for key, group in groups]
