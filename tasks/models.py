"""Register the champion of each backend as a model, which MLflow can serve and anybody can load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from safetensors.numpy import save

from tasks import fence, machine, user_code
from tasks.core.design import grid
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings, CsvFile, Data
from tasks.core.statistics.champion import champion
from tasks.core.statistics.findings import Findings
from tasks.core.training import datasets
from tasks.core.training.datasets import Dataset, Floats, Fold
from tasks.core.training.outcome import first_line
from tasks.core.training.own import own
from tasks.core.training.weights import fans
from tasks.tracking import reading, registry
from tasks.tracking.store import Benchmark
from tasks.trainers import pool
from tasks.trainers.process import framework

EXAMPLE_ROWS = 5
SCALING = ("mean", "scale", "y_mean", "y_scale")  # of train rows: the model takes (x - mean) / scale, and y likewise
RETRIES = 1  # a trainer that died is replaced


@dataclass(frozen=True)
class Candidate:
    """A cell whose model will be registered under a name; run_id: the id of the cell's run, or the cell's address."""

    name: str
    settings: CellSettings
    cell: Cell
    run_id: str


@task(task_run_name="crown {backend}", retries=RETRIES, cache_policy=NO_CACHE)
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
    """Register a cell's model from a trainer, because only a trainer holds the framework; return the version."""
    backend = candidate.cell.backend
    with pool.current().lease(backend) as trainer:
        return trainer.call(_log, candidate, benchmark, machine.requirements(backend))


def _log(candidate: Candidate, benchmark: Benchmark, requirements: Sequence[str]) -> str:
    """Build a cell's model from its recorded weights, and log it; this runs in the process of a trainer."""
    cell, settings = candidate.cell, candidate.settings
    user_code.held(settings.dataset)
    data = datasets.load(settings.dataset)
    fold = datasets.divide(data, settings.split, cell.seed)
    weights = reading.weights(benchmark, candidate.run_id)
    if settings.own:
        return _log_own(candidate, benchmark, weights, fold, data, requirements)
    sizes = fans(settings.perceptron, data.problem.shape[0], data.problem.outputs)
    return registry.log_model(
        benchmark,
        cell.backend,
        framework(cell.backend).deployed(settings.perceptron, sizes, weights, fold),
        candidate.name,
        candidate.run_id,
        example=data.x[fold.test_rows[:EXAMPLE_ROWS]],
        given=data.problem.given,
        step=settings.recipe.epochs,
        requirements=requirements,
        metadata={"cell": str(cell), "features": list(data.features), "test_rows": fold.test_rows.tolist()},
    )


def _log_own(
    candidate: Candidate,
    benchmark: Benchmark,
    weights: Mapping[str, Floats],
    fold: Fold,
    data: Dataset,
    requirements: Sequence[str],
) -> str:
    """Log a model of a user's own; where MLflow cannot keep it without pickle, keep its weights, builder and source."""
    cell, settings = candidate.cell, candidate.settings
    network = own(settings)
    reference, builder = network.build[cell.backend], user_code.builder(network, cell.backend)
    program = framework(cell.backend).own(builder, settings, data.problem)
    program.build(0, fold.x_train[:EXAMPLE_ROWS])
    about = {
        "cell": str(cell),
        "test_rows": fold.test_rows.tolist(),
        "builder": reference,
        "code": network.code.get(cell.backend, ""),
        "options": dict(network.options),
        "as_built": list(program.layers.left),
    }
    try:
        model = framework(cell.backend).deployed_own(builder, data.problem, weights, fold)
        return registry.log_model(
            benchmark,
            cell.backend,
            model,
            candidate.name,
            candidate.run_id,
            example=data.x[fold.test_rows[:EXAMPLE_ROWS]],
            given=data.problem.given,
            step=settings.recipe.epochs,
            requirements=requirements,
            metadata=about,
        )
    except Exception as error:  # an exporter raises errors of many kinds where a model is beyond it
        reason = f"{type(error).__name__}: {first_line(error)}"
        sources = user_code.sources(reference) if ":" in reference else {}
        files = {f"code/{module.replace('.', '/')}.py": source.encode() for module, source in sources.items()}
        files["weights.safetensors"] = save(dict(weights))
        scaling = {name: np.asarray(getattr(fold, name)).tolist() for name in SCALING}
        return registry.log_parts(benchmark, candidate.name, candidate.run_id, reason, about | scaling, files)
