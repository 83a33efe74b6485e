"""Findings: all that a benchmark's cells allow one to say."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from tasks.core.design.columns import RANKED_MEASURES
from tasks.core.design.grid import Picks
from tasks.core.design.initializers import Backend
from tasks.core.design.study import Study
from tasks.core.statistics import checks, pairing, ranks, spread, table, tuning
from tasks.core.statistics.measures import factors
from tasks.core.statistics.notes import notes
from tasks.core.statistics.profiles import Profiles, profiles
from tasks.core.statistics.ranks import Ranking, rankings
from tasks.core.statistics.standing import Standing, standings
from tasks.core.statistics.survival import Reaching, reaching

OWN, CONTROLS = "study", "controls"  # in the table of checks, whether a claim is the study's or its controls'


@dataclass(frozen=True, eq=False)
class Findings:
    """A study with its cells, one row each, and all that was made of them.

    judged: the study's claims, as `checks.judge` returns them. controls: the claims of its controls, or None without
    controls. tuning_cells: the cells by which initializers have picked, none if nothing is tuned. look: 1 for
    the first benchmark that judges this question, 2 for the next one with other seeds, and so on. Each of the others is
    documented at the function of the same name, `comparison` at `table.compare`.
    """

    study: Study
    cells: pd.DataFrame
    judged: pd.DataFrame
    controls: pd.DataFrame | None
    look: int
    comparison: pd.DataFrame
    pairs: pd.DataFrame
    backends: pd.DataFrame
    defaults: pd.DataFrame
    rankings: list[Ranking]
    reaching: list[Reaching]
    profiles: list[Profiles]
    spread: pd.DataFrame
    tuning_cells: pd.DataFrame
    tuned: pd.DataFrame
    over_rates: pd.DataFrame

    @classmethod
    def of(
        cls,
        study: Study,
        cells: pd.DataFrame,
        judged: pd.DataFrame,
        controls: pd.DataFrame | None = None,
        tuning_cells: pd.DataFrame | None = None,
        *,
        look: int = 1,
    ) -> "Findings":
        """Return the findings of cells with the columns `columns.CELLS`."""
        picking = pd.DataFrame() if tuning_cells is None else tuning_cells
        tuned = tuning.tuned(study, picking)
        pairs = pairing.pairs(cells, study.margins, look=look)
        return cls(
            study=study,
            cells=cells,
            judged=judged,
            controls=controls,
            look=look,
            comparison=tuning.with_picks(pairing.against_best(table.compare(cells), pairs), tuned),
            pairs=pairs,
            backends=pairing.backends(study, cells, look=look),
            defaults=spread.defaults(study, cells),
            rankings=rankings(cells, pairs),
            reaching=reaching(cells),
            profiles=profiles(cells),
            spread=spread.spread(study, cells),
            tuning_cells=picking,
            tuned=tuned,
            over_rates=tuning.over_rates(study, pairs),
        )

    @cached_property
    def standings(self) -> dict[tuple[Backend, str], list[Standing | None]]:
        """How the initializers stand in each place of a backend, by the backend and the name of a ranked measure."""
        names, found = factors(self.cells), {}
        for backend in self.study.backends:
            rows, pairs = (each[each["backend"] == backend] for each in (self.comparison, self.pairs))
            for measure in RANKED_MEASURES:
                found[backend, measure.name] = standings(rows, pairs, names, measure)
        return found

    @cached_property
    def picks(self) -> Picks:
        """What each group has picked of the setting that the study tunes."""
        return tuning.picks(self.study, self.tuning_cells)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables by name; those that the study does not ask for are left out."""
        controls = [] if self.controls is None else [self.controls.assign(part=CONTROLS)]
        always = {
            "cells": self.cells,
            "comparison": self.comparison,
            "pairs": self.pairs,
            "backends": self.backends,
            "ranks": ranks.ranks_table(self.rankings),
            "checks": pd.concat([self.judged.assign(part=OWN), *controls]),
        }
        asked = {
            "defaults": self.defaults,
            "spread": self.spread,
            "tuning": self.tuning_cells,
            "picks": self.tuned,
            "rates": self.over_rates,
        }
        return always | {name: rows for name, rows in asked.items() if len(rows)}

    @property
    def misbehaved(self) -> list[str]:
        """The claims of the controls that do not hold, or could not be tested."""
        return [] if self.controls is None else checks.not_held(self.controls)

    @cached_property
    def notes(self) -> list[str]:
        """What became of each claim, and what a reader has to know to read the comparison."""
        return [
            *checks.lines(self.judged),
            *notes(self.study, self.cells),
            *tuning.notes(self.study, self.tuned),
        ]
