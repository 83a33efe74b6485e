"""Outcomes of cells as if they had been trained, and a study's cells in the record, on the platform of `keys`."""

import numpy as np

from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.training.bits import Bits
from tasks.core.training.outcome import Curves, Outcome, Predictions, Trained
from tasks.tracking import recording, reuse
from tests.shared import samples
from tests.shared.keys import HERE, keys_of

TOGETHER = Study(name="together", initializers=("zeros",), backends=("pytorch",), seeds=2)
"""The study of several processes that start in one folder."""


def outcome(cell, accuracies=(0.3, 0.8, 0.95), loss=0.2):
    """Return the outcome of a cell whose accuracies and loss at the start and after each epoch are given."""
    accuracy = np.array(accuracies, np.float32)
    curves = Curves(
        np.full(len(accuracy), loss, np.float32), np.full(len(accuracy), 0.4, np.float32), accuracy, accuracy
    )
    predictions = Predictions(np.arange(3), np.arange(3), np.eye(3, dtype=np.float32))
    bits = Bits({"w": f"{cell.seed:08x}", "b": "00000000"}, {"w": "0a0a0a0a"}, {"w": "ffffffff", "b": "f0f0f0f0"})
    weights = {"w": np.ones((2, 3), np.float32)}
    return Outcome.of(cell, Trained(curves, predictions, weights, samples.signals(), 0.5, bits=bits))


def record(benchmark, study, outcomes, tags=None, platform=HERE):
    """Record outcomes of a study's cells; return the run id of each of these cells."""
    outcomes = list(outcomes)
    run_ids = {}
    for batch in grid.batches(study, platform):
        own = [each for each in outcomes if each.cell in batch.keys]
        run_ids |= recording.record(benchmark, batch, own, tags or {})
    keys = keys_of(study, platform)
    return {each.cell: run_ids[keys[each.cell]] for each in outcomes}


def find(study, platform=HERE):
    """Return the run id of each of a study's cells that the record has."""
    known = reuse.find(study.name, grid.batches(study, platform)).run_ids
    return {cell: known[key] for cell, key in keys_of(study, platform).items() if key in known}
