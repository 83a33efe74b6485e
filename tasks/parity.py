"""The gate: before anything is compared, the two backends must agree on identical weights and batches."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import tracking, workers
from tasks.core import figures, parity
from tasks.core.initializers import BACKENDS
from tasks.core.study import Study
from tasks.tracking import Benchmark


@task(retries=1, cache_policy=NO_CACHE)
def check_parity(benchmark: Benchmark, seed: int = 0) -> None:
    """Store the largest weight difference between the backends at each step, by optimizer, and judge it.

    Raises:
        ParityError: if one exceeds its bound.
    """
    found = {optimizer: _gaps(study, seed) for optimizer, study in parity.STUDIES.items()}
    with TemporaryDirectory() as folder:
        pd.DataFrame(found).rename_axis("step").to_csv(Path(folder, "parity.csv"))
        figures.parity(found).savefig(Path(folder, "parity.png"), dpi=150)
        tracking.publish(benchmark, Path(folder), {}, {})
    parity.judge(found)


def _gaps(study: Study, seed: int) -> NDArray[np.float64]:
    trainers = workers.current()
    with ThreadPoolExecutor(len(BACKENDS)) as threads:  # both at once, for each has a framework to load
        ours, theirs = threads.map(lambda backend: trainers.trace(backend, study, seed), BACKENDS)
    return parity.gaps(ours, theirs)
