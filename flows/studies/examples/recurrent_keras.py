"""An LSTM that reads an image row by row, in Keras."""

import keras


def build(shape, outputs, units=32):
    """Return the network for sequences of a shape (steps, features)."""
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.LSTM(units, name="lstm"),
            keras.layers.Dense(outputs, name="head"),
        ]
    )
