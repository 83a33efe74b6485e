"""Audits of models in both frameworks: a well-made one of every kind of layer has no finding, planted faults have one."""

import copy
import os

import keras as keras_package
import numpy as np
import pytest
import torch
from torch import nn

from tasks.backends import keras, pytorch
from tasks.backends.keras.audited import Audited as InKeras
from tasks.backends.pytorch.audited import Audited as InTorch
from tasks.core.audit import audit
from tasks.core.audit.rows import Rows
from tasks.core.audit.sample import OtherBackendError, look

L = keras_package.layers


def in_torch(build, shape=None, seeds=3):
    """Return the audit of a module."""
    return audit.judge(look(InTorch(build, Rows.normal(shape) if shape else None), seeds), "m")


def in_keras(build, shape=None, seeds=3):
    """Return the audit of a Keras model."""
    return audit.judge(look(InKeras(build, Rows.normal(shape) if shape else None), seeds), "m")


def told(found):
    """Return severity and kind of each finding."""
    return [(each.severity, each.what) for each in found.findings]


def every_module():
    """Return modules of every kind that torch's table lists."""
    return nn.ModuleList(
        [
            *(nn.Linear(24, 32), nn.Bilinear(6, 5, 16), nn.Conv1d(8, 16, 5), nn.Conv2d(16, 32, 3, groups=4, stride=2)),
            *(nn.Conv2d(32, 32, 3, groups=32), nn.Conv3d(4, 8, 3), nn.ConvTranspose1d(16, 8, 4, stride=2)),
            *(nn.ConvTranspose2d(8, 16, 4, stride=2, groups=2), nn.ConvTranspose3d(4, 4, 3)),
            *(nn.Embedding(20, 16, padding_idx=0), nn.MultiheadAttention(16, 2), nn.MultiheadAttention(16, 2, kdim=8)),
            *(nn.RNN(8, 12), nn.GRU(8, 12, num_layers=2), nn.LSTM(8, 12, bidirectional=True, proj_size=4)),
            *(nn.RNNCell(8, 12), nn.GRUCell(8, 12), nn.LSTMCell(8, 12), nn.LayerNorm(16), nn.BatchNorm1d(8)),
        ]
    )


def every_layer():
    """Return a Keras model with layers of every kind that Keras's table lists."""
    image, sequence, tokens = (keras_package.Input(shape) for shape in ((12, 12, 8), (9, 8), (7,)))
    volume, attended = keras_package.Input((6, 6, 6, 4)), L.Embedding(20, 16)(tokens)
    outputs = [
        L.Dense(16)(L.Conv2D(16, 3, groups=4, strides=2)(image)),
        L.DepthwiseConv2D(3, depth_multiplier=2)(image),
        *(L.SeparableConv2D(12, 3)(image), L.Conv2DTranspose(8, 4, strides=2)(image)),
        *(L.Conv1D(8, 3)(sequence), L.DepthwiseConv1D(3)(sequence), L.SeparableConv1D(8, 3)(sequence)),
        *(L.Conv1DTranspose(8, 4, strides=2)(sequence), L.Conv3D(8, 3)(volume), L.Conv3DTranspose(4, 3)(volume)),
        *(L.SimpleRNN(12)(sequence), L.GRU(12)(sequence), L.Bidirectional(L.LSTM(12))(sequence)),
        L.LayerNormalization()(L.MultiHeadAttention(2, 8)(attended, attended)),
        L.EinsumDense("abc,bcd->abd", (7, 12))(attended),
    ]
    return keras_package.Model([image, sequence, tokens, volume], outputs)


@pytest.mark.parametrize("label", ["he_normal", "glorot_uniform", "orthogonal"])
def test_well_made_modules_have_no_finding(label):
    """Every kind of module that `init_weights` has drawn by a law with the fans of the operation has no finding."""

    def build():
        model = every_module()
        pytorch.init_weights(model, label)
        return model

    found = in_torch(build)
    assert found.findings == ()
    kinds = {row.kind for row in found.rows}
    assert {"Bilinear", "ConvTranspose3d", "LSTMCell", "MultiheadAttention", "Embedding", "LayerNorm"} <= kinds


@pytest.mark.parametrize("label", ["he_normal", "orthogonal"])
def test_well_made_layers_have_no_finding(label):
    """Every kind of Keras layer that `init_weights` has drawn by a law with the fans of the operation has none."""

    def build():
        model = every_layer()
        keras.init_weights(model, label)
        return model

    found = in_keras(build, seeds=2)
    assert found.findings == ()
    assert {"EinsumDense", "SeparableConv2D", "LSTMCell", "Conv3DTranspose"} <= {row.kind for row in found.rows}


def test_torchs_own_fans_are_found():
    """What torch gets wrong is found: a depthwise kernel by fan_out, a fused projection, gates of an orthogonal whole."""

    def build():
        depthwise, lstm = nn.Conv2d(32, 32, 3, groups=32), nn.LSTM(24, 24)
        nn.init.kaiming_normal_(depthwise.weight, mode="fan_out")
        nn.init.orthogonal_(lstm.weight_hh_l0)
        return nn.ModuleList([depthwise, lstm, nn.MultiheadAttention(32, 4)])

    found = in_torch(build)
    assert told(found) == [
        ("fault", "wrong fans, 32 groups"),
        ("doubt", "a fused kernel initialized as one"),
        ("doubt", "gates not orthogonal one by one"),
    ]
    assert "0.031 of what" in found.findings[0].evidence
    assert "0.5 of what" in found.findings[1].evidence


