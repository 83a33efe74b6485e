"""The gate: before anything is compared, the two backends must agree on identical weights and batches."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.design.initializers import BACKENDS, Backend
from tasks.core.report import figures
from tasks.core.training import parity
from tasks.core.training.backend import Weights
from tasks.tracking import recording
from tasks.tracking.store import Benchmark
from tasks.trainers import pool

Traces = Mapping[str, Sequence[Weights]]
"""By optimizer, the weights at the start and after each step: a kernel and a bias for each layer, for one cell."""


@task(retries=1, cache_policy=NO_CACHE)
def check_parity(benchmark: Benchmark) -> None:
    """Store the largest weight difference between the backends at each step, by optimizer, and judge it.

    Raises:
        ParityError: if a difference exceeds its bound.
    """
    hold(benchmark, trace)


def trace(backend: Backend) -> Traces:
    """Return a backend's weights under each optimizer, from a trainer of this machine."""
    with pool.current().lease(backend) as trainer:
        return {optimizer: trainer.trace(optimizer) for optimizer in parity.RECIPES}


def hold(benchmark: Benchmark, traces: Callable[[Backend], Traces]) -> None:
    """Compare the backends; `traces` returns the trace of a backend, from wherever the backend trains.

    Raises:
        ParityError: if they disagree.
    """
    threads = ThreadPoolExecutor(len(BACKENDS))  # both at once, because each loads a framework first
    try:
        asked = [threads.submit(copy_context().run, traces, backend) for backend in BACKENDS]
        ours, theirs = (future.result() for future in asked)
    finally:
        threads.shutdown(wait=False)  # after an interrupt, the threads still wait for trainers that are stopped later
    found = {optimizer: parity.gaps(ours[optimizer], theirs[optimizer]) for optimizer in parity.RECIPES}
    with TemporaryDirectory() as folder:
        pd.DataFrame(found).rename_axis("step").to_csv(Path(folder, "parity.csv"))
        figures.parity(found, parity.BOUNDS).savefig(Path(folder, "parity.png"), dpi=150)
        recording.publish(benchmark, Path(folder), {}, {})
    parity.judge(found)
