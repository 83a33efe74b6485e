"""Everything on PostgreSQL and with passwords, and a study that workers train, one of which is killed."""

import itertools
import json
import os
import signal
import stat
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version

import httpx
import pandas as pd
import psycopg
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.serving import databases, deployments
from tasks.core.design.initializers import BACKENDS
from tests.shared.postgres import postgres  # noqa: F401  # a fixture
from tests.shared.running import ANSWER_SECONDS, INITBENCH, STOP_SECONDS, up

BUILDER = """
import keras
def build(shape, outputs):
    return keras.Sequential([keras.Input(shape), keras.layers.Dense(outputs, name="head")])
"""
OWN = 'network: {build: {keras: "mine:build"}}'
STUDY = """
name: remote
initializers: [he_normal, zeros]
seeds: 4
recipe: {epochs: 150}
controls: null
runner: workers
"""
KERAS = ("--set", "backends=[keras]")
STUDIES = itertools.count()
SILENCE = timedelta(seconds=50)  # a heartbeat comes every 30 s, and may come late


@pytest.fixture(scope="module")
def running(tmp_path_factory, postgres):  # noqa: F811
    """Return everything, up on PostgreSQL and with passwords."""
    folder = tmp_path_factory.mktemp("remote")
    with up(folder, "--postgres", f"{postgres}?sslmode=disable", "--auth") as everything:
        yield everything


@pytest.fixture(scope="module")
def client(running):
    """Return the environment of a client that has the passwords, and code of a user's own."""
    (running.folder / "mine.py").write_text(BUILDER)
    addresses = {"PREFECT_API_URL": f"{running.prefect}/api", "MLFLOW_TRACKING_URI": running.mlflow}
    return {**running.environment, **running.secrets, **addresses, "INITBENCH_CODE": str(running.folder)}


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
            process.wait(STOP_SECONDS)


def flow_runs(running):
    return {run["id"]: run for run in running.post("flow_runs/filter").json()}


def online(running):
    """Return the names of the workers that have reported."""
    pools = [running.post(f"work_pools/{backend}/workers/filter").json() for backend in BACKENDS]
    return [each["name"] for pool in pools if isinstance(pool, list) for each in pool]  # else there is no such pool yet


