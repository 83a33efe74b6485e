"""What infra/servers.env gains: both servers as they come and tuned, in one run.

`python -m tests.benchmarks.servers` prints, for each, how many MLflow runs of 50 points a client records a second, and
how many task runs Prefect's server records a second.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import httpx
from mlflow import MlflowClient
from mlflow.entities import Metric

from flows.serving.server import tuning
from tests.shared.postgres import free_port

RUNS = 30
POINTS = 50
TASKS = 300
FLOW = f"""
from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner
@task
def nothing(at): return at
@flow(task_runner=ThreadPoolTaskRunner(50))
def many(): [future.result() for future in nothing.map(range({TASKS}))]
many()
"""


@contextmanager
def served(command, settings, health, folder):
    """Yield the address of a server."""
    port = free_port()
    environment = {**os.environ, "PREFECT_HOME": folder, **settings}
    arguments = [*command, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                if httpx.get(address + health).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def mlflow_runs(settings):
    """Return how many runs a second MLflow's server takes."""
    with tempfile.TemporaryDirectory() as folder, served(["mlflow", "server"], settings, "/health", folder) as address:
        client = MlflowClient(address)
        experiment = client.create_experiment("speed")
        started = time.perf_counter()
        for _ in range(RUNS):
            run = client.create_run(experiment)
            client.log_batch(run.info.run_id, [Metric("loss", 1.0, 0, step) for step in range(POINTS)])
            client.set_terminated(run.info.run_id)
        return RUNS / (time.perf_counter() - started)


def task_runs(settings):
    """Return how many task runs a second Prefect's server records."""
    command = ["prefect", "server", "start"]
    with tempfile.TemporaryDirectory() as folder, served(command, settings, "/api/health", folder) as address:
        environment = {**os.environ, "PREFECT_HOME": folder, "PREFECT_API_URL": f"{address}/api"}
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", FLOW], env=environment, check=True, capture_output=True)
        ended = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        while httpx.post(f"{address}/api/task_runs/count", json=ended).json() < TASKS:
            if time.perf_counter() - started > 120:
                break
            time.sleep(0.1)
        recorded = httpx.post(f"{address}/api/task_runs/count", json=ended).json()
        return recorded / (time.perf_counter() - started)


def main():
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for name, measure in {"MLflow runs": mlflow_runs, "Prefect task runs": task_runs}.items():
        plain, tuned = measure({}), measure(tuning())
        print(f"{name}: {plain:.1f} a second as it comes, {tuned:.1f} tuned, {tuned / plain:.1f} times")  # noqa: T201


if __name__ == "__main__":
    main()
