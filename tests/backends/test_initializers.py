"""Each framework's own initializers against the laws that the registry states."""

from functools import partial

import keras as keras_package
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.utils import prune

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


def test_init_weights_names_what_it_leaves():
    """A parameter that belongs to no known layer stays as built, and is named, whoever calls."""
    model = nn.Sequential(nn.Linear(3, 2), Mixed())
    with pytest.warns(UserWarning, match=r"no layer of a known kind .* stay as built: 1\.kernel"):
        assert pytorch.init_weights(model).left == ("1.kernel",)
    with pytest.warns(UserWarning, match=r"stay as built: (1\.)?kernel"):
        model.apply(pytorch.init_weights)
    assert not model[1].kernel.any()


def test_init_weights_leaves_what_has_no_kernel():
    """Normalizations, slopes and modules without weights stay as they are, in both backends."""
    parts = [nn.BatchNorm2d(4), nn.LayerNorm((4, 4)), nn.GroupNorm(2, 4), nn.PReLU(4), nn.Dropout()]
    before = [parameter.clone() for part in parts for parameter in part.parameters()]
    with pytest.warns(UserWarning, match=r"stay as built: 1\.weight, 1\.bias"):
        pytorch.init_weights(nn.Sequential(*parts))
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
    with pytest.warns(UserWarning, match="stay as built: layer_normalization"):
        keras.init_weights(model)
    assert all(np.isin(each.numpy(), (0, 1)).all() for each in model.trainable_variables)


def test_init_weights_of_keras_layers_that_are_not_built():
    """A layer without weights yet is refused."""
    with pytest.raises(ValueError, match="must be built before they are listed; got Dense 'early'"):
        keras.init_weights(keras_package.layers.Dense(2, name="early"))


# torch's own way to say that a hook will be gone
OLD = pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")


