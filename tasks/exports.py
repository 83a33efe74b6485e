"""A cell's model as files: its framework builds it from the recorded weights, in the process of a trainer.

This module imports neither Prefect nor the store: both take seconds to load, and a trainer needs none of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import save as safetensors

from tasks import user_code
from tasks.core.design.grid import Cell
from tasks.core.design.settings import CellSettings
from tasks.core.training import datasets
from tasks.core.training.datasets import Dataset, Floats, Fold
from tasks.core.training.outcome import first_line
from tasks.core.training.own import own
from tasks.core.training.weights import fans
from tasks.tracking import flavors
from tasks.trainers.process import framework

EXAMPLE_ROWS = 5
SCALING = ("mean", "scale", "y_mean", "y_scale")  # of train rows: the model takes (x - mean) / scale, and y likewise


@dataclass(frozen=True)
class InParts:
    """What a model is made of that MLflow cannot keep without a pickle.

    reason: why it cannot; about: what is to be known of the parts; files: the parts by their paths.
    """

    reason: str
    about: dict[str, object]
    files: dict[str, bytes]


def save(
    settings: CellSettings, cell: Cell, weights: Mapping[str, Floats], requirements: Sequence[str], folder: Path
) -> InParts | None:
    """Save the model of a cell with these weights in a folder, as MLflow saves models, and return None.

    Return a model of a user's own in parts if MLflow cannot save it.
    """
    user_code.held(settings.dataset)
    data = datasets.load(settings.dataset)
    fold = datasets.divide(data, settings.split, cell.seed)
    example = data.x[fold.test_rows[:EXAMPLE_ROWS]]
    given = data.problem.given
    to_folder = partial(
        flavors.save, cell.backend, folder=folder, example=example, given=given, requirements=requirements
    )
    if settings.own:
        return _save_own(settings, cell, weights, fold, data, to_folder)
    sizes = fans(settings.perceptron, data.problem.shape[0], data.problem.outputs)
    model = framework(cell.backend).deployed(settings.perceptron, sizes, weights, fold)
    about = {"cell": str(cell), "features": list(data.features), "test_rows": fold.test_rows.tolist()}
    to_folder(model, metadata=about)
    return None


def _save_own(
    settings: CellSettings,
    cell: Cell,
    weights: Mapping[str, Floats],
    fold: Fold,
    data: Dataset,
    to_folder: Callable[..., None],
) -> InParts | None:
    """Do the work of `save` for a model of a user's own; to_folder: saves a model with its metadata."""
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
        to_folder(framework(cell.backend).deployed_own(builder, data.problem, weights, fold), metadata=about)
    except Exception as error:  # an exporter raises errors of many kinds where a model is beyond it
        sources = user_code.sources(reference) if ":" in reference else {}
        files = {f"code/{module.replace('.', '/')}.py": source.encode() for module, source in sources.items()}
        files["weights.safetensors"] = safetensors(dict(weights))
        scaling = {name: np.asarray(getattr(fold, name)).tolist() for name in SCALING}
        return InParts(f"{type(error).__name__}: {first_line(error)}", about | scaling, files)
    return None
