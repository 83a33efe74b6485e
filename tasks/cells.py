"""Train batches of cells, and record the outcome of each cell."""

import threading
from collections.abc import Sequence

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.utilities.urls import url_for

from tasks import fence
from tasks.core.design.grid import Batch
from tasks.core.design.settings import source
from tasks.core.training import datasets
from tasks.core.training.outcome import Outcome
from tasks.fence import FencedError
from tasks.tracking import recording
from tasks.tracking.store import NIGHTLY, Benchmark, RecordError
from tasks.trainers import pool, process

_checking = threading.Lock()  # each check holds the file in memory, and many tasks end at the same time
RETRIES = 2  # a trainer that died is replaced, and tasks whose cells it held then train apart from each other


def worth_a_retry(task: object, run: object, state: State) -> bool:  # noqa: ARG001  # Prefect's signature
    """Tell whether it can help to run a failed task again.

    It cannot if the backend cannot use its slot, or the flow run was ended. If the store fails, a second attempt would
    record twice what the first one has recorded.
    """
    return not isinstance(state.result(raise_on_failure=False), process.UnusableSlotError | FencedError | RecordError)


@task(task_run_name="{batch}", retries=RETRIES, retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE)
def train_cells(batch: Batch, benchmark: Benchmark) -> dict[str, str]:
    """Train these cells on a free slot, together with waiting cells, and record them; return run ids by cell key."""
    asked = batch.settings.dataset
    with pool.current().trained(batch.settings, batch.cells) as outcomes:
        with _checking:
            datasets.unchanged(asked, batch.platform.data[source(asked)])
        return recording.record(benchmark, batch, fence.each(outcomes), prefect_tags())


def settle(
    batches: Sequence[Batch], futures: Sequence[PrefectFuture[dict[str, str]]], benchmark: Benchmark
) -> dict[str, str]:
    """Return the run id of every cell by its key; record the cells of a failed task as failed, with the reason.

    This function is not a task, because Prefect skips a task that gets a failed future. One failed batch would then
    prevent the comparison of all other cells.

    Raises:
        FencedError: if the flow run was ended from outside.
        RecordError: if cells were trained and could not be recorded: that is no fault of theirs.
    """
    fence.check()
    settled: dict[str, str] = {}
    for batch, future in zip(batches, futures, strict=True):
        result = future.result(raise_on_failure=False)
        if isinstance(result, RecordError):
            raise result
        if isinstance(result, BaseException):
            failed = [Outcome.failure(cell, result) for cell in batch.cells]
            result = recording.record(benchmark, batch, fence.each(failed), prefect_tags())
        settled |= result
    return settled


def prefect_tags() -> dict[str, str]:
    """Return the MLflow tags that name the current Prefect run; MLflow shows one of them, a link, as description."""
    flow_run, task_run = runtime.flow_run.id, runtime.task_run.id
    link = f"Prefect flow run [{runtime.flow_run.name}]({url_for('flow-run', flow_run)})"
    tags = {
        "prefect.flow_run_id": flow_run,
        "prefect.task_run_id": task_run,
        "mlflow.note.content": link,
        NIGHTLY: "yes" if NIGHTLY in runtime.flow_run.tags else None,
    }
    return {name: str(value) for name, value in tags.items() if value}
