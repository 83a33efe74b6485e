"""Packages of a user's that are installed in a folder of their own, which processes that run already come to search."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.core.design import initializers
from tasks.core.design.initializers import BACKENDS
from tasks.trainers.pool import Pool


def _search(folder: str) -> None:
    sys.path.insert(0, folder)
    initializers._registry.cache_clear()


def _forget(folder: str) -> None:
    sys.path.remove(folder)
    initializers._registry.cache_clear()


@contextmanager
def found(folder: str, trainers: Pool) -> Iterator[None]:
    """Have this process and the trainers find what is installed in a folder, as if they had started after that."""
    _everywhere(_search, folder, trainers)
    try:
        yield
    finally:
        _everywhere(_forget, folder, trainers)


def _everywhere(change: Callable[[str], None], folder: str, trainers: Pool) -> None:
    change(folder)
    for backend in BACKENDS:
        with trainers.lease(backend) as trainer:
            trainer.call(change, folder)
