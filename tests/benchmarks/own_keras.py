"""The networks of the examples `residual` and `encoder` in Keras, which `own.py` measures beside those in PyTorch."""

import keras
from keras import layers


def residual(shape, outputs, width=8, blocks=2):
    """Return the residual convolutional network; images have their channel first, as the example's have."""
    inputs = keras.Input(shape)
    h = layers.Conv2D(width, 3, padding="same", name="stem")(layers.Permute((2, 3, 1))(inputs))
    for at in range(blocks):
        inner = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"first_{at}")(h)
        inner = layers.ReLU()(layers.BatchNormalization()(inner))
        inner = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"second_{at}")(inner)
        h = layers.ReLU()(layers.add([h, layers.BatchNormalization()(inner)]))
    h = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(h))
    return keras.Model(inputs, layers.Dense(outputs, name="head")(h))


class Positions(layers.Layer):
    """Add a learned vector to each position."""

    def build(self, shape):
        """Make the vectors, small at first."""
        self.vectors = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, x):
        """Return the sum."""
        return x + self.vectors


def encoder(shape, outputs, width=32, depth=2):
    """Return the encoder transformer."""
    inputs = keras.Input(shape)
    h = Positions(name="positions")(layers.Dense(width, name="embed")(inputs))
    for at in range(depth):
        inner = layers.LayerNormalization()(h)
        inner = layers.MultiHeadAttention(4, width // 4, dropout=0.1, name=f"attention_{at}")(inner, inner)
        h = layers.add([h, layers.Dropout(0.1)(inner)])
        inner = layers.Dense(2 * width, activation="relu", name=f"first_{at}")(layers.LayerNormalization()(h))
        inner = layers.Dense(width, name=f"second_{at}")(layers.Dropout(0.1)(inner))
        h = layers.add([h, layers.Dropout(0.1)(inner)])
    h = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(h))
    return keras.Model(inputs, layers.Dense(outputs, name="head")(h))
