import keras as keras_package
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from flows import studies
from tasks.backends import keras
from tasks.core.design.study import Cell, Network, Recipe, Study
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
    recipe = study.recipe_for("keras")
    programs = [keras.program(study.network, recipe, (4, 64, 32, 3), len(cells)) for _ in range(2)]
    assert programs[0] is programs[1]
    assert programs[0]._run.experimental_get_tracing_count() == 1
    for name, array in first.weights.items():
        np.testing.assert_array_equal(second.weights[name], array)


def test_weights_load_into_the_model():
    """The stored weights are the model's own, by name: loaded into it they give the stored logits."""
    study = Study(seeds=2, recipe=Recipe(epochs=2))
    cell = Cell("keras", "orthogonal", 1)
    trained = train(keras, study, [cell, Cell("keras", "zeros", 0)])[0].trained
    model = keras.Perceptron(study.network, (4, 64, 32, 3)).model
    for variable in model.variables:
        variable.assign(trained.weights[variable.path])
    fold, _, _, _ = inputs(keras, study, cell)
    np.testing.assert_allclose(trained.predictions.logits, model(fold.x_test).numpy(), rtol=1e-4, atol=1e-5)


def test_aligned_adam_is_the_papers():
    """AlignedAdam's steps are those of the paper's algorithm in float64, where Keras's own epsilon is elsewhere."""
    gradients = np.random.default_rng(0).normal(0, 1e-5, (20, 4))
    weights, m, v, rate, epsilon = np.ones(4), np.zeros(4), np.zeros(4), 0.01, 1e-5
    variable = keras_package.Variable(np.ones(4, np.float32))
    optimizer = keras.AlignedAdam(rate, epsilon)
    optimizer.build([variable])
    for step, gradient in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weights = weights - rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + epsilon)
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    np.testing.assert_allclose(variable.numpy(), weights, atol=5e-6)


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
    """Over 10 seeds the notebook study's mean accuracy is that of the notebook's own code, within sampling error."""
    study = studies.load("notebook").model_copy(update={"seeds": 200})
    ours = [outcome.trained.curves.test_accuracy[-1] for outcome in train(keras, study, cells_of(keras, study))]
    theirs = [notebook_accuracy(seed) for seed in range(10)]
    error = np.sqrt(np.var(ours) / 200 + np.var(theirs, ddof=1) / 10)
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=3.5 * error)


def test_init_weights_idiom():
    """`init_weights(model)` gives He-normal kernels and zero biases to every dense and convolutional layer within."""
    inner = keras_package.Sequential([keras_package.Input((20, 20, 50)), keras_package.layers.Conv2D(60, 5)])
    model = keras_package.Sequential([inner, keras_package.layers.Flatten(), keras_package.layers.Dense(10)])
    model.build((None, 20, 20, 50))
    keras.init_weights(model, seed=3)
    (convolution,) = inner.layers
    std = np.sqrt(2 / (50 * 25))
    law = stats.truncnorm(-2, 2, scale=std / 0.87962566)
    assert stats.kstest(convolution.kernel.numpy().ravel(), law.cdf).pvalue > 1e-4
    assert not convolution.bias.numpy().any()
    first = model.layers[-1].kernel.numpy()
    keras.init_weights(model, seed=3)
    assert np.array_equal(model.layers[-1].kernel.numpy(), first)
    keras.init_weights(model, seed=4)
    assert not np.array_equal(model.layers[-1].kernel.numpy(), first)


def test_init_weights_default_biases():
    """pytorch_default brings PyTorch's biases to Keras."""
    layer = keras_package.layers.Dense(50)
    layer.build((None, 100))
    keras.init_weights(layer, "pytorch_default", seed=0)
    assert 0.08 < np.abs(layer.bias.numpy()).max() <= 0.1


def test_layers_draw_apart():
    """Two layers of one shape and cell start differently: each has a stream of its own."""
    study = Study(network=Network(hidden=(8, 8, 8)))
    _, _, weights, _ = inputs(keras, study, Cell("keras", "he_normal", 0))
    assert not np.array_equal(weights[2], weights[4])
    assert seeds.integer(seeds.stream(0, "weights", 1, 0)) != seeds.integer(seeds.stream(0, "weights", 2, 0))
