"""What the gate asks, how it compares, and what it tells, with a made-up backend."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from tasks.core.design import grid
from tasks.core.design.settings import Network, Recipe
from tasks.core.design.study import Study
from tasks.core.training import parity
from tasks.core.training.parity import CELLS, LEVELS, TWINS, Answer, Asked, Finding, Level, ParityError, Trace
from tests.shared.keys import HERE


def asked(**study):
    return Asked.of(grid.batches(Study(**{"seeds": 2, **study}), HERE))


def values(found, name):
    """Return a setting of the network or recipe of every level."""
    return [
        getattr(getattr(level.settings, part), name)
        for level in found.levels
        for part in ("network", "recipe")
        if hasattr(getattr(level.settings, part), name)
    ]


def test_both_backends_ask_for_one_level():
    """Backends with equal settings make one level; it has the size of the largest batch that trains together."""
    (level,) = asked(seeds=3).levels
    assert level.cells == 8 * 3
    (level,) = asked(seeds=1000, initializers=("zeros",)).levels
    assert level.cells == CELLS


def test_levels_that_compute_the_same_are_one():
    """Seeds of split, order and weights, epochs and initial biases change nothing that a backend computes."""
    varied = {
        "a": {},
        "b": {"recipe.order_seed": 1, "network.weights_seed": 1, "split.seed": 1},
        "c": {"recipe.epochs": 3},
    }
    assert len(asked(factors={"varied": varied}).levels) == 1
    assert len(asked(factors={"network.bias": ("zeros", "framework")}).levels) == 1


def test_whatever_is_computed_is_asked():
    """Every value of a setting that a backend computes with has its level, the changes for one backend too."""
    factors = {"network.activation": ("relu", "tanh"), "recipe.clip_norm": (None, 1.0)}
    found = asked(factors=factors, overrides={"keras": {"batch_size": 8}})
    assert len(found.levels) == 2 * 2 * 2
    assert {*values(found, "batch_size")} == {32, 8}


def test_many_levels_are_cut_to_those_with_new_values():
    """Of more than LEVELS levels those with a value that no other has come first, so that each value is among them."""
    factors = {"recipe.learning_rate": tuple(0.01 * at for at in range(1, 13)), "network.activation": ("relu", "elu")}
    found = asked(factors=factors)
    assert len(found.levels) == LEVELS
    assert len({*values(found, "learning_rate")}) == 12
    assert {*values(found, "activation")} == {"relu", "elu"}


def test_every_native_law_is_asked_once():
    """Laws that frameworks draw are asked for once each, that of the output layer too; NumPy's laws are not."""
    network = Network(output_initializer="glorot_normal")
    found = asked(initializers=("he_normal", "zero", "lsuv", "keras_default", "glorot_uniform"), network=network)
    assert sorted(label for _, label in found.drawn) == ["glorot_normal", "glorot_uniform", "he_normal"]
    assert asked(weights="shared").drawn == ()
    gains = asked(
        initializers=("orthogonal(gain=activation)",), factors={"network.activation": ("relu", "tanh", "leaky_relu")}
    )
    assert len(gains.drawn) == 3


class Untrained:
    """A backend whose program returns the weights that it is given, and logits of its own choice."""

    NAME = "pytorch"

    def __init__(self, logits=0.0):
        self.chosen = logits
        self.orders = []

    def program(self, network, recipe, fans, cells, task):
        self.recipe, self.cells = recipe, cells
        return self

    def start(self, stack, weights, rates):
        self.classes, self.given, self.rates = stack.arrays[3][stack.fold], weights, rates

    def run(self, order):
        self.orders.append(order)
        return SimpleNamespace(scores=np.zeros((len(order), order.shape[1], 4), np.float32))

    def weights(self):
        return self.given

    def logits(self):
        return np.full((*self.classes.shape, 3), self.chosen, np.float32)


def level(cells=1, hidden=(4,), **recipe):
    return Level(
        settings=Study(network=Network(hidden=hidden), recipe=Recipe(**recipe)).settings("keras", ()), cells=cells
    )


