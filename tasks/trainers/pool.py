"""Slots and trainers: where cells are trained.

A slot is one GPU or, where there is none, a share of the CPU. It runs one trainer at a time: a process that holds one
backend's framework and lives as long as the pool, so that what it compiles serves every later batch. Cells that wait
for the same backend under the same settings are trained together, whichever tasks they belong to.
"""

import importlib
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from loky import ProcessPoolExecutor
from loky.process_executor import ShutdownExecutorError

from tasks.core.training import parity, batch as training
from tasks.core.design.initializers import Backend
from tasks.core.training.outcome import Outcome
from tasks.core.design.study import Cell, Study
from tasks.core.training.batch import Weights

MAX_BATCH = 128  # cells trained together: beyond, memory grows and a cell gets no cheaper
QUIET = 0.2  # seconds without a new arrival after which a batch is taken as complete
CPU_SLOTS = 2  # one for each backend, so that both train at once

P = ParamSpec("P")
R = TypeVar("R")


class TrainerError(RuntimeError):
    """A trainer process could not start, or died."""


class UnusableSlotError(TrainerError):
    """A backend cannot use a slot; trying again does not help."""


@dataclass(frozen=True)
class Slot:
    """One GPU by its index, or a share of the CPU where gpu is None; `threads` bounds its framework's threads."""

    threads: int
    gpu: int | None = None


