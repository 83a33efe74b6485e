"""The tasks of a benchmark, when workers elsewhere do the work (`runner: workers`).

A worker is a process, often on another machine, that serves one backend. A benchmark is cut into parts, and each part
is a flow run in the Prefect work pool that is named after its backend. A worker takes one flow run at a time from its
pool, and leaves the result in the benchmark's run in MLflow.

If the process or the machine of a flow run dies, the flow run becomes Crashed: its worker says so or, if the worker
died too, an automation does, because heartbeats are missing. The part is then asked for again, and any free worker
takes it.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from threading import Event
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from pydantic import BaseModel, ConfigDict

from tasks import models, parity
from tasks.core.design.grid import Batch, Cell, named_together
from tasks.core.design.initializers import Backend
from tasks.core.design.settings import CellSettings, Record, source
from tasks.core.statistics.findings import Findings
from tasks.core.training.parity import Answer, Asked
from tasks.models import Candidate
from tasks.tracking import benchmarks
from tasks.tracking.store import Benchmark
from tasks.trainers.process import TrainerError

FLOW = "work"  # the flow that workers run; its deployments and their pools are named after the backends
TRIES = 3
POLL_SECONDS, SLOWEST_SECONDS = 1.0, 10.0  # shortest and longest time between two looks at a part's state
SHARE = 0.05  # the time between two looks, as a share of the time that the part has taken so far
PATIENCE_SECONDS = 600.0  # a part fails after this time without a worker, or without an answer from Prefect's server


class WorkError(TrainerError):
    """A worker could not do a part; asking for the part again does not help."""


class Part(BaseModel):
    """A part of a benchmark for one backend. The worker stores the part's result as JSON in the benchmark's run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @staticmethod
    def encoded(found: Any) -> Any:
        """Return a result in a form that JSON can hold."""
        return found

    @staticmethod
    def decoded(found: Any) -> Any:
        """Return the result that `encoded` put into this form."""
        return found


class Train(Part):
    """Train these cells and record each; the result is their run ids, in the same order.

    study: the name of the study. The worker looks for earlier cells in the study's experiment, unless `fresh`. data,
    release: the checksum of the dataset and the release of initbench; those of the worker must equal them.
    """

    study: str
    settings: CellSettings
    cells: tuple[Cell, ...]
    target: float
    record: Record
    data: str
    release: str
    fresh: bool

    @property
    def backend(self) -> Backend:
        return self.settings.backend

    def __str__(self) -> str:
        return named_together(self.cells)


class Gate(Part):
    """Compute what the gate asks of a backend."""

    backend: Backend
    asked: Asked

    @staticmethod
    def encoded(found: Answer) -> Any:
        """Return the answer as JSON."""
        return found.model_dump_json()

    @staticmethod
    def decoded(found: Any) -> Answer:
        """Return the answer from its JSON."""
        return Answer.model_validate_json(found)

    def __str__(self) -> str:
        return f"{self.backend} · parity"


class Log(Part):
    """Register a cell's model; the result is its version."""

    candidate: Candidate

    @property
    def backend(self) -> Backend:
        return self.candidate.cell.backend

    def __str__(self) -> str:
        return f"{self.candidate.cell} · model"


AnyPart = Train | Gate | Log


@dataclass(frozen=True)
class _Parts:
    """The current benchmark: its study, whether it trains every cell anew, and an event that is set when it ends."""

    study: str
    fresh: bool
    over: Event = field(default_factory=Event)


_current: ContextVar[_Parts] = ContextVar("current")


def check_workers(backends: Sequence[Backend]) -> None:
    """Check that every backend has a worker.

    Raises:
        ValueError: if a backend has no deployment, or no worker that is online.
    """
    with get_client(sync_client=True) as client:
        for backend in backends:
            try:
                client.read_deployment_by_name(f"{FLOW}/{backend}")
                ready = _online(client, backend)
            except ObjectNotFound:  # the first worker registers it
                ready = False
            if not ready:
                raise ValueError(
                    f"runner: workers needs a worker of each backend, {backend} has none online; "
                    f"`initbench worker {backend}` starts one"
                )


def _online(client: SyncPrefectClient, backend: Backend) -> bool:
    return any(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(backend))


