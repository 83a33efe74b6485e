"""Train batches of cells and record what became of each."""

from collections.abc import Sequence

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.utilities.urls import url_for

from tasks import tracking, workers
from tasks.core.training import datasets
from tasks.core.training.outcome import Outcome
from tasks.core.design.study import Batch, Cell, Platform, Study, source
from tasks.tracking import Benchmark

RETRIES = 2  # a trainer that died is replaced at the first; the cells it held then train apart


def worth_a_retry(task: object, run: object, state: State) -> bool:  # noqa: ARG001  # Prefect's signature
    """Tell whether a failed task could end otherwise: not where its backend cannot use the slot at all."""
    return not isinstance(state.result(raise_on_failure=False), workers.UnusableSlotError)


@task(task_run_name="{batch}", retries=RETRIES, retry_condition_fn=worth_a_retry, cache_policy=NO_CACHE)
def train_cells(study: Study, batch: Batch, platform: Platform, benchmark: Benchmark) -> dict[Cell, str]:
    """Train these cells on a free slot, with others that wait, and record each; return their run ids."""
    outcomes = workers.current().train(study, batch.cells)
    asked = study.at(batch.cells[0].levels).dataset
    datasets.unchanged(asked, platform.data[source(asked)])
    return tracking.record(benchmark, study, platform, outcomes, prefect_tags())


def settle(
    study: Study,
    batches: Sequence[Batch],
    futures: Sequence[PrefectFuture[dict[Cell, str]]],
    platform: Platform,
    benchmark: Benchmark,
) -> dict[Cell, str]:
    """Return the run id of every cell; those whose task failed are recorded as failed, with the reason.

    No task: Prefect skips a task that is given a failed future, and with it the comparison of all other cells.
    """
    settled: dict[Cell, str] = {}
    for batch, future in zip(batches, futures, strict=True):
        result = future.result(raise_on_failure=False)
        if isinstance(result, BaseException):
            failed = [Outcome.failure(cell, result) for cell in batch.cells]
            result = tracking.record(benchmark, study, platform, failed, prefect_tags())
        settled |= result
    return settled


def prefect_tags() -> dict[str, str]:
    """Return the MLflow tags that lead back to the Prefect run at hand, one of them the run's description."""
    flow_run, task_run = runtime.flow_run.id, runtime.task_run.id
    link = f"Prefect flow run [{runtime.flow_run.name}]({url_for('flow-run', flow_run)})"
    nightly = "yes" if tracking.NIGHTLY in runtime.flow_run.tags else None
    tags = {
        "prefect.flow_run_id": flow_run,
        "prefect.task_run_id": task_run,
        "mlflow.note.content": link,
        tracking.NIGHTLY: nightly,
    }
    return {name: str(value) for name, value in tags.items() if value}
