"""A study that tunes the learning rate, and the cells by which its initializers pick."""

from functools import cache

import pandas as pd

from tasks.core.design import grid
from tasks.core.design.columns import cell_columns
from tasks.core.design.study import Study
from tasks.core.statistics import checks
from tasks.core.statistics.findings import Findings
from tests.shared.samples import noisy

STUDY = Study(
    initializers=("he_normal", "zeros"),
    seeds=3,
    split={"validation_fraction": 0.25},
    tune={"recipe.learning_rate": (0.001, 0.01, 0.1), "seeds": 2},
)
LOSSES = {"he_normal": {0.001: 0.4, 0.01: 0.2, 0.1: 0.9}, "zeros": {0.001: 1.3, 0.01: 1.2, 0.1: 1.1}}
"""The mean validation loss at each learning rate."""


def tuning_cells(losses=LOSSES):
    """Return the cells of `STUDY.tuning()`, one row each; by test loss every initializer is best at the lowest rate."""
    rows = [
        {
            "study": "iris",
            "backend": cell.backend,
            "learning_rate": (rate := cell.levels[0][1]),
            "initializer": cell.initializer,
            "seed": cell.seed,
            "status": "finished",
            "validation_loss": losses[cell.initializer][rate] + 0.1 * (cell.seed - 1_000_000.5),
            "validation_accuracy": 0.5,
            "test_loss": rate,
            "test_accuracy": 1 - rate,
            "run_id": "r",
            "reason": "",
        }
        for cell in grid.cells(STUDY.tuning())
    ]
    return pd.DataFrame(rows, columns=cell_columns(["learning_rate"], validation=True))


@cache
def tuned_findings():
    """Return the findings of noisy cells of STUDY, with what its initializers have picked."""
    frame = noisy(3, STUDY.initializers)
    return Findings.of(STUDY, frame, checks.judge((), frame), None, tuning_cells())
