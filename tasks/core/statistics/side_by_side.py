"""Two benchmark runs side by side: what differs between them, and whether the answer changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from tabulate import tabulate

from tasks.core.design import grid
from tasks.core.design.columns import COMPARED, MEASURES, RANKED, RANKED_MEASURES, SIDE_BY_SIDE, TITLES
from tasks.core.design.grid import UNTUNED, Picks, Platform
from tasks.core.design.initializers import BACKENDS
from tasks.core.design.settings import source
from tasks.core.design.study import Study
from tasks.core.statistics import pairing
from tasks.core.statistics.findings import Findings
from tasks.core.statistics.measures import factors
from tasks.core.statistics.verdicts import TURNED, UNDECIDED, estimated, seeds_needed, turned

LISTED = 20  # changed verdicts that are told
RUNS = ("first", "second")
REVERSED = tuple(f"{before} before, {after} after" for before, after in TURNED.items())


@dataclass(frozen=True)
class SideBySide:
    """What two benchmarks found, and the environments in which they ran."""

    first: Findings
    second: Findings
    first_environment: Mapping[str, object]
    second_environment: Mapping[str, object]

    @cached_property
    def _keyed(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        one, other = self.first, self.second
        return keyed(one.study, one.cells, one.picks), keyed(other.study, other.cells, other.picks)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per cell of either run. A cell is in both runs if all its settings agree, whatever the platform.

        in: `first`, `second` or `both`. `<measure>_first` and `<measure>_second`: the measure in either run;
        `<measure>_difference`: second - first. equal: whether status and all measures but the train time agree in
        every digit.
        """
        one, other = self._keyed
        names = ["backend", *factors(self.first.cells), "initializer", "seed"]
        measured = ["status", *(measure.name for measure in MEASURES)]
        both = one[[*names, *measured]].merge(
            other[measured], how="outer", left_index=True, right_index=True, suffixes=("_first", "_second")
        )
        known = other.columns.intersection(names)
        both[known] = both[known].combine_first(other[known])
        both["seed"] = both["seed"].astype(int)
        both["in"] = np.where(
            both["status_second"].isna(), "first", np.where(both["status_first"].isna(), "second", "both")
        )
        for measure in MEASURES:
            both[f"{measure.name}_difference"] = both[f"{measure.name}_second"] - both[f"{measure.name}_first"]
        return both.assign(equal=_equal(both))[[*names, *SIDE_BY_SIDE]].reset_index(drop=True)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The second run against the first one under every initializer, over the cells that both runs have."""
        one, other = self._keyed
        shared = one.index.intersection(other.index, sort=False)
        parts = [rows.loc[shared].assign(run=run) for run, rows in zip(RUNS, (one, other), strict=True)]
        columns = [name for name in parts[0] if name in parts[1]]  # one run may have a factor that the other one lacks
        return pairing.runs(pd.concat([part[columns] for part in parts], ignore_index=True), self.first.study.margins)

    @cached_property
    def changed(self) -> list[str]:
        """A line for each pair of initializers that does not have the same verdict in both runs."""
        if not self._alike:
            return []
        keys = ["backend", *factors(self.first.cells), *COMPARED]
        one, other = self.first.pairs, self.second.pairs
        swapped = turned(other).rename(columns={"left": "right", "right": "left"})
        both = one.merge(pd.concat([other, swapped]), on=keys, suffixes=("_first", "_second"))
        return [
            f"{' · '.join(TITLES.get(row[key], str(row[key])) for key in keys[:-2])}: "
            f"{row['left']} against {row['right']}, {row['verdict_first']} before, {row['verdict_second']} after"
            for _, row in both[both["verdict_first"] != both["verdict_second"]].iterrows()
        ]

    @property
    def _alike(self) -> bool:
        """Whether both runs have pairs of initializers, and the same factors."""
        one, other = self.first, self.second
        return factors(one.cells) == factors(other.cells) and len(one.pairs) > 0 and len(other.pairs) > 0

    @property
    def answer(self) -> str:
        """Whether the answer changes from the first run to the second one, in a sentence."""
        if not self._alike:
            return "Verdicts between initializers cannot be compared: the runs have no pairs under the same factors."
        reversed_ = [line for line in self.changed if line.endswith(REVERSED)]
        if reversed_:
            return f"The answer changes: {len(reversed_)} of {len(self.changed)} changed verdicts are reversed."
        if self.changed:
            return f"No verdict is reversed; verdicts that differ between the runs: {len(self.changed)}."
        return "The answer does not change: every verdict between initializers is the same."

    def _best(self) -> Iterator[str]:
        names = ["backend", *factors(self.first.cells)]
        if not self._alike:
            return
        for measure in RANKED_MEASURES:
            column = f"{measure.name}_against_best"
            one, other = (
                findings.comparison.loc[findings.comparison[column] == "best"].set_index(names)["initializer"]
                for findings in (self.first, self.second)
            )
            for key in one.index.intersection(other.index):
                where = " · ".join(map(str, key if isinstance(key, tuple) else (key,)))
                before, after = one.loc[key], other.loc[key]
                word = "still" if before == after else f"{before} before, now"
                yield f"Best {measure.centre_title} in {where}: {word} {after}."

    @property
    def details(self) -> list[str]:
        """How many cells the runs share, how their environments and studies differ, and what is best in each."""
        counts = self.cells["in"].value_counts()
        equal = int(self.cells["equal"].sum())
        return [
            f"{counts.get('both', 0)} cells are in both runs, {equal} of them equal in every digit; "
            f"{counts.get('first', 0)} only in the first, {counts.get('second', 0)} only in the second.",
            *differing("Environment", self.first_environment, self.second_environment),
            *differing("Study", self.first.study.model_dump(mode="json"), self.second.study.model_dump(mode="json")),
            *self._best(),
        ]

    @property
    def keys(self) -> list[str]:
        """The backend and the factors that both runs have, by which verdicts are given."""
        return [name for name in ("backend", *factors(self.first.cells)) if name in self.verdicts]

    @property
    def differ(self) -> bool:
        """Whether the runs share cells, of which some differ."""
        return not self.verdicts.empty and not self.cells.loc[self.cells["in"] == "both", "equal"].all()

    def as_text(self) -> str:
        """Return everything that differs, as a terminal shows it."""
        lines = [
            *self.details,
            self.answer,
            *(f"  {line}" for line in self.changed[:LISTED]),
        ]
        if len(self.changed) > LISTED:
            lines.append(f"  and {len(self.changed) - LISTED} more")
        return "\n".join([*lines, "", self._table()])

    def _table(self) -> str:
        rows = self.verdicts
        if rows.empty:
            return "No cell is in both runs, so nothing is paired."
        if self.cells.loc[self.cells["in"] == "both", "equal"].all():
            return "The cells that are in both runs are equal, so there is nothing to compare between them."
        ranked = rows[rows["measure"].isin(RANKED)]
        keys = list(rows.columns[: list(rows.columns).index("initializer") + 1])
        shown = [
            {
                **{key: TITLES.get(row[key], row[key]) for key in keys},
                "second against first": estimated(row),
                "the second is": row["verdict"],
                "to settle": seeds_needed(row["more_seeds"]) if row["verdict"] == UNDECIDED else "",
                "seeds": row["n"],
            }
            for _, row in ranked.iterrows()
        ]
        return str(tabulate(shown, headers="keys", disable_numparse=True))


def _equal(both: pd.DataFrame) -> pd.Series:
    """Tell of each cell of either run whether status and all measures that are repeatable agree."""
    alike = both["status_first"] == both["status_second"]
    for measure in MEASURES:
        before, after = both[f"{measure.name}_first"], both[f"{measure.name}_second"]
        if measure.repeatable:
            alike &= (before == after) | (before.isna() & after.isna())
    return alike


def keyed(study: Study, cells: pd.DataFrame, picks: Picks = UNTUNED) -> pd.DataFrame:
    """Return a study's cells by a key of everything that decides their outcome, apart from the platform.

    Two cells can have the same key, if their levels differ only in a setting that has no effect. Only the first of them
    is returned.
    """
    nowhere = Platform(dict.fromkeys(BACKENDS, ""), "", {}, "", {source(each): source(each) for each in study.datasets})
    keys = {cell: key for batch in grid.batches(study, nowhere, picks) for cell, key in batch.keys.items()}
    named = cells.set_index(pd.Index([keys[cell] for cell in grid.cells(study)]))
    return named[~named.index.duplicated()]


def differing(title: str, first: Mapping[str, object], second: Mapping[str, object], path: str = "") -> list[str]:
    """Return a line for every entry of two nested mappings that differs.

    >>> differing("Environment", {"packages": {"torch": "2.12"}}, {"packages": {"torch": "2.13"}})
    ['Environment, packages.torch: 2.12 before, 2.13 after']
    """
    lines = []
    for name in dict.fromkeys([*first, *second]):
        before, after = first.get(name, "none"), second.get(name, "none")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differing(title, before, after, f"{path}{name}.")
        elif before != after:
            lines.append(f"{title}, {path}{name}: {before} before, {after} after")
    return lines
