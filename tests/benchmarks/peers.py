"""What people write or pick instead: `python -m tests.benchmarks.peers`, in an environment with `peers.txt`.

Every way trains the same cells of the default study: the same splits, networks, recipe and initializers, each framework
drawing by itself. Every way logs params, the four curves and the last accuracy and loss of each cell to a fresh SQLite
store of MLflow, and what else it records stands in the table. A way's rate is its number of cells over the time from
the start of the first cell to the end of the last one, as the store has them: what a way needs to start does not count.
Of initbench the time from the start of the benchmark's run counts, in which its trainers load and compile.

`python -m tests.benchmarks.peers 4 notebook joblib` trains 4 seeds, in these ways alone.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from tabulate import tabulate

from tests.benchmarks import peer_ways

SEEDS = 4
LARGER = 20  # times as many seeds initbench trains, of 8 initializers: its rate is that of a large grid
INITIALIZERS = ("he_normal", "glorot_uniform")  # of the peers; all of initbench's initializers take the same time
CELL_BY_CELL = ("notebook", "prefect", "joblib", "hydra", "ray", "benchopt")


@dataclass(frozen=True)
class Found:
    """What a way has recorded: cells a second, points a cell, and the accuracies by backend and initializer."""

    way: str
    rate: float
    points: float
    accuracies: dict[tuple[str, str], list[float]]


def ran(way, seeds):
    """Run a way in a process of its own, in a fresh folder with a fresh store, and return what it has recorded."""
    with tempfile.TemporaryDirectory(prefix=f"peer-{way}-") as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        settings = {"MLFLOW_TRACKING_URI": uri, "PREFECT_HOME": f"{folder}/prefect", "TF_CPP_MIN_LOG_LEVEL": "2"}
        threads = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
        environment = {**os.environ, **settings, **threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        if way == "initbench":
            run = "from flows.cli import main; main()"
            command = ["-c", run, "run", "--no-parity", "--set", "controls=null", "--set", f"seeds={LARGER * seeds}"]
        else:
            command = ["-m", "tests.benchmarks.peer_ways", way, str(seeds), *INITIALIZERS]
        log = Path(folder, "log")
        with log.open("w") as output:
            ended = subprocess.run(
                [sys.executable, *command], cwd=folder, env=environment, stdout=output, stderr=output
            )
        if ended.returncode:
            raise SystemExit(f"{way} failed:\n{log.read_text()[-3000:]}")
        return recorded(way, uri)


def recorded(way, uri):
    client = MlflowClient(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs, token = [], None
    while token != "":
        page = client.search_runs(experiments, max_results=1000, page_token=token)
        runs, token = [*runs, *page], page.token or ""
    cells = [run for run in runs if "test_accuracy" in run.data.metrics and "initializer" in run.data.params]
    parents = {run.data.tags.get("mlflow.parentRunId") for run in cells} if way == "initbench" else set()
    begun = min(run.info.start_time for run in runs if run.info.run_id in parents or (run in cells and not parents))
    seconds = (max(run.info.end_time for run in cells) - begun) / 1000
    accuracies: dict[tuple[str, str], list[float]] = {}
    for run in cells:
        backend = run.data.params.get("backend") or run.info.run_name.partition(" ")[0]
        accuracies.setdefault((backend, run.data.params["initializer"]), []).append(run.data.metrics["test_accuracy"])
    points = np.mean(
        [sum(len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics) for run in cells[:3]]
    )
    return Found(way, len(cells) / seconds, float(points), accuracies)


def disagreements(found, own):
    """Return where a way's mean accuracy is further from initbench's than three standard errors of the difference."""
    words = []
    for group, values in found.accuracies.items():
        ours = own.accuracies[group]
        error = np.sqrt(np.var(values, ddof=1) / len(values) + np.var(ours, ddof=1) / len(ours))
        if abs(np.mean(values) - np.mean(ours)) > 3 * error:
            words.append(f"{' '.join(group)}: {np.mean(values):.3f}, not {np.mean(ours):.3f}")
    return words


def main():
    seeds, ways = int(sys.argv[1]) if sys.argv[1:] else SEEDS, sys.argv[2:] or CELL_BY_CELL
    own = ran("initbench", seeds)
    rows = [["initbench", own.rate, 1.0, own.points, peer_ways.RECORDED["initbench"], "it is the measure"]]
    for way in ways:
        found = ran(way, seeds)
        agrees = "; ".join(disagreements(found, own)) or "yes"
        rows.append([way, found.rate, own.rate / found.rate, found.points, peer_ways.RECORDED[way], agrees])
        print(json.dumps(rows[-1]), file=sys.stderr)  # noqa: T201
    columns = ["way", "cells/s", "initbench is faster by", "points a cell", "recorded beside", "accuracies agree"]
    print(tabulate(rows, columns, "github", floatfmt=".3g"))  # noqa: T201


if __name__ == "__main__":
    main()
