"""Each framework's own initializers against the laws that the registry states."""

import numpy as np
import pytest
from scipy import stats

from tasks.backends import keras, pytorch
from tasks.core.design.initializers import CUT, OWN, TRUNCATION, RandomLaw, VarianceScaling, named

FRAMEWORKS = {"pytorch": pytorch, "keras": keras}
FAN_IN, FAN_OUT = 400, 300  # 120,000 weights
RANDOM = [
    *(entry.name for entry in OWN if isinstance(entry.law, RandomLaw)),
    "variance_scaling(scale=3, mode=fan_out, distribution=uniform)",
    "variance_scaling(scale=3, mode=fan_avg, distribution=truncated_normal)",
    "variance_scaling(distribution=untruncated_normal)",
    "orthogonal(gain=1.5)",
    "mean_field(sigma_w=1.5, sigma_b=0.1)",
]

each_framework = pytest.mark.parametrize("framework", [pytorch, keras], ids=list(FRAMEWORKS))


@each_framework
@pytest.mark.parametrize("name", RANDOM)
def test_native_draws_follow_their_law(name, framework):
    """Moments, bounds and distribution are the registry's, Keras's truncation included."""
    law = named(name).law
    weights = framework.native(law, FAN_IN, FAN_OUT, seed=1).ravel().astype(np.float64)
    theory = law.marginal(FAN_IN, FAN_OUT, framework.NAME)
    low, high = theory.support()
    assert weights.size >= 10**5
    assert weights.mean() == pytest.approx(theory.mean(), abs=5 * theory.std() / np.sqrt(weights.size))
    assert weights.var() == pytest.approx(theory.var(), rel=0.03)
    assert low * (1 + 1e-6) <= weights.min()
    assert weights.max() <= high * (1 + 1e-6)
    assert stats.kstest(weights, theory.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    "name", [n for n in RANDOM if isinstance(law := named(n).law, VarianceScaling) and law.distribution == "normal"]
)
def test_only_keras_cuts_its_normals(name):
    """PyTorch draws beyond the bounds that Keras keeps, 2.29 % of the time; the laws are told apart by the test."""
    law = named(name).law
    bound = CUT * law.std(FAN_IN, FAN_OUT) / TRUNCATION
    outside = {
        backend: np.mean(np.abs(framework.native(law, FAN_IN, FAN_OUT, seed=2)) > bound * (1 + 1e-6))
        for backend, framework in FRAMEWORKS.items()
    }
    assert outside["keras"] == 0
    assert outside["pytorch"] == pytest.approx(0.0229, abs=0.003)
    theory = law.marginal(FAN_IN, FAN_OUT)
    assert stats.kstest(keras.native(law, FAN_IN, FAN_OUT, seed=2).ravel(), theory.cdf).pvalue < 1e-4


@each_framework
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (6, 6)])
def test_orthogonal(framework, shape):
    """Rows or columns, whichever are fewer, are orthonormal."""
    for name, gain in (("orthogonal", 1), ("orthogonal(gain=3)", 3)):
        kernel = framework.native(named(name).law, *shape, seed=0)
        small = kernel.T @ kernel if shape[0] >= shape[1] else kernel @ kernel.T
        np.testing.assert_allclose(small, gain**2 * np.eye(min(shape)), atol=1e-5)


@each_framework
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zeros", np.zeros((4, 3))),
        ("ones", np.ones((4, 3))),
        ("constant", np.full((4, 3), 0.05)),
        ("identity", np.eye(4, 3)),
        ("identity(gain=0.5)", 0.5 * np.eye(4, 3)),
        ("constant(value=-2)", np.full((4, 3), -2)),
    ],
)
def test_fixed_kernels(framework, name, expected):
    """Laws without chance give the stated kernel."""
    np.testing.assert_allclose(framework.native(named(name).law, 4, 3, seed=0), expected, rtol=1e-6)


@each_framework
@pytest.mark.parametrize("name", RANDOM)
def test_seed_decides(framework, name):
    """The same seed draws the same kernel, another seed another."""
    one, same, other = (framework.native(named(name).law, 5, 4, seed) for seed in (1, 1, 2))
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
        theory = named(name).law.marginal(FAN_IN, FAN_OUT)
        assert stats.kstest(weights.ravel(), theory.cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("he_normal", "kaiming_normal_"),
        ("he_uniform", "kaiming_uniform_"),
        ("glorot_normal", "xavier_normal_"),
        ("glorot_uniform", "xavier_uniform_"),
    ],
)
def test_pytorch_draws_are_its_own_functions(name, own):
    """From one generator state the weights are those of torch.nn.init's function of that name."""
    import torch

    weight = torch.empty(30, 40)
    options = {"nonlinearity": "relu"} if "kaiming" in own else {}
    getattr(torch.nn.init, own)(weight, generator=torch.Generator().manual_seed(7), **options)
    np.testing.assert_allclose(pytorch.native(named(name).law, 40, 30, seed=7), weight.numpy().T, rtol=1e-6)


def test_gains_are_pytorchs():
    """Gains are those of torch.nn.init.calculate_gain, for each activation that it knows."""
    import torch

    from tasks.core.design.activations import LEAKY_SLOPE, gain

    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert gain("leaky_relu") == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE))


@pytest.mark.parametrize("name", ["lsuv", "zero"])
def test_what_needs_a_whole_network_is_no_layers_initializer(name):
    """init_weights refuses, by name, what a framework does not build layer by layer."""
    import keras as keras_package
    import torch

    for initialize, layer in (
        (pytorch.init_weights, torch.nn.Linear(3, 2)),
        (keras.init_weights, keras_package.layers.Dense(2)),
    ):
        with pytest.raises(ValueError, match=f"{name} is not built by a framework"):
            initialize(layer, name)
