"""Independent random streams, each a function of one seed and a name."""

import numpy as np

from tasks.core.design.settings import OneSeed

STREAMS = ("split", "order", "weights")  # a stream's position is part of its numbers: append, never reorder


def stream(seed: int, name: str, *index: int) -> np.random.SeedSequence:
    """Return the named stream of a seed; `index` numbers streams within it, such as layers.

    Streams of different names, indices or seeds are independent (NumPy's SeedSequence, spawn keys).

    >>> int(np.random.default_rng(stream(0, "order")).integers(100))
    66
    """
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name), *index))


def integer(stream: np.random.SeedSequence) -> int:
    """Return the stream as one integer below 2**32, for libraries that take an integer seed."""
    return int(stream.generate_state(1)[0])


def chosen(held: OneSeed, own: int) -> int:
    """Return the seed of a stream: the one that a study holds for all of its cells, or the cell's own."""
    return own if held == "cell" else held