@contextmanager
def parts(study: str, *, fresh: bool) -> Iterator[None]:
    """Let workers do parts of a benchmark; at the end, cancel the parts that are not done, as after an interrupt.

    fresh: workers train every cell anew, also cells that an earlier benchmark of the study has finished.
    """
    current = _Parts(study, fresh)
    token = _current.set(current)
    try:
        yield
    finally:
        _current.reset(token)
        current.over.set()  # threads that wait for a part look at it, because an interrupt reaches only the main thread


@task(task_run_name="{batch}", cache_policy=NO_CACHE)
def train_cells(batch: Batch, benchmark: Benchmark) -> dict[str, str]:
    """Let a worker train and record these cells; return the run ids by cell key."""
    part = Train(
        study=_current.get().study,
        settings=batch.settings,
        cells=batch.cells,
        target=batch.target,
        record=batch.record,
        data=batch.platform.data[source(batch.settings.dataset)],
        release=batch.platform.release,
        fresh=_current.get().fresh,
    )
    return dict(zip(batch.keys.values(), _done(part, benchmark), strict=True))


@task(cache_policy=NO_CACHE)
def check_parity(benchmark: Benchmark, backends: Sequence[Backend], asked: Asked) -> None:
    """Do the work of `parity.check_parity`, each backend on its worker.

    Raises:
        ParityError: if a backend does not compute what it should.
    """
    parity.hold(benchmark, backends, asked, lambda backend, asked: _done(Gate(backend=backend, asked=asked), benchmark))


@task(task_run_name="crown {backend}", cache_policy=NO_CACHE)
def crown(findings: Findings, backend: Backend, benchmark: Benchmark) -> str | None:
    """Do the work of `models.crown`; a worker logs the model."""
    return models.register(findings, backend, benchmark, lambda found, run: str(_done(Log(candidate=found), run)))


def _done(part: AnyPart, benchmark: Benchmark) -> Any:
    """Let a worker do a part, and return its result.

    Raises:
        WorkError: if the part's flow run fails or is cancelled, or the benchmark ends first.
        TrainerError: if the part crashes TRIES times, or no worker takes it.
    """
    here = replace(benchmark, uri="")  # the address may hold a password; a worker has an address of its own
    for _ in range(TRIES):
        run: Any = run_deployment(
            f"{FLOW}/{part.backend}",
            parameters={"part": part.model_dump(mode="json"), "benchmark": asdict(here)},
            flow_run_name=str(part),
            tags=list(runtime.flow_run.tags),
            timeout=0,  # do not wait here: `_ended` looks at it from time to time, over a new connection
        )
        state = _ended(run.id, part)
        if state.is_completed():
            return part.decoded(benchmarks.handed_over(benchmark, str(run.id)))
        if not state.is_crashed():
            raise WorkError(f"{part}: {state.name}: {state.message}")
        get_run_logger().warning("%s: its worker died (%s); the part is asked for again", part, state.message)
    raise TrainerError(f"{part}: workers died {TRIES} times; the last one: {state.message}")


def _ended(run_id: UUID, part: AnyPart) -> State[Any]:
    """Wait until the flow run of a part has ended, and return its last state.

    Raises:
        WorkError: if the benchmark ends first, or the flow run was deleted.
        TrainerError: if no worker takes it, or Prefect's server does not answer, for PATIENCE_SECONDS.
    """
    over, asked = _current.get().over, time.monotonic()
    heard = asked
    with get_client(sync_client=True) as client:
        while not over.wait(min(SLOWEST_SECONDS, max(POLL_SECONDS, SHARE * (time.monotonic() - asked)))):
            try:
                state = client.read_flow_run(run_id).state
                if state and state.is_final():
                    return state
                if state and (not state.is_scheduled() or _online(client, part.backend)):
                    heard = time.monotonic()
                missing = f"no worker of {part.backend} was online"
            except ObjectNotFound:
                raise WorkError(f"{part}: its flow run, or the pool {part.backend}, was deleted") from None
            except httpx.HTTPError as error:  # the server may be restarting
                missing = f"Prefect's server did not answer: {error}"
            if time.monotonic() - heard > PATIENCE_SECONDS:
                _cancel(client, run_id)
                raise TrainerError(f"{part}: for {PATIENCE_SECONDS:.0f} s {missing}")
        _cancel(client, run_id)
        raise WorkError(f"{part}: cancelled with its benchmark")


def _cancel(client: SyncPrefectClient, run_id: UUID) -> None:
    with suppress(httpx.HTTPError):
        client.set_flow_run_state(run_id, Cancelling())
