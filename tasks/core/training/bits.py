"""Digests of what a cell computes: whether two trainings are equal in every bit, and from where on they are not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

BYTES = 4  # of a digest: two different arrays have the same one once in 4 billion times

Digests = Mapping[str, str]
"""A digest for each array, by the array's name."""


def digest(array: NDArray[Any]) -> str:
    """Return a hash of the values of an array, 8 hexadecimal digits; it does not tell one NaN from another.

    The bytes are hashed as little-endian machines have them, row by row.

    >>> digest(np.array([1.0, 2.0], np.float32)), digest(np.array([1.0, 2.5], np.float32))
    ('9cabd45b', '321b1aba')
    """
    broken = np.isnan(array)
    if broken.any():  # the sign of a NaN and its other bits depend on where in memory it was computed
        array = np.where(broken, array.dtype.type(np.nan), array)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return blake2b(little.tobytes(), digest_size=BYTES).hexdigest()


def digests(arrays: Mapping[str, NDArray[Any]]) -> Digests:
    """Return the digest of each array, by its name."""
    return {name: digest(array) for name, array in arrays.items()}


def of_cells(stacks: Mapping[str, NDArray[Any]], cells: int) -> list[Digests]:
    """Return the digests of each cell, given arrays with a leading axis of cells."""
    return [digests({name: stack[at] for name, stack in stacks.items()}) for at in range(cells)]


@dataclass(frozen=True)
class Bits:
    """Digests of a cell, by the names that the framework's own model gives to its parameters.

    start: of all that the model holds before training. gradient: of the gradient of the training loss in each kernel
    at that point, which the signals before training are taken from. end: of all that the model holds after training.
    """

    start: Digests = field(default_factory=dict)
    gradient: Digests = field(default_factory=dict)
    end: Digests = field(default_factory=dict)

    @property
    def whole(self) -> str:
        """One digest of all of them, empty if there are none."""
        found = [each for stage in (self.start, self.gradient, self.end) for pair in stage.items() for each in pair]
        return blake2b("\n".join(found).encode(), digest_size=BYTES).hexdigest() if found else ""
