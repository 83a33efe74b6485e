"""Models as MLflow saves them, each in the flavor of its framework. Trainers save them; they need no store for it."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from tasks.core.design.initializers import Backend

MODEL_ARGUMENTS: dict[Backend, str] = {"pytorch": "pytorch_model", "keras": "model"}


def save(
    backend: Backend,
    model: Any,
    *,
    folder: Path,
    example: NDArray[Any],
    given: tuple[int, ...],
    requirements: Sequence[str],
    metadata: Mapping[str, object],
) -> None:
    """Save a framework's model in a folder that is empty, or not made yet.

    The model takes rows as in `example`, and gives logits, or real numbers, of the shape `given` for each. MLflow saves
    a PyTorch model as an exported program and a Keras model as `.keras`; neither is a pickle.
    """
    features = TensorSpec(example.dtype, (-1, *example.shape[1:]))
    folder.mkdir(exist_ok=True)  # MLflow 3.17 writes Keras's input example before it makes this folder
    importlib.import_module(f"mlflow.{backend}").save_model(  # MLflow and initbench name backends alike
        path=str(folder),
        signature=ModelSignature(Schema([features]), Schema([TensorSpec(np.dtype(np.float32), (-1, *given))])),
        input_example=example,
        pip_requirements=list(requirements),
        metadata=dict(metadata),
        **{MODEL_ARGUMENTS[backend]: model},
    )
