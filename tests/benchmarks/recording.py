"""What it takes to record cells: `python -m tests.benchmarks.recording`.

The floor is MLflow's client alone, which creates a run, logs as many points and params in one `log_batch`, and ends the
run, without files: from one process, and from two at once. Beside it stand initbench's records of cells that were
trained once, with their files: one cell a task, as in small studies, and many. Every way has a fresh store, in turn
within one run, and the ratios are those of cells a second to two clients.
"""

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from tabulate import tabulate

from tasks.backends import pytorch
from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.core.training import batch as batches
from tasks.tracking import recording, store
from tests.shared.keys import HERE

CELLS = 64  # trained once, and recorded again and again under other seeds
POINTS, PARAMS, TAGS = 106, 34, 12  # of a cell in the default record
ROUNDS = 2
TASKS = 32  # that record at the same time
CLIENT_RUNS = 32  # of each process


def client_alone(uri, runs):
    """Record runs as plainly as MLflow's client can; return the seconds and the seconds of processor time."""
    client = MlflowClient(uri)
    experiment = client.search_experiments()[0].experiment_id
    begun, spent = time.perf_counter(), time.process_time()
    for _ in range(runs):
        now = int(time.time() * 1000)
        run_id = client.create_run(experiment, now, {f"tag_{at}": "a value" for at in range(TAGS)}).info.run_id
        points = [Metric(f"metric_{at % 26}", 0.5, now, at // 26) for at in range(POINTS)]
        client.log_batch(run_id, points, [Param(f"param_{at}", "a value") for at in range(PARAMS)])
        client.set_terminated(run_id)
    return time.perf_counter() - begun, time.process_time() - spent


def clients(processes):
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        store.open_store(uri)
        command = [sys.executable, "-m", "tests.benchmarks.recording", uri]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        took = [[*map(float, each.communicate()[0].split())] for each in started]
        runs = processes * CLIENT_RUNS
        return runs / max(wall for wall, _ in took), sum(spent for _, spent in took) / runs


def trained():
    study = Study(backends=("pytorch",), seeds=8)
    pytorch.setup(threads=1)
    cells = grid.cells(study)[:CELLS]
    return study, batches.train(pytorch, study.settings("pytorch", ()), cells, clock=time.perf_counter)


def recorded_by(benchmark, study, outcomes, cells_a_task, shift=0):
    """Record outcomes under other seeds in a benchmark, as tasks of so many cells do; return how many cells."""
    cells = [replace(each, cell=replace(each.cell, seed=each.cell.seed + shift)) for each in outcomes]
    settings = study.settings("pytorch", ())

    def record(part):
        batch = grid.Batch.of(settings, [each.cell for each in part], HERE, study.target, study.record)
        return recording.record(benchmark, batch, part, {})

    with ThreadPoolExecutor(TASKS) as threads:
        parts = (cells[at : at + cells_a_task] for at in range(0, CELLS, cells_a_task))
        return sum(len(found) for found in threads.map(record, parts))


def own(study, outcomes, cells_a_task):
    """Return what `clients` returns, of initbench with so many cells in each task."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        experiment = store.client(uri).create_experiment("cells", Path(folder, "mlruns").as_uri())
        benchmark = store.Benchmark(uri, experiment, store.client(uri).create_run(experiment).info.run_id)
        begun, spent = time.perf_counter(), time.process_time()
        recorded = sum(recorded_by(benchmark, study, outcomes, cells_a_task, 100 * at) for at in range(ROUNDS))
        return recorded / (time.perf_counter() - begun), (time.process_time() - spent) / recorded


def main():
    study, outcomes = trained()
    ways = {
        "MLflow's client alone, 1 process": lambda: clients(1),
        "MLflow's client alone, 2 processes": lambda: clients(2),
        **{
            f"initbench, record: {record}, {size} cells a task": lambda record=record, size=size: own(
                study.model_copy(update={"record": record}), outcomes, size
            )
            for record, size in (("cell", 1), ("cell", 13), ("full", 13), ("group", 13))
        },
    }
    found = {name: way() for name, way in ways.items()}
    floor, _ = found["MLflow's client alone, 2 processes"]
    rows = [[name, rate, 1000 * spent, rate / floor] for name, (rate, spent) in found.items()]
    columns = ["", "cells/s", "ms of processor time a cell", "times two clients"]
    print(tabulate(rows, columns, floatfmt=".3g"))  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*client_alone(sys.argv[1], CLIENT_RUNS))  # noqa: T201
    else:
        main()
