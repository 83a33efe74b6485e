"""Digests of cells that were really trained: the same each night, and where a changed cell first differs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.backends import keras, pytorch
from tasks.core.design.settings import Recipe
from tasks.core.design.study import Study
from tasks.core.statistics.side_by_side import keyed
from tasks.core.training import batch, datasets, files
from tasks.core.watch import bits
from tests.shared import samples
from tests.shared.programs import apart, cells_of, train

each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=["pytorch", "keras"])
RATE = 0.01


def night(framework, rate=RATE):
    """Return the outcomes of two seeds, by a program that other tests use too."""
    study = Study(recipe=Recipe(epochs=2), initializers=("he_normal",), seeds=2)
    return train(framework, study, cells_of(framework, study), [rate] * 2)


def recorded(framework, outcomes):
    """Return what a record has of these outcomes."""
    cells = samples.cells(("he_normal",), seeds=2, backends=(framework.NAME,))
    tables = [[files.bits(each.trained.bits) for each in outcomes], [files.history(each.trained) for each in outcomes]]
    named = [
        pd.concat(
            pd.DataFrame(table).assign(backend=framework.NAME, initializer="he_normal", seed=seed)
            for seed, table in enumerate(found)
        )
        for found in tables
    ]
    asked = {"backends": (framework.NAME,), "initializers": ("he_normal",), "seeds": 2, "recipe": Recipe(epochs=2)}
    return bits.Recorded(keyed(Study(**asked), cells), *named)


def flags(framework, one, other):
    return [flag.words for flag in bits.beside(*(recorded(framework, each) for each in (one, other))).flags]


@each_framework
def test_a_seed_decides_every_bit(framework):
    """The same seed gives the same digests again; another seed gives others of every kernel, at every stage."""
    one, again = night(framework), night(framework)
    assert [each.trained.bits for each in one] == [each.trained.bits for each in again]
    assert flags(framework, one, again) == []
    start, gradient, end = apart(*one)
    assert len(gradient) == 3
    assert {*gradient} <= {*start} & {*end}
    assert {*end} == {*one[0].trained.bits.end} == {*one[0].trained.weights}


@each_framework
def test_changed_start_weights(framework, monkeypatch):
    """If the last bit of one start weight changes, the flag says that the initializer did, and in which layer."""
    one, own = night(framework), batch.initial_weights

    def changed(*given):
        weights = own(*given)
        weights[2][0, 0] = np.nextafter(weights[2][0, 0], np.float32(9))
        return weights

    monkeypatch.setattr(batch, "initial_weights", changed)
    other = night(framework)
    (second,) = {name for name, each in other[0].trained.weights.items() if each.shape in ((64, 32), (32, 64))}
    assert apart(one[0], other[0])[0] == [second]
    (words,) = flags(framework, one, other)
    assert words.startswith("2 of 2 cells are not bit-equal; the first difference is in ")
    assert words.endswith(f" the start weights, {second}: the initializer changed")


@each_framework
def test_a_changed_first_gradient(framework, monkeypatch):
    """If equal start weights see numbers that differ by rounding, the flag says that the arithmetic changed."""
    one, own = night(framework), datasets.divide

    def changed(*given):
        fold = own(*given)
        return replace(fold, x_train=fold.x_train * np.float32(1 + 1e-6))

    monkeypatch.setattr(datasets, "divide", changed)
    other = night(framework)
    start, gradient, end = apart(one[0], other[0])
    assert (start, len(gradient)) == ([], 3)
    assert end
    (words,) = flags(framework, one, other)
    assert f"is in the first gradient, {gradient[0]}: the arithmetic changed" in words


@each_framework
def test_training_that_changed(framework):
    """If only what comes after the first gradient changes, such as the optimizer, the flag names epoch and layer."""
    one, other = night(framework), night(framework, RATE * (1 + 1e-6))
    start, gradient, end = apart(one[0], other[0])
    assert (start, gradient) == ([], [])
    assert end
    (words,) = flags(framework, one, other)
    assert "is in epoch 1, layer 1: start weights and first gradients are equal" in words
