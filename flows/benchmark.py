"""The benchmark: gate, fan out, settle, compare, publish."""

from contextlib import AbstractContextManager

import pandas as pd
from prefect import unmapped
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from tqdm import tqdm

from flows.plan import plan
from flows.server import recorded, served_flow
from tasks import machine, tracking, workers
from tasks.cells import prefect_tags, settle, train_cells
from tasks.comparison import compare, publish
from tasks.core.study import Study
from tasks.parity import check_parity

THREADS = 200  # tasks at once; nearly all wait, and those that wait for the same backend train together


class FailedCellsError(RuntimeError):
    """Some cells could not be trained; `comparison` holds what became of the others."""

    def __init__(self, comparison: pd.DataFrame) -> None:
        self.comparison = comparison
        failed, cells = comparison["failed"].sum(), comparison[["finished", "diverged", "failed"]].sum().sum()
        super().__init__(f"{failed} of {cells} cells failed; the reasons are in cells.csv")


def pool(study: Study) -> AbstractContextManager[workers.Pool]:
    """Hold trainers for a study on every GPU of this machine, or on shares of its processors."""
    return workers.pool(workers.slots([gpu.index for gpu in machine.gpus()], machine.processors()), study.backends)


@served_flow(name="benchmark", flow_run_name="{study.name}", task_runner=ThreadPoolTaskRunner(THREADS))
def benchmark(study: Study = Study(), fresh: bool = False, parity: bool = True) -> pd.DataFrame:
    """Train a study's grid in every backend and compare its initializers.

    The comparison has a row per backend and initializer, best first; its `attrs` hold the notes that go with it, the
    id of its MLflow run and a link to it.

    Args:
        study: What to train.
        fresh: Train every cell again, also those that an earlier benchmark has finished.
        parity: First check that the backends agree on identical weights and batches.

    Raises:
        FailedCellsError: if a cell could not be trained; everything else is published first.
        ParityError: if the backends disagree.
    """
    todo = plan(study, fresh=fresh)
    with (
        recorded(),
        pool(study),
        tracking.benchmark(study, machine.describe(), prefect_tags()) as record,
    ):
        if parity and todo.batches and len(study.backends) > 1:
            check_parity(record)
        futures = train_cells.map(unmapped(study), todo.batches, unmapped(todo.platform), unmapped(record))
        for _ in tqdm(as_completed(futures), study.name, len(futures), unit="task", mininterval=0.5):
            pass
        run_ids = todo.reused | settle(study, todo.batches, futures, todo.platform, record)
        cells, comparison, notes = compare(study, record, [run_ids[cell] for cell in study.cells()])
        publish(record, cells, comparison, notes)
        comparison.attrs = {"notes": notes, "run_id": record.run_id, "link": record.link}
        if comparison["failed"].any():
            raise FailedCellsError(comparison)
        return comparison
