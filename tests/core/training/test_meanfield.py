from itertools import pairwise

import numpy as np
import pytest

from tasks.core.design.activations import ACTIVATIONS, TABLE
from tasks.core.design.initializers import named
from tasks.core.design.settings import Network
from tasks.core.training import meanfield

WIDTH = 64


def expected(initializer, *, depth=6, fans=None, square=1.0, **network):
    network = Network(width=WIDTH, depth=depth, **network)
    return meanfield.expected(network, named(initializer), "pytorch", fans or (WIDTH,) * (depth + 1) + (10,), square)


def ratios(values):
    return np.diff(np.log(values))


def test_relu():
    """On square ReLU layers He keeps the variance both ways, Glorot and LeCun halve it (He et al., 2015)."""
    he, glorot = expected("he_normal"), expected("glorot_normal")
    np.testing.assert_allclose(ratios(he.forward[:-1]), 0, atol=1e-12)
    np.testing.assert_allclose(ratios(he.backward), 0, atol=1e-12)
    np.testing.assert_allclose(ratios(glorot.forward[:-1]), np.log(0.5), rtol=1e-12)
    np.testing.assert_allclose(ratios(glorot.backward), -np.log(0.5), rtol=1e-12)
    assert he.forward[0] == pytest.approx(2)


def test_linear():
    """Linear layers multiply by fan_in times the variance forward, by fan_out times it backward (Glorot & Bengio)."""
    fans = (8, 20, 50, 3)
    theory = expected("mean_field(sigma_w=1.3)", depth=2, fans=fans, square=2.0, activation="linear")
    np.testing.assert_allclose(theory.forward, 2 * 1.69 ** np.arange(1, 4))
    assert theory.backward[0] / theory.backward[1] == pytest.approx(50 * 1.69 / 20)


def test_tanh_of_small_variance_is_linear():
    """tanh(z) ≈ z for small z, so that below the edge both rates are σ_w²."""
    theory = expected("mean_field(sigma_w=0.5)", depth=30, square=1e-4, activation="tanh")
    np.testing.assert_allclose(ratios(theory.forward[:-1]), np.log(0.25), rtol=1e-3)
    np.testing.assert_allclose(ratios(theory.backward), -np.log(0.25), rtol=1e-3)


def test_critical_points():
    """χ₁ is 1 for ReLU at σ_w² = 2 whatever q, and for tanh at σ_w = 1, q → 0; tanh is ordered below, chaotic above."""
    np.testing.assert_allclose(expected("he_normal", square=7.0).chi, 1)
    np.testing.assert_allclose(expected("mean_field(sigma_w=1)", activation="tanh", square=1e-9).chi, 1, atol=1e-6)
    for width, side in ((0.8, -1), (1.5, 1)):
        theory = expected(f"mean_field(sigma_w={width})", activation="tanh", depth=40)
        assert side * (theory.chi[-1] - 1) > 0.1
        assert theory.forward[-2] == pytest.approx(
            width**2 * meanfield.moments("tanh", theory.forward[-2])[1], abs=1e-6
        )


def test_batch_normalization_explodes_under_relu():
    """A batch-normalized ReLU layer multiplies the gradient's variance by π / (π - 1) (Yang et al., 2019)."""
    for initializer in ("he_normal", "random_normal(std=0.01)"):
        theory = expected(initializer, normalization="batch")
        np.testing.assert_allclose(-ratios(theory.backward), np.log(np.pi / (np.pi - 1)), rtol=1e-9)
        assert theory.forward[:-1].tolist() == [1] * 6
    assert expected("he_normal", normalization="batch").forward[-1] == pytest.approx(1)  # logits are of E[φ²] = ½


def test_lsuv_has_unit_variance():
    """LSUV's outputs have variance 1 in every layer, by its definition."""
    assert expected("lsuv").forward.tolist() == [1] * 7


def test_no_law_no_theory():
    """Where weights are not random with mean zero there is no theory, and no number pretends that there is."""
    for initializer in ("zeros", "identity", "zero"):
        theory = expected(initializer)
        assert np.isnan(theory.forward).all()
        assert np.isnan(theory.backward).all()


def simulated(network, initializer, fans, x, seed):
    """Return variances of pre-activations by layer, and of their gradient in hidden layers, of one NumPy network."""
    rng = np.random.default_rng(seed)
    law = named(initializer).law.under(network.activation)
    phi = TABLE[network.activation]
    kernels = [law.draw(a, b, rng=rng) for a, b in pairwise(fans)]
    biases = [rng.normal(0, law.bias_std, b) if law.bias_std else np.zeros(b) for b in fans[1:]]
    h, zs = x, []
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        z = h @ kernel + bias
        zs.append(z)
        a = phi.function(z)
        h = h + a if network.residual and h.shape == a.shape else a
    logits = h @ kernels[-1] + biases[-1]
    upstream = rng.normal(size=logits.shape) @ kernels[-1].T
    deltas = []
    for at in reversed(range(len(zs))):
        delta = phi.slope(zs[at]) * upstream
        deltas.append(delta)
        upstream = (upstream if network.residual and fans[at] == fans[at + 1] else 0) + delta @ kernels[at].T
    return [z.var() for z in [*zs, logits]], [delta.var() for delta in deltas[::-1]]


@pytest.mark.parametrize(
    "network",
    [
        *({"activation": activation} for activation in ACTIVATIONS),
        {"residual": True},
        {"residual": True, "activation": "tanh"},
    ],
    ids=str,
)
@pytest.mark.parametrize("initializer", ["he_normal", "mean_field(sigma_w=1.2, sigma_b=0.3)"])
def test_theory_is_the_mean_over_wide_networks(network, initializer):
    """Averaged over wide random networks, variances are what theory expects, for every activation and with skips."""
    network = Network(width=300, depth=4, **network)
    fans = (300,) * 5 + (50,)
    x = np.random.default_rng(0).normal(size=(60, 300))
    runs = [simulated(network, initializer, fans, x, seed) for seed in range(6)]
    forward, backward = (np.mean(part, axis=0) for part in zip(*runs, strict=True))
    theory = meanfield.expected(network, named(initializer), "pytorch", fans, np.mean(x**2))
    np.testing.assert_allclose(forward, theory.forward, rtol=0.12)
    np.testing.assert_allclose(backward / backward[-1], theory.backward, rtol=0.12)


def test_log_slope():
    """The slope is that of a straight line through ln variance; there is none through zeros, infinities or a point."""
    assert meanfield.log_slope(np.exp(0.3 * np.arange(5))) == pytest.approx(0.3)
    for nothing in ([1.0], [1.0, 0.0], [1.0, np.inf], [np.nan, 1.0]):
        assert np.isnan(meanfield.log_slope(np.array(nothing)))
