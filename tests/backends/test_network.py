"""The recorded weights in the network of their framework, and that network as one model of unscaled features."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import torch

from tasks.backends import keras as keras_backend
from tasks.backends import pytorch
from tasks.backends.keras import network as keras_network
from tasks.backends.pytorch import network as pytorch_network
from tasks.core.design.grid import Cell
from tasks.core.design.settings import Recipe
from tasks.core.design.study import Study
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
    fold = datasets.divide(datasets.load("iris"), study.split, 0)
    weights = {"logits/kernel": np.eye(4, 3, dtype=np.float32), "logits/bias": np.zeros(3, np.float32)}
    model = keras_backend.deployed(study.network, (4, 3), weights, replace(fold, mean=np.zeros(4), scale=scale))
    assert model.predict(x, verbose=0)[0].tolist() == pytest.approx([3, 2, 0])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's saving, under NumPy 2
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    ("framework", "reload"), [(pytorch, reload_pytorch), (keras_backend, reload_keras)], ids=["pytorch", "keras"]
)
def test_model_gives_the_recorded_logits(framework, reload, setting, tmp_path):
    """Saved without pickle and loaded again, the model of a cell predicts on unscaled rows what was recorded."""
    study = programs.SETTINGS[setting]
    cells = programs.cells_of(framework, study)
    cell, outcome = cells[0], programs.train(framework, study, cells)[0]
    data = datasets.load(study.dataset)
    fold, _, _, sizes = programs.inputs(framework, study, cell)
    model = framework.deployed(study.network, sizes, outcome.trained.weights, fold)
    logits = reload(model, tmp_path, data.x[fold.test_rows])
    recorded = outcome.trained.predictions.logits
    assert logits.dtype == np.float32
    assert np.abs(logits - recorded).max() < LOGITS
    assert np.array_equal(logits.argmax(1), recorded.argmax(1))


def test_weights_load_into_pytorchs_module():
    """The stored weights are a state dict: loaded into the plain module they give the stored logits."""
    study = Study(seeds=2, recipe=Recipe(epochs=2))
    cell = Cell("pytorch", "orthogonal", 1)
    trained = programs.train(pytorch, study, [cell, Cell("pytorch", "zeros", 0)])[0].trained
    model = pytorch_network.Perceptron(study.network, (4, 64, 32, 3))
    model.load_state_dict({name: torch.from_numpy(array) for name, array in trained.weights.items()})
    fold, _, _, _ = programs.inputs(pytorch, study, cell)
    with torch.no_grad():
        logits = model(torch.from_numpy(fold.x_test)).numpy()
    np.testing.assert_allclose(trained.predictions.logits, logits, rtol=1e-5, atol=1e-6)


def test_weights_load_into_keras_model():
    """The stored weights are the model's own, by name: loaded into it they give the stored logits."""
    study = Study(seeds=2, recipe=Recipe(epochs=2))
    cell = Cell("keras", "orthogonal", 1)
    trained = programs.train(keras_backend, study, [cell, Cell("keras", "zeros", 0)])[0].trained
    model = keras_network.Perceptron(study.network, (4, 64, 32, 3)).model
    for variable in model.variables:
        variable.assign(trained.weights[variable.path])
    fold, _, _, _ = programs.inputs(keras_backend, study, cell)
    np.testing.assert_allclose(trained.predictions.logits, model(fold.x_test).numpy(), rtol=1e-4, atol=1e-5)
