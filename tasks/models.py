"""Register the champion of each backend as a model, which MLflow can serve and anybody can load."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State

from tasks import exports, fence, machine
from tasks.core.design import grid
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings, CsvFile, Data
from tasks.core.statistics.champion import champion
from tasks.core.statistics.findings import Findings
from tasks.core.training import datasets
from tasks.tracking import reading, registry
from tasks.tracking.store import Benchmark
from tasks.trainers import pool
from tasks.trainers.process import TrainerError

RETRIES = 1  # a trainer that died is replaced


@dataclass(frozen=True)
class Candidate:
    """A cell whose model will be registered under a name; run_id: the id of the cell's run, or the cell's address."""

    name: str
    settings: CellSettings
    cell: Cell
    run_id: str


def trainer_died(task: object, run: object, state: State) -> bool:  # noqa: ARG001  # Prefect's signature
    """Tell whether a task failed because its trainer died: if the store failed, a second model would be logged."""
    return isinstance(state.result(raise_on_failure=False), TrainerError)


@task(task_run_name="crown {backend}", retries=RETRIES, retry_condition_fn=trainer_died, cache_policy=NO_CACHE)
def crown(findings: Findings, backend: Backend, benchmark: Benchmark) -> str | None:
    """Register a backend's champion with the alias `champion` of the model `model_name`; return its version.

    A cell that is registered already keeps its version. If the backend has no champion, return None.
    """
    return register(findings, backend, benchmark, log)


def register(
    findings: Findings, backend: Backend, benchmark: Benchmark, log: Callable[[Candidate, Benchmark], str]
) -> str | None:
    """Do the work of `crown`; `log` builds and registers the model where the framework is, and returns its version."""
    fence.check()
    found, study = champion(findings, backend), findings.study
    if found is None:
        return None
    cell = grid.cells(study)[found.row]
    run_id = str(findings.cells["run_id"].iloc[found.row])
    settings = grid.settings_of(study, cell, findings.picks)
    candidate = Candidate(model_name(study.name, settings.dataset, backend), settings, cell, run_id)
    version = registry.version_of(benchmark, candidate.name, run_id) or log(candidate, benchmark)
    fence.check()
    words = found.describe(cell, study)
    if reason := registry.unexported(benchmark, candidate.name, version):
        words += f" {_kept(reason)}"
    registry.crown(benchmark, candidate.name, version, run_id, words, found.numbers)
    return version


def _kept(reason: str) -> str:
    return f"MLflow cannot load it as a model ({reason}): its weights, and the builder's name and source, are kept."


def unexported(benchmark: Benchmark) -> list[str]:
    """Return of each champion of a benchmark that is no MLflow model what is kept in its place, and why."""
    crowned = registry.crowned(benchmark)
    reasons = {version.name: version.tags.get(registry.UNEXPORTED) for version in crowned}
    return [f"The champion {name} is registered, but {_kept(reason)}" for name, reason in reasons.items() if reason]


def model_name(study: str, dataset: Data, backend: Backend) -> str:
    """Return the name of a study's models: a study that gets other data gets other models, too.

    A file is named by the start of its checksum, because its rows can change. The name of a dataset is left out if the
    study has the same one.

    >>> model_name("iris", "iris", "keras"), model_name("isometry", "digits", "keras")
    ('initbench-iris-keras', 'initbench-isometry-digits-keras')
    """
    kind = "csv" if isinstance(dataset, CsvFile) else "arrays"
    data = dataset if isinstance(dataset, str) else f"{kind}-{datasets.load(dataset).checksum[:8]}"
    parts = ["initbench", study, *([] if data == study else [data]), backend]
    return "-".join(parts)


def log(candidate: Candidate, benchmark: Benchmark) -> str:
    """Register a cell's model, which a trainer saves because it holds the framework; return the version."""
    cell, settings = candidate.cell, candidate.settings
    weights = reading.weights(benchmark, candidate.run_id)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "model")
        with pool.current().lease(cell.backend) as trainer:
            in_parts = trainer.call(exports.save, settings, cell, weights, machine.requirements(cell.backend), folder)
        if in_parts:
            return registry.log_parts(
                benchmark,
                candidate.name,
                candidate.run_id,
                reason=in_parts.reason,
                about=in_parts.about,
                files=in_parts.files,
            )
        return registry.log_model(benchmark, candidate.name, candidate.run_id, folder, settings.recipe.epochs)
