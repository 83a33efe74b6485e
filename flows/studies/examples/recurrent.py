"""An LSTM that reads an image row by row, in PyTorch."""

from torch import nn


class Recurrent(nn.Module):
    """The state after the last step is classified."""

    def __init__(self, shape, outputs, units):
        super().__init__()
        self.lstm = nn.LSTM(shape[1], units, batch_first=True)
        self.head = nn.Linear(units, outputs)

    def forward(self, x):
        states, _ = self.lstm(x)
        return self.head(states[:, -1])


def build(shape, outputs, units=32):
    """Return the network for sequences of a shape (steps, features)."""
    return Recurrent(shape, outputs, units)
