"""Bits: whether the cells of two nights are equal in every bit, and where they first differ.

In one environment they are equal: the same seed gives the same numbers. Where they are not, the first stage that
differs says what to look for. Start weights that differ come from the initializer. Gradients that differ at equal
weights come from the arithmetic. What differs only later has added up in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from tasks.core.design.columns import BITS
from tasks.core.statistics.measures import factors
from tasks.core.watch.watched import Against, Flag

KEY = "key"
PARAMETER, START, GRADIENT, END = BITS
SCORES = "scores"  # the stage of cells whose weights are equal, and what is measured of them is not
STAGES = (START, GRADIENT, END, SCORES)
WORDS = {
    START: "the start weights, {where}: the initializer changed",
    GRADIENT: "the first gradient, {where}: the arithmetic changed",
    END: "{where}: start weights and first gradients are equal, and differences add up in training",
    SCORES: "{where}: the weights are equal, and what is measured changed",
}


class Difference(NamedTuple):
    """Where a cell first differs: at which of STAGES, in which epoch, in which parameter or layer, in words.

    The epoch is infinite if no epoch shows the difference.
    """

    stage: int
    epoch: float
    where: str

    @property
    def words(self) -> str:
        return WORDS[STAGES[self.stage]].format(where=self.where)


@dataclass(frozen=True, eq=False)
class Recorded:
    """What a night has of a study's cells: of each trained cell the rows BITS and its history.

    cells: all cells by their keys, as `side_by_side.keyed` returns them. bits, history: with columns that name the
    cell, as they are read back. A cell of an earlier release has no bits.
    """

    cells: pd.DataFrame
    bits: pd.DataFrame
    history: pd.DataFrame

    def by_key(self, rows: pd.DataFrame, *needed: str) -> pd.DataFrame:
        """Return rows of cells with the cell's key, which is that of the same cell in another night, in `key`.

        needed: columns that a table without rows gets, too.
        """
        names = _names(self.cells)
        keys = self.cells[names].rename_axis(KEY).reset_index()
        return (rows if len(rows) else rows.reindex(columns=[*names, *needed]).astype(object)).merge(keys, on=names)


@dataclass(frozen=True, eq=False)
class Beside:
    """The cells that two nights have bits of.

    cells: one row each, with columns that name the cell. differences: where a cell first differs, by the cell's place
    in `cells`; of equal cells there is none.
    """

    cells: pd.DataFrame
    differences: dict[int, Difference]
    against: Against

    @property
    def equal(self) -> bool:
        """Whether all these cells are equal in every bit."""
        return not self.differences

    @property
    def flags(self) -> tuple[Flag, ...]:
        """A flag for each backend, level and initializer that has cells which differ."""
        return tuple(self._flags())

    def _flags(self) -> Iterator[Flag]:
        group = [str(name) for name in self.cells if name != "seed"]
        for values, cells in self.cells.groupby(group, sort=False):
            found = [self.differences[at] for at in cells.index if at in self.differences]
            if found:
                backend, *chosen, initializer = map(str, values)
                levels = [f"{name} {value}" for name, value in zip(group[1:-1], chosen, strict=True)]
                counted = f"{len(found)} of {len(cells)} cells are not bit-equal"
                yield Flag(
                    level="bits",
                    group=" · ".join([backend, *levels, initializer]),
                    measure="",
                    direction="changed",
                    against=self.against,
                    words=f"{counted}; the first difference is in {min(found).words}",
                )


def beside(before: Recorded, after: Recorded, against: Against = "last night") -> Beside:
    """Hold the cells of a night against those with the same keys of another one."""
    digests = _digests(before, after)
    shared = {*digests[KEY]}
    cells = after.cells.loc[[key for key in after.cells.index if key in shared], _names(after.cells)]
    apart = {stage: _first(digests, _unequal(digests, stage)) for stage in STAGES[:-1]}
    told = _told(before, after, shared)
    found = {at: _difference(key, apart, told) for at, key in enumerate(cells.index)}
    return Beside(cells.reset_index(drop=True), {at: each for at, each in found.items() if each}, against)


def _names(cells: pd.DataFrame) -> list[str]:
    """Return the columns that name a cell."""
    return ["backend", *factors(cells), "initializer", "seed"]


def _digests(before: Recorded, after: Recorded) -> pd.DataFrame:
    """Return the digests of both nights, with `_x` and `_y` after the names of the stages, one row per parameter."""
    one, other = (night.by_key(night.bits, *BITS)[[KEY, *BITS]] for night in (before, after))
    return one[one[KEY].isin(other[KEY])].merge(other, on=[KEY, PARAMETER], how="left")


def _unequal(both: pd.DataFrame, name: str) -> pd.Series:
    one, other = both[f"{name}_x"], both[f"{name}_y"]
    return (one != other) & ~(one.isna() & other.isna())


def _first(rows: pd.DataFrame, chosen: pd.Series) -> dict[str, str]:
    """Return by key the parameter in the first of its rows that are chosen."""
    firsts = rows[chosen].drop_duplicates(KEY)
    return dict(zip(firsts[KEY], firsts[PARAMETER], strict=True))


def _told(before: Recorded, after: Recorded, keys: set[str]) -> dict[str, tuple[float, str]]:
    """Return by key the first epoch in which anything differs, and in words the layer or the curve that does."""
    one, other = (night.by_key(night.history, "epoch") for night in (before, after))
    named = {KEY, "status", *_names(before.cells), *_names(after.cells)}
    told = [str(name) for name in one if name in other and name not in named]
    both = one[one[KEY].isin(keys)][[KEY, *told]].merge(other[[KEY, *told]], on=[KEY, "epoch"])
    unequal = {name: _unequal(both, name) for name in told if name != "epoch"}
    firsts = both[pd.DataFrame(unequal, both.index).any(axis=1)].drop_duplicates(KEY)
    return {
        key: (epoch, _where(epoch, [name for name, where in unequal.items() if where[at]]))
        for at, key, epoch in zip(firsts.index, firsts[KEY], firsts["epoch"], strict=True)
    }


def _where(epoch: float, unequal: list[str]) -> str:
    """Return an epoch with the first layer that differs in it or, if no layer does, a curve.

    >>> _where(3.0, ["test_loss", "gradient_norm/layer_002", "update_ratio/layer_001"])
    'epoch 3, layer 1'
    """
    layers = sorted(int(name.rpartition("_")[2]) for name in unequal if "/layer_" in name)
    return f"epoch {epoch:g}, layer {layers[0]}" if layers else f"epoch {epoch:g}, {unequal[0].replace('_', ' ')}"


def _difference(key: str, apart: dict[str, dict[str, str]], told: dict[str, tuple[float, str]]) -> Difference | None:
    """Return where a cell first differs.

    apart: for each stage of digests, by key, the first parameter that differs. told: what `_told` returns.
    """
    for at, stage in enumerate(STAGES[:2]):
        if key in apart[stage]:
            return Difference(at, 0, apart[stage][key])
    if key not in apart[END] and key not in told:
        return None
    epoch, where = told.get(key, (np.inf, f"the final weights, {apart[END].get(key)}"))
    return Difference(STAGES.index(END if key in apart[END] else SCORES), epoch, where)
