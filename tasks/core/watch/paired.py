"""Paired: tonight's cells of a study, beside the same cells in the nights that tonight is held against."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.core.design.columns import MEASURES, Measure
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics import tuning
from tasks.core.statistics.inference import Array
from tasks.core.statistics.measures import factors, measures, real, values
from tasks.core.statistics.side_by_side import differing
from tasks.core.watch.watched import Against

RECENT = 7  # nights of which the mean is a reference
ALL = "all initializers"

DIVERGED = "diverged"
IDENTITY = ("backend", "initializer", "seed", "status", "horizon", "test_rows")

Places = NDArray[np.intp]
Words = NDArray[np.object_]


@dataclass(frozen=True)
class Group:
    """Cells that are judged together: those of one initializer in a backend and level, or of all that it has.

    name: in words, `pytorch · depth 4 · he_normal`; places: the places of its cells among tonight's; whole: whether
    these are the cells of all initializers.
    """

    name: str
    places: Places
    whole: bool


@dataclass(frozen=True, eq=False)
class Level:
    """The cells of one backend and one level of every factor: their groups, all together first, and their measures."""

    groups: list[Group]
    measures: list[Measure]


@dataclass(frozen=True, eq=False)
class Cells:
    """A study's cells of one night, as a table with the columns `columns.CELLS`.

    picked: what the group of each cell has picked of the setting that the study tunes; None if it tunes nothing.
    """

    rows: pd.DataFrame
    picked: pd.Series | None = None

    @classmethod
    def of(cls, study: Study, rows: pd.DataFrame, picking: pd.DataFrame) -> "Cells":
        """Return the cells of a night; picking: the cells by which its initializers have picked, if they do."""
        return cls(rows, tuning.with_picks(rows, tuning.tuned(study, picking))["picked"] if study.tune else None)

    @cached_property
    def index(self) -> pd.MultiIndex:
        """What cells are paired by: backend, levels, initializer, seed, and what their group has picked."""
        names = self.rows[["backend", *factors(self.rows), "initializer", "seed"]]
        return pd.MultiIndex.from_frame(names if self.picked is None else names.assign(picked=self.picked))

    @cached_property
    def picks(self) -> dict[str, object]:
        """What each group has picked, by the group's name."""
        if self.picked is None:
            return {}
        cells, names = self.rows.to_dict("records"), factors(self.rows)
        groups = (f"{_level(cell, names)} · {cell['initializer']}" for cell in cells)
        return dict(zip(groups, self.picked, strict=True))

    @cached_property
    def scaled(self) -> dict[str, Array]:
        """Each repeatable measure of the cells, on the scale on which it is compared, (cells,) by its name."""
        kept = [each for each in MEASURES if each.repeatable]
        return {each.name: each.scaled(values(self.rows, each).to_numpy(np.float64)) for each in kept}

    @cached_property
    def status(self) -> Words:
        return self.rows["status"].to_numpy(object)

    @cached_property
    def state(self) -> Words:
        """The state of each cell: its health, or `diverged`; empty if the cell did not run."""
        health = self.rows["health"].to_numpy(object)
        return np.select([self.status == "finished", self.status == DIVERGED], [health, DIVERGED], "")


@dataclass(frozen=True, eq=False)
class Reference:
    """What tonight is held against: the cells of one night or of several, in the order of tonight's cells.

    If a night lacks a cell, all of the cell is NaN. nights: over how many nights a difference came about.
    """

    against: Against
    nights: int
    those: Sequence[Cells]


@dataclass(frozen=True, eq=False)
class Tonight:
    """One study of a night with comparable nights before it.

    recent: the nights since the baseline, newest first; the baseline is one of them while it is recent, and the first
    RECENT count. baseline: the night that was accepted last, so many nights ago as `age` says.
    """

    study: Study
    cells: Cells
    recent: Sequence[Cells] = ()
    baseline: Cells | None = None
    age: int = 1

    @cached_property
    def references(self) -> list[Reference]:
        """The last night, the recent nights and the baseline, as far as these are different nights."""
        recent = [self._paired(each) for each in self.recent[:RECENT]]
        found = [Reference("last night", 1, recent[:1])] if recent else []
        if len(recent) > 1:
            found.append(Reference("recent nights", len(recent), recent))
        if self.baseline is not None and (self.age > 1 or not recent):
            found.append(Reference("baseline", self.age, [self._paired(self.baseline)]))
        return found

    @property
    def single(self) -> list[Reference]:
        """The references that are one night; a mean of several has no states."""
        return [each for each in self.references if len(each.those) == 1]

    @property
    def repicked(self) -> list[str]:
        """A line for each group that has picked another value than last night."""
        if self.study.tune is None or not self.recent:
            return []
        return differing(f"Picked {self.study.tune.title}", self.recent[0].picks, self.cells.picks)

    def _paired(self, before: Cells) -> Cells:
        """Return a night's cells in the order of tonight's; comparable nights have the same grid.

        A group that has picked another value has no cells to pair: they were trained by another recipe.
        """
        if before.index.equals(self.cells.index):
            return before
        names = [name for name in before.index.names if name in before.rows]
        others = before.rows.drop(columns=names).set_axis(before.index)
        return Cells(others.reindex(self.cells.index).reset_index()[[*before.rows]])

    @cached_property
    def levels(self) -> list[Level]:
        """Tonight's cells by backend and level, with the margins of the last reference, which is the steadiest one."""
        cells = self.cells.rows.reset_index(drop=True)
        names = factors(cells)
        before = self.references[-1].those[0].rows.reset_index(drop=True) if self.references else cells
        known = before[[*IDENTITY, *names, *(each.name for each in MEASURES)]]
        found = []
        for grouped in cells.groupby(["backend", *names], sort=False).indices.values():
            places = np.asarray(grouped)
            own = known.iloc[places]
            judged = measures(own[own["status"].notna()], self.study.margins)
            those = [each for each in judged if each.repeatable and not (each.of_classes and real(own))]
            found.append(Level(_groups(cells, names, places), those))
        return found


def _level(cell: Mapping[Hashable, object], factors: Sequence[str]) -> str:
    """Return the backend and the levels of a cell in words."""
    return " · ".join([str(cell["backend"]), *(f"{short(name)} {cell[name]}" for name in factors)])


def _groups(cells: pd.DataFrame, names: Sequence[str], places: Places) -> list[Group]:
    words = _level(cells.iloc[places[0]].to_dict(), names)
    initializers = cells["initializer"].to_numpy()[places]
    own = [
        Group(f"{words} · {name}", places[initializers == name], whole=False) for name in dict.fromkeys(initializers)
    ]
    return [Group(f"{words} · {ALL}", places, whole=True), *own] if len(own) > 1 else own
