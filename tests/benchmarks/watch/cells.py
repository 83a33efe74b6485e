"""Nights that are drawn from real cells: those of `rounding.npz`, which `rounding.py` has trained in many ways."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from tasks.core.design import grid
from tasks.core.design.columns import cell_columns
from tasks.core.training import datasets
from tasks.core.watch.paired import RECENT, Cells, Tonight
from tests.benchmarks.watch.rounding import FAULTS, FILE, MEASURED, STATES, STUDIES

SEEDS = {"iris": 10, "digits": 5, "brink": 10, "normalized": 10}  # of a night, drawn from those that were trained
WATCHED = ("iris", "digits", "brink", "normalized")


@cache
def stored():
    with np.load(FILE) as found:
        return dict(found)


@cache
def trained(name, backend, way):
    """Return the cells of a backend that were trained in a way, as a table with the columns of a study's cells."""
    study = STUDIES[name]
    state, *measured = stored()[f"{name}/{backend}/{way}"].astype(np.float64).T
    cells = [cell for cell in grid.cells(study) if cell.backend == backend]
    words = np.array(STATES)[state.astype(int)]
    test_rows = len(datasets.divide(datasets.load(study.dataset), study.split, 0).y_test)
    return pd.DataFrame(
        {
            "study": name,
            "backend": backend,
            "initializer": [cell.initializer for cell in cells],
            "seed": [cell.seed for cell in cells],
            "status": np.where(words == "diverged", "diverged", "finished"),
            "health": np.where(words == "diverged", "exploding", words),
            **dict(zip(MEASURED, measured, strict=True)),
            "horizon": study.recipe.epochs,
            "test_rows": float(test_rows),
            "reason": "",
        },
        columns=cell_columns(()),
    )


@cache
def ways(name, backend):
    """Return the ways in which a backend's cells of a study were trained, in each of which they round otherwise."""
    return [
        way
        for start, way in (key.rsplit("/", 1) for key in stored())
        if start == f"{name}/{backend}" and way not in FAULTS
    ]


def night(name, seeds, chosen):
    """Return the cells of a study with these seeds, each backend as it was trained in its way."""
    parts = [trained(name, backend, way) for backend, way in zip(STUDIES[name].backends, chosen, strict=True)]
    return pd.concat([part[part["seed"].isin(seeds)] for part in parts], ignore_index=True)


def mixed(rng, name, seeds):
    """Return the cells of a study with these seeds, each of them as it was trained in a way of its own."""
    found = []
    for backend in STUDIES[name].backends:
        every = [trained(name, backend, way) for way in ways(name, backend)]
        every = [part[part["seed"].isin(seeds)] for part in every]
        cells = len(every[0])
        rows = rng.integers(len(every), size=cells) * cells + np.arange(cells)
        found.append(pd.concat(every, ignore_index=True).iloc[rows])
    return pd.concat(found, ignore_index=True)


@dataclass(frozen=True)
class Series:
    """A study's nights, the oldest first, which is the baseline."""

    name: str
    nights: list[Cells]

    def tonight(self, at):
        """Return night number `at`, with the nights before it."""
        recent = self.nights[max(at - RECENT, 0) : at][::-1]
        return Tonight(STUDIES[self.name], self.nights[at], recent, self.nights[0], at)


def quiet(rng, name, nights, *, cellwise):
    """Draw a study's seeds, and so many nights that nothing but rounding separates.

    A night has one way of rounding in each backend, as after an upgrade; or, cellwise, another one in every cell, as on
    a machine that is not deterministic.
    """
    study = STUDIES[name]
    seeds = rng.permutation(study.seeds)[: SEEDS[name]]

    def drawn():
        if cellwise:
            return mixed(rng, name, seeds)
        return night(name, seeds, [rng.choice(ways(name, backend)) for backend in study.backends])

    return Series(name, [Cells(drawn()) for _ in range(nights)])
