"""The registry of models: the best cell of each backend, as MLflow serves it and anybody loads it."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from tasks.core.design.initializers import Backend
from tasks.tracking import store
from tasks.tracking.store import Benchmark

CHAMPION = "champion"
MODEL_ARGUMENTS: dict[Backend, str] = {"pytorch": "pytorch_model", "keras": "model"}


def version_of(benchmark: Benchmark, model: str, run_id: str) -> str | None:
    """Return the version under which a cell's model is registered already, or None."""
    found = store.client(benchmark.uri).search_model_versions(f"name = '{model}' AND run_id = '{run_id}'")
    return str(found[0].version) if found else None


def log_model(
    benchmark: Benchmark,
    backend: Backend,
    model: Any,
    name: str,
    run_id: str,
    *,
    example: NDArray[np.float64],
    classes: int,
    step: int,
    requirements: Sequence[str],
    metadata: Mapping[str, object],
) -> str:
    """Log a framework's model with a cell's run and register it; return its version.

    It takes features (rows, features) as in `example` and gives logits (rows, classes); `step` is the epoch whose
    metrics are the model's. MLflow keeps PyTorch's as an exported program and Keras's as `.keras`: neither is a pickle.
    It knows both backends by our names.
    """
    mlflow.set_tracking_uri(benchmark.uri)  # of this process, a trainer's: flavors know no client
    features = TensorSpec(np.dtype(np.float64), (-1, example.shape[1]))
    signature = ModelSignature(Schema([features]), Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]))
    logged = Model.log(
        None,
        _flavor(backend),
        name="model",
        run_id=run_id,
        registered_model_name=name,
        metadata=dict(metadata),
        step=step,
        signature=signature,
        input_example=example,
        pip_requirements=list(requirements),
        validate_serving_input=False,  # which loads it all again
        **{MODEL_ARGUMENTS[backend]: model},
    )
    return str(logged.registered_model_version)


def _flavor(backend: Backend) -> Any:
    """Return how MLflow saves a backend's models."""
    flavor = importlib.import_module(f"mlflow.{backend}")

    def save_model(path: str, **options: Any) -> None:
        options.pop("validate_serving_input", None)
        Path(path).mkdir(exist_ok=True)  # MLflow 3.17 writes Keras's input example before it makes the folder for it
        flavor.save_model(path=path, **options)

    return SimpleNamespace(__name__=flavor.__name__, save_model=save_model)


def crown(benchmark: Benchmark, model: str, version: str, words: str) -> None:
    """Say what a registered model's version is, and give it the alias `champion` unless a better one has it."""
    client = store.client(benchmark.uri)
    client.update_model_version(model, version, words)
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    if holder is None or _quality(client, model, version) >= _quality(client, model, holder):
        client.set_registered_model_alias(model, CHAMPION, version)


def _quality(client: MlflowClient, model: str, version: str) -> tuple[float, float]:
    """Return test accuracy and negative test loss of the cell behind a version; of one that is gone, the least."""
    try:
        metrics = client.get_run(client.get_model_version(model, version).run_id).data.metrics
    except MlflowException:
        return -np.inf, -np.inf
    return metrics["test_accuracy"], -metrics["test_loss"]
