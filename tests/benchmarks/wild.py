"""What an audit finds in models as their libraries build them, without anybody's weights.

`python -m tests.benchmarks.wild` prints a table for GitHub, in some minutes; names after it choose models. Models of
libraries that are not installed are left out: `wild.txt` lists these, for an environment of its own.
"""

import sys
from importlib.metadata import version
from importlib.util import find_spec

from tabulate import tabulate

from flows.audit import audit
from tasks import machine
from tasks.core.design.initializers import BACKENDS
from tasks.trainers import pool, process

SEEDS = 3
IMAGE = (3, 64, 64)
FANS = {"wrong fans": "pytorch#23854"}


def encoder():
    """Build PyTorch's own stack of encoder layers."""
    from torch import nn

    return nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 3)


def lstm():
    """Build Keras's own LSTM for text."""
    import keras

    tokens = keras.Input((16,))
    hidden = keras.layers.LSTM(64)(keras.layers.Embedding(1000, 64)(tokens))
    return keras.Model(tokens, keras.layers.Dense(10)(hidden))


def transposed():
    """Build a decoder of Keras's transposed convolutions by He's law."""
    import keras

    layers, given = keras.layers, keras.Input((8, 8, 64))
    hidden = layers.Conv2D(64, 3, padding="same", activation="relu", kernel_initializer="he_normal")(given)
    hidden = layers.Conv2D(64, 3, padding="same", activation="relu", kernel_initializer="he_normal")(hidden)
    return keras.Model(given, layers.Conv2DTranspose(32, 4, strides=2, kernel_initializer="he_normal")(hidden))


def mobilenet():
    """Build MobileNetV2 of keras.applications."""
    import keras

    return keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=10)


def vision(name):
    """Return what builds a model of torchvision."""

    def build():
        import torchvision

        return getattr(torchvision.models, name)()

    return build


def image_models(name):
    """Return what builds a model of timm."""

    def build():
        import timm

        return timm.create_model(name, pretrained=False)

    return build


def t5():
    """Build a small T5 v1.1, whose output layer is not tied to its embedding; it decodes its own input."""
    from torch import nn
    from transformers import T5Config, T5ForConditionalGeneration

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = {"d_model": 512, "d_ff": 1024, "num_layers": 2, "num_heads": 6, "vocab_size": 32128}
            config = T5Config(**sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
            self.model = T5ForConditionalGeneration(config)

        def forward(self, tokens):
            return self.model(input_ids=tokens, decoder_input_ids=tokens).logits

    return Both()


MODELS = {
    "nn.TransformerEncoder": (
        encoder,
        "pytorch",
        "torch",
        (5, 64),
        {"a fused kernel initialized as one": "pytorch#166378"},
    ),
    "layers.LSTM": (lstm, "keras", "keras", None, {}),
    "Conv2DTranspose by he_normal": (transposed, "keras", "keras", None, {}),
    "applications.MobileNetV2": (mobilenet, "keras", "keras", None, {}),
    "mobilenet_v2": (vision("mobilenet_v2"), "pytorch", "torchvision", IMAGE, FANS),
    "mnasnet1_0": (vision("mnasnet1_0"), "pytorch", "torchvision", IMAGE, FANS),
    "efficientnet_b0": (vision("efficientnet_b0"), "pytorch", "torchvision", IMAGE, FANS),
    "resnext50_32x4d": (vision("resnext50_32x4d"), "pytorch", "torchvision", IMAGE, FANS),
    "mobilenetv2_100": (image_models("mobilenetv2_100"), "pytorch", "timm", IMAGE, {}),
    "timm's efficientnet_b0": (image_models("efficientnet_b0"), "pytorch", "timm", IMAGE, {}),
    "T5 v1.1, small": (t5, "pytorch", "transformers", (16,), {"first pass exploding": "transformers#26441"}),
}
"""By name: what builds a model, for which backend, of which package, the shape of a row where it is needed, and by
kind of finding where it was reported."""


def rows(names):
    """Yield a row for each kind of finding in each model whose package is installed."""
    for name in names:
        build, backend, package, shape, reported = MODELS[name]
        if find_spec(package) is None:
            continue
        found = audit(build, backend=backend, shape=shape, seeds=SEEDS)
        kinds, library = {}, f"{package} {version(package)}"
        for each in found.findings:
            kinds.setdefault((each.severity, each.what.partition(",")[0]), []).append(each)
        for (severity, what), alike in kinds.items():
            many = f"{sum(len(each.parts) for each in alike)} of {len(found.rows)}"
            yield [name, library, f"{severity}: {what}", many, alike[0].evidence, reported.get(what, "")]
        if not kinds:
            yield [name, library, "nothing", "", "", ""]


if __name__ == "__main__":
    headers = ["model", "version", "finding", "parameters", "evidence of the first", "reported"]
    with pool.pool(process.slots([], machine.processors()), BACKENDS):  # each framework is loaded once
        print(tabulate(list(rows(sys.argv[1:] or MODELS)), headers, "github"))  # noqa: T201
