"""Each framework's own initializers against the laws that the registry states."""

from functools import partial

import keras as keras_package
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from tasks.backends import keras, pytorch
from tasks.core.design import activations
from tasks.core.design.activations import LEAKY_SLOPE
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
    weight = torch.empty(30, 40)
    options = {"nonlinearity": "relu"} if "kaiming" in own else {}
    getattr(torch.nn.init, own)(weight, generator=torch.Generator().manual_seed(7), **options)
    np.testing.assert_allclose(pytorch.native(named(name).law, 40, 30, seed=7), weight.numpy().T, rtol=1e-6)


def test_gains_are_pytorchs():
    """Gains are those of torch.nn.init.calculate_gain, for each activation that it knows."""
    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert activations.gain(name) == pytest.approx(torch.nn.init.calculate_gain(name))
    assert activations.gain("leaky_relu") == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE))


@pytest.mark.parametrize("name", ["lsuv", "zero"])
def test_what_needs_a_whole_network_is_no_layers_initializer(name):
    """init_weights refuses, by name, what a framework does not build layer by layer."""
    for initialize, layer in (
        (pytorch.init_weights, torch.nn.Linear(3, 2)),
        (keras.init_weights, keras_package.layers.Dense(2)),
    ):
        with pytest.raises(ValueError, match=f"{name} is not built by a framework"):
            initialize(layer, name)


def test_init_weights_of_pytorchs_modules():
    """`model.apply(init_weights)` is the notebook's: He-normal kernels, zero biases, everything else untouched."""
    model = nn.Sequential(nn.Linear(400, 300), nn.LayerNorm(300), nn.ReLU(), nn.Linear(300, 10, bias=False))
    model.apply(pytorch.init_weights)
    assert stats.kstest(model[0].weight.detach().ravel(), stats.norm(0, np.sqrt(2 / 400)).cdf).pvalue > 1e-4
    assert not model[0].bias.any()
    assert model[1].weight.all()


def test_init_weights_of_convolutions():
    """A convolution's fan_in is its channels times its kernel."""
    convolution = nn.Conv2d(50, 60, 5)
    pytorch.init_weights(convolution, "he_uniform", torch.Generator().manual_seed(0))
    bound = np.sqrt(6 / (50 * 25))
    assert stats.kstest(convolution.weight.detach().ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4


def test_init_weights_generator_and_default_biases():
    """A generator decides the draw; pytorch_default brings PyTorch's biases."""

    def initialized(seed):
        model = nn.Linear(100, 50)
        generator = torch.Generator().manual_seed(seed)
        model.apply(partial(pytorch.init_weights, initializer="pytorch_default", generator=generator))
        return model

    one, same, other = (initialized(seed) for seed in (1, 1, 2))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert 0.08 < one.bias.abs().max() <= 0.1


def test_init_weights_refuses_unknown_names():
    """A wrong name is refused even by a layer that would be left alone."""
    with pytest.raises(ValueError, match="unknown initializer"):
        pytorch.init_weights(nn.ReLU(), "xavier")


def test_init_weights_of_keras_models():
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


def test_pytorchs_biases_in_keras():
    """pytorch_default brings PyTorch's biases to Keras."""
    layer = keras_package.layers.Dense(50)
    layer.build((None, 100))
    keras.init_weights(layer, "pytorch_default", seed=0)
    assert 0.08 < np.abs(layer.bias.numpy()).max() <= 0.1


class Mixed(nn.Module):
    """A module with a kernel of its own."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(2, 3))


@pytest.mark.parametrize(
    "module",
    [nn.ConvTranspose2d(4, 2, 3), nn.Embedding(3, 2), nn.LSTM(3, 2), nn.MultiheadAttention(4, 2), Mixed()],
    ids=lambda module: type(module).__name__,
)
def test_init_weights_of_other_modules_of_pytorch(module):
    """A module with weights that are neither a dense layer's nor a plain convolution's is refused by name."""
    with pytest.raises(ValueError, match=rf"covers dense layers and convolutions .* got {type(module).__name__}\("):
        nn.Sequential(nn.Linear(3, 2), module).apply(pytorch.init_weights)


def test_init_weights_leaves_what_has_no_kernel():
    """Normalizations, slopes and modules without weights stay as they are, in both backends."""
    parts = [nn.BatchNorm2d(4), nn.LayerNorm((4, 4)), nn.GroupNorm(2, 4), nn.PReLU(4), nn.Dropout()]
    before = [parameter.clone() for part in parts for parameter in part.parameters()]
    nn.Sequential(*parts).apply(pytorch.init_weights)
    after = [parameter for part in parts for parameter in part.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    layers = keras_package.layers
    model = keras_package.Sequential(
        [
            keras_package.Input((4, 4)),
            layers.BatchNormalization(),
            layers.LayerNormalization([1, 2]),
            layers.Dropout(0.5),
        ]
    )
    keras.init_weights(model)
    assert all(np.isin(each.numpy(), (0, 1)).all() for each in model.trainable_variables)


KERAS_OTHERS = {
    "Conv2DTranspose": (keras_package.layers.Conv2DTranspose(2, 3), (8, 8, 4)),
    "DepthwiseConv2D": (keras_package.layers.DepthwiseConv2D(3), (8, 8, 4)),
    "Embedding": (keras_package.layers.Embedding(3, 2), (5,)),
    "EinsumDense": (keras_package.layers.EinsumDense("ab,bc->ac", 2), (3,)),
}


@pytest.mark.parametrize("name", KERAS_OTHERS)
def test_init_weights_of_other_layers_of_keras(name):
    """A layer with weights that are no dense layer's or plain convolution's is refused before anything changes."""
    layer, shape = KERAS_OTHERS[name]
    dense = keras_package.layers.Dense(2)
    x = keras_package.Input(shape)
    model = keras_package.Model(x, [layer(x), dense(x)])
    before = dense.kernel.numpy()
    with pytest.raises(ValueError, match=f"covers dense layers and convolutions .* got {name} '{layer.name}'"):
        keras.init_weights(model)
    assert np.array_equal(dense.kernel.numpy(), before)


def test_init_weights_of_keras_layers_that_are_not_built():
    """A layer without weights yet is refused."""
    with pytest.raises(ValueError, match="must be built before they are initialized; got Dense 'early'"):
        keras.init_weights(keras_package.layers.Dense(2, name="early"))


@pytest.mark.parametrize("options", [{"groups": 2}, {"stride": 2}])
def test_fan_out_of_convolutions(options):
    """Where groups or strides change fan_out, a law of fan_out is refused, and a law of fan_in is drawn."""
    in_keras = {{"stride": "strides"}.get(name, name): value for name, value in options.items()}
    layer = keras_package.layers.Conv2D(8, 3, **in_keras)
    layer.build((None, 8, 8, 4))
    for initialize, convolution in ((pytorch.init_weights, nn.Conv2d(4, 8, 3, **options)), (keras.init_weights, layer)):
        initialize(convolution, "he_normal")
        with pytest.raises(ValueError, match=r"glorot_uniform needs fan_out, .* without groups and strides; got Conv2"):
            initialize(convolution, "glorot_uniform")
