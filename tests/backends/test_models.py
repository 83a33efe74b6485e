"""A trained network as one model of its framework: unscaled features in, the recorded logits out."""

import keras
import numpy as np
import pytest
import torch

from tasks.backends import keras as keras_backend
from tasks.backends import pytorch
from tasks.core.training import datasets
from tests.shared import programs

SETTINGS = ("adam", "batch normalization", "layer normalization", "residual", "no hidden layer", "leaky_relu", "gelu")
LOGITS = 2e-5  # what rounding may make of them


def reload_pytorch(model, folder, x):
    """Export the model, load what was exported, and return its logits."""
    exported = torch.export.export(model, (torch.from_numpy(x),), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    torch.export.save(exported, folder / "model.pt2")
    return torch.export.load(folder / "model.pt2").module()(torch.from_numpy(x)).detach().numpy()


def reload_keras(model, folder, x):
    """Save the model, load it as one who has none of this code, and return its logits."""
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    assert all(layer.__module__.startswith("keras") for layer in loaded._flatten_layers())
    return loaded.predict(x, verbose=0)


def test_a_tiny_scale_is_kept(tmp_path):
    """Features of any unit are scaled as they were in training; Keras's Normalization would not go below 1e-7."""
    scale = np.array([1e-9, 1.0, 1.0, 1.0])
    x = np.array([[3e-9, 2.0, 0.0, 0.0]] * 2)
    study = programs.SETTINGS["no hidden layer"]
    weights = {"logits/kernel": np.eye(4, 3, dtype=np.float32), "logits/bias": np.zeros(3, np.float32)}
    model = keras_backend.deployed(study.network, (4, 3), weights, mean=np.zeros(4), scale=scale)
    assert model.predict(x, verbose=0)[0].tolist() == pytest.approx([3, 2, 0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's saving, under NumPy 2
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("framework", "reload"), [(pytorch, reload_pytorch), (keras_backend, reload_keras)], ids=["pytorch", "keras"]
)
def test_model_gives_the_recorded_logits(framework, reload, setting, tmp_path):
    """Saved without pickle and loaded again, the model of a cell predicts on unscaled rows what was recorded."""
    study = programs.SETTINGS[setting]
    cell = programs.cells_of(framework, study)[0]
    (outcome,) = programs.train(framework, study, [cell])
    data = datasets.load(study.dataset)
    fold, _, _, sizes = programs.inputs(framework, study, cell)
    model = framework.deployed(study.network, sizes, outcome.trained.weights, mean=fold.mean, scale=fold.scale)
    logits = reload(model, tmp_path, data.x[fold.test_rows])
    recorded = outcome.trained.predictions.logits
    assert logits.dtype == np.float32
    assert np.abs(logits - recorded).max() < LOGITS
    assert np.array_equal(logits.argmax(1), recorded.argmax(1))
