"""An encoder transformer that reads an image row by row."""

import torch
from torch import nn


class Encoder(nn.Module):
    """Rows become vectors, which get learned positions; the mean over the rows is classified."""

    def __init__(self, shape, outputs, width, depth):
        super().__init__()
        self.embed = nn.Linear(shape[1], width)
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0], width))
        block = {"nhead": 4, "dim_feedforward": 2 * width, "dropout": 0.1, "batch_first": True, "norm_first": True}
        self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(width, **block) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        h = self.embed(x) + self.positions
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h).mean(1))


def build(shape, outputs, width=32, depth=2):
    """Return the network for sequences of a shape (steps, features)."""
    return Encoder(shape, outputs, width, depth)
