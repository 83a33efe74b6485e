"""The studies that ship reproduce what the literature knows: their claims hold, here over fewer seeds than in a run."""

import importlib
import time

import pytest

from flows import studies
from tasks import tracking
from tasks.core.statistics import checks
from tasks.core.training import batch as training
from tasks.core.design.study import Platform

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
def test_claims_hold(folder, name, backend, seeds):
    """Trained, recorded and read back, a study's cells bear out every one of its claims."""
    study = studies.load(name).model_copy(update={"seeds": seeds, "backends": (backend,)})
    framework = importlib.import_module(f"tasks.backends.{backend}")
    outcomes = []
    for levels in study.levels():
        cells = [cell for cell in study.cells() if cell.levels == levels]
        outcomes += training.train(framework, study, cells, clock=time.perf_counter)
    with tracking.benchmark(study, {}, {}) as benchmark:
        run_ids = tracking.record(benchmark, study, HERE, outcomes, {})
        judged = checks.judge(study.checks, tracking.read(benchmark, study, run_ids))
    assert len(judged) == len(study.checks)
    assert [line for line in checks.lines(judged) if not line.startswith("Held: ")] == []
