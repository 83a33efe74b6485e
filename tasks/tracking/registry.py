"""The registry of models: MLflow keeps the champion of each backend as a model that anybody can load."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from tasks.tracking import parts, places, store
from tasks.tracking.store import BENCHMARK, Benchmark

CHAMPION = "champion"
FOLDER = 8  # letters of a cell's id or key that name its folder
UNEXPORTED = "initbench.unexported"  # tag of a version that is no MLflow model: why
CELL = "initbench.cell_run"  # tag of a version: the id of its cell's run, or the cell's address


def version_of(benchmark: Benchmark, model: str, run_id: str) -> str | None:
    """Return the version under which a cell's model is already registered, or None if it is not.

    run_id: the id of the cell's run, or the cell's address: several cells can be in the run that it names.
    """
    query = f"name = '{model}' AND run_id = '{parts.run_of(run_id)}'"
    versions = store.client(benchmark.uri).search_model_versions(query)
    found = [each for each in versions if each.tags.get(CELL, each.run_id) == run_id]
    return str(found[0].version) if found else None


def log_model(benchmark: Benchmark, name: str, cell: str, folder: Path, step: int) -> str:
    """Log the model that `flavors.save` has saved in a folder with the run that holds its cell, and register it.

    Return its version. MLflow shows the metrics of epoch `step` and the params of the run as the model's. If a step
    fails, MLflow shows the model as failed.

    cell: the id of the cell's run, or the cell's address.
    """
    client, run_id = store.client(benchmark.uri), parts.run_of(cell)
    run = client.get_run(run_id)
    logged = client.create_logged_model(benchmark.experiment_id, "model", run_id, params=run.data.params)
    status = LoggedModelStatus.FAILED
    try:
        _tell_ids(folder, logged)
        client.log_model_artifacts(logged.model_id, str(folder))
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step)])
        client.log_batch(run_id, [*_of_model(client, run, logged.model_id, step)])
        status = LoggedModelStatus.READY
    finally:
        client.finalize_logged_model(logged.model_id, status)
    # not by the address models:/<id>, which MLflow looks up in the store of this process, whatever the client's
    version = _registered(client, name, logged.artifact_location, run_id, logged.model_id)
    versions = json.dumps([{"name": name, "version": version}])  # MLflow's page links the model with its version by it
    client.set_logged_model_tags(logged.model_id, {MLFLOW_MODEL_VERSIONS: versions})
    return version


def _tell_ids(folder: Path, logged: LoggedModel) -> None:
    """Write into a saved model by which ids MLflow knows it."""
    saved = Model.load(str(folder))
    saved.model_id = saved.model_uuid = logged.model_id
    saved.run_id, saved.artifact_path = logged.source_run_id, logged.artifact_location
    saved.save(str(folder / MLMODEL_FILE_NAME))


def _of_model(client: MlflowClient, run: Run, model_id: str, step: int) -> Iterator[Metric]:
    """Yield what a run has measured at a step as measured of a model."""
    for measured in run.data.metrics:
        for at in client.get_metric_history(run.info.run_id, measured):
            if at.step == step:
                yield Metric(at.key, at.value, at.timestamp, at.step, model_id=model_id, run_id=run.info.run_id)


def _registered(client: MlflowClient, name: str, location: str, run_id: str, model_id: str | None = None) -> str:
    """Register a version of a model, which is made if there is none of this name; return the version."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    return str(client.create_model_version(name, location, run_id, model_id=model_id).version)


def log_parts(
    benchmark: Benchmark,
    name: str,
    cell: str,
    *,
    reason: str,
    about: Mapping[str, object],
    files: Mapping[str, bytes],
) -> str:
    """Register a cell's model as what it is made of, and return its version: weights, and the code that builds it.

    cell: the id of the cell's run, or the cell's address. reason: why it is no MLflow model. A folder of the run gets
    `model.json`, which says what is there and why, and the files by their paths.
    """
    client, run_id = store.client(benchmark.uri), parts.run_of(cell)
    folder = f"model-{cell.rpartition(store.MARK)[2][:FOLDER]}"  # several cells can be in one run
    told = dict(about) | {"not exported": reason}
    location = f"{client.get_run(run_id).info.artifact_uri}/{folder}"
    places.put(location, benchmark.uri, {"model.json": json.dumps(told, indent=2, default=str).encode(), **files})
    version = _registered(client, name, location, run_id)
    client.set_model_version_tag(name, version, UNEXPORTED, reason)
    return version


def unexported(benchmark: Benchmark, name: str, version: str) -> str | None:
    """Return why a version is no MLflow model, None if it is one."""
    found: str | None = store.client(benchmark.uri).get_model_version(name, version).tags.get(UNEXPORTED)
    return found


def crowned(benchmark: Benchmark) -> list[ModelVersion]:
    """Return the model versions that this benchmark made champions."""
    return [*store.client(benchmark.uri).search_model_versions(f"tags.`{BENCHMARK}` = '{benchmark.run_id}'")]


def crown(
    benchmark: Benchmark, model: str, version: str, run_id: str, words: str, numbers: Mapping[str, float]
) -> None:
    """Describe a version of a registered model by what a benchmark found, and give it the alias `champion`.

    The tags of the version are the numbers, under `initbench.<name>`, the run id of the benchmark, and that
    of the cell, or its address. A version that had the alias stays registered, with its own description and tags.
    """
    client = store.client(benchmark.uri)
    client.update_model_version(model, version, words)
    tags = {f"initbench.{name}": str(value) for name, value in numbers.items()}
    for name, value in {**tags, BENCHMARK: benchmark.run_id, CELL: run_id}.items():
        client.set_model_version_tag(model, version, name, value)
    client.set_registered_model_alias(model, CHAMPION, version)
