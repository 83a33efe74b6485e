"""Networks of one's own in Keras, against compile and fit, and by what must not matter."""

import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

from tasks.backends import keras as backend
from tasks.backends.keras.contained import contained
from tasks.core.design import grid
from tasks.core.training import datasets, own, seeds
from tests.shared.own import study
from tests.shared.programs import apart

L = keras.layers


@pytest.fixture(autouse=True)
def nothing_kept():
    """Have no program of an earlier test, whose builder has the same name."""
    sys.modules["tasks.backends.keras.own"]._kept.clear()


def residual(shape, outputs, drop=0.0):
    """Return a convolution with batch normalization and a way around it, dropout, and a head."""
    x = keras.Input(shape)
    h = L.Conv2D(4, 3, padding="same", name="stem")(x)
    a = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(h)))
    h = L.GlobalAveragePooling2D()(L.Add()([h, a]))
    return keras.Model(x, L.Dense(outputs, name="head")(L.Dropout(drop)(h)))


def recurrent(shape, outputs):
    """Return an LSTM whose last state is read."""
    x = keras.Input(shape)
    return keras.Model(x, L.Dense(outputs)(L.LSTM(8)(x)))


class Tagger(keras.Model):
    """An embedding with attention over it, and a class at each position: a subclass, whose parts are no graph."""

    def __init__(self, shape, outputs):
        super().__init__()
        self.embed, self.attend = L.Embedding(12, 8), L.MultiHeadAttention(2, 4)
        self.head = L.Dense(outputs)

    def call(self, x):
        h = self.embed(x)
        return self.head(h + self.attend(h, h))


def regressor(shape, outputs):
    """Return a perceptron with real outputs, and a penalty on its first kernel."""
    x = keras.Input(shape)
    h = L.Dense(8, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01))(x)
    return keras.Model(x, L.Dense(outputs)(h))


MODELS = {"channels_last": residual, "sequences": recurrent, "tokens": Tagger, "real": regressor}


def train(asked, build, cell=None, rate=None):
    settings = asked.settings("keras", ())
    cell = cell or grid.cells(asked)[0]
    return own.train(backend, build, settings, cell, rate or settings.recipe.learning_rate, clock=time.perf_counter)


def fitted(asked, build, cell):
    """Train with compile and fit, from the weights that the author's code draws under the cell's seed."""
    settings = asked.settings("keras", ())
    data = datasets.load(settings.dataset)
    fold = datasets.divide(data, settings.split, cell.seed)
    with contained(seeds.integer(seeds.stream(cell.seed, "built"))):
        model = build(data.problem.shape, data.problem.outputs)
        model(fold.x_train[:2])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if data.classes else "mse"
    model.compile(keras.optimizers.Adam(settings.recipe.learning_rate), loss)
    size = settings.recipe.batch_size
    model.fit(fold.x_train, fold.y_train, batch_size=size, epochs=settings.recipe.epochs, shuffle=False, verbose=0)
    return {each.path: each.numpy() for each in model.trainable_variables}


@pytest.mark.parametrize("data", MODELS)
def test_training_equals_compile_and_fit(data):
    """Without dropout, a cell's weights are those of compile and fit, but for rounding."""
    asked = study("keras", data, recipe={"shuffle": False})
    cell = grid.cells(asked)[0]
    found, expected = train(asked, MODELS[data], cell).trained.weights, fitted(asked, MODELS[data], cell)
    assert expected.keys() <= found.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_a_cell_depends_on_its_seed_alone():
    """With dropout, a cell's numbers do not depend on the cells before it, though one program serves them all."""
    asked = study("keras", "channels_last", initializers=("own", "he_normal"))
    build = lambda shape, outputs: residual(shape, outputs, drop=0.3)  # noqa: E731
    first, other, *_ = cells = grid.cells(asked)
    alone = train(asked, build, first).trained.weights
    train(asked, build, cells[-1])
    keras.utils.set_random_seed(7)
    again, differs = (train(asked, build, cell).trained.weights for cell in (first, other))
    assert len(sys.modules["tasks.backends.keras.own"]._kept) == 1
    np.testing.assert_equal(again, alone)
    assert not np.array_equal(differs["stem/kernel"], alone["stem/kernel"])


def test_a_step_is_traced_once():
    """Cells of other seeds, initializers and rates use what is compiled for the first."""
    asked = study("keras", "real", initializers=("own", "he_normal"))
    settings = asked.settings("keras", ())
    cells = grid.cells(asked)
    train(asked, regressor, cells[0])
    program = backend.own(regressor, settings, datasets.load(settings.dataset).problem)
    before = program._epoch.experimental_get_tracing_count()
    train(asked, regressor, cells[-1])
    assert (before, program._epoch.experimental_get_tracing_count()) == (1, 1)


