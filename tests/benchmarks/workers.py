"""What workers cost, and whether more of them are used: `python -m tests.benchmarks.workers`.

Everything runs on this machine: `initbench up` on PostgreSQL, a study that this machine trains alone, then the same
with one worker of each backend, and with two of each and twice the seeds. At last a second worker of PyTorch starts
while the first one is at work. Workers take one part at a time, so how many parts of a backend ran at once tells how
many of them were used.
"""

import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from tabulate import tabulate

from tests.shared import postgres
from tests.shared.running import INITBENCH, STOP_SECONDS, up

SEEDS = 20  # with 8 initializers and 2 backends 320 cells
PARTS = 4  # of each backend
RECORDS = ("cell", "group")
STUDY = f"""
name: {{name}}
controls: null
seeds: {{seeds}}
record: {{record}}
runner: {{runner}}
max_tasks: {2 * PARTS}
"""


def main():
    with ExitStack() as stack:
        url = stack.enter_context(postgres.served())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(up(folder, "--postgres", f"{url}?sslmode=disable"))
        addresses = {"PREFECT_API_URL": f"{running.prefect}/api", "MLFLOW_TRACKING_URI": running.mlflow}
        client = {**running.environment, **addresses}
        rows = [row(running, client, f"this machine alone, {record}", "local", 1, record) for record in RECORDS]
        for number, name in enumerate(("one worker of each", "two workers of each"), 1):
            others = [stack.enter_context(worker(client, backend)) for backend in ("pytorch", "keras")]
            await_workers(running, 2 * number)
            rows += [row(running, client, f"{name}, {record}", "workers", number, record) for record in RECORDS]
        others[0].terminate()
        others[0].wait(STOP_SECONDS)
        rows.append(row(running, client, "a second worker of PyTorch joins", "workers", 1, "cell", joins=True))
        print(tabulate(pd.DataFrame(rows), "keys", "github", floatfmt=".3g", showindex=False))  # noqa: T201


@contextmanager
def worker(client, backend):
    process = subprocess.Popen(
        [INITBENCH, "worker", backend], env=client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_SECONDS)


def await_workers(running, count):
    while True:
        pools = [running.post(f"work_pools/{each}/workers/filter").json() for each in ("pytorch", "keras")]
        if sum(len(each) for each in pools if isinstance(each, list)) >= count:
            return
        time.sleep(1)


def row(running, client, title, runner, times, record, *, joins=False):
    """Train the study, with so many times the seeds, and return what it took."""
    name = title.lower().replace(" ", "-").replace(",", "")
    file = running.folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, seeds=SEEDS * times, runner=runner, record=record))
    process = subprocess.Popen([INITBENCH, "run", file, "--no-parity"], cwd=running.folder, env=client)
    with ExitStack() as stack:
        if joins:
            while process.poll() is None and not parts(running, name, "pytorch", ended=True):
                time.sleep(1)
            stack.enter_context(worker(client, "pytorch"))
        assert process.wait() == 0
    store = MlflowClient(running.mlflow)
    (experiment,) = store.search_experiments(filter_string=f"name = 'initbench/{name}'")
    (whole,) = store.search_runs([experiment.experiment_id], "tags.initbench.benchmark = 'yes'")
    seconds, cells = (whole.info.end_time - whole.info.start_time) / 1000, 16 * SEEDS * times
    at_once = {backend: most_at_once(parts(running, name, backend)) for backend in ("pytorch", "keras")}
    found = {
        "who trains": title,
        "cells": cells,
        "seconds": seconds,
        "cells/s": cells / seconds,
        "parts of PyTorch at once": at_once["pytorch"],
        "of Keras": at_once["keras"],
    }
    print(found, flush=True)  # noqa: T201
    return found


def parts(running, name, backend, *, ended=False):
    """Return when the parts of a benchmark ran, as pairs of start and end; with `ended`, only of those that have."""
    known = [each for each in flow_runs(running) if each["start_time"]]
    own = [pd.Timestamp(each["start_time"]) for each in known if name in each["name"]]
    if not own:
        return []
    begun = min(own)
    found = [each for each in known if each["work_pool_name"] == backend]
    spans = [(pd.Timestamp(each["start_time"]), each["end_time"]) for each in found]
    return [(start, pd.Timestamp(end)) for start, end in spans if start >= begun and (end or not ended)]


def flow_runs(running):
    return running.post("flow_runs/filter", sort="START_TIME_DESC").json()


def most_at_once(spans):
    return max((sum(start <= at < end for start, end in spans) for at, _ in spans), default=0)


if __name__ == "__main__":
    main()