@OLD
@pytest.mark.parametrize("normed", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
@pytest.mark.parametrize("initializer", ["lecun_normal", "orthogonal", "identity", "zeros"])
def test_init_weights_under_weight_norm(normed, initializer):
    """A layer under weight normalization computes with the kernel that was drawn, in every call."""
    layer, plain = normed(nn.Linear(40, 30)), nn.Linear(40, 30)
    for each in (layer, plain):
        found = pytorch.init_weights(each, initializer, torch.Generator().manual_seed(0))
        assert not found.left
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    for _ in range(2):
        torch.testing.assert_close(layer(x), plain(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("normed", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("training", [True, False])
def test_init_weights_under_spectral_norm(normed, training):
    """The layer computes with what was drawn, divided by its largest singular value, and the result says so."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for the vectors from which the norm starts its iterations
        layer, plain = normed(nn.Conv2d(4, 6, 3)).train(training), nn.Conv2d(4, 6, 3)
    for each in (plain, layer):
        found = pytorch.init_weights(each, "he_normal", torch.Generator().manual_seed(0))
    assert found.notes == ("Conv2d.weight: spectral_norm divides what is drawn by its largest singular value",)
    x = torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(1))
    largest = torch.linalg.matrix_norm(plain.weight.flatten(1), 2)
    torch.testing.assert_close(layer(x), plain(x) / largest, atol=1e-4, rtol=0.03)
    with pytest.raises(ValueError, match=r"Conv2d\.weight is under spectral_norm, which cannot divide zeros"):
        pytorch.init_weights(layer, "zeros")


def test_init_weights_of_pruned_layers():
    """What is pruned stays so; all else is drawn, also what was zero; the result says that variance is missing."""
    layer, plain = nn.LSTM(6, 5), nn.LSTM(6, 5)
    for _ in range(2):
        prune.random_unstructured(layer, "weight_hh_l0", 0.3)
    for each in (plain, layer):
        found = pytorch.init_weights(each, "he_normal", torch.Generator().manual_seed(0))
    assert torch.equal(layer.weight_hh_l0, plain.weight_hh_l0 * layer.weight_hh_l0_mask)
    assert found.notes == (
        "LSTM.weight_hh_l0: pruned weights stay zero, so outputs have less variance than the law gives",
    )


class Symmetric(nn.Module):
    """A parametrization that changes what is assigned."""

    def forward(self, kernel):
        return kernel.triu() + kernel.triu(1).T

    def right_inverse(self, kernel):
        return kernel.triu()


class Exponential(nn.Module):
    """A parametrization without a way back."""

    def forward(self, kernel):
        return kernel.exp()


@pytest.mark.parametrize("parametrization", [Symmetric(), Exponential()])
def test_init_weights_refuses_what_it_cannot_assign(parametrization):
    """A kernel that does not become what is drawn is refused with its name and a remedy, before anything changes."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nn.utils.parametrize.register_parametrization(model[1], "weight", parametrization)
    before = [value.clone() for value in model.parameters()]
    kind = type(parametrization).__name__
    with pytest.raises(ValueError, match=rf"1\.weight is parametrized by {kind}, .* initialize the module before"):
        pytorch.init_weights(model)
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_init_weights_refuses_a_kernel_that_is_computed_otherwise():
    """A kernel that is no parameter, but recomputed by a hook of a user's own, is refused with its name."""
    layer = nn.Linear(3, 3)
    raw = nn.Parameter(layer.weight.detach())
    del layer._parameters["weight"]
    layer.register_parameter("raw", raw)
    layer.weight = raw * 2
    with pytest.raises(ValueError, match=r"Linear\.weight is computed from other parameters .* before it is wrapped"):
        pytorch.init_weights(layer)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Linear(3, 2, device="meta"), "must be moved off the device meta before they are initialized"),
        (nn.LazyLinear(2), "lazy modules must be called before they are listed"),
    ],
)
def test_init_weights_of_modules_without_memory(layer, what):
    """Where an assignment would change nothing, it is refused."""
    with pytest.raises(ValueError, match=what):
        pytorch.init_weights(nn.Sequential(layer))


def test_init_weights_of_empty_kernels():
    """A layer without inputs has nothing to draw: torch's warning, in both backends, and the rest is initialized."""
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        model = nn.Linear(0, 5)
    layer = keras_package.layers.Dense(5)
    layer.build((None, 0))
    for initialize, each in ((pytorch.init_weights, model), (keras.init_weights, layer)):
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            initialize(each, "pytorch_default")
    assert not model.bias.any()


@pytest.mark.parametrize(
    ("initialize", "make"),
    [(pytorch.init_weights, lambda: nn.Conv2d(4, 4, 3)), (keras.init_weights, lambda: _convolution())],
)
def test_init_weights_refuses_the_identity_of_several_taps(initialize, make):
    """The identity is a matrix: a convolution's outputs sum over several, so it is refused."""
    with pytest.raises(ValueError, match="identity needs kernels that each output applies once; got"):
        initialize(make(), "identity")


def _convolution():
    layer = keras_package.layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 4))
    return layer


def test_keras_seed_decides_where_init_weights_has_none():
    """Without a seed, set_random_seed decides, as for Keras's own initializers, and each call draws anew."""
    drawn = []
    for _ in range(2):
        keras_package.utils.set_random_seed(5)
        for _ in range(2):
            layer = _convolution()
            keras.init_weights(layer)
            drawn.append(layer.kernel.numpy())
    assert np.array_equal(drawn[0], drawn[2])
    assert np.array_equal(drawn[1], drawn[3])
    assert not np.array_equal(drawn[0], drawn[1])


def test_init_weights_of_keras_under_lora():
    """A kernel to which LoRA adds is no variable; it is refused with the layer's name."""
    layer = keras_package.layers.Dense(4, name="adapted")
    layer.build((None, 4))
    layer.enable_lora(2)
    with pytest.raises(ValueError, match=r"adapted/kernel is computed from other weights, .* before LoRA is enabled"):
        keras.init_weights(layer)
