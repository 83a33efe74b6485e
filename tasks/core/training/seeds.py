"""Named random streams: a cell's seed gives independent streams for splits, rows, weights and noise."""

import numpy as np

from tasks.core.design.parts import OneSeed

REDRAWN = 2**32  # no study has a seed as large as this
# A stream's position decides its numbers: append, never reorder
STREAMS = ("split", "order", "weights", "validation", "built", "noise")


def stream(seed: int, name: str, *index: int) -> np.random.SeedSequence:
    """Return the stream of a seed with this name; `index` numbers streams within it, for example by layer.

    Streams of different names, indices or seeds are independent (NumPy's SeedSequence, spawn keys).

    >>> int(np.random.default_rng(stream(0, "order")).integers(100))
    66
    """
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name), *index))


def integer(stream: np.random.SeedSequence) -> int:
    """Return one integer below 2**32 made from a stream, for libraries that take an integer as their seed.

    >>> integer(stream(0, "split")) == integer(stream(0, "split")), integer(stream(0, "split")) < 2**32
    (True, True)
    """
    return int(stream.generate_state(1)[0])


def chosen(given: OneSeed, own: int) -> int:
    """Return the seed of a stream: the number that the study gives to all cells or, if it says `cell`, the cell's own.

    If the study says `redrawn`, it is a seed that belongs to the cell's own seed, and that no study can have.

    >>> chosen("cell", 3), chosen(42, 3), chosen("redrawn", 3) - REDRAWN
    (3, 42, 3)
    """
    if given == "redrawn":
        return own + REDRAWN
    return own if given == "cell" else given
