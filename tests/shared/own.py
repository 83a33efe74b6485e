"""Networks of one's own that tests train: small, of many kinds of layers, each with the plain loop beside it."""

import numpy as np
from sklearn.datasets import load_digits

from tasks.core.design.study import Study
from tasks.core.training import datasets

ROWS = 96


def study(backend, data="images", **changes):
    """Return a study of a network of one's own, whose data are held in this process; its builder is given apart."""
    recipe = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "epsilon": "framework", **changes.pop("recipe", {})}
    found = Study(
        **{
            "name": "own",
            "backends": (backend,),
            "initializers": ("own",),
            "seeds": 2,
            "network": {"build": {backend: "mine:build"}},
            "dataset": {"load": f"mine:{data}"},
            "recipe": recipe,
            "controls": None,
            **changes,
        }
    )
    datasets.hold(found.dataset, datasets.of_arrays(found.dataset, data, DATA[data]()))
    return found


def images():
    """Return digits as images, one channel first."""
    found = load_digits()
    return (found.images[:ROWS, None] / 16).astype(np.float32), found.target[:ROWS]


def channels_last():
    """Return digits as images, one channel last."""
    x, y = images()
    return np.moveaxis(x, 1, -1), y


def sequences():
    """Return digits as sequences of eight rows."""
    x, y = images()
    return x[:, 0], y


def tokens():
    """Return sequences of tokens, with a class at each position: whether the token before was larger."""
    x = np.random.default_rng(0).integers(0, 12, (ROWS, 6))
    y = np.concatenate([np.zeros((ROWS, 1), int), (x[:, :-1] > x[:, 1:]).astype(int)], 1)
    return x, y


def real():
    """Return a table with two real targets."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 5))
    return x, x[:, :2] @ rng.normal(size=(2, 2)) + 3


DATA = {each.__name__: each for each in (images, channels_last, sequences, tokens, real)}
