"""Each framework's own initializers against the laws that the registry states."""

import numpy as np
import pytest
from scipy import stats

from tasks.backends import keras, pytorch
from tasks.core.initializers import CUT, INITIALIZERS, NATIVE_CUT, TRUNCATION, RandomLaw, VarianceScaling

FRAMEWORKS = {"pytorch": pytorch, "keras": keras}
FAN_IN, FAN_OUT = 400, 300  # 120,000 weights
RANDOM = [name for name, entry in INITIALIZERS.items() if isinstance(entry.law, RandomLaw)]

each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=list(FRAMEWORKS))


@each_framework
@pytest.mark.parametrize("name", RANDOM)
def test_native_draws_follow_their_law(name, framework):
    """Moments, bounds and distribution are the registry's, Keras's truncation included."""
    initializer = INITIALIZERS[name]
    weights = framework.native(initializer, FAN_IN, FAN_OUT, seed=1).ravel().astype(np.float64)
    theory = initializer.law.distribution(FAN_IN, FAN_OUT, cut=NATIVE_CUT[framework.NAME])
    low, high = theory.support()
    assert weights.size >= 10**5
    assert weights.mean() == pytest.approx(theory.mean(), abs=5 * theory.std() / np.sqrt(weights.size))
    assert weights.var() == pytest.approx(theory.var(), rel=0.03)
    assert low * (1 + 1e-6) <= weights.min()
    assert weights.max() <= high * (1 + 1e-6)
    assert stats.kstest(weights, theory.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    "name", [n for n in RANDOM if isinstance(law := INITIALIZERS[n].law, VarianceScaling) and law.shape == "normal"]
)
def test_only_keras_cuts_its_normals(name):
    """PyTorch draws beyond the bounds that Keras keeps, 2.29 % of the time; the laws are told apart by the test."""
    law = INITIALIZERS[name].law
    bound = CUT * law.std(FAN_IN, FAN_OUT) / TRUNCATION
    outside = {
        backend: np.mean(np.abs(framework.native(INITIALIZERS[name], FAN_IN, FAN_OUT, seed=2)) > bound * (1 + 1e-6))
        for backend, framework in FRAMEWORKS.items()
    }
    assert outside["keras"] == 0
    assert outside["pytorch"] == pytest.approx(0.0229, abs=0.003)
    theory = law.distribution(FAN_IN, FAN_OUT, cut=False)
    assert stats.kstest(keras.native(INITIALIZERS[name], FAN_IN, FAN_OUT, seed=2).ravel(), theory.cdf).pvalue < 1e-4


@each_framework
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_orthogonal(framework, shape):
    """Rows or columns, whichever are fewer, are orthonormal."""
    kernel = framework.native(INITIALIZERS["orthogonal"], *shape, seed=0)
    small = kernel.T @ kernel if shape[0] >= shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-5)


@each_framework
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zeros", np.zeros((4, 3))),
        ("ones", np.ones((4, 3))),
        ("constant", np.full((4, 3), 0.05)),
        ("identity", np.eye(4, 3)),
    ],
)
def test_fixed_kernels(framework, name, expected):
    """Laws without chance give the stated kernel."""
    np.testing.assert_allclose(framework.native(INITIALIZERS[name], 4, 3, seed=0), expected, rtol=1e-6)


@each_framework
@pytest.mark.parametrize("name", RANDOM)
def test_seed_decides(framework, name):
    """The same seed draws the same kernel, another seed another."""
    one, same, other = (framework.native(INITIALIZERS[name], 5, 4, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_defaults_are_the_frameworks_own():
    """pytorch_default and keras_default are what the frameworks' layers do unasked: same law, same bounds."""
    import keras as keras_package
    import torch

    linear = torch.nn.Linear(FAN_IN, FAN_OUT)
    dense = keras_package.layers.Dense(FAN_OUT)
    dense.build((None, FAN_IN))
    for name, weights in (
        ("pytorch_default", linear.weight.detach().numpy()),
        ("keras_default", dense.kernel.numpy()),
    ):
        theory = INITIALIZERS[name].law.distribution(FAN_IN, FAN_OUT, cut=False)
        assert stats.kstest(weights.ravel(), theory.cdf).pvalue > 1e-4