def test_kerass_own_fans_are_found():
    """What Keras's defaults get wrong is found: depthwise kernels, both kernels of an LSTM."""

    def build():
        given = keras_package.Input((8, 8, 48))
        hidden = L.Reshape((-1, 48))(L.DepthwiseConv2D(3)(given))
        return keras_package.Model(given, L.LSTM(32)(hidden))

    found = told(in_keras(build, seeds=2))
    assert found[:1] == [("fault", "wrong fans, 48 groups")]
    assert {*found[1:]} == {
        ("doubt", "a fused kernel initialized as one"),
        ("doubt", "gates not orthogonal one by one"),
    }


def test_planted_faults_are_found_in_torch():
    """Memory without values, copies, fixed and foreign seeds, constants, ties and low precision are found."""

    def build():
        model = nn.ModuleList([nn.Linear(24, 24) for _ in range(8)])
        model[1] = copy.deepcopy(model[0])
        model[2].weight = nn.Parameter(torch.empty(24, 24))
        with torch.no_grad():
            model[3].weight.copy_(torch.randn(24, 24, generator=torch.Generator().manual_seed(1)))
            model[4].weight.copy_(torch.from_numpy(np.random.default_rng(list(os.urandom(8))).normal(size=(24, 24))))
        nn.init.constant_(model[5].weight, 0.1)
        model[6].weight = model[7].weight
        model.append(nn.Linear(24, 24, dtype=torch.float16))
        nn.init.normal_(model[8].weight, 0, 3e-8)
        return model

    found = in_torch(build)
    where = {each.what: each.parts for each in found.findings}
    assert where["not finite"] == ("2.weight",)
    assert where["does not depend on the seed"] == ("3.weight",)
    assert where["not reproducible"] == ("4.weight",)
    assert where["all units alike"] == ("5.weight",)
    assert where["tied"] == ("7.weight", "6.weight")
    assert where["lost in low precision"] == ("8.weight",)
    twice = [each.parts for each in found.findings if each.what == "the same values twice"]
    assert twice == [("0.weight", "1.weight"), ("0.bias", "1.bias")]


def test_an_initializer_that_is_used_twice_is_found_in_keras():
    """A seeded initializer's instance draws the same values for two layers, whatever the seed."""

    def build():
        given, twice = keras_package.Input((24,)), keras_package.initializers.HeNormal(seed=1)
        hidden = L.Dense(24, kernel_initializer=twice)(given)
        return keras_package.Model(given, L.Dense(24, kernel_initializer=twice)(hidden))

    found = in_keras(build, seeds=2)
    assert ("fault", "the same values twice") in told(found)
    assert ("doubt", "does not depend on the seed") in told(found)


def test_the_layer_where_the_first_pass_explodes_is_named():
    """The layer in which variance leaves the range is named, forward; the pass is on the shape that was given."""

    def build():
        model = nn.Sequential(*[nn.Linear(32, 32) for _ in range(5)])
        nn.init.normal_(model[2].weight, 0, 100)
        return model

    found = in_torch(build, shape=(32,), seeds=1)
    assert (found.flow.health, found.flow.wrong_at) == ("exploding", "2")
    assert ("fault", "first pass exploding") in told(found)
    assert [layer.name for layer in found.flow.layers] == list("01234")


def test_tokens_and_frozen_parameters_have_a_first_pass():
    """A model that looks up tokens gets random ones, and a frozen layer takes part as any other."""

    def build():
        model = nn.Sequential(nn.Embedding(50, 16), nn.Flatten(), nn.Linear(64, 10))
        model[2].requires_grad_(False)
        return model

    found = in_torch(build, shape=(4,), seeds=1)
    assert found.flow.inputs == "random tokens below 50"
    assert found.flow.guess == pytest.approx(np.log(10))
    assert found.flow.layers[0].backward > 0


def test_keras_models_know_their_inputs():
    """A Keras model has a first pass without a shape; probabilities count as the logarithms that they are of."""

    def build():
        given = keras_package.Input((16,))
        hidden = L.Dense(32, activation="relu")(given)
        return keras_package.Model(given, L.Dense(10, activation="softmax")(hidden))

    found = in_keras(build, seeds=1)
    assert found.flow.health == "healthy"
    assert 0.8 < found.flow.ratio < 1.6
    assert found.flow.layers[0].dead is not None


def test_passes_that_fail_are_told():
    """A model that cannot take the rows is audited without a first pass, and the note says why."""
    found = in_torch(lambda: nn.Linear(8, 2), shape=(9,), seeds=1)
    assert found.flow is None
    assert "the model raised RuntimeError" in found.notes[-1]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: 3, r"must return a torch\.nn\.Module; it returned int"),
        (nn.ReLU, "must have parameters of real numbers"),
        (lambda: nn.LazyLinear(3), "lazy modules must be called"),
        (lambda: nn.Linear(3, 3, device="meta"), "moved off the device meta"),
        (lambda: nn.Linear(3, int(torch.randint(2, 90, ()))), "the same shapes under every seed"),
    ],
)
def test_what_cannot_be_audited_is_refused(build, words):
    """What is no model, or has nothing to read, is refused with the rule."""
    with pytest.raises(ValueError, match=words):
        in_torch(build)


def test_other_numbers_are_left_out():
    """Complex parameters are left out, and a note says so."""

    def build():
        model = nn.Sequential(nn.Linear(4, 4))
        model.register_parameter("phase", nn.Parameter(torch.zeros(3, dtype=torch.complex64)))
        return model

    found = in_torch(build, seeds=1)
    assert "phase is left out: its type is torch.complex64" in found.notes
    assert "phase" not in {row.name for row in found.rows}


def test_a_model_of_the_other_framework_is_told():
    """A model of Keras in a process of PyTorch says which trainer should look at it."""
    with pytest.raises(OtherBackendError) as raised:
        in_torch(lambda: keras_package.Sequential([L.Dense(2)]))
    assert raised.value.backend == "keras"
