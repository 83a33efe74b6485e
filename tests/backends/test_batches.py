"""What training together must not change, in either backend."""

from collections import OrderedDict
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from tasks.backends import keras, pytorch
from tasks.core.design.settings import Recipe, Split
from tasks.core.design.study import Study
from tasks.core.training import datasets, memory
from tests.shared.programs import EXPLODING, SETTINGS, cells_of, study, train

program = import_module("tasks.backends.keras.program")  # the package offers a function of that name
each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=["pytorch", "keras"])


def assert_same(one, other):
    for name, array in one.trained.weights.items():
        np.testing.assert_array_equal(other.trained.weights[name], array)
    np.testing.assert_array_equal(other.trained.curves.test_accuracy, one.trained.curves.test_accuracy)
    assert other.trained.bits == one.trained.bits


@each_framework
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 64, 130])
def test_numbers_do_not_depend_on_the_batch(framework, size):
    """A cell's weights and first gradient are the same, bit for bit, in a batch of any size and at either end of it."""
    study = Study(recipe=Recipe(epochs=2), seeds=17)
    cells = cells_of(framework, study)[:size]
    alone = train(framework, study, cells[-1:])[0]
    assert_same(alone, train(framework, study, cells)[-1])
    assert_same(alone, train(framework, study, cells[::-1])[0])


@each_framework
@pytest.mark.parametrize("setting", ["clipped by norm", "batch normalization"])
def test_cells_do_not_mix(framework, setting):
    """What clips and what normalizes is each cell's own: where it ends does not depend on its company."""
    cells = cells_of(framework, SETTINGS[setting])
    together = train(framework, SETTINGS[setting], cells)
    apart, *_ = train(framework, SETTINGS[setting], cells[-1:] * 3)  # three have the compiled program of six
    for name, array in apart.trained.weights.items():
        np.testing.assert_allclose(together[-1].trained.weights[name], array, atol=2e-6)


RATES = {"adam, aligned": study(), **{name: SETTINGS[name] for name in ("momentum, L2", "adamw")}}


@each_framework
@pytest.mark.parametrize("setting", RATES)
def test_learning_rates_do_not_mix(framework, setting):
    """Cells of two learning rates, trained in one program, end where cells of a study of either rate end."""
    study, rates = RATES[setting], (0.03, 0.001)
    cells = cells_of(framework, study)[:3]  # as few as have a compiled program of other tests
    together = train(framework, study, cells, (*rates, rates[1]))
    for at, rate in enumerate(rates):
        recipe = study.recipe.model_copy(update={"learning_rate": rate})
        apart = train(framework, study.model_copy(update={"recipe": recipe}), cells)[at]
        for name, array in apart.trained.weights.items():
            np.testing.assert_allclose(together[at].trained.weights[name], array, atol=2e-6)
    other = train(framework, study, cells, [rates[1]] * 3)[0]
    moved = [np.abs(together[0].trained.weights[name] - array).max() for name, array in other.trained.weights.items()]
    assert min(moved) > 1e-3  # the rate is used


@each_framework
def test_validation_rows_are_scored_by_themselves(framework, monkeypatch):
    """Scores of validation rows are those of test rows if the rows are the same, and stay if the test rows change."""
    study = Study(split=Split(validation_fraction=0.25), recipe=Recipe(epochs=2), seeds=1, initializers=("he_normal",))
    fold = datasets.divide(datasets.load("iris"), study.split, 0)
    curves = []
    for x_test in (fold.x_validation, fold.x_validation + 1):
        same = replace(fold, x_test=x_test, y_test=fold.y_validation)
        monkeypatch.setattr(datasets, "divide", lambda *_, same=same: same)
        (found,) = train(framework, study, cells_of(framework, study))
        curves.append(dict(found.trained.curves.items()))
    before, after = curves
    for measure in ("loss", "accuracy"):
        np.testing.assert_array_equal(before[f"validation_{measure}"], before[f"test_{measure}"])
        np.testing.assert_array_equal(after[f"validation_{measure}"], before[f"validation_{measure}"])
    assert not np.array_equal(after["test_loss"], before["test_loss"])


@each_framework
def test_signals_do_not_depend_on_the_batch(framework):
    """A cell has the same signals alone and among many, at the start and through training."""
    study = Study(recipe=Recipe(epochs=2), seeds=17)
    cells = cells_of(framework, study)[:130]
    (alone,) = train(framework, study, cells[-1:])
    together = train(framework, study, cells)[-1]
    ours, theirs = alone.trained.signals, together.trained.signals
    assert ours.health == theirs.health
    for name, values in {**ours.start, **ours.curves()}.items():
        np.testing.assert_allclose({**theirs.start, **theirs.curves()}[name], values, rtol=1e-4, atol=1e-6)
    assert ours.scalars() == pytest.approx(theirs.scalars(), rel=1e-3, nan_ok=True)


@each_framework
def test_what_is_computed_at_once_changes_no_number(framework, monkeypatch):
    """Measures, signals and orders that are computed in parts, for want of memory, are the same bit for bit.

    In Keras the train rows of two cells have a multiple of 16 numbers: so many fill the vectors of every processor, and
    what is left over is rounded otherwise (tasks/core/training/README.md).
    """
    split = Split(validation_fraction={"pytorch": 0.25, "keras": 0.2}[framework.NAME])  # 90 and 96 train rows
    study = SETTINGS["batch normalization"].model_copy(update={"seeds": 3, "split": split})
    cells = cells_of(framework, study)
    rates = [0.01 * (1 + at // 4) for at in range(len(cells))]
    whole = train(framework, study, cells, rates)
    monkeypatch.setattr(memory, "BUDGET", 1)
    monkeypatch.setattr(memory, "ORDERS", 1)
    monkeypatch.setattr(program, "_kept", OrderedDict())  # compiled for the whole budget
    for one, other in zip(whole, train(framework, study, cells, rates), strict=True):
        assert_same(one, other)
        for (_, ours), (_, theirs) in zip(one.trained.curves.items(), other.trained.curves.items(), strict=True):
            np.testing.assert_array_equal(theirs, ours)
        np.testing.assert_array_equal(one.trained.predictions.logits, other.trained.predictions.logits)
        ours, theirs = one.trained.signals, other.trained.signals
        for name, values in {**ours.start, **ours.curves()}.items():
            np.testing.assert_array_equal({**theirs.start, **theirs.curves()}[name], values)


@each_framework
def test_divergence_stays_in_its_cell(framework):
    """An initializer that explodes is an outcome of its own cell; its neighbour ends as it would alone."""
    exploded, neighbour = train(framework, EXPLODING, cells_of(framework, EXPLODING))
    assert (exploded.status, neighbour.status) == ("diverged", "finished")
    assert "not finite after epoch" in exploded.reason
    assert "first in the pre-activations of layer" in exploded.reason
    assert_same(train(framework, EXPLODING, [neighbour.cell])[0], neighbour)