def slots(gpus: Sequence[int], processors: int) -> list[Slot]:
    """Return a slot for each GPU or, without any, equal shares of the processors.

    >>> slots([], processors=8)
    [Slot(threads=4, gpu=None), Slot(threads=4, gpu=None)]
    """
    if gpus:
        return [Slot(max(1, processors // len(gpus)), gpu) for gpu in gpus]
    shares = min(CPU_SLOTS, processors)
    return [Slot(processors // shares)] * shares


class Trainer:
    """A process that holds one backend's framework on one slot; its stderr goes to a log, for frameworks chatter."""

    def __init__(self, backend: Backend, slot: Slot, log: Path) -> None:
        self.backend = backend
        self._log = log
        environment = {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts, not fastest first
            "CUDA_VISIBLE_DEVICES": "-1" if slot.gpu is None else str(slot.gpu),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # PyTorch's deterministic matrix products on CUDA need it
            "KERAS_BACKEND": "tensorflow",
            "OMP_NUM_THREADS": str(slot.threads),
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        self._slot = slot
        self._process = ProcessPoolExecutor(max_workers=1, env=environment, initializer=_ignore_interrupts)
        self._started = False

    def start(self) -> None:
        """Load the framework, if that has not been done.

        Raises:
            TrainerError: if the process dies.
            UnusableSlotError: if the framework cannot use the slot's GPU.
        """
        if self._started:
            return
        device = self.call(_start, self.backend, self._slot.threads, os.getpid(), str(self._log))
        if self._slot.gpu is not None and device == "cpu":
            raise UnusableSlotError(
                f"GPU {self._slot.gpu} is visible but this build of {self.backend} cannot use it; install one that "
                "can, or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU"
            )
        self._started = True

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in the trainer's process and return what it returns.

        Raises:
            TrainerError: if the process dies.
        """
        try:
            result: R = self._process.submit(function, *args, **kwargs).result()
        except (BrokenExecutor, ShutdownExecutorError, CancelledError) as error:
            words = self._log.read_text().splitlines()[-1:] if self._log.exists() else []
            codes = [line for line in str(error).splitlines() if "exit code" in line]
            raise TrainerError(" ".join([f"the {self.backend} trainer died.", *codes, *words])) from error
        return result

    def train(self, study: Study, cells: Sequence[Cell]) -> list[Outcome]:
        """Train cells together; return their outcomes in the same order."""
        return self.call(_train, study, tuple(cells))

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.shutdown(kill_workers=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides what it means


def _start(backend: Backend, threads: int, parent: int, log: str) -> str:
    """Load the backend in a trainer's process, and end that process when its parent is gone."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    end_with(parent)
    return str(_backend(backend).setup(threads))


def end_with(parent: int) -> None:
    """End this process once its parent is gone, which would have it go on with nobody to take the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _backend(backend: Backend) -> Any:
    return importlib.import_module(f"tasks.backends.{backend}")


def _train(study: Study, cells: tuple[Cell, ...]) -> list[Outcome]:
    return training.train(_backend(cells[0].backend), study, cells, clock=time.perf_counter)


def _trace(backend: Backend, study: Study, seed: int) -> list[Weights]:
    return parity.trace(_backend(backend), study, seed=seed)


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
    study: Study
    cells: tuple[Cell, ...]
    outcomes: Future[list[Outcome]] = field(default_factory=Future)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What cells must share to be trained in one program."""
        return self.study.settings(self.cells[0].backend, self.cells[0].levels)


class Pool:
    """Slots divided among backends, with trainers started as they are first needed."""

    def __init__(self, slots: Sequence[Slot], backends: Sequence[Backend]) -> None:
        shares = [backends[at :: len(slots)] or [backends[at % len(backends)]] for at in range(len(slots))]
        self._seats = [_Seat(slot, tuple(share)) for slot, share in zip(slots, shares, strict=True)]
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._suspects: set[Cell] = set()
        self._closed = False
        self._logs = tempfile.TemporaryDirectory(prefix="initbench-trainers-", ignore_cleanup_errors=True)

    @contextmanager
    def lease(self, backend: Backend) -> Iterator[Trainer]:
        """Wait for a free slot that serves the backend and hold it; its trainer is replaced if it dies meanwhile."""
        seat = self._sit(backend)
        try:
            trainer = self._trainer(seat, backend)
            trainer.start()
            yield trainer
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
            return [seat for seat in self._seats if backend in seat.backends and not seat.busy]

        with self._changed:
            self._changed.wait_for(free)
            seat = max(free(), key=lambda seat: backend in seat.trainers)
            seat.busy = True
            return seat

    def train(self, study: Study, cells: Sequence[Cell]) -> list[Outcome]:
        """Train cells of one backend, together with others that wait, and return their outcomes in order.

        Raises:
            TrainerError: if the trainer dies; the cells it held then train apart when they are tried again, so that
                one that kills its trainer does not take its neighbours along.
        """
        request = _Request(study, tuple(cells))
        with self._changed:
            self._waiting.append(request)
        try:
            with self.lease(cells[0].backend) as trainer:
                if request in self._waiting:
                    self._wait_for_quiet()
                if together := self._take(request):
                    self._train_together(trainer, study, together)
        except BaseException:
            with self._changed:
                self._waiting = [other for other in self._waiting if other is not request]  # nobody waits for it now
            raise
        return request.outcomes.result()

    def serves(self, backends: Sequence[Backend]) -> bool:
        """Tell whether there is a slot for each of the backends."""
        return {*backends} <= {backend for seat in self._seats for backend in seat.backends}

    def warm_up(self) -> None:
        """Begin to start a trainer for each backend, without waiting for any of them."""
        for backend in {backend for seat in self._seats for backend in seat.backends}:
            threading.Thread(target=self._start_one, args=(backend,), daemon=True).start()

    def _start_one(self, backend: Backend) -> None:
        with suppress(TrainerError), self.lease(backend):  # what is wrong will be told to those who come to train
            pass

    def trace(self, backend: Backend, study: Study, seed: int) -> list[Weights]:
        """Return the weights of every step of one cell; see `parity.trace`."""
        with self.lease(backend) as trainer:
            return trainer.call(_trace, backend, study, seed)

    def _wait_for_quiet(self) -> None:
        waiting = 0
        while waiting < min(len(self._waiting), MAX_BATCH):
            waiting = len(self._waiting)
            time.sleep(QUIET)

    def _take(self, first: _Request) -> list[_Request]:
        """Take a request and those that can train with it out of the queue; none if another task took it."""
        with self._changed:
            if first not in self._waiting:
                return []
            taken = [first]
            for other in self._waiting:
                size = sum(len(request.cells) for request in taken) + len(other.cells)
                if other is not first and size <= MAX_BATCH and self._can_join(other, first):
                    taken.append(other)
            self._waiting = [request for request in self._waiting if request not in taken]
            return taken

    def _can_join(self, other: _Request, first: _Request) -> bool:
        same = other.settings == first.settings
        return same and self._suspects.isdisjoint((*other.cells, *first.cells))

    def _train_together(self, trainer: Trainer, study: Study, requests: Sequence[_Request]) -> None:
        cells = [cell for request in requests for cell in request.cells]
        parts = [cells[at : at + MAX_BATCH] for at in range(0, len(cells), MAX_BATCH)]
        try:
            outcomes = iter([outcome for part in parts for outcome in trainer.train(study, part)])
        except BaseException as error:  # whatever it was, each waiting task has to hear of it
            self._suspects.update(cells)
            for request in requests:
                request.outcomes.set_exception(error)
            if not isinstance(error, Exception) or isinstance(error, TrainerError):
                raise
        else:
            for request in requests:
                request.outcomes.set_result([next(outcomes) for _ in request.cells])

    def close(self) -> None:
        """Stop every trainer, busy or not; whoever waits for one is told so."""
        with self._changed:
            self._closed = True
            trainers = [trainer for seat in self._seats for trainer in seat.trainers.values()]
        for trainer in trainers:
            trainer.stop()
        self._logs.cleanup()


_current: ContextVar[Pool] = ContextVar("pool")


@contextmanager
def pool(slots: Sequence[Slot], backends: Sequence[Backend]) -> Iterator[Pool]:
    """Hold a pool of trainers, the one that is held already if it serves the same backends.

    Inside, `current` returns it, also in the tasks that start there.
    """
    outer = _current.get(None)
    if outer and outer.serves(backends):
        try:
            yield outer
        except Exception:
            raise
        except BaseException:  # an interrupt or termination: tasks under way would keep the flow from ending
            outer.close()
            raise
        return
    held = Pool(slots, backends)
    token = _current.set(held)
    try:
        yield held
    finally:
        _current.reset(token)
        held.close()


def current() -> Pool:
    """Return the pool that holds here.

    Raises:
        LookupError: outside of `pool`.
    """
    return _current.get()
