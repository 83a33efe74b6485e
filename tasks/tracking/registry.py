"""The registry of models: MLflow keeps the champion of each backend as a model that anybody can load."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from tasks.core.design.initializers import Backend
from tasks.tracking import parts, places, store
from tasks.tracking.store import BENCHMARK, Benchmark

CHAMPION = "champion"
FOLDER = 8  # letters of a cell's id or key that name its folder
UNEXPORTED = "initbench.unexported"  # tag of a version that is no MLflow model: why
CELL = "initbench.cell_run"  # tag of a version: the id of its cell's run, or the cell's address
MODEL_ARGUMENTS: dict[Backend, str] = {"pytorch": "pytorch_model", "keras": "model"}


def version_of(benchmark: Benchmark, model: str, run_id: str) -> str | None:
    """Return the version under which a cell's model is already registered, or None if it is not.

    run_id: the id of the cell's run, or the cell's address: several cells can be in the run that it names.
    """
    query = f"name = '{model}' AND run_id = '{parts.run_of(run_id)}'"
    versions = store.client(benchmark.uri).search_model_versions(query)
    found = [each for each in versions if each.tags.get(CELL, each.run_id) == run_id]
    return str(found[0].version) if found else None


def log_model(
    benchmark: Benchmark,
    backend: Backend,
    model: Any,
    name: str,
    run_id: str,
    *,
    example: NDArray[Any],
    given: tuple[int, ...],
    step: int,
    requirements: Sequence[str],
    metadata: Mapping[str, object],
) -> str:
    """Log a framework's model with the run that holds its cell and register it; return its version.

    The model takes rows as in `example`, and gives logits, or real numbers, of the shape `given` for each. MLflow
    shows the metrics of epoch `step` as the model's. It saves a PyTorch model as an exported program and a Keras model
    as `.keras`; neither is a pickle.
    """
    mlflow.set_tracking_uri(benchmark.uri)  # for this process, a trainer: flavors cannot be given a client
    mlflow.set_experiment(experiment_id=benchmark.experiment_id)  # else models are logged under MLflow's default one
    features = TensorSpec(example.dtype, (-1, *example.shape[1:]))
    signature = ModelSignature(Schema([features]), Schema([TensorSpec(np.dtype(np.float32), (-1, *given))]))
    logged = Model.log(
        None,
        _flavor(backend),
        name="model",
        run_id=parts.run_of(run_id),
        registered_model_name=name,
        metadata=dict(metadata),
        step=step,
        signature=signature,
        input_example=example,
        pip_requirements=list(requirements),
        validate_serving_input=False,  # the validation would load the model again
        **{MODEL_ARGUMENTS[backend]: model},
    )
    return str(logged.registered_model_version)


def log_parts(
    benchmark: Benchmark,
    name: str,
    cell: str,
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
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, location, run_id)
    client.set_model_version_tag(name, version.version, UNEXPORTED, reason)
    return str(version.version)


def unexported(benchmark: Benchmark, name: str, version: str) -> str | None:
    """Return why a version is no MLflow model, None if it is one."""
    found: str | None = store.client(benchmark.uri).get_model_version(name, version).tags.get(UNEXPORTED)
    return found


def crowned(benchmark: Benchmark) -> list[ModelVersion]:
    """Return the model versions that this benchmark made champions."""
    return [*store.client(benchmark.uri).search_model_versions(f"tags.`{BENCHMARK}` = '{benchmark.run_id}'")]


def _flavor(backend: Backend) -> Any:
    """Return the MLflow flavor that saves a backend's models; MLflow and initbench name backends alike."""
    flavor = importlib.import_module(f"mlflow.{backend}")

    def save_model(path: str, **options: Any) -> None:
        options.pop("validate_serving_input", None)
        Path(path).mkdir(exist_ok=True)  # MLflow 3.17 writes Keras's input example before it makes this folder
        flavor.save_model(path=path, **options)

    return SimpleNamespace(__name__=flavor.__name__, save_model=save_model)


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
