"""A trainer: a process that holds one backend's framework on one slot, and lives as long as its pool.

A trainer never imports the framework of the other backend.
"""

import ctypes
import gc
import importlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from loky import ProcessPoolExecutor
from loky.process_executor import ShutdownExecutorError

from tasks import user_code
from tasks.core.audit.rows import Rows
from tasks.core.audit.sample import SEEDS, Auditable, Seen, Target, look
from tasks.core.design.grid import Cell
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings
from tasks.core.training import batch, datasets, laws, memory, own, own_parity, parity
from tasks.core.training.backend import DETERMINISTIC, TF32, Framework
from tasks.core.training.laws import Finding
from tasks.core.training.outcome import Outcome, first_line
from tasks.core.training.own import Examined
from tasks.core.training.parity import Level, Trace
from tasks.trainers.memory import free, free_on, give_back

CPU_SLOTS = 2  # one for each backend, so that both train at once
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}

P = ParamSpec("P")
R = TypeVar("R")


class TrainerError(RuntimeError):
    """A trainer process could not start, or died."""


class UnusableSlotError(TrainerError):
    """A backend cannot use a slot, and trying again does not help."""


@dataclass(frozen=True)
class Slot:
    """One GPU by its index or, if gpu is None, a share of the CPU; threads: how many threads its framework may use."""

    threads: int
    gpu: int | None = None


