"""The digits that scikit-learn bundles: 1,797 images of 8 × 8 pixels, ten classes."""

import numpy as np
from sklearn.datasets import load_digits


def images():
    """Return x (rows, 1, 8, 8), from 0 to 1, and y (rows,): the one channel comes first, as PyTorch has it."""
    found = load_digits()
    return (found.images[:, None] / 16).astype(np.float32), found.target


def rows():
    """Return x (rows, 8, 8), each image as a sequence of its eight rows, and y (rows,)."""
    x, y = images()
    return x[:, 0], y
