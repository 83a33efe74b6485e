"""The best cell of each backend as a model that MLflow serves and anybody loads."""

import importlib
from collections.abc import Callable, Sequence

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import machine, tracking, workers
from tasks.core.training import datasets
from tasks.core.design.initializers import Backend
from tasks.core.statistics.measures import best
from tasks.core.design.study import Cell, Study
from tasks.core.training.batch import Framework, fans
from tasks.tracking import Benchmark

EXAMPLE_ROWS = 5
RETRIES = 1  # a trainer that died is replaced


@task(task_run_name="crown {backend}", retries=RETRIES, cache_policy=NO_CACHE)
def crown(study: Study, backend: Backend, cells: pd.DataFrame, benchmark: Benchmark) -> str | None:
    """Register a backend's best cell as `initbench-<study>-<backend>`, its alias `champion`; return the version.

    A cell that is registered already is not registered again. None if no cell of the backend finished.
    """
    return register(study, backend, cells, benchmark, log)


def register(
    study: Study,
    backend: Backend,
    cells: pd.DataFrame,
    benchmark: Benchmark,
    log: Callable[[Study, Cell, Benchmark, str], str],
) -> str | None:
    """Do as `crown` says, with a model that is logged wherever its framework is; `log` returns its version."""
    place = best(cells, backend)
    if place is None:
        return None
    cell, row = study.cells()[place], cells.iloc[place]
    name, run_id = _name(study, backend), str(row["run_id"])
    version = tracking.version_of(benchmark, name, run_id)
    if version is None:
        version = log(study, cell, benchmark, run_id)
    words = (
        f"{cell}: test accuracy {row['test_accuracy']:.4f}, the best of {(cells['backend'] == backend).sum()} cells, "
        "and so flattered by having been chosen. Takes unscaled features, gives logits."
    )
    tracking.crown(benchmark, name, version, words)
    return version


def _name(study: Study, backend: Backend) -> str:
    return f"initbench-{study.name}-{backend}"


def log(study: Study, cell: Cell, benchmark: Benchmark, run_id: str) -> str:
    """Register a cell's model from a trainer, which alone holds the framework; return the version."""
    with workers.current().lease(cell.backend) as trainer:
        needed = machine.requirements(cell.backend)
        return trainer.call(_log, study, cell, benchmark, _name(study, cell.backend), run_id, needed)


def _log(study: Study, cell: Cell, benchmark: Benchmark, name: str, run_id: str, requirements: Sequence[str]) -> str:
    """Build a cell's model of its recorded weights and log it, in the process of a trainer."""
    framework: Framework = importlib.import_module(f"tasks.backends.{cell.backend}")
    at = study.at(cell.levels)
    data = datasets.load(at.dataset)
    fold = datasets.divide(data, at.split, cell.seed)
    sizes = fans(at.network, len(data.features), data.classes)
    model = framework.deployed(at.network, sizes, tracking.weights(benchmark, run_id), mean=fold.mean, scale=fold.scale)
    return tracking.log_model(
        benchmark,
        cell.backend,
        model,
        name,
        run_id,
        example=data.x[fold.test_rows[:EXAMPLE_ROWS]],
        classes=data.classes,
        step=at.recipe_for(cell.backend).epochs,
        requirements=requirements,
        metadata={"cell": str(cell), "features": list(data.features), "test_rows": fold.test_rows.tolist()},
    )
