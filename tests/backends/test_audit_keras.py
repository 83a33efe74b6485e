"""Audits of Keras's layers: well-made ones of every kind have no finding, and planted faults have one each."""

import keras as keras_package
import pytest

from tasks.backends import keras
from tasks.backends.keras import initializers
from tasks.backends.keras.audited import Audited
from tasks.backends.keras.layers import layers
from tasks.core.audit import audit
from tasks.core.audit.rows import Rows
from tasks.core.audit.sample import look

L = keras_package.layers


def audited(build, shape=None, seeds=3):
    """Return the audit of a Keras model."""
    return audit.judge(look(Audited(build, Rows.normal(shape) if shape else None), seeds), "m")


def told(found):
    """Return severity and kind of each finding."""
    return [(each.severity, each.what) for each in found.findings]


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


@pytest.mark.parametrize("label", ["he_normal", "orthogonal"])
def test_well_made_layers_have_no_finding(label):
    """Every kind of Keras layer that `init_weights` has drawn by a law with the fans of the operation has none."""

    def build():
        model = every_layer()
        keras.init_weights(model, label)
        return model

    found = audited(build, seeds=2)
    assert found.findings == ()
    assert {"EinsumDense", "SeparableConv2D", "LSTMCell", "Conv3DTranspose"} <= {row.kind for row in found.rows}


def test_kerass_own_fans_are_found():
    """What Keras's defaults get wrong is found: depthwise kernels, both kernels of an LSTM."""

    def build():
        given = keras_package.Input((8, 8, 48))
        hidden = L.Reshape((-1, 48))(L.DepthwiseConv2D(3)(given))
        return keras_package.Model(given, L.LSTM(32)(hidden))

    found = told(audited(build, seeds=2))
    assert found[:1] == [("fault", "wrong fans, 48 groups")]
    assert {*found[1:]} == {
        ("doubt", "a fused kernel initialized as one"),
        ("doubt", "gates not orthogonal one by one"),
    }


def test_an_initializer_that_is_used_twice_is_found():
    """A seeded initializer's instance draws the same values for two layers, whatever the seed."""

    def build():
        given, twice = keras_package.Input((24,)), keras_package.initializers.HeNormal(seed=1)
        hidden = L.Dense(24, kernel_initializer=twice)(given)
        return keras_package.Model(given, L.Dense(24, kernel_initializer=twice)(hidden))

    found = audited(build, seeds=2)
    assert ("fault", "the same values twice") in told(found)
    assert ("doubt", "does not depend on the seed") in told(found)


def test_keras_models_know_their_inputs():
    """A Keras model has a first pass without a shape; probabilities count as the logarithms that they are of."""

    def build():
        given = keras_package.Input((16,))
        hidden = L.Dense(32, activation="relu")(given)
        return keras_package.Model(given, L.Dense(10, activation="softmax")(hidden))

    found = audited(build, seeds=1)
    assert found.flow.health == "healthy"
    assert 0.8 < found.flow.ratio < 1.6
    assert found.flow.layers[0].dead is not None


class Unbuilt(keras_package.Model):
    """A subclassed model, which is built by its first call."""

    def __init__(self, *inside):
        super().__init__()
        self.inside = inside

    def call(self, x):
        for layer in self.inside:
            x = layer(x)
        return x


def test_unbuilt_models_are_called_on_what_they_take():
    """An unbuilt model is called on rows of the shape, or on tokens; one that cannot take them is told in one line."""
    found = audited(lambda: Unbuilt(L.Embedding(20, 4), L.Flatten(), L.Dense(3)), shape=(5,), seeds=1)
    assert found.flow.inputs == "random tokens below 20"
    with pytest.raises(ValueError, match="must be built, or take rows of shape") as raised:
        audited(lambda: Unbuilt(L.Conv2D(4, 3)), shape=(5,), seeds=1)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, in quantize
def test_quantized_layers_are_left_out():
    """A kernel of whole numbers has no law; it is left out, and a note says so."""

    def build():
        model = keras_package.Sequential([keras_package.Input((8,)), L.Dense(4), L.Dense(3)])
        model.layers[0].quantize("int8")
        return model

    found = audited(build, seeds=1)
    assert any(note.endswith("/kernel is left out: its type is int8") for note in found.notes)
    assert {row.role for row in found.rows if row.layer} == {"kernel", "bias"}
    assert len([row for row in found.rows if row.role == "kernel"]) == 1


def test_several_inputs_are_told():
    """A model of several inputs has no first pass, and no shape of a row would help."""
    found = audited(
        lambda: keras_package.Model(
            [(one := keras_package.Input((4,))), (two := keras_package.Input((4,)))], L.Dense(2)(one + two)
        ),
        seeds=1,
    )
    assert "no first pass was made: the model takes several inputs" in found.notes


def test_mixed_precision_has_a_first_pass():
    """Signals are of float32, whatever the precision in which a layer computes."""

    def build():
        given, policy = keras_package.Input((16,)), "mixed_bfloat16"
        hidden = L.Dense(32, activation="relu", dtype=policy)(given)
        return keras_package.Model(given, L.Dense(10, dtype=policy)(hidden))

    found = audited(build, seeds=1)
    assert found.flow.health == "healthy"
    assert found.flow.layers[0].backward > 0


class Added(L.Layer):
    """A branch of two layers that is added to what it is given."""

    def __init__(self):
        super().__init__()
        self.up, self.down = L.Dense(32, activation="relu"), L.Dense(32)

    def call(self, x):
        return x + self.down(self.up(x))


def test_the_stream_between_blocks_is_measured():
    """The variances after sums and after repeated layers of one's own are told in order; each triples the stream's."""

    def build():
        given = keras_package.Input((32,))
        hidden = Added()(Added()(given))
        branch = L.Dense(32)(L.Dense(32, activation="relu")(hidden))
        model = keras_package.Model(given, L.Dense(10)(L.Add(name="sum")([hidden, branch])))
        keras.init_weights(model, "he_normal")
        return model

    blocks = audited(build, seeds=1).flow.blocks
    assert [each.name.rstrip("_0123456789") for each in blocks] == ["added", "added", "sum"]
    assert [blocks[at + 1].forward / blocks[at].forward for at in range(2)] == pytest.approx([3, 3], rel=0.4)
    assert [blocks[at].backward / blocks[at + 1].backward for at in range(2)] == pytest.approx([3, 3], rel=0.4)


def test_older_versions_count_the_fans_of_attention_by_the_array(monkeypatch):
    """Before 3.15 Keras told an EinsumDense's initializer no axes, so that it counted the fans of the array."""
    given = keras_package.Input((5, 16))
    model = keras_package.Model(given, L.MultiHeadAttention(2, 8)(given, given))
    kernel = layers(model).layers[0].kernels[0]  # of queries, (16, 2, 8)
    assert initializers.counted(kernel, "EinsumDense") == (16, 16)
    monkeypatch.setattr(initializers, "AXES", False)
    assert initializers.counted(kernel, "EinsumDense") == (16 * 2, 16 * 8)
