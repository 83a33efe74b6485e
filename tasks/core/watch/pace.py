"""The measures of speed that a benchmark records, and what a night watch takes from them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

PACED = ("backend", "ended", "processor_seconds", "reference_seconds", "reference_processor_seconds")
"""Columns of trained cells: `ended` is the time at which a cell was recorded, in seconds since 1970."""

REFERENCE = "speed_reference_ms"
CELLS, STARTUP = "speed_cells_per_second", "speed_startup_s"
TRAIN, REFERENCES = "speed_train_ms_per_cell_", "speed_train_references_per_cell_"  # a backend's name follows

TITLES = TRAINING, CELL, START = ("training a cell", "a cell, of the whole run,", "start-up")
"""What a night watch calls the measures that it follows."""


class Measure(NamedTuple):
    """What a night watch follows: a measure of speed, and the backend it is about, or an empty string."""

    backend: str
    title: str


def measured(cells: pd.DataFrame, begun: float) -> dict[str, float]:
    """Return the metrics of a benchmark's speed from the cells that it has trained itself; none without such cells.

    begun: when the benchmark began, in seconds since 1970.
    """
    if cells.empty:
        return {}
    found = {
        REFERENCE: 1000 * cells["reference_seconds"].mean(),
        CELLS: len(cells) / (cells["ended"].max() - begun),
        STARTUP: cells["ended"].min() - begun,
    }
    for backend, own in cells.groupby("backend"):
        found[f"{TRAIN}{backend}"] = 1000 * own["processor_seconds"].mean()
        found[f"{REFERENCES}{backend}"] = own["processor_seconds"].mean() / own["reference_processor_seconds"].mean()
    return {name: float(value) for name, value in found.items()}


def followed(metrics: Mapping[str, float]) -> dict[Measure, float]:
    """Return what a night watch follows, in times of the reference, so that less is faster in each.

    metrics: those of a benchmark's run; without those of speed there is nothing to follow.

    >>> metrics = {"speed_reference_ms": 20.0, "speed_cells_per_second": 5.0, "speed_startup_s": 30.0}
    >>> [(*measure, value) for measure, value in followed(metrics).items()]
    [('', 'a cell, of the whole run,', 10.0), ('', 'start-up', 1500.0)]
    """
    if not metrics.get(REFERENCE):
        return {}
    trained = {
        Measure(name.removeprefix(REFERENCES), TRAINING): value
        for name, value in metrics.items()
        if name.startswith(REFERENCES)
    }
    whole = {CELL: 1000 / metrics[CELLS], START: 1000 * metrics[STARTUP]}
    found = trained | {Measure("", title): value / metrics[REFERENCE] for title, value in whole.items()}
    return {measure: value for measure, value in found.items() if np.isfinite(value) and value > 0}
