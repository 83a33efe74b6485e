"""What an audit finds in models as their libraries build them, without anybody's weights.

`python -m tests.benchmarks.wild` prints a table for GitHub, in some minutes; names after it choose models.
"""

import sys
from importlib.metadata import version

from tabulate import tabulate

from flows.audit import audit
from tasks import machine
from tasks.core.design.initializers import BACKENDS
from tasks.trainers import pool, process

SEEDS = 3


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


def mobilenet():
    """Build MobileNetV2 of keras.applications."""
    import keras

    return keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=10)


def transposed():
    """Build a decoder of Keras's transposed convolutions by He's law."""
    import keras

    layers, given = keras.layers, keras.Input((8, 8, 64))
    hidden = layers.Conv2D(64, 3, padding="same", activation="relu", kernel_initializer="he_normal")(given)
    hidden = layers.Conv2D(64, 3, padding="same", activation="relu", kernel_initializer="he_normal")(hidden)
    return keras.Model(given, layers.Conv2DTranspose(32, 4, strides=2, kernel_initializer="he_normal")(hidden))


MODELS = {
    "torch.nn.TransformerEncoder": (encoder, "pytorch", "torch", (5, 64)),
    "keras.layers.LSTM": (lstm, "keras", "keras", None),
    "keras.layers.Conv2DTranspose, he_normal": (transposed, "keras", "keras", None),
    "keras.applications.MobileNetV2": (mobilenet, "keras", "keras", None),
}
"""By name: what builds a model, for which backend, of which package, and the shape of a row where it is needed."""


def rows(names):
    """Yield a row for each kind of finding in each model."""
    for name in names:
        build, backend, package, shape = MODELS[name]
        found = audit(build, backend=backend, shape=shape, seeds=SEEDS)
        kinds = {}
        for each in found.findings:
            kinds.setdefault((each.severity, each.what.partition(",")[0]), []).append(each)
        for (severity, what), alike in kinds.items() or [(("none", ""), [])]:
            parts = sum(len(each.parts) for each in alike)
            evidence = alike[0].evidence if alike else ""
            yield [
                name,
                f"{package} {version(package)}",
                f"{severity}: {what}",
                f"{parts} of {len(found.rows)}",
                evidence,
            ]


if __name__ == "__main__":
    headers = ["model", "version", "finding", "parameters", "evidence of the first"]
    with pool.pool(process.slots([], machine.processors()), BACKENDS):  # each framework is loaded once
        print(tabulate(list(rows(sys.argv[1:] or MODELS)), headers, "github"))  # noqa: T201
