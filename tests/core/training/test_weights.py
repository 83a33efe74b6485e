"""The weights that a cell starts from, as they are drawn for every backend alike."""

import numpy as np
import pytest

from tasks.core.design.grid import Cell
from tasks.core.design.settings import Network
from tasks.core.design.study import Study
from tasks.core.training import weights as drawn

X = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)


class Nothing:
    """A backend that must not be asked for weights."""

    def __init__(self, name="pytorch"):
        self.NAME = name


def weights_of(network, initializer="lsuv", seed=0, backend="pytorch"):
    sizes, cell = (10, *network.units, 3), Cell(backend, initializer, seed)
    return drawn.initial_weights(Nothing(backend), Study(network=network).settings(backend, ()), cell, sizes, X)


def outputs(weights, network, x=X):
    """Return each layer's pre-activations in a plain ReLU or tanh network, with skips where asked for."""
    h, found = x.astype(np.float64), []
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        found.append(h @ kernel + bias)
        a = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[network.activation](found[-1])
        h = h + a if network.residual and h.shape == a.shape else a
    return found


@pytest.mark.parametrize("network", [Network(width=20, depth=5), Network(width=10, depth=5, residual=True)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_lsuv_has_unit_output_variance(network, activation):
    """Every layer's output on the train rows has a variance within .1 of 1, and the kernels stay orthogonal."""
    network = network.model_copy(update={"activation": activation})
    weights = weights_of(network)
    for z in outputs(weights, network):
        assert z.var() == pytest.approx(1, abs=drawn.LSUV_TOLERANCE)
    small = weights[2].T @ weights[2]
    np.testing.assert_allclose(small, small[0, 0] * np.eye(len(small)), atol=1e-4)


def test_lsuv_leaves_a_plain_output_layer_alone():
    """With an output layer that is not its own, LSUV rescales the hidden layers only."""
    network = Network(hidden=(20,), output_initializer="glorot_normal")
    shared = Study(network=network, weights="shared").settings("pytorch", ())
    weights = drawn.initial_weights(Nothing(), shared, Cell("pytorch", "lsuv", 0), (10, 20, 3), X)
    hidden, logits = outputs(weights, network)
    assert hidden.var() == pytest.approx(1, abs=0.1)
    assert abs(logits.var() - 1) > 0.1


def test_lsuv_of_nothing_ends():
    """A layer that gives zero on every row cannot be rescaled, and is left as it is."""
    weights = drawn.with_unit_variance([np.zeros((10, 4)), np.zeros(4)], [0], Network(hidden=()), X)
    assert not weights[0].any()


def test_what_frameworks_lack_is_drawn_in_numpy():
    """LSUV and ZerO come from NumPy, the same in both backends, even where weights are native."""
    for name in ("lsuv", "zero"):
        one, other = (weights_of(Network(hidden=(12,)), name, backend=backend) for backend in ("pytorch", "keras"))
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_mean_field_draws_biases():
    """sigma_b gives biases of their own seed, and the kernels do not depend on it."""
    shared = Study(weights="shared", network=Network(hidden=(4000,))).settings("pytorch", ())
    with_biases, without, other = (
        drawn.initial_weights(Nothing(), shared, Cell("pytorch", name, seed), (10, 4000, 3), X)
        for name, seed in (
            ("mean_field(sigma_w=1, sigma_b=0.5)", 0),
            ("mean_field(sigma_w=1)", 0),
            ("mean_field(sigma_w=1, sigma_b=0.5)", 1),
        )
    )
    assert with_biases[1].std() == pytest.approx(0.5, rel=0.05)
    assert not without[1].any()
    assert np.array_equal(with_biases[0], without[0])
    assert not np.array_equal(with_biases[1], other[1])