def test_digests_tell_where_a_cell_first_differs(monkeypatch):
    """Start weights, the arithmetic behind the first gradient, and training each show in a stage of their own."""
    asked = study("keras", "real")
    first, other, *_ = grid.cells(asked)
    given, kernels = [0.0], ["dense/kernel", "dense_1/kernel"]

    def build(shape, outputs):
        model = regressor(shape, outputs)
        model.layers[-1].bias.assign_add([given[0]] * outputs)
        return model

    one = train(asked, build, first)
    assert apart(one, train(asked, build, first)) == [[], [], []]
    assert apart(one, train(asked, build, other))[1] == kernels
    given[0] = 0.1
    assert apart(one, train(asked, build, first))[0] == ["dense_1/bias"]
    given[0] = 0.0
    start, gradient, end = apart(one, train(asked, build, first, rate=0.01001))
    assert (start, gradient, len(end)) == ([], [], 4)
    fold = datasets.divide(datasets.load(asked.dataset), asked.split, first.seed)
    monkeypatch.setattr(datasets, "divide", lambda *_: replace(fold, x_train=fold.x_train * np.float32(1.001)))
    start, gradient, end = apart(one, train(asked, build, first))
    assert (start, gradient, len(end)) == ([], kernels, 4)


def test_layers_are_drawn_by_the_cells_initializer_and_by_rules():
    """An initializer goes on every weighted layer, gates of their own; a rule beats it."""
    network = {"build": {"keras": "mine:build"}, "rules": {"dense": "zeros"}}
    asked = study("keras", "sequences", initializers=("constant(value=0.5)",), network=network)
    program = own.started(
        backend,
        recurrent,
        asked.settings("keras", ()),
        grid.cells(asked)[0],
        data := datasets.load(asked.dataset),
        data.x.astype(np.float32),
    )
    values = program.variables()
    assert not values["dense/kernel"].any()
    assert np.unique(values["lstm/lstm_cell/kernel"]) == 0.5
    np.testing.assert_array_equal(values["lstm/lstm_cell/bias"], np.repeat([0, 1, 0, 0], 8))  # the forget gate's


def test_signals_of_layers():
    """A layer's pre-activations are measured before its own activation; dead and saturated units are seen."""
    asked = study("keras", "real", recipe={"batch_size": "full"})
    outcome = train(asked, regressor)
    fold = datasets.divide(datasets.load(asked.dataset), asked.split, 0)
    with contained(seeds.integer(seeds.stream(0, "built"))):
        model = regressor((5,), 2)
    kernel = model.layers[1].kernel.numpy()
    start = outcome.trained.signals.start
    z = fold.x_train @ kernel
    assert start["pre_activation_variance"][0] == pytest.approx(z.var(), rel=1e-4)
    assert start["activation_variance"][0] == pytest.approx(np.tanh(z).var(), rel=1e-4)
    assert outcome.trained.signals.scalars()["saturated_at_start"] == pytest.approx((np.abs(np.tanh(z)) > 0.97).mean())
    assert np.isfinite(outcome.trained.signals.gradient_quotient)
    assert np.isfinite(outcome.trained.signals.spectrum.largest)


def two_inputs(shape, outputs):
    x, other = keras.Input(shape), keras.Input(shape)
    return keras.Model([x, other], L.Dense(outputs)(x + other))


def softmax(shape, outputs):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(outputs, activation="softmax")])


BAD = {
    "no model": (lambda shape, outputs: 3, "must return a keras.Model; it returned int"),
    "no layer": (lambda shape, outputs: keras.Sequential([keras.Input(shape), L.Flatten()]), "must give"),
    "wrong shape": (lambda shape, outputs: residual(shape, outputs + 1), r"must give \(rows, 10\).*gives \(rows, 11\)"),
    "two inputs": (two_inputs, "must have one input; it has 2"),
    "probabilities": (softmax, "must give logits; its last layer has the activation softmax"),
}


@pytest.mark.parametrize("name", BAD)
def test_models_that_cannot_be_trained_are_refused(name):
    """What a builder must not return is refused with the rule and what came."""
    build, words = BAD[name]
    asked = study("keras", "channels_last")
    with pytest.raises(ValueError, match=words):
        own.examine(backend, build, asked.settings("keras", ()), grid.cells(asked)[:1])


def deployed(data):
    """Return an example of `MODELS` as its champion is deployed, with rows and what the model itself gives for them."""
    found = datasets.load(study("keras", data).dataset)
    fold = datasets.divide(found, study("keras", data).split, 0)
    with contained(1):
        model = MODELS[data](found.problem.shape, found.problem.outputs)
        given = model(fold.x_test).numpy()
    weights = {each.path: each.numpy() for each in model.variables}
    whole = backend.deployed_own(MODELS[data], found.problem, weights, fold)
    return whole, found.x[fold.test_rows], given * fold.y_scale + fold.y_mean if fold.real else given


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, as it saves a model
@pytest.mark.parametrize("data", ["channels_last", "sequences", "real"])
def test_a_champion_loads_without_code_and_gives_what_its_cell_gave(tmp_path, data):
    """A saved model of Keras's own classes takes data as they are, and gives logits, or targets in their units."""
    whole, x, expected = deployed(data)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_classes_of_ones_own_are_not_exported():
    """Keras would save a model of a class of one's own, and not load it elsewhere; so it is refused with the class."""
    with pytest.raises(ValueError, match=r"Keras loads \w+, a Tagger, only where its code is"):
        deployed("tokens")
