"""The pool of trainers: which slot serves which backend, and which cells are trained together.

A trainer is a process that holds one backend's framework (`process.py`). A slot is a GPU or a share of the processors,
and runs one trainer at a time. The pool starts a trainer when a task first needs it, and keeps it, so that later
batches use what it has compiled. Cells that wait for the same backend, and whose settings differ in nothing but the
learning rate, are trained together, even if they belong to different tasks.
"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings
from tasks.core.training.outcome import Outcome
from tasks.trainers import memory
from tasks.trainers.process import Slot, Trainer, TrainerError, UnusableSlotError

MAX_BATCH = 128  # cells trained together; with more cells, memory grows and a cell gets no cheaper
ALONE = 64  # cells of a task that need no others to train fast; who trains together is then not left to chance
MOST_HELD = 4 * MAX_BATCH  # trained cells that wait to be recorded; trainers wait while there are more
QUIET = 0.2  # seconds without a further request, after which a batch counts as complete


@dataclass
class _Seat:
    """A slot in use: the backends it serves and the trainers started there so far."""

    slot: Slot
    backends: tuple[Backend, ...]
    trainers: dict[Backend, Trainer] = field(default_factory=dict)
    unusable: dict[Backend, UnusableSlotError] = field(default_factory=dict)
    busy: bool = False


@dataclass(frozen=True, eq=False)
class _Request:
    settings: CellSettings
    cells: tuple[Cell, ...]
    outcomes: Future[list[Outcome]] = field(default_factory=Future)

    @cached_property
    def shared(self) -> CellSettings:
        return self.settings.shared

    @property
    def rate(self) -> float:
        return self.settings.recipe.learning_rate


class Pool:
    """Slots that are divided among backends, with their trainers."""

    def __init__(self, slots: Sequence[Slot], backends: Sequence[Backend]) -> None:
        shares = [backends[at :: len(slots)] or [backends[at % len(backends)]] for at in range(len(slots))]
        self._seats = [_Seat(slot, tuple(share)) for slot, share in zip(slots, shares, strict=True)]
        self.most = len(slots)
        """How many slots may train at once; fewer than there are, where memory is short."""
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._held: set[_Request] = set()
        self._suspects: set[Cell] = set()
        self._peaks: dict[Backend, int] = {}
        self._closed = False
        self._logs = tempfile.TemporaryDirectory(prefix="initbench-trainers-", ignore_cleanup_errors=True)

    @contextmanager
    def lease(self, backend: Backend) -> Iterator[Trainer]:
        """Wait for a free slot that serves the backend, and hold it; if its trainer dies, the next lease starts one."""
        seat = self._sit(backend)
        try:
            trainer = self._trainer(seat, backend)
            trainer.start()
            yield trainer
            self._watch(seat, trainer)
        except TrainerError as error:
            with self._changed:
                dead = seat.trainers.pop(backend, None)
                if isinstance(error, UnusableSlotError):
                    seat.unusable[backend] = error
            if dead:
                dead.stop()
            raise
        finally:
            with self._changed:
                seat.busy = False
                self._changed.notify_all()

    def _watch(self, seat: _Seat, trainer: Trainer) -> None:
        """Note the most memory that a trainer has held, and end it if it holds too much now: the next lease starts one.

        Frameworks keep what they have compiled.
        """
        if trainer.pid is None:
            return
        with self._changed:
            self._peaks[trainer.backend] = max(self._peaks.get(trainer.backend, 0), memory.peak(trainer.pid))
            if memory.held(trainer.pid) > memory.SHARE * memory.whole():
                seat.trainers.pop(trainer.backend, None)
                trainer.stop()

    @property
    def peaks(self) -> dict[Backend, int]:
        """The most bytes that a trainer of each backend has held."""
        return dict(self._peaks)

    def _trainer(self, seat: _Seat, backend: Backend) -> Trainer:
        with self._changed:
            if self._closed:
                raise TrainerError("the pool of trainers is closed")
            if backend in seat.unusable:
                raise seat.unusable[backend]
            if backend not in seat.trainers:
                log = Path(self._logs.name, f"{backend}-{self._seats.index(seat)}.log")
                seat.trainers[backend] = Trainer(backend, seat.slot, log)
            return seat.trainers[backend]

    def _sit(self, backend: Backend) -> _Seat:
        def free() -> list[_Seat]:
            idle = [seat for seat in self._seats if backend in seat.backends and not seat.busy]
            return idle if sum(seat.busy for seat in self._seats) < self.most else []

        with self._changed:
            self._changed.wait_for(free)
            seat = max(free(), key=lambda seat: backend in seat.trainers)
            seat.busy = True
            return seat

    def train(self, settings: CellSettings, cells: Sequence[Cell]) -> list[Outcome]:
        """Return the outcomes that `trained` yields."""
        with self.trained(settings, cells) as outcomes:
            return outcomes

    @contextmanager
    def trained(self, settings: CellSettings, cells: Sequence[Cell]) -> Iterator[list[Outcome]]:
        """Train cells with these settings, together with waiting cells, and yield their outcomes in the same order.

        Until the `with` block ends, the cells count as held in memory. While MOST_HELD cells are held, no others are
        trained: a store that is slower than the trainers then does not fill the memory.

        Raises:
            TrainerError: if the trainer dies. When a task asks for its cells again, they are not trained together with
                those of other tasks: a cell that kills its trainer then harms no other task.
        """
        request = _Request(settings, tuple(cells))
        try:
            yield self._outcomes(request)
        finally:
            with self._changed:
                self._held.discard(request)
                self._changed.notify_all()

    def _outcomes(self, request: _Request) -> list[Outcome]:
        with self._changed:
            self._waiting.append(request)
            self._changed.wait_for(lambda: self._closed or self._has_room or request not in self._waiting)
        try:
            with self.lease(request.settings.backend) as trainer:
                if request in self._waiting and request.settings.own is None:  # one's own networks train one by one
                    self._wait_for_quiet()
                if together := self._take(request):
                    self._train_together(trainer, together)
        except BaseException:
            with self._changed:
                self._waiting = [other for other in self._waiting if other is not request]  # its task is gone
            raise
        return request.outcomes.result()

    @property
    def _has_room(self) -> bool:
        return sum(len(request.cells) for request in self._held) < MOST_HELD

    def serves(self, backends: Sequence[Backend]) -> bool:
        """Tell whether there is a slot for each of the backends."""
        return {*backends} <= {backend for seat in self._seats for backend in seat.backends}

    def warm_up(self) -> None:
        """Begin to start a trainer for each backend, and to prepare it for a batch; do not wait for them."""
        for backend in {backend for seat in self._seats for backend in seat.backends}:
            threading.Thread(target=self._start_one, args=(backend,), daemon=True).start()

    def _start_one(self, backend: Backend) -> None:
        with suppress(TrainerError), self.lease(backend) as trainer:  # the tasks that come to train will get the error
            trainer.prepare()

    def _wait_for_quiet(self) -> None:
        waiting = 0
        while waiting < min(len(self._waiting), MAX_BATCH):
            waiting = len(self._waiting)
            time.sleep(QUIET)

    def _take(self, first: _Request) -> list[_Request]:
        """Take a request, and those that can train with it, from the queue; none if another task took the request."""
        with self._changed:
            if first not in self._waiting:
                return []
            taken = [first]
            for other in self._waiting:
                size = sum(len(request.cells) for request in taken) + len(other.cells)
                if other is not first and size <= MAX_BATCH and self._can_join(other, first):
                    taken.append(other)
            self._waiting = [request for request in self._waiting if request not in taken]
            self._held.update(taken)
            return taken

    def _can_join(self, other: _Request, first: _Request) -> bool:
        same = other.shared == first.shared and first.settings.own is None
        same &= max(len(other.cells), len(first.cells)) < ALONE
        return same and self._suspects.isdisjoint((*other.cells, *first.cells))

    def _train_together(self, trainer: Trainer, requests: Sequence[_Request]) -> None:
        settings = requests[0].settings
        requests = sorted(requests, key=lambda request: request.rate)  # cells of one rate take less time side by side
        cells = [cell for request in requests for cell in request.cells]
        rates = [request.rate for request in requests for _ in request.cells]
        parts = [slice(at, at + MAX_BATCH) for at in range(0, len(cells), MAX_BATCH)]
        try:
            trained = (trainer.train(settings, cells[part], rates[part]) for part in parts)
            outcomes = iter([outcome for part in trained for outcome in part])
        except BaseException as error:  # of any kind: every task that waits has to get it
            self._suspects.update(cells)
            for request in requests:
                request.outcomes.set_exception(error)
            if not isinstance(error, Exception) or isinstance(error, TrainerError):
                raise
        else:
            for request in requests:
                request.outcomes.set_result([next(outcomes) for _ in request.cells])

    def close(self) -> None:
        """Stop every trainer, also while it trains; tasks that wait for a trainer get a TrainerError."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            trainers = [trainer for seat in self._seats for trainer in seat.trainers.values()]
        for trainer in trainers:
            trainer.stop()
        self._logs.cleanup()