def test_a_trace_is_one_numpy_draw():
    """Each backend starts from the same weights, other ones for another seed, with biases that are not zero."""
    one, same = (parity.trace(Untrained(), level()) for _ in range(2))
    assert one.values["weights"] == same.values["weights"]
    assert one.values["weights"] != parity.trace(Untrained(), level().model_copy(update={"seed": 1})).values["weights"]
    backend = Untrained()
    parity.trace(backend, level())
    assert all(np.abs(bias).min() > 0 for bias in backend.given[1::2])


def test_twins_differ_in_the_last_bit():
    """A twin has the next number in place of each weight; under Adam one that a step's rounding is away."""
    for optimizer, stray in (("sgd", 0.0), ("adam", parity.ADAM * 0.01)):
        backend = Untrained()
        parity.trace(backend, level(optimizer=optimizer))
        for array in backend.given:
            assert len(array) == 1 + TWINS
            apart = np.abs(array[1:] - array[0])
            assert (apart > 0).all()
            assert (apart <= stray + 2 * np.spacing(np.abs(array[0]))).all()


@pytest.mark.parametrize(
    ("batch_size", "epochs", "rows"), [(32, 1, 120), ("full", 4, 120), (100, 2, 120), (1, 1, 64), (500, 4, 120)]
)
def test_a_few_steps(batch_size, epochs, rows):
    """The gate takes four steps or more in whole epochs, so that a smaller last batch is one; a long epoch is cut."""
    backend = Untrained()
    parity.trace(backend, level(batch_size=batch_size))
    assert [order.shape for order in backend.orders] == [(epochs, 1 + TWINS, rows)] * 2
    assert np.array_equal(*backend.orders)


def test_the_studys_own_program():
    """The program is that of the study's cells, and has places for twins; ε is one number in both backends."""
    backend = Untrained()
    parity.trace(backend, level(cells=80, epsilon="framework", epochs=7))
    assert backend.cells == 80
    assert backend.recipe == Recipe(epochs=7)
    parity.trace(backend, level(cells=2))
    assert backend.cells == 1 + TWINS


def test_a_backends_own_numbers_are_held_against_each_other():
    """Logits that are not the formula's, and scores that are not the logits', are told without another backend."""
    found = {each.what: each for each in parity.trace(Untrained(), level()).findings}
    assert not found["logits before training, against the formula"].held
    loss = found["test loss, against the test rows' logits"]
    assert not loss.held
    assert loss.measured == pytest.approx(math.log(3))  # of logits that are all alike, where the program says 0


def trace(distance=0.0, allowed=1e-6):
    return Trace(values={"weights": [1.0, 2.0 + distance]}, allowed={"weights": allowed}, findings=[])


def test_backends_are_compared_by_the_smaller_allowance():
    """The largest distance counts, and a backend that allows much does not excuse itself."""
    (found,) = parity.between(level(), {"pytorch": trace(), "keras": trace(distance=1e-3, allowed=1.0)})
    assert (found.measured, found.bound) == pytest.approx((1e-3, 1e-6))
    assert not found.held
    assert parity.between(level(), {"pytorch": trace()}) == []


def test_what_diverges_in_both_is_not_compared():
    """NaN in one backend is a finding, NaN where training diverges in both is none."""
    nan = trace(distance=np.nan, allowed=np.nan)
    assert parity.between(level(), {"pytorch": nan, "keras": nan}) == []
    (found,) = parity.between(level(), {"pytorch": trace(), "keras": nan})
    assert not found.held


def test_an_answer_survives_json():
    """Numbers of a worker's answer are the same after they were stored, NaN among them."""
    answer = Answer(traces=(trace(allowed=np.nan),), drawn=(Finding("a", "b", 0.1, np.inf),))
    again = Answer.model_validate_json(answer.model_dump_json())
    assert again.traces[0].values == answer.traces[0].values
    assert math.isnan(again.traces[0].allowed["weights"])
    assert again.drawn == answer.drawn


def test_the_worst_is_told():
    """Findings within their bounds raise nothing; of the others the worst are told, and how many there are more."""
    good = Finding("pytorch · zeros", "kernel", 0.0, 0.0)
    parity.judge([good])
    bad = [Finding(f"level {at}", "weights", measured, 1.0) for at, measured in enumerate((2.0, 5.0, np.nan, 3.0, 4.0))]
    words = r"level 2: weights: nan, .*; level 1: weights: 5, at most 1 is right; level 4: .*; and 2 more$"
    with pytest.raises(ParityError, match=words):
        parity.judge([good, *bad])