def slots(gpus: Sequence[int], processors: int) -> list[Slot]:
    """Return a slot for each GPU or, if there is none, slots with equal shares of the processors.

    >>> slots([], processors=8)
    [Slot(threads=4, gpu=None), Slot(threads=4, gpu=None)]
    """
    if gpus:
        return [Slot(max(1, processors // len(gpus)), gpu) for gpu in gpus]
    shares = min(CPU_SLOTS, processors)
    return [Slot(processors // shares)] * shares


class Trainer:
    """A process that holds one backend's framework on one slot. Frameworks are chatty, so its stderr goes to a log."""

    def __init__(self, backend: Backend, slot: Slot, log: Path) -> None:
        self.backend = backend
        self._log = log
        environment = {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # number GPUs as nvidia-smi does; the default is the fastest first
            "CUDA_VISIBLE_DEVICES": "-1" if slot.gpu is None else str(slot.gpu),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # PyTorch's deterministic matrix products on CUDA need it
            "KERAS_BACKEND": "tensorflow",
            "KERAS_HOME": str(log.parent),  # has no keras.json, so that the user's is not read
            "NVIDIA_TF32_OVERRIDE": str(int(TF32)),  # CUDA's libraries ask this before a framework's own setting
            **dict.fromkeys(("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(slot.threads)),
            "MALLOC_ARENA_MAX": str(slot.threads),  # glibc keeps freed memory in so many places, by default in many
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TORCHINDUCTOR_DETERMINISTIC": str(int(DETERMINISTIC)),  # for code of a user's that compiles its model
        }
        self._slot = slot
        self._process = ProcessPoolExecutor(max_workers=1, env=environment)
        self.pid: int | None = None  # of the process, once the framework is loaded

    def start(self) -> None:
        """Load the framework, unless it is loaded already.

        Raises:
            TrainerError: if the process dies.
            UnusableSlotError: if the framework cannot use the slot's GPU.
        """
        if self.pid:
            return
        device, process = self.call(_start, self.backend, self._slot, os.getpid(), str(self._log))
        if self._slot.gpu is not None and device == "cpu":
            raise UnusableSlotError(
                f"GPU {self._slot.gpu} is visible but this build of {self.backend} cannot use it; install one that "
                "can, or set CUDA_VISIBLE_DEVICES=-1 to train on the CPU"
            )
        self.pid = process

    def prepare(self) -> None:
        """Load what takes seconds and the first batch would wait for, as dividing data does."""
        self.call(_prepare)

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in the trainer's process and return what it returns.

        Raises:
            TrainerError: if the process dies.
        """
        try:
            with _interrupts_blocked():
                asked = self._process.submit(_allowed, user_code.listed(), function, *args, **kwargs)
            result: R = asked.result()
        except (BrokenExecutor, ShutdownExecutorError, CancelledError) as error:
            words = self._log.read_text().splitlines()[-1:] if self._log.exists() else []
            codes = [line for line in str(error).splitlines() if "exit code" in line]
            raise TrainerError(" ".join([f"the {self.backend} trainer died.", *codes, *words])) from error
        return result

    def train(self, settings: CellSettings, cells: Sequence[Cell], rates: Sequence[float]) -> list[Outcome]:
        """Train cells with these settings together, each at its learning rate; return outcomes in the same order."""
        return self.call(_train, settings, tuple(cells), tuple(rates))

    def examine(self, settings: CellSettings, cells: Sequence[Cell]) -> Examined:
        """Return what is known of a network of one's own before cells of it train; see `own.examine`."""
        return self.call(_examine, settings, tuple(cells))

    def audit(self, target: Target) -> Seen:
        """Return what is seen of a model that is built again and again; see `audit.sample.look`."""
        return self.call(_audit, self.backend, target)

    def audit_own(self, settings: CellSettings) -> Seen:
        """Return what is seen of a study's network of one's own, as its author builds it."""
        return self.call(_audit_own, settings)

    def trace(self, level: Level) -> Trace:
        """Return what the gate's networks compute at a level; see `parity.trace`."""
        return self.call(_trace, self.backend, level)

    def drawn(self, settings: CellSettings, label: str) -> list[Finding]:
        """Return whether the framework's own draws under an initializer follow its law; see `laws.judged`."""
        return self.call(_drawn, self.backend, settings, label)

    def stop(self) -> None:
        """End the process at once, also while it trains."""
        self._process.shutdown(kill_workers=True)


def _allowed(folders: str, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in the trainer's process, where the code may be imported that the parent may import now.

    The memory that it has freed is given back to the machine.
    """
    os.environ[user_code.FOLDERS] = folders
    try:
        return function(*args, **kwargs)
    finally:
        give_back()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C for this thread and, for ever, for processes that start meanwhile: they inherit what is blocked.

    Ctrl-C reaches every process of a terminal, also one that has just started, and only the parent is to act on it.
    """
    resource_tracker.ensure_running()  # where a process starts it, Python 3.11 unblocks Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_budget: list[int] = []  # in the process of a trainer on a GPU: bytes that were free there when it came


def _start(backend: Backend, slot: Slot, parent: int, log: str) -> tuple[str, int]:
    """Load the backend in a trainer's process, which ends once its parent has died; return its device and number."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    end_with(parent)
    if slot.gpu is not None:
        _budget[:] = [free_on(slot.gpu)]
    device = framework(backend).setup(slot.threads)
    gc.freeze()  # a framework's million objects are not looked through for garbage again
    gc.set_threshold(700)  # models refer to themselves, and hold memory, a GPU's too, until they are found as garbage
    return device, os.getpid()


def _prepare() -> None:
    importlib.import_module("sklearn.model_selection")


def end_with(parent: int) -> None:
    """End this process once its parent has died, because nobody would take the result any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def framework(backend: Backend) -> Framework:
    """Load the package of a backend, in the process of a trainer."""
    loaded: Framework = importlib.import_module(f"tasks.backends.{backend}")
    return loaded


def _train(settings: CellSettings, cells: tuple[Cell, ...], rates: tuple[float, ...]) -> list[Outcome]:
    """Train cells in one batch, or in several that fit one after another into this trainer's share of free memory.

    If the framework runs out of memory all the same, fewer cells train together from then on. Cells of a network of
    one's own train one by one.
    """
    user_code.held(settings.dataset)
    if settings.own:
        return [_train_own(settings, *each) for each in zip(cells, rates, strict=True)]
    size = _together(settings, folds=len({cell.seed for cell in cells}))
    backend = framework(settings.backend)
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cells):
        size = min(size, len(cells) - len(outcomes))
        part = slice(len(outcomes), len(outcomes) + size)
        try:
            outcomes += batch.train(backend, settings, cells[part], rates[part], **CLOCKS)
        except backend.OUT_OF_MEMORY:
            if size <= memory.PLACES[0]:
                raise
            size = max(place for place in memory.PLACES if place < size)
    return outcomes


def _train_own(settings: CellSettings, cell: Cell, rate: float) -> Outcome:
    """Train a cell of a network of one's own; what its code raises makes a failed cell."""
    backend = framework(settings.backend)
    try:
        builder = user_code.builder(own.own(settings), settings.backend)
        return own.train(backend, builder, settings, cell, rate, **CLOCKS)
    except MemoryError:
        raise
    except Exception as error:  # of the user's, of any kind
        return Outcome.failure(cell, error)


def _examine(settings: CellSettings, cells: tuple[Cell, ...]) -> Examined:
    user_code.held(settings.dataset)
    network, backend = own.own(settings), framework(settings.backend)
    builder = user_code.builder(network, settings.backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return own.examine(backend, builder, settings, cells)
        except ValueError as error:
            raise ValueError(f"network.build, {settings.backend}: {error}") from None
        except Exception as error:  # of the user's, of any kind
            reference, shape = network.build[settings.backend], datasets.load(settings.dataset).problem.shape
            words = f"it raised {type(error).__name__}: {first_line(error)}"
            raise ValueError(f"what {reference} builds must take rows of shape {shape}; {words}") from None


@contextmanager
def _silenced() -> Iterator[None]:
    """Send to the log what is printed meanwhile, also from C and by processes that are started."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def _audit(backend: Backend, target: Target) -> Seen:
    with _silenced():
        build, rows = user_code.target(target)
    return _seen(backend, build, rows, target.name, target.seeds)


def _audit_own(settings: CellSettings) -> Seen:
    user_code.held(settings.dataset)
    network, data = own.own(settings), datasets.load(settings.dataset)
    with _silenced():
        builder = user_code.builder(network, settings.backend)
    build = partial(builder, data.problem.shape, data.problem.outputs)
    return _seen(settings.backend, build, Rows.of(data, settings.split), network.build[settings.backend], SEEDS)


def _seen(backend: Backend, build: Callable[[], Any], rows: Rows | None, name: str, seeds: int) -> Seen:
    model: Auditable = importlib.import_module(f"tasks.backends.{backend}.audited").Audited(build, rows)
    with warnings.catch_warnings(), _silenced():
        warnings.simplefilter("ignore")
        try:
            return look(model, seeds)
        except (ValueError, MemoryError):
            raise
        except user_code.RAISED as error:
            words = f"it raised {type(error).__name__}: {first_line(error)}"
            raise ValueError(f"the model of {name} must be readable; {words}") from None


def elsewhere(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a function in a process of its own, so that what it imports stays there; return what it returns."""
    process = ProcessPoolExecutor(max_workers=1, env={"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"})
    try:
        with _interrupts_blocked():
            asked = process.submit(function, *args, **kwargs)
        result: R = asked.result()
    except (BrokenExecutor, ShutdownExecutorError, CancelledError) as error:
        raise TrainerError(f"the process that runs {function.__name__} died") from error
    finally:
        process.shutdown(kill_workers=True)
    return result


def _together(settings: CellSettings, folds: int) -> int:
    """Return how many cells of these settings fit into this trainer's share of free memory.

    Of a GPU it is what was free when the trainer came, because a framework keeps what it has taken.
    """
    share = _budget[0] if _budget else free() // CPU_SLOTS
    return memory.most(settings, datasets.load(settings.dataset), folds=folds, free=share)


def _trace(backend: Backend, level: Level) -> Trace:
    if level.settings.own:
        user_code.held(level.settings.dataset)
        return own_parity.trace(framework(backend), user_code.builder(level.settings.own, backend), level)
    fitting = min(level.cells, _together(level.settings, folds=1))
    return parity.trace(framework(backend), level.model_copy(update={"cells": fitting}))


def _drawn(backend: Backend, settings: CellSettings, label: str) -> list[Finding]:
    return laws.judged(framework(backend), settings, label)
