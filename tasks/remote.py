"""The tasks of a benchmark, done by workers elsewhere: each part is a flow run that a worker of its backend picks up.

A worker takes one run at a time, on the GPU that it was given, from the work pool that is named after its backend.
What it found it leaves in the benchmark's run in MLflow. A run whose process or machine dies is Crashed, by its worker
or for want of heartbeats, and is run again by whichever worker is free.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, WorkerStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling
from pydantic import BaseModel, ConfigDict

from tasks import models, parity, tracking
from tasks.core.initializers import Backend
from tasks.core.study import Batch, Cell, Platform, Study
from tasks.tracking import Benchmark
from tasks.workers import TrainerError

FLOW = "work"  # what workers run; its deployments and their pools are named after the backends
TRIES = 3
POLL_SECONDS = 1.0


class WorkError(RuntimeError):
    """A worker could not do its part; trying again does not help."""


class Part(BaseModel):
    """A part of a benchmark that one backend does."""

    model_config = ConfigDict(frozen=True)


class Train(Part):
    """Train these cells and record each; found is the run id of each."""

    kind: Literal["train"] = "train"
    study: Study
    cells: tuple[Cell, ...]

    @property
    def backend(self) -> Backend:
        return self.cells[0].backend

    def __str__(self) -> str:
        return str(Batch(self.cells))


class Trace(Part):
    """Train the parity gate's small networks; found are the weights of every step, by optimizer."""

    kind: Literal["trace"] = "trace"
    backend: Backend
    seed: int

    def __str__(self) -> str:
        return f"{self.backend} · parity"


class Log(Part):
    """Register a cell's model; found is its version."""

    kind: Literal["log"] = "log"
    study: Study
    cell: Cell
    run_id: str

    @property
    def backend(self) -> Backend:
        return self.cell.backend

    def __str__(self) -> str:
        return f"{self.cell} · model"


def check_workers(backends: Sequence[Backend]) -> None:
    """Refuse to wait for workers that are not there.

    Raises:
        ValueError: if a backend has no worker online.
    """
    with get_client(sync_client=True) as client:
        for backend in backends:
            try:
                workers = client.read_workers_for_work_pool(backend)
            except ObjectNotFound:
                workers = []
            if not any(worker.status == WorkerStatus.ONLINE for worker in workers):
                raise ValueError(
                    f"runner: workers needs a worker of each backend, {backend} has none online; "
                    f"`initbench worker {backend}` starts one"
                )


@task(task_run_name="{batch}", cache_policy=NO_CACHE)
def train_cells(study: Study, batch: Batch, platform: Platform, benchmark: Benchmark) -> dict[Cell, str]:  # noqa: ARG001  # a worker is a platform of its own
    """Have these cells trained and recorded; return their run ids."""
    found = _done(Train(study=study, cells=batch.cells), benchmark)
    return dict(zip(batch.cells, found, strict=True))


@task(cache_policy=NO_CACHE)
def check_parity(benchmark: Benchmark, seed: int = 0) -> None:
    """Do as `parity.check_parity` does, with each backend wherever its worker is.

    Raises:
        ParityError: if the backends disagree.
    """

    def traced(backend: Backend) -> parity.Traces:
        found = _done(Trace(backend=backend, seed=seed), benchmark)
        return {
            name: [[np.array(array, np.float32) for array in step] for step in steps] for name, steps in found.items()
        }

    parity.hold(benchmark, traced)


@task(task_run_name="crown {backend}", cache_policy=NO_CACHE)
def crown(study: Study, backend: Backend, cells: pd.DataFrame, benchmark: Benchmark) -> str | None:
    """Do as `models.crown` does, with the model logged by a worker."""

    def log(study: Study, cell: Cell, benchmark: Benchmark, run_id: str) -> str:
        return str(_done(Log(study=study, cell=cell, run_id=run_id), benchmark))

    return models.register(study, backend, cells, benchmark, log)


def _done(part: Train | Trace | Log, benchmark: Benchmark) -> Any:
    """Return what a worker has found.

    Raises:
        WorkError: if its flow run fails or is cancelled.
        TrainerError: if it crashes time and again.
    """
    for _ in range(TRIES):
        run: Any = run_deployment(
            f"{FLOW}/{part.backend}",
            parameters={"part": part.model_dump(mode="json"), "benchmark": asdict(benchmark)},
            flow_run_name=str(part),
            timeout=0,  # it is looked at from time to time, so that no connection has to hold
            as_subflow=False,
            idempotency_key=str(uuid4()),
        )
        state = _ended(run.id)
        if state.is_completed():
            return tracking.handed_over(benchmark, str(run.id))
        if not state.is_crashed():
            raise WorkError(f"{part}: {state.name}: {state.message}")
        get_run_logger().warning("%s: its worker is gone (%s); another one has to do it", part, state.message)
    raise TrainerError(f"{part}: workers died {TRIES} times; the last one: {state.message}")


def _ended(run_id: UUID) -> State[Any]:
    """Wait for a flow run and return its last state; an interrupt cancels it."""
    with get_client(sync_client=True) as client:
        try:
            while True:
                state = client.read_flow_run(run_id).state
                if state and state.is_final():
                    return state
                time.sleep(POLL_SECONDS)
        except BaseException:
            client.set_flow_run_state(run_id, Cancelling())
            raise
