import weakref
from collections import OrderedDict
from importlib import import_module

import keras as keras_package
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flows import studies
from tasks.backends import keras
from tasks.backends.keras import device
from tasks.core.design.grid import Cell
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import seeds
from tests.shared.plain import fitted
from tests.shared.programs import SETTINGS, cells_of, inputs, train

UNSHUFFLED = {
    name: study.model_copy(update={"recipe": study.recipe.model_copy(update={"shuffle": False})})
    for name, study in SETTINGS.items()
    if "then L2" not in name  # a Keras regularizer's gradient is clipped too
}


@pytest.mark.parametrize("study", UNSHUFFLED.values(), ids=UNSHUFFLED)
def test_batch_equals_fit(study):
    """Cells of a batch end where `compile` and `fit` lead them, to float32 rounding."""
    cells = cells_of(keras, study)
    for at, outcome in enumerate(train(keras, study, cells)):
        if at % 3 == 0:
            weights, loss = fitted(study, cells[at])
            for ours, theirs in zip(outcome.trained.weights.values(), weights, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-5)
            assert outcome.trained.curves.test_loss[-1] == pytest.approx(loss, abs=1e-5)


def test_programs_are_reused():
    """A second batch under the same settings runs the compiled program of the first, with a fresh optimizer."""
    study = Study(recipe=Recipe(epochs=2), seeds=2)
    cells = cells_of(keras, study)
    first, second = (train(keras, study, cells)[0].trained for _ in range(2))
    settings = study.settings("keras", ())
    programs = [keras.program(settings.network, settings.recipe, (4, 64, 32, 3), len(cells)) for _ in range(2)]
    assert programs[0] is programs[1]
    assert programs[0]._run.experimental_get_tracing_count() == 1
    for name, array in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], array)


def test_the_most_recent_programs_are_kept(monkeypatch):
    """Programs beyond the bytes that may be kept are freed; none but the newest holds data."""
    program = import_module("tasks.backends.keras.program")
    monkeypatch.setattr(program, "_kept", OrderedDict())
    study = Study(recipe=Recipe(epochs=1), network=Network(hidden=(3,)), seeds=1)
    train(keras, study, cells_of(keras, study)[:1])
    (first,) = program._kept.values()
    assert first.data
    settings = study.settings("keras", ())

    def another(width):
        return keras.program(settings.network, settings.recipe, (4, width, 3), 1)

    another(4)
    assert (len(program._kept), first.data) == (2, ())
    monkeypatch.setattr(program, "KEPT_BYTES", 4 * first.size)
    gone = weakref.ref(first)
    del first
    newest = [another(width) for width in range(5, 8)][-1]
    assert list(program._kept.values())[-1] is newest
    assert gone() is None
    monkeypatch.setattr(program, "KEPT_BYTES", newest.size)
    last = another(8)  # takes as much as may be kept
    assert list(program._kept.values()) == [last]
    monkeypatch.setattr(program, "KEPT_BYTES", last.size + 2 * program.GRAPH)
    last = another(9)  # there is room for its graph, and none for its variables
    assert list(program._kept.values()) == [last]


def notebook_accuracy(seed):
    """Run the notebook's Keras cell, seeded."""
    keras_package.utils.set_random_seed(seed)
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    y = keras_package.utils.to_categorical(y, 3)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=42)
    model = keras_package.Sequential(
        [
            keras_package.Input((4,)),
            keras_package.layers.Dense(64, activation="relu", kernel_initializer="he_normal"),
            keras_package.layers.Dense(32, activation="relu", kernel_initializer="he_normal"),
            keras_package.layers.Dense(3, activation="softmax", kernel_initializer="glorot_normal"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=10, verbose=0)
    return model.evaluate(x_test, y_test, verbose=0)[1]


def test_notebook_study_is_the_notebook():
    """Over 5 seeds the notebook study's mean accuracy is that of the notebook's own code, within sampling error."""
    study = studies.load("notebook").model_copy(update={"seeds": 200})
    ours = [outcome.trained.curves.test_accuracy[-1] for outcome in train(keras, study, cells_of(keras, study))]
    theirs = [notebook_accuracy(seed) for seed in range(5)]
    error = np.sqrt(np.var(ours) / 200 + np.var(theirs, ddof=1) / 5)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3.5 * error)


def test_layers_draw_apart():
    """Two layers of one shape and cell start differently: each has a stream of its own."""
    study = Study(network=Network(hidden=(8, 8, 8)))
    _, _, weights, _ = inputs(keras, study, Cell("keras", "he_normal", 0))
    assert not np.array_equal(weights[2], weights[4])
    assert seeds.integer(seeds.stream(0, "weights", 1, 0)) != seeds.integer(seeds.stream(0, "weights", 2, 0))


def test_settings_of_the_user_decide_nothing():
    """Keras builds float32 networks whatever a keras.json or other code has set; a trainer sets what it relies on."""
    config = keras_package.config
    config.set_floatx("float64")
    config.set_epsilon(1e-3)
    config.set_image_data_format("channels_first")
    config.set_dtype_policy("mixed_bfloat16")
    device.set_defaults()
    assert (config.floatx(), config.epsilon()) == ("float32", 1e-7)
    assert (config.image_data_format(), config.dtype_policy().name) == ("channels_last", "float32")
