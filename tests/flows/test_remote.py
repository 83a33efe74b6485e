"""Everything on PostgreSQL and with passwords, and a study that workers train, one of which is killed."""

import os
import signal
import stat
import subprocess
import time
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pandas as pd
import psycopg
import pytest

from flows import deployments
from tests.flows.running import INITBENCH, up
from tests.postgres import postgres  # noqa: F401  # a fixture

STUDY = """
name: remote
initializers: [he_normal, zeros]
seeds: 4
recipe: {epochs: 1500}
controls: null
runner: workers
"""
SILENCE = timedelta(seconds=35)  # a heartbeat comes every 30 s


@pytest.fixture(scope="module")
def running(tmp_path_factory, postgres):  # noqa: F811
    """Return everything, up on PostgreSQL and with passwords."""
    folder = tmp_path_factory.mktemp("remote")
    with up(folder, "--postgres", postgres, "--auth") as everything:
        yield everything


@pytest.fixture(scope="module")
def client(running):
    """Return the environment of a client that may."""
    addresses = {"PREFECT_API_URL": f"{running.prefect}/api", "MLFLOW_TRACKING_URI": running.mlflow}
    return {**running.environment, **running.secrets, **addresses}


@contextmanager
def worker(client, *arguments):
    """Run a worker in a process group of its own, as if on a machine of its own."""
    process = subprocess.Popen(
        [INITBENCH, "worker", *arguments],
        env=client,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def flow_runs(running, client):
    name, password = client["PREFECT_API_AUTH_STRING"].split(":")
    answer = httpx.post(f"{running.prefect}/api/flow_runs/filter", json={}, auth=(name, password))
    return {run["id"]: run for run in answer.json()}


def online(running, client):
    """Return the names of the workers that have reported."""
    credentials = tuple(client["PREFECT_API_AUTH_STRING"].split(":"))
    pools = [f"{running.prefect}/api/work_pools/{name}/workers/filter" for name in ("pytorch", "keras")]
    return [each["name"] for pool in pools for each in httpx.post(pool, json={}, auth=credentials).json()]


def run(running, client, study, *options):
    (running.folder / "study.yaml").write_text(study)
    return subprocess.Popen(
        [INITBENCH, "run", "study.yaml", *options],
        cwd=running.folder,
        env=client,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_both_are_on_postgres(running, postgres):  # noqa: F811
    """Prefect and MLflow have a database each, with all their tables."""
    for database, table in {"prefect": "flow_run", "mlflow": "experiments"}.items():
        with psycopg.connect(f"{postgres}_{database}") as connection:
            assert connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (table,)
    assert not (running.folder / "mlflow.db").exists()
    assert not list((running.folder / "prefect").glob("*.db"))


def test_passwords(running):
    """Without credentials, and with wrong ones, both APIs answer 401; only the owner reads the secrets."""
    for url in (f"{running.prefect}/api/flows/count", f"{running.mlflow}/api/2.0/mlflow/experiments/search"):
        for credentials in (None, ("admin", "guess")):
            assert httpx.post(url, json={"max_results": 1}, auth=credentials).status_code == 401
    file = running.folder / ".initbench" / "secrets.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_host_and_origin_are_checked(running, client):
    """MLflow answers no foreign host and no foreign page, whoever asks."""
    credentials = client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]
    url = f"{running.mlflow}/api/2.0/mlflow/experiments/search"
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = httpx.post(url, json={"max_results": 1}, auth=credentials, headers=header)
        assert answer.status_code == 403


def test_nobody_is_there_to_train(running, client):
    """A study for workers without a worker of each backend is refused, in one line, before anything runs."""
    process = run(running, client, STUDY)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "runner: workers needs a worker of each backend, pytorch has none online" in err


def test_workers(running, client, eventually, monkeypatch):
    """Each cell is trained by a worker of its backend; what a killed one had is finished by another one."""
    monkeypatch.setattr(deployments, "SILENCE", SILENCE)
    deployments.register(client, "UTC")
    with worker(client, "pytorch") as first, worker(client, "keras"):
        eventually(lambda: len(online(running, client)) == 2, seconds=60)
        process = run(running, client, STUDY, "--export", "out")

        def training():
            runs = flow_runs(running, client).values()
            return [each for each in runs if each["name"] == "pytorch · 8 cells" and each["state_type"] == "RUNNING"]

        eventually(training, seconds=90)
        time.sleep(3)  # its first heartbeat has to be there
        (killed,) = training()
        os.kill(first.pid, signal.SIGKILL)
        with worker(client, "pytorch", "--gpu", "1"):
            out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err
        assert "PyTorch against Keras" in out
        runs = flow_runs(running, client)
        assert runs[killed["id"]]["state"]["message"] == "Its process or machine died: no heartbeat"
        trained = [(each["work_pool_name"], each["state_type"]) for each in runs.values() if "8 cells" in each["name"]]
        assert sorted(trained) == [("keras", "COMPLETED"), ("pytorch", "COMPLETED"), ("pytorch", "CRASHED")]
        cells = pd.read_csv(running.folder / "out" / "cells.csv")
        assert cells["status"].tolist() == ["finished"] * 16