_current: ContextVar[Pool] = ContextVar("pool")


@contextmanager
def pool(slots: Sequence[Slot], backends: Sequence[Backend], most: int | None = None) -> Iterator[Pool]:
    """Hold a pool of trainers; if a pool is held already and serves these backends, hold that one.

    most: how many slots may train at once; without a number, all.

    Inside the `with` block, and in the tasks that start there, `current` returns the pool.
    """
    outer = _current.get(None)
    if outer and outer.serves(backends):
        before, outer.most = outer.most, most or outer.most
        try:
            yield outer
        except Exception:
            raise
        except BaseException:  # an interrupt or termination: the flow could not end while tasks wait for trainers
            outer.close()
            raise
        finally:
            outer.most = before
        return
    held = Pool(slots, backends)
    held.most = most or held.most
    token = _current.set(held)
    try:
        yield held
    finally:
        _current.reset(token)
        held.close()


def current() -> Pool:
    """Return the pool of the surrounding `with pool(...)` block.

    Raises:
        LookupError: if there is no such block.
    """
    return _current.get()


def peaks() -> dict[str, int]:
    """Return the most bytes that this process has held, as `main`, and those of each backend's trainers, if any."""
    held = _current.get(None)
    trainers = held.peaks.items() if held else ()
    return {"main": memory.peak(os.getpid()), **{str(backend): most for backend, most in trainers}}
