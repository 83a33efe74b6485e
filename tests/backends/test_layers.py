"""The weighted layers of any model, held against what the layers compute."""

import math

import keras as keras_package
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch import nn

from tasks.backends import keras, pytorch
from tasks.backends.keras import layers as in_keras
from tasks.backends.pytorch import layers as in_torch

L = keras_package.layers
FORWARD = "variance_scaling(mode=fan_in, distribution=untruncated_normal)"
BACKWARD = "variance_scaling(mode=fan_out, distribution=untruncated_normal)"
SIDE = {0: (), 1: (96,), 2: (26, 26), 3: (14, 14, 14)}  # of inputs, by the number of spatial axes

TORCH = {
    "Linear": (lambda: nn.Linear(64, 48), 64),
    "Conv1d": (lambda: nn.Conv1d(16, 32, 5), 16),
    "Conv1d, strides": (lambda: nn.Conv1d(16, 48, 6, stride=3), 16),
    "Conv2d, groups": (lambda: nn.Conv2d(32, 64, 3, groups=4), 32),
    "Conv2d, strides that do not divide": (lambda: nn.Conv2d(24, 16, (3, 5), stride=2), 24),
    "Conv2d, dilation": (lambda: nn.Conv2d(16, 24, 3, dilation=2), 16),
    "Conv2d, depthwise with strides": (lambda: nn.Conv2d(128, 256, 3, groups=128, stride=2), 128),
    "Conv3d": (lambda: nn.Conv3d(8, 16, 3), 8),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(32, 16, 6, stride=3), 32),
    "ConvTranspose2d, fewer outputs": (lambda: nn.ConvTranspose2d(64, 16, 3), 64),
    "ConvTranspose2d, more outputs": (lambda: nn.ConvTranspose2d(16, 64, 3), 16),
    "ConvTranspose2d, strides": (lambda: nn.ConvTranspose2d(32, 16, 4, stride=2), 32),
    "ConvTranspose2d, groups": (lambda: nn.ConvTranspose2d(32, 64, 5, stride=(2, 1), groups=4), 32),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(8, 8, 4, stride=2), 8),
}
KERAS = {
    "Dense": (lambda: L.Dense(48), (64,)),
    "EinsumDense, heads": (lambda: L.EinsumDense("abc,cde->abde", (None, 4, 12)), (7, 64)),
    "EinsumDense, heads back": (lambda: L.EinsumDense("abcd,cde->abe", (None, 40)), (7, 4, 16)),
    "EinsumDense, groups": (lambda: L.EinsumDense("abc,bcd->abd", (5, 24)), (5, 32)),
    "Conv1D": (lambda: L.Conv1D(32, 5, strides=2), (96, 16)),
    "Conv2D, groups": (lambda: L.Conv2D(64, 3, groups=4), (26, 26, 32)),
    "Conv2D, strides": (lambda: L.Conv2D(32, (3, 4), strides=2), (26, 26, 16)),
    "Conv3D": (lambda: L.Conv3D(16, 3), (14, 14, 14, 8)),
    "Conv1DTranspose": (lambda: L.Conv1DTranspose(16, 6, strides=3), (96, 32)),
    "Conv2DTranspose, fewer outputs": (lambda: L.Conv2DTranspose(16, 3), (26, 26, 64)),
    "Conv2DTranspose, strides": (lambda: L.Conv2DTranspose(24, 4, strides=2), (26, 26, 16)),
    "Conv3DTranspose": (lambda: L.Conv3DTranspose(8, 4, strides=2), (14, 14, 14, 8)),
    "DepthwiseConv1D": (lambda: L.DepthwiseConv1D(6, strides=2, depth_multiplier=3), (96, 64)),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (26, 26, 64)),
    "TimeDistributed": (lambda: L.TimeDistributed(L.Dense(48)), (7, 64)),
}


def _built(name):
    """Return a layer of Keras, built, and the shape of its inputs."""
    make, shape = KERAS[name]
    layer = make()
    layer.build((None, *shape))
    return layer, shape


def _interior(module, y, gradient, first):
    """Leave out the borders of outputs and of gradients in inputs, of which `first` is the first spatial axis.

    Without padding a convolution's outputs have no borders, but its inputs have: those at the border are seen by fewer
    taps. Of a transposed convolution it is the outputs. What is left is a multiple of the strides.
    """
    transposed = "Transpose" in type(module).__name__
    fine = np.asarray(y if transposed else gradient)
    strides = getattr(module, "stride", getattr(module, "strides", ()))
    dilation = getattr(module, "dilation", getattr(module, "dilation_rate", ()))
    index = [slice(None)] * fine.ndim
    sides = getattr(module, "kernel_size", ())
    for axis, (side, stride, step) in enumerate(zip(sides, strides, dilation, strict=True), start=first):
        margin = (side - 1) * step + 1
        inside = (fine.shape[axis] - 2 * margin) // stride * stride
        assert inside > 0
        index[axis] = slice(margin, margin + inside)
    fine = fine[tuple(index)]
    return [float((np.asarray(each) ** 2).mean()) for each in ((fine, gradient) if transposed else (y, fine))]


