"""The studies that ship reproduce what the literature knows: their claims hold, here over fewer seeds than in a run."""

import importlib
import time

import pytest

from flows import studies
from tasks.core.design import grid
from tasks.core.design.grid import Platform
from tasks.core.statistics import checks
from tasks.core.training import batch
from tasks.tracking import reading, recording

HERE = Platform({"pytorch": "torch", "keras": "keras"}, "cpu", "0.1", {"digits": "a", "iris": "b"})
RUNS = [
    ("controls", "pytorch", 2),
    ("controls", "keras", 2),
    ("deep-relu", "pytorch", 3),
    ("saturation", "pytorch", 2),
    ("isometry", "pytorch", 2),
    ("edge-of-chaos", "pytorch", 1),
    ("remedies", "pytorch", 1),
]


@pytest.mark.parametrize(("name", "backend", "seeds"), RUNS, ids=[f"{name} {backend}" for name, backend, _ in RUNS])
def test_claims_hold(stored, name, backend, seeds):
    """Trained, recorded and read back, a study's cells bear out every one of its claims."""
    study = studies.load(name).model_copy(update={"seeds": seeds, "backends": (backend,)})
    framework = importlib.import_module(f"tasks.backends.{backend}")
    run_ids = {}
    with recording.benchmark(study, {}, {}) as benchmark:
        for each in grid.batches(study, HERE):
            outcomes = batch.train(framework, each.settings, each.cells, clock=time.perf_counter)
            recorded = recording.record(benchmark, each, outcomes, {})
            run_ids |= {cell: recorded[key] for cell, key in each.keys.items()}
        judged = checks.judge(study.checks, reading.read(benchmark, study, run_ids))
    assert len(judged) == len(study.checks)
    assert [line for line in checks.lines(judged) if not line.startswith("Held: ")] == []
