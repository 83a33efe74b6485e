"""A small residual convolutional network with batch normalization."""

from torch import nn


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()

    def forward(self, x):
        inner = self.relu(self.first_norm(self.first(x)))
        return self.relu(x + self.second_norm(self.second(inner)))


def build(shape, outputs, width=8, blocks=2):
    """Return the network for images of a shape (channels, height, width)."""
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, padding=1),
        *(Block(width) for _ in range(blocks)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(width, outputs),
    )
