"""A fixed piece of work, timed beside every batch: how fast this machine is at this minute.

The work is of the kinds that training a small cell does: products of small matrices, functions of every element, and
the interpreter's own steps. It uses NumPy alone, so an upgrade of a framework does not change it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Clock = Callable[[], float]
"""Returns seconds."""

ROWS, WIDTH, STEPS = 64, 32, 500  # products so small that one thread computes them; some hundredths of a second in all


@dataclass(frozen=True)
class Pace:
    """How long a cell took in training, and how long the reference took beside it, in seconds.

    processor: of the process; of cells that trained together, the share of one. reference, reference_processor: of one
    round of the reference, by the clock and of the process.
    """

    processor: float
    reference: float
    reference_processor: float

    @property
    def scalars(self) -> dict[str, float]:
        """These numbers, by the names under which a cell's record has them."""
        return {
            "processor_seconds": self.processor,
            "reference_seconds": self.reference,
            "reference_processor_seconds": self.reference_processor,
        }


def work() -> float:
    """Train a layer on random rows by hand, and return a checksum of its weights: the same number every time."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((ROWS, WIDTH), np.float32)
    kernel = rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH)
    for _ in range(STEPS):
        outputs = np.tanh(rows @ kernel)
        kernel = kernel - np.float32(0.01) * (rows.T @ (outputs * (1 - outputs * outputs))) / np.float32(ROWS)
        sum(at * at for at in range(ROWS))
    return float(np.abs(kernel).sum())


def timed(train: Callable[[], T], cells: int, clock: Clock, processor: Clock | None) -> tuple[T, float, Pace | None]:
    """Train cells, between two rounds of the reference; return what training returns, its seconds a cell, and the pace.

    processor: the processor time of this process; without it there is no reference and no pace.
    """
    if processor is None:
        found, seconds = _took(train, clock)
        return found, seconds[0] / cells, None
    _, before = _took(work, clock, processor)
    found, training = _took(train, clock, processor)
    _, after = _took(work, clock, processor)
    beside = [(one + other) / 2 for one, other in zip(before, after, strict=True)]
    return found, training[0] / cells, Pace(training[1] / cells, *beside)


def _took(function: Callable[[], T], *clocks: Clock) -> tuple[T, list[float]]:
    """Call a function; return what it returns, and how long it took by each clock."""
    begun = [clock() for clock in clocks]
    found = function()
    return found, [clock() - start for clock, start in zip(clocks, begun, strict=True)]
