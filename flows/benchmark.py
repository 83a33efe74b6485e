"""The benchmark: gate, fan out, settle, compare, publish."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from prefect import Task, get_run_logger, runtime, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

from flows import form
from flows.plan import check_runner, plan
from flows.progress import followed
from flows.serving.server import recorded, served_flow
from tasks import machine, remote, tracking, workers
from tasks.cells import prefect_tags, settle, train_cells
from tasks.comparison import collect, compare, publish
from tasks.core.design.initializers import Backend
from tasks.models import crown
from tasks.parity import check_parity
from tasks.tracking import Benchmark

THREADS = 200  # tasks at once; nearly all wait, and those that wait for the same backend train together


class FailedCellsError(RuntimeError):
    """Some cells could not be trained; `comparison` holds what became of the others."""

    def __init__(self, comparison: pd.DataFrame) -> None:
        self.comparison = comparison
        failed, cells = comparison["failed"].sum(), comparison[["finished", "diverged", "failed"]].sum().sum()
        super().__init__(f"{failed} of {cells} cells failed; the reasons are in cells.csv")


class UncrownedError(RuntimeError):
    """A best cell could not be registered as a model; `comparison` holds what was found."""

    def __init__(self, comparison: pd.DataFrame, error: BaseException) -> None:
        self.comparison = comparison
        super().__init__(f"the best cell could not be registered as a model: {error}")


class InvalidBenchmarkError(RuntimeError):
    """The controls did not behave, so that nothing can be concluded; `comparison` holds what was measured anyway."""

    def __init__(self, comparison: pd.DataFrame, misbehaved: list[str]) -> None:
        self.comparison = comparison
        super().__init__(f"the benchmark is invalid, for its controls misbehaved: {'; '.join(misbehaved)}")


@dataclass(frozen=True)
class Crew:
    """Where the frameworks are, and the tasks that need one."""

    open: Callable[[Sequence[Backend]], AbstractContextManager[object]]
    train_cells: Task[..., Any]
    check_parity: Callable[[Benchmark], object]
    crown: Task[..., Any]


def pool(backends: Sequence[Backend]) -> AbstractContextManager[workers.Pool]:
    """Hold trainers for backends on every GPU of this machine, or on shares of its processors."""
    return workers.pool(workers.slots([gpu.index for gpu in machine.gpus()], machine.processors()), backends)


CREWS = {
    "local": Crew(pool, train_cells, check_parity, crown),
    "workers": Crew(remote.parts, remote.train_cells, remote.check_parity, remote.crown),
}
"""By where a study is to run."""


def end_with_worker() -> None:
    """End this process, where a worker has started it, once that worker is gone; it would share GPUs with the next."""
    if runtime.deployment.id:
        workers.end_with(os.getppid())


def run_name() -> str:
    """Return what the Prefect UI calls a flow run: the study and the extent of its grid."""
    parameters = runtime.flow_run.parameters
    try:
        return form.asked(parameters).summary
    except ValueError:  # which the run itself will tell
        return f"{parameters['study']} · invalid"


@served_flow(name="benchmark", flow_run_name=run_name, task_runner=ThreadPoolTaskRunner(THREADS))
def benchmark(
    study: form.AskedStudy = "iris",
    seeds: form.Seeds = 0,
    epochs: form.Epochs = 0,
    backends: form.Backends = (),
    initializers: form.Initializers = (),
    fresh: bool = False,
    parity: bool = True,
    advanced: form.Advanced = {},  # noqa: B006  # Prefect hands in a copy
) -> pd.DataFrame:
    """Train a study's grid in every backend and compare its initializers.

    The comparison has a row per backend, level of the factors and initializer, best first within a level; its `attrs`
    hold what was found in words, the notes that go with it, the id of its MLflow run and a link to it.

    Args:
        study: A study that ships; from Python, any. Fields that are left empty, or 0, stay as it has them.
        seeds: How many seeds; 0: as the study has it, usually 10.
        epochs: Passes over the train rows; 0: as the study has it, usually 20.
        backends: Frameworks to train in; none: as the study has it, usually both.
        initializers: Of the hidden layers; none: as the study has it. Those with parameters are among the changes.
        fresh: Train every cell again, also those that an earlier benchmark has finished.
        parity: First check that the backends agree on identical weights and batches.
        advanced: Any other setting of the study, or one of those above once more, which then counts.

    Raises:
        StudyError: if a change to the study is not valid.
        FailedCellsError: if a cell could not be trained; everything else is published first.
        InvalidBenchmarkError: if a control misbehaved; everything is published first.
        UncrownedError: if a best cell could not be registered as a model; everything is published first.
        ParityError: if the backends disagree.
    """
    end_with_worker()
    log = get_run_logger()
    fields = {"seeds": seeds, "epochs": epochs, "backends": backends, "initializers": initializers}
    study = form.asked({"study": study, "advanced": advanced, **fields})
    todo = plan(study, fresh=fresh)
    check_runner(study)
    log.info("Asked for:\n%s", todo)
    crew = CREWS[study.runner]
    environment = machine.describe() | {"data": dict(todo.platform.data)}
    with (
        recorded(),
        crew.open(study.backends),
        tracking.benchmark(study, environment, prefect_tags(), fresh=fresh) as record,
    ):
        if parity and todo.batches and len(study.backends) > 1:
            crew.check_parity(record)
        plans = [todo, *([todo.controls] if todo.controls else [])]
        futures = [
            crew.train_cells.map(unmapped(each.study), each.batches, unmapped(each.platform), unmapped(record))
            for each in plans
        ]
        followed([future for each in futures for future in each], study.name)
        results = [
            collect(each.study, record, each.run_ids(settle(each.study, each.batches, own, each.platform, record)))
            for each, own in zip(plans, futures, strict=True)
        ]
        result, controls = results[0], results[1] if todo.controls else None
        findings = compare(study, result, controls)
        crowned = () if findings.misbehaved else study.backends
        models = crew.crown.map(unmapped(study), crowned, unmapped(result.cells), unmapped(record)) if crowned else []
        publish(record, findings)
        crowns: list[object] = [model.result(raise_on_failure=False) for model in models]
        comparison = findings.comparison
        comparison.attrs |= {"headline": findings.headline, "notes": findings.notes}
        comparison.attrs |= {"run_id": record.run_id, "link": record.link}
        log.info("Found:\n%s\nMLflow run: %s", "\n".join(findings.headline), record.link)
        if findings.misbehaved:
            raise InvalidBenchmarkError(comparison, findings.misbehaved)
        if comparison["failed"].any():
            raise FailedCellsError(comparison)
        if faults := [crown for crown in crowns if isinstance(crown, BaseException)]:
            raise UncrownedError(comparison, faults[0])
        return comparison
