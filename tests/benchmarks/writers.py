"""How many cells several benchmarks record at once: `python -m tests.benchmarks.writers`.

Each writer is a process that records cells, which were trained once, as a benchmark would. They share an
SQLite store, then a PostgreSQL server, then MLflow's server with that database. The rate is that of all writers.
"""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
from tabulate import tabulate

from flows.serving.server import tuning
from tasks.tracking import recording, store
from tests.benchmarks.recording import CELLS, recorded_by, trained
from tests.benchmarks.servers import served
from tests.shared import postgres

WRITERS = (1, 4)
ROUNDS = 2
TOOK = "seconds: "  # before what a writer took, in what it prints


def write(number, cells):
    """Record the trained cells again and again as a benchmark of its own; print the seconds."""
    study, outcomes = pickle.loads(Path(cells).read_bytes())  # noqa: S301  # of this benchmark
    with recording.benchmark(study.model_copy(update={"name": f"writer-{number}"}), {}, {}) as benchmark:
        begun = time.perf_counter()
        for at in range(ROUNDS):
            recorded_by(benchmark, study, outcomes, 13, shift=1000 * at)
        print(f"{TOOK}{time.perf_counter() - begun}")  # noqa: T201


def rate(uri, writers, cells):
    command = [sys.executable, "-m", "tests.benchmarks.writers"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    started = [
        subprocess.Popen([*command, str(at), cells], stdout=subprocess.PIPE, text=True, env=environment)
        for at in range(writers)
    ]
    said = [line for each in started for line in each.communicate()[0].splitlines()]
    took = [float(line.removeprefix(TOOK)) for line in said if line.startswith(TOOK)]  # MLflow's client says more
    return writers * ROUNDS * CELLS / max(took)


def stores(stack, folder):
    """Yield the name and the address of each store, which ends with the stack."""
    yield "SQLite", f"sqlite:///{folder}/mlflow.db"
    url = stack.enter_context(postgres.served())
    with psycopg.connect(url.replace("/initbench", "/postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE initbench")
    direct = url.replace("postgresql://", "postgresql+psycopg://")
    yield "PostgreSQL", direct
    command = ["mlflow", "server", "--backend-store-uri", direct, "--artifacts-destination", f"{folder}/served"]
    yield "MLflow's server, PostgreSQL", stack.enter_context(served(command, tuning(), "/health", folder))


def main():
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        cells = Path(folder, "cells.pickle")
        cells.write_bytes(pickle.dumps(trained()))
        rows = []
        for name, uri in stores(stack, folder):
            store.open_store(uri)
            rates = [rate(uri, writers, str(cells)) for writers in WRITERS]
            rows.append([name, *rates, rates[-1] / rates[0]])
            print(rows[-1], file=sys.stderr)  # noqa: T201
        columns = ["store", *(f"cells/s, {writers} at once" for writers in WRITERS), "4 against 1"]
        print(tabulate(rows, columns, "github", floatfmt=".3g"))  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(*sys.argv[1:])
    else:
        main()
