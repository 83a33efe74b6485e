"""Turns: what many threads want to write is written together, by one of them at a time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Turns(Generic[T, R]):
    """Writes what waits, in turns. `write` gets everything that waits, and returns a result or an error for each."""

    def __init__(self, write: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._write = write
        self._waiting: SimpleQueue[tuple[T, Future[R]]] = SimpleQueue()
        self.writing = threading.Lock()
        """Whoever holds it writes; others that write to the same store may hold it, too."""

    def write(self, what: T) -> R:
        """Have something written, by this thread or by another one in whose turn it is, and return its result.

        If the turn fails, whoever waited for it gets the error.
        """
        done: Future[R] = Future()
        self._waiting.put((what, done))
        with self.writing:
            if not done.done():
                self._turn()
        return done.result()

    def _turn(self) -> None:
        taken = [*self._taken()]
        try:
            results = self._write([what for what, _ in taken])
        except BaseException as error:  # of any kind: everybody who waits has to get it
            for _, done in taken:
                done.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, done), result in zip(taken, results, strict=True):
                if isinstance(result, Exception):
                    done.set_exception(result)
                else:
                    done.set_result(result)

    def _taken(self) -> Iterator[tuple[T, Future[R]]]:
        with suppress(Empty):
            while True:
                yield self._waiting.get_nowait()
