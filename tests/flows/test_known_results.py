"""The studies that ship reproduce what the literature knows: their claims hold, here over fewer seeds than in a run."""

import importlib
import time

import pandas as pd
import pytest

from flows import studies
from tasks.core.design import grid
from tasks.core.design.settings import short
from tasks.core.statistics import checks
from tasks.core.training import batch
from tasks.tracking import reading, recording
from tests.shared.keys import HERE
from tests.shared.records import record

RUNS = [
    ("controls", "pytorch", 2),
    ("controls", "keras", 2),
    ("deep-relu", "pytorch", 3),
    ("saturation", "pytorch", 2),
    ("isometry", "pytorch", 2),
    ("edge-of-chaos", "pytorch", 1),
    ("remedies", "pytorch", 1),
]


FEWER = {"edge-of-chaos": 0.4, "remedies": 0.6, "saturation": 0.6}
"""Share of the rows that are held out, where there are many: fewer steps show the same."""


def claimed(study):
    """Return the cells of a study that one of its claims is about."""
    cells = grid.cells(study)
    axes = [
        {"initializer": cell.initializer, **{short(factor): level for factor, level in cell.levels}} for cell in cells
    ]
    asked = [where for check in study.checks for where in (check.where, check.against) if where is not None]
    return {cells[at] for where in asked for at in checks._where(pd.DataFrame(axes), where).index}


@pytest.mark.parametrize(("name", "backend", "seeds"), RUNS, ids=[f"{name} {backend}" for name, backend, _ in RUNS])
def test_claims_hold(stored, pytorch_set_up, name, backend, seeds):
    """Trained, recorded and read back, the cells that a study's claims are about bear out every one of these."""
    study = studies.load(name)
    split = study.split.model_copy(update={"test_fraction": FEWER.get(name, study.split.test_fraction)})
    study = study.model_copy(update={"seeds": seeds, "backends": (backend,), "split": split})
    framework, meant = importlib.import_module(f"tasks.backends.{backend}"), claimed(study)
    with recording.benchmark(study, {}, {}) as benchmark:
        outcomes = [
            outcome
            for each in grid.batches(study, HERE)
            if (cells := [cell for cell in each.cells if cell in meant])
            for outcome in batch.train(framework, each.settings, cells, clock=time.perf_counter)
        ]
        run_ids = record(benchmark, study, outcomes)
        judged = checks.judge(study.checks, reading.read(benchmark, study, run_ids))
    assert len(judged) == len(study.checks)
    assert [line for line in checks.lines(judged) if not line.startswith("Held: ")] == []