def run(running, client, study, *options):
    file = (
        running.folder / f"{next(STUDIES)}.yaml"
    )  # another one each time: the command before may not have read its own
    file.write_text(study)
    return subprocess.Popen(
        [INITBENCH, "run", file.name, *options],
        cwd=running.folder,
        env=client,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_databases_in_use(running, postgres):  # noqa: F811
    """A second `up` on the same databases, in whatever folder, is refused: it would end the runs of the first."""
    lease = databases.leased(f"{postgres}?sslmode=disable")
    with (
        pytest.raises(ValueError, match=r"databases can be used by one `initbench up` at a time; .*:\*+@") as refused,
        lease,
    ):
        pass
    assert "password@" not in str(refused.value)


def test_both_are_on_postgres(running, postgres):  # noqa: F811
    """Prefect and MLflow have a database each, with all their tables."""
    for database, table in {"prefect": "flow_run", "mlflow": "experiments"}.items():
        with psycopg.connect(f"{postgres}_{database}") as connection:
            assert connection.execute("SELECT to_regclass(%s)", [table]).fetchone() == (table,)
    assert not (running.folder / "mlflow.db").exists()
    assert not list((running.folder / ".initbench").rglob("prefect.db"))


def test_passwords(running):
    """Without credentials, and with wrong ones, both APIs answer 401; only the owner reads the secrets."""
    secrets = running.secrets
    prefect = tuple(secrets["PREFECT_API_AUTH_STRING"].split(":"))
    mlflow = secrets["MLFLOW_TRACKING_USERNAME"], secrets["MLFLOW_TRACKING_PASSWORD"]
    apis = {
        f"{running.prefect}/api/flows/count": prefect,
        f"{running.mlflow}/api/2.0/mlflow/experiments/search": mlflow,
    }
    for url, right in apis.items():
        for credentials, status in {None: 401, ("admin", "guess"): 401, right: 200}.items():
            answer = httpx.post(url, json={"max_results": 1}, auth=credentials, timeout=ANSWER_SECONDS)
            assert answer.status_code == status
    file = running.folder / ".initbench" / "secrets.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_host_and_origin_are_checked(running, client):
    """MLflow answers no foreign host and no foreign page, whoever asks."""
    credentials = client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"]
    url = f"{running.mlflow}/api/2.0/mlflow/experiments/search"
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        answer = httpx.post(url, json={"max_results": 1}, auth=credentials, headers=header, timeout=ANSWER_SECONDS)
        assert answer.status_code == 403


def test_nobody_is_there_to_train(running, client):
    """A study for workers without a worker of each backend is refused, in one line, before anything runs."""
    process = run(running, client, STUDY)
    out, err = process.communicate(timeout=150)
    assert (process.returncode, out) == (2, "")
    assert "runner: workers needs a worker of each backend, pytorch has none online" in err


@pytest.fixture(scope="module")
def workers(running, client, eventually):
    """Return a worker of PyTorch and one of Keras, once both have reported."""
    with worker(client, "pytorch") as pytorch, worker(client, "keras") as keras:
        eventually(lambda: len(online(running)) >= 2)
        yield pytorch, keras


def under_way(running, name):
    """Return the ids of the flow runs of this name in which cells are being trained."""
    alive = {"state": {"type": {"any_": ["RUNNING"]}}}
    found = running.post("task_runs/filter", task_runs=alive, flow_runs={"name": {"any_": [name]}, **alive})
    return list({each["flow_run_id"] for each in found.json()})


@dataclass(frozen=True)
class Benchmarks:
    """A benchmark that workers do, the same on this machine alone, and the flow run that a killed worker left."""

    far: subprocess.Popen
    near: subprocess.Popen
    killed: str


@pytest.fixture(scope="module")
def benchmarks(running, client, workers, eventually):
    """Return two benchmarks under way; a worker of one was killed in training, and another worker is there.

    Prefect takes most of a minute to notice, in which other tests run.
    """
    settings = {PREFECT_API_URL: client["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: client["PREFECT_API_AUTH_STRING"]}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(settings):
        patch.setattr(deployments, "SILENCE", SILENCE)
        deployments.register_pools_and_automations()
    first, _ = workers
    far = run(running, client, STUDY, "--export", "far")
    eventually(lambda: under_way(running, "pytorch · 8 cells"), seconds=300)
    (killed,) = under_way(running, "pytorch · 8 cells")
    os.kill(first.pid, signal.SIGKILL)
    alone = ["--no-parity", "--set", "runner=local", "--set", "name=near"]  # another name: no cell is reused
    near = run(running, client, STUDY, "--export", "near", *alone)
    with worker(client, "pytorch"):
        yield Benchmarks(far, near, killed)


def test_an_interrupt(running, client, benchmarks, eventually):
    """Ctrl-C on a benchmark ends what its workers are at."""
    study = STUDY.replace("150", "10000") + OWN  # whose code the worker has, and trains the cells one by one
    process = run(running, client, study, "--no-parity", "--set", "seeds=8", *KERAS)
    eventually(lambda: under_way(running, "keras · 16 cells"), seconds=600)  # the other benchmark comes first
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=150)
    assert process.returncode == 130
    parts = [each["id"] for each in flow_runs(running).values() if each["name"].endswith("16 cells")]
    eventually(lambda: {flow_runs(running)[part]["state_type"] for part in parts} == {"CANCELLED"}, seconds=150)


def test_a_worker_that_dies(running, benchmarks):
    """What a killed worker was training is finished by another one."""
    out, err = benchmarks.far.communicate(timeout=700)
    assert benchmarks.far.returncode == 0, err
    assert "PyTorch against Keras" in out
    runs = flow_runs(running)
    assert "the process or machine of a run died: no heartbeat" in runs[benchmarks.killed]["state"]["message"]
    ran = [each for each in runs.values() if each["name"].endswith(" 8 cells")]
    states = sorted((each["work_pool_name"], each["state_type"]) for each in ran)
    assert states == [("keras", "COMPLETED"), ("pytorch", "COMPLETED"), ("pytorch", "CRASHED")]
    cells = pd.read_csv(running.folder / "far" / "cells.csv")
    assert cells["status"].tolist() == ["finished"] * 16


def test_workers(running, benchmarks):
    """What workers train is what this machine trains alone, in every digit; the gate and the models are theirs, too."""
    out, err = benchmarks.near.communicate(timeout=600)
    assert benchmarks.near.returncode == 0, err
    assert "PyTorch against Keras" in out
    far, near = (pd.read_csv(running.folder / name / "cells.csv") for name in ("far", "near"))
    assert set(far["run_id"]).isdisjoint(near["run_id"])
    own = ["study", "run_id", "train_seconds"]
    pd.testing.assert_frame_equal(far.drop(columns=own), near.drop(columns=own))
    parts = [each for each in flow_runs(running).values() if each["work_pool_name"] in BACKENDS]
    done = [each for each in parts if each["state_type"] == "COMPLETED"]
    kinds = sorted((each["work_pool_name"], each["name"].split(" · ")[-1]) for each in done)
    assert kinds == [(backend, kind) for backend in sorted(BACKENDS) for kind in ("8 cells", "model", "parity")]
    assert all(each["parent_task_run_id"] for each in parts)  # each stands below its benchmark
    assert running.secrets["MLFLOW_TRACKING_PASSWORD"] not in str(parts)
    machines = [json.loads(file.read_text()) for file in running.folder.rglob("workers/machines/*.json")]
    assert {each["packages"]["torch"] for each in machines} == {version("torch")}
