"""Where trainers may be on this machine. What trains without Prefect and MLflow imports this, and neither of them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from tasks import machine
from tasks.core.design.initializers import Backend
from tasks.trainers import pool, process


def slots() -> list[process.Slot]:
    """Return a slot for every GPU of this machine or, without GPUs, for shares of its processors."""
    return process.slots([gpu.index for gpu in machine.gpus()], machine.processors())


def threads() -> int:
    """Return how many threads each trainer on this machine may use."""
    return slots()[0].threads


def trainers(backends: Sequence[Backend], most: int | None = None) -> AbstractContextManager[pool.Pool]:
    """Hold trainers for these backends on the slots of this machine; most: how many may train at once, if not all."""
    return pool.pool(slots(), backends, most)