def _torch_moments(module, channels, label):
    """Return the mean squares of outputs, and of gradients in inputs, for outputs' gradients of variance 1."""
    pytorch.init_weights(module, label, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    sides = SIDE[len(getattr(module, "kernel_size", ()))]
    x = torch.randn(16 if sides else 512, channels, *sides, generator=generator).requires_grad_()
    y = module(x)
    y.backward(torch.randn(y.shape, generator=generator))
    return _interior(module, y.detach(), x.grad, first=2)


def _keras_moments(layer, shape, label):
    """Return the mean squares of outputs, and of gradients in inputs, for outputs' gradients of variance 1."""
    keras.init_weights(layer, label, seed=1)
    x = tf.random.stateless_normal((16 if len(shape) > 2 else 512, *shape), (2, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    gradient = tape.gradient(y, x, tf.random.stateless_normal(y.shape, (4, 5)))
    return _interior(layer, y, gradient, first=1)


def _error(size):
    """Return five standard errors of the variance of so many normal numbers, and some for the inputs'."""
    return 5 * math.sqrt(2 / size) + 0.02


def _held(moments, size):
    """Hold the moments under FORWARD, BACKWARD and the orthogonal law against 1."""
    outputs, gradients, orthogonal = moments(FORWARD)[0], moments(BACKWARD)[1], moments("orthogonal")[0]
    assert outputs == pytest.approx(1, abs=_error(size))
    assert gradients == pytest.approx(1, abs=_error(size))
    assert orthogonal == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", TORCH)
def test_outputs_of_pytorch_have_variance_one(name):
    """Under variance 1/fan_in so have outputs, under 1/fan_out gradients, and under orthogonal matrices outputs."""
    make, channels = TORCH[name]
    module = make()
    _held(lambda label: _torch_moments(module, channels, label), module.weight.numel())


@pytest.mark.parametrize("name", KERAS)
def test_outputs_of_keras_have_variance_one(name):
    """Under variance 1/fan_in so have outputs, under 1/fan_out gradients, and under orthogonal matrices outputs."""
    layer, shape = _built(name)
    _held(lambda label: _keras_moments(layer, shape, label), layer.count_params())


@pytest.mark.parametrize("layer", [L.SeparableConv1D(8, 5, depth_multiplier=2), L.SeparableConv2D(8, 3, strides=2)])
def test_separable_convolutions(layer):
    """Both kernels of a separable convolution give outputs of variance 1, so that theirs is 1, too."""
    shape = (26,) * len(layer.kernel_size) + (64,)
    layer.build((None, *shape))
    depthwise, pointwise = in_keras.layers(layer).layers[0].kernels
    m, k, s = layer.depth_multiplier, math.prod(layer.kernel_size), math.prod(layer.strides)
    assert (depthwise.fan_in, depthwise.fan_out) == (k, m * k / s)
    assert (pointwise.fan_in, pointwise.fan_out) == (64 * m, 8)
    keras.init_weights(layer, FORWARD, seed=0)
    y = layer(tf.random.stateless_normal((32, *shape), (2, 3)))
    assert float(tf.reduce_mean(y**2)) == pytest.approx(1, abs=_error(64 * m * 8) + _error(64 * m * k))


def _unit(layer, shape):
    layer.build(shape)
    return layer


OTHERS = {
    "torch": {
        "Bilinear": lambda: nn.Bilinear(12, 10, 20),
        "Embedding": lambda: nn.Embedding(50, 40),
        "MultiheadAttention": lambda: nn.MultiheadAttention(24, 4),
        "MultiheadAttention, separate": lambda: nn.MultiheadAttention(24, 4, kdim=20, vdim=12),
        "RNN": lambda: nn.RNN(16, 12, num_layers=2, bidirectional=True),
        "GRU": lambda: nn.GRU(16, 12, bias=False),
        "LSTM": lambda: nn.LSTM(16, 12, bidirectional=True, proj_size=8),
        "RNNCell": lambda: nn.RNNCell(16, 12),
        "GRUCell": lambda: nn.GRUCell(16, 12),
        "LSTMCell": lambda: nn.LSTMCell(16, 12),
    },
    "keras": {
        "Embedding": lambda: _unit(L.Embedding(50, 40), (None, 3)),
        "MultiHeadAttention": lambda: _attention(),
        "SimpleRNN": lambda: _unit(L.SimpleRNN(12), (None, 5, 16)),
        "GRU": lambda: _unit(L.Bidirectional(L.GRU(12)), (None, 5, 16)),
        "GRU, reset before": lambda: _unit(L.GRU(12, reset_after=False), (None, 5, 16)),
        "LSTM": lambda: _unit(L.LSTM(12), (None, 5, 16)),
        "SeparableConv1D": lambda: _unit(L.SeparableConv1D(8, 5), (None, 26, 16)),
        "SeparableConv2D": lambda: _unit(L.SeparableConv2D(8, 3), (None, 26, 26, 16)),
    },
}
ALL = [
    *(("torch", name, make) for name, (make, _) in TORCH.items()),
    *(("torch", name, make) for name, make in OTHERS["torch"].items()),
    *(("keras", name, lambda name=name: _built(name)[0]) for name in KERAS),
    *(("keras", name, make) for name, make in OTHERS["keras"].items()),
]
each_layer = pytest.mark.parametrize(
    ("framework", "make"), [(framework, make) for framework, _, make in ALL], ids=[f"{f}-{name}" for f, name, _ in ALL]
)


def _attention():
    layer = L.MultiHeadAttention(4, 6)
    layer.build((None, 5, 24), (None, 5, 20))
    return layer


def _kernels(framework, model):
    """Return module and kernel for each kernel of a model, and the module that reads and writes them."""
    backend = {"torch": in_torch, "keras": in_keras}[framework]
    named = backend.modules(model)
    found = backend.layers(model)
    assert not found.left
    return backend, [(named.get(layer.name, model), kernel) for layer in found.layers for kernel in layer.kernels]


def test_each_kind_is_held():
    """A kind that is added to a table needs a case here."""
    for framework, backend in (("torch", in_torch), ("keras", in_keras)):
        held = {layer.kind for own, _, make in ALL if own == framework for layer in backend.layers(make()).layers}
        assert held == {kind.__name__ for kind in backend.KINDS}


@each_layer
def test_kernels_read_back_what_was_written(framework, make):
    """Each kernel of each kind reads back its own values, when all have been written; together they fill parameters."""
    model = make()
    backend, kernels = _kernels(framework, model)
    rng = np.random.default_rng(0)
    written = [rng.normal(size=backend.read(*each).shape).astype(np.float32) for each in kernels]
    for (module, kernel), matrices in zip(kernels, written, strict=True):
        backend.write(module, kernel, matrices)
    for each, matrices in zip(kernels, written, strict=True):
        assert np.array_equal(backend.read(*each), matrices)
    total = sum(value.numel() for value in model.parameters() if value.dim() > 1) if framework == "torch" else None
    assert total in (None, sum(matrices.size for matrices in written))


@each_layer
def test_each_kernel_has_its_law(framework, make):
    """Every kernel has the variance of its own fans, whatever else lies in its parameter; every bias has its law."""
    model = make()
    if framework == "torch":
        pytorch.init_weights(model, "mean_field(sigma_b=3)", torch.Generator().manual_seed(0))
        biases = [value.detach().numpy() for name, value in model.named_parameters() if "bias" in name]
    else:
        keras.init_weights(model, "mean_field(sigma_b=3)", seed=0)
        biases = [value.numpy() for value in model.weights if "bias" in value.name]
    backend, kernels = _kernels(framework, model)
    for module, kernel in kernels:
        matrices = backend.read(module, kernel)
        assert (matrices**2).mean() * kernel.fan_in == pytest.approx(1, abs=_error(matrices.size))
    for bias in biases:
        assert bias.std() == pytest.approx(3, rel=_error(bias.size))


def _matrix(backend, module, kernel):
    (((matrix,),),) = (backend.read(module, kernel),)
    return matrix


def _sigmoid(z):
    return 1 / (1 + np.exp(-z))


def _step(kind, x, h, c, w, u):
    """Return the next state of a recurrent layer, from its kernels by gate: w of inputs, u of the state before."""
    if kind == "RNN":
        return np.tanh(x @ w[""] + h @ u[""]), c
    if kind == "GRU":
        r, z = (_sigmoid(x @ w[gate] + h @ u[gate]) for gate in "rz")
        return (1 - z) * np.tanh(x @ w["n"] + r * (h @ u["n"])) + z * h, c
    i, f, o = (_sigmoid(x @ w[gate] + h @ u[gate]) for gate in "ifo")
    c = f * c + i * np.tanh(x @ w["g"] + h @ u["g"])
    return o * np.tanh(c), c


NAMED_IN_KERAS = {
    "RNN": {"": ""},
    "GRU": {"z": "z", "r": "r", "h": "n"},
    "LSTM": {"i": "i", "f": "f", "c": "g", "o": "o"},
}


@pytest.mark.parametrize("framework", ["torch", "keras"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_gates_are_what_they_are_called(framework, kind):
    """A recurrent layer's outputs are those of its formula under the kernels by the names of their gates."""
    x = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    if framework == "torch":
        layer = getattr(nn, kind)(6, 5, batch_first=True)
        pytorch.init_weights(layer, "lecun_normal", torch.Generator().manual_seed(0))
        outputs, *_ = layer(torch.from_numpy(x))
        outputs, names = outputs.detach().numpy(), {}
    else:
        options = {"unit_forget_bias": False} if kind == "LSTM" else {}
        layer = getattr(L, {"RNN": "SimpleRNN"}.get(kind, kind))(5, return_sequences=True, **options)
        layer.build(x.shape)
        keras.init_weights(layer, "lecun_normal", seed=0)
        outputs, names = layer(x).numpy(), NAMED_IN_KERAS[kind]
    backend, kernels = _kernels(framework, layer)
    sides = {"w": {}, "u": {}}
    for module, kernel in kernels:
        parameter, _, gate = kernel.name.partition(".")
        side = "u" if "hh" in parameter or "recurrent" in parameter else "w"
        sides[side][names.get(gate, gate)] = _matrix(backend, module, kernel)
    h = c = np.zeros((3, 5))
    for step in range(4):
        h, c = _step(kind, x[:, step], h, c, **sides)
        np.testing.assert_allclose(outputs[:, step], h, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"kdim": 10, "vdim": 6}])
def test_projections_of_attention(options):
    """Queries, keys and values are projected by the kernels of that order; fused or separate, each has its own fans."""
    attention = nn.MultiheadAttention(8, 1, batch_first=True, **options)
    pytorch.init_weights(attention, "lecun_normal", torch.Generator().manual_seed(0))
    backend, kernels = _kernels("torch", attention)
    q, k, v, out = (_matrix(backend, *each) for each in kernels)
    assert [kernel.fan_in for _, kernel in kernels] == [8, options.get("kdim", 8), options.get("vdim", 8), 8]
    rng = np.random.default_rng(0)
    x, y, z = (rng.normal(size=(1, 5, len(matrix))).astype(np.float32) for matrix in (q, k, v))
    scores = (x @ q) @ (y @ k).transpose(0, 2, 1) / math.sqrt(8)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    outputs, _ = attention(*map(torch.from_numpy, (x, y, z)))
    np.testing.assert_allclose(outputs.detach().numpy(), shares @ (z @ v) @ out, atol=1e-5)


def test_products_and_rows():
    """A bilinear layer sums over pairs of inputs; an embedding selects one row, so its fan_in is 1."""
    bilinear, embedding = nn.Bilinear(30, 20, 10), nn.Embedding(60, 40)
    for module in (bilinear, embedding):
        pytorch.init_weights(module, FORWARD, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    one, other = (torch.randn(2000, size, generator=generator) for size in (30, 20))
    assert bilinear(one, other).var().item() == pytest.approx(1, abs=_error(6000) + 0.03)
    assert embedding(torch.arange(60)).var().item() == pytest.approx(1, abs=_error(2400))
    (layer,) = in_torch.layers(embedding).layers
    assert (layer.kernels[0].fan_in, layer.kernels[0].fan_out) == (1, 40)


PAIRS = [
    (lambda: nn.Linear(6, 5), lambda: L.Dense(5), (6,)),
    (lambda: nn.Conv1d(4, 6, 5, stride=2), lambda: L.Conv1D(6, 5, strides=2), (15, 4)),
    (lambda: nn.Conv2d(4, 6, (3, 2), groups=2), lambda: L.Conv2D(6, (3, 2), groups=2), (7, 8, 4)),
    (lambda: nn.Conv2d(4, 8, 3, groups=4), lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (7, 8, 4)),
    (lambda: nn.ConvTranspose2d(4, 3, (3, 4), stride=2), lambda: L.Conv2DTranspose(3, (3, 4), strides=2), (5, 6, 4)),
    (lambda: nn.ConvTranspose3d(4, 3, 2), lambda: L.Conv3DTranspose(3, 2), (3, 4, 5, 4)),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: type(pair[1]()).__name__)
def test_matrices_mean_the_same_in_both_frameworks(pair):
    """A kernel that is read from PyTorch and written to Keras gives the same outputs, and has the same fans."""
    make, make_keras, shape = pair
    module, layer = make(), make_keras()
    layer.build((None, *shape))
    (((_, kernel),), ((_, twin),)) = (_kernels(*each)[1] for each in (("torch", module), ("keras", layer)))
    assert (kernel.fan_in, kernel.fan_out) == (twin.fan_in, twin.fan_out)
    nn.init.zeros_(module.bias)
    in_keras.write(layer, twin, in_torch.read(module, kernel))
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    outputs = module(torch.from_numpy(np.moveaxis(x, -1, 1))).detach().numpy()
    np.testing.assert_allclose(layer(x).numpy(), np.moveaxis(outputs, 1, -1), atol=1e-5)


class Backwards(nn.Module):
    """A module that calls its layers in another order than it defines them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 9, bias=False)
        self.unused = nn.Linear(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True)
        self.tokens = nn.Embedding(9, 8, padding_idx=3)
        self.head.weight = self.tokens.weight
        self.position = nn.Parameter(torch.zeros(1, 5, 8))

    def forward(self, x):
        return self.head(self.block(self.tokens(x) + self.position))


def test_layers_of_pytorch_in_order_of_execution():
    """Given inputs, layers come as they are called; what is no layer's, and what is another's, is named."""
    model = Backwards()
    before, state = [each.training for each in model.modules()], torch.get_rng_state()
    found = in_torch.layers(model, torch.zeros(2, 5, dtype=torch.long))
    names = [
        "tokens",
        "block.self_attn",
        "block.self_attn.out_proj",
        "block.linear1",
        "block.linear2",
        "head",
        "unused",
    ]
    assert [layer.name for layer in found.layers] == names
    assert found.left == ("position",)
    assert found.tied == (("tokens.weight", "head.weight"),)
    assert [each.training for each in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(each._forward_pre_hooks for each in model.modules())
    assert in_torch.layers(model).layers[0].name == "head"
    with pytest.warns(UserWarning, match="stay as built: position"):
        pytorch.init_weights(model, FORWARD, torch.Generator().manual_seed(0))
    assert model.head.weight.var().item() == pytest.approx(1 / 8, rel=_error(72))
    assert not model.tokens.weight[3].any()
    assert not model.position.any()


class Own(L.Layer):
    """A layer of a user's own, with layers in a list, and a weight of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.blocks = [L.Dense(4, name="second"), {"in": L.Dense(6, name="first")}]

    def build(self, shape):
        self.scale = self.add_weight(shape=(3, 2), name="scale", initializer="ones")

    def call(self, x):
        return self.blocks[0](self.blocks[1]["in"](x)) * self.scale[0, 0]


def test_layers_of_keras_in_order_of_execution():
    """Layers within other layers are found; given inputs, they come as they are called; what is no layer's is named."""
    x = keras_package.Input((5, 8))
    h = L.Bidirectional(L.LSTM(3, return_sequences=True, name="lstm"), name="both")(
        L.MultiHeadAttention(2, 4, name="attention")(x, x)
    )
    model = keras_package.Model(x, L.SpectralNormalization(L.Dense(2, name="dense"), name="last")(Own(name="own")(h)))
    found = in_keras.layers(model, np.zeros((2, 5, 8), np.float32))
    assert [layer.name for layer in found.layers] == [
        *(f"attention/{name}" for name in ("query", "key", "value", "attention_output")),
        "both/forward_lstm/lstm_cell",
        "both/backward_lstm/lstm_cell",
        "own/first",
        "own/second",
        "last/dense",
    ]
    assert [layer.name for layer in in_keras.layers(model).layers][-3:] == ["own/second", "own/first", "last/dense"]
    assert found.left == ("own/scale",)
    assert found.notes == ("last: training divides what is drawn by its largest singular value",)
    assert "call" not in vars(model.layers[-1])
    with pytest.warns(UserWarning, match="stay as built: own/scale"):
        assert keras.init_weights(model, seed=0) == in_keras.layers(model)
    biases = model.get_layer("both").forward_layer.cell.bias.numpy()
    assert np.array_equal(biases, [0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0])


def test_an_equation_that_sums_over_inputs_alone_is_left():
    """The fans of such an EinsumDense do not follow from its kernel, so it is named."""
    layer = _unit(L.EinsumDense("abf,bc->ac", 4), (None, 3, 5))
    assert in_keras.layers(layer).left == (f"{layer.name}/kernel",)
