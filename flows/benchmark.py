"""The benchmark: gate, fan out, settle, compare, publish."""

from functools import partial

import pandas as pd
from prefect import unmapped
from prefect.futures import as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from tqdm import tqdm

from flows.server import ServedFlow, recorded
from tasks import machine, tracking, workers
from tasks.cells import prefect_tags, settle, train_cells
from tasks.comparison import compare, publish
from tasks.core import datasets
from tasks.core.study import Study
from tasks.parity import check_parity

THREADS = 200  # tasks at once; nearly all wait, and those that wait for the same backend train together


class CellsFailed(RuntimeError):
    """Some cells could not be trained; `comparison` holds what became of the others."""

    def __init__(self, comparison: pd.DataFrame) -> None:
        self.comparison = comparison
        failed, cells = comparison["failed"].sum(), comparison[["finished", "diverged", "failed"]].sum().sum()
        super().__init__(f"{failed} of {cells} cells failed; the reasons are in cells.csv")


@partial(ServedFlow, name="benchmark", flow_run_name="{study.name}", task_runner=ThreadPoolTaskRunner(THREADS))
def benchmark(study: Study = Study(), fresh: bool = False, parity: bool = True) -> pd.DataFrame:
    """Train a study's grid in every backend and compare its initializers.

    The comparison has a row per backend and initializer, best first; its `attrs` hold the notes that go with it, the
    id of its MLflow run and a link to it.

    Args:
        study: What to train.
        fresh: Train every cell again, also those that an earlier benchmark has finished.
        parity: First check that the backends agree on identical weights and batches.

    Raises:
        CellsFailed: if a cell could not be trained; everything else is published first.
        ParityError: if the backends disagree.
    """
    platform = machine.platform_for(datasets.load(study.dataset).checksum)
    slots = workers.slots([gpu.index for gpu in machine.gpus()], machine.processors())
    reused = {} if fresh else tracking.find(study, platform)
    batches = study.batches([cell for cell in study.cells() if cell not in reused])
    with (
        recorded(),
        workers.pool(slots, study.backends),
        tracking.benchmark(study, machine.describe(), prefect_tags()) as record,
    ):
        gaps = check_parity() if parity and batches and len(study.backends) > 1 else {}
        futures = train_cells.map(unmapped(study), batches, unmapped(platform), unmapped(record))
        for _ in tqdm(as_completed(futures), study.name, len(futures), unit="task", mininterval=0.5):
            pass
        run_ids = reused | settle(study, batches, futures, platform, record)
        cells, comparison, notes = compare(study, record, [run_ids[cell] for cell in study.cells()])
        publish(record, cells, comparison, notes, gaps)
        comparison.attrs = {"notes": notes, "run_id": record.run_id, "link": record.link}
        if comparison["failed"].any():
            raise CellsFailed(comparison)
        return comparison
