"""The command as a user runs it, and each check where something is broken."""

import importlib.metadata
import shutil
import sqlite3
import subprocess
import threading
from collections import namedtuple
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import prefect
import pytest
from prefect.client.schemas.objects import WorkPool
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)

from flows.serving import doctor
from flows.serving.server import ServerError, check_home
from tasks.trainers.process import Slot
from tests.shared.running import INITBENCH, own_environment

NOBODY = "http://me:secret@127.0.0.1:9"  # the port `discard`, where nobody listens


@pytest.fixture
def initbench(tmp_path):
    """Return a function that runs `initbench doctor` for a user who has configured nothing, in a folder of its own."""
    (tmp_path / "work").mkdir()

    def run(**changes):
        environment = {**own_environment(tmp_path), "CUDA_VISIBLE_DEVICES": "-1", **changes}
        return subprocess.run(
            [INITBENCH, "doctor"], cwd=tmp_path / "work", env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def server():
    """Return a function that serves, at the address it returns, one status and body, or another one for a path."""
    servers = []

    def serve(status, text="{}", others=()):
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):  # the name that http.server calls
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                code, words = dict(others).get(self.path, (status, text))
                self.send_response(code)
                self.send_header("Content-Length", str(len(words)))
                self.end_headers()
                self.wfile.write(words.encode())

            do_POST = do_GET  # noqa: N815

            def log_message(self, *args):
                pass

        servers.append(HTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, args=[0.05], daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for each in servers:
        each.shutdown()
        each.server_close()


def asked(monkeypatch, url):
    """Return what the checks find of both servers at an address."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        return [*doctor.mlflow_server(), *doctor.prefect_server()]


def test_healthy(initbench, tmp_path):
    """Where all is well it says so on one screen, exits 0, and makes nothing."""
    result = initbench()
    assert result.returncode == 0, result.stdout
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) < 25
    assert all(line.startswith("ok ") and len(line) < 150 for line in lines)
    assert "none: cells train on the CPU, which is fine" in result.stdout
    assert sum("starts on the CPU" in line for line in lines) == 2
    assert [*(tmp_path / "work").iterdir()] == []


def test_broken(initbench, tmp_path):
    """Trainers that cannot start or die, and a package that does not import, are lines; the other checks are told."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('libcudart.so: cannot open shared object file')")
    (broken / "keras.py").write_text("import os; os._exit(3)")
    (broken / "prefect.py").write_text("import no_such_package")
    result = initbench(PYTHONPATH=str(broken))
    assert result.returncode == 1
    assert result.stderr == "Error: problems: 4; the line below each is its remedy\n"
    problems = [line.split(maxsplit=1)[1] for line in result.stdout.splitlines() if line.startswith("problem")]
    server, database, pytorch, keras = (" ".join(line.split()) for line in problems)
    missing = "ModuleNotFoundError: No module named 'no_such_package'"
    assert server == f"Prefect server {missing}"
    assert database == f"Prefect's database {missing}"
    assert pytorch.startswith("pytorch does not start on the CPU: ImportError: libcudart.so: cannot open")
    assert keras.startswith("keras does not start on the CPU: TrainerError: the keras trainer died.")
    assert "ok       packages" in result.stdout


@pytest.mark.parametrize(
    ("locked", "installed", "differ"),
    [
        ("torch==2.13.0", {"torch": "2.13.0+cpu"}, []),
        ("torch==2.13.0", {"torch": "2.12.1+cpu"}, ["torch 2.12.1+cpu, not 2.13.0"]),
        ("mlflow==3.17.2\n    # via initbench (pyproject.toml)", {"mlflow": "3.16.0"}, ["mlflow 3.16.0, not 3.17.2"]),
        ("numpy==2.4.1", {}, ["numpy is missing"]),
        ("pytest==9.2.0", {}, []),
        ("pytest==9.2.0", {"pytest": "9.1"}, ["pytest 9.1, not 9.2.0"]),
        ("colorama==0.4.6 ; sys_platform == 'win32'", {"colorama": "0.4.5"}, []),
    ],
)
def test_packages_against_the_lock(locked, installed, differ):
    """Versions have to be the lock's, but for a local suffix; what is not needed here may be missing."""
    assert doctor.differing(locked, installed, needed={"torch", "numpy", "mlflow", "colorama"}) == differ


def test_environment_of_one_framework(monkeypatch):
    """A framework that is not here is no problem where the other one is, and no remedy installs it over that one."""
    found = {"torch": None, "mlflow": "3.16.0"}
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: found.get(name, version(name)))
    (line,) = doctor.packages()
    assert line.found == f"not as locked: mlflow 3.16.0, not {importlib.metadata.version('mlflow')}"
    assert line.remedy.endswith(f"--constraint {doctor.LOCK} mlflow")
    found["keras"] = found["tensorflow"] = None  # neither is
    (line,) = doctor.packages()
    assert {"torch is missing", "keras is missing", "tensorflow is missing"} < {*line.found.split(": ")[1].split("; ")}


def test_needed_packages():
    """Dependencies are needed with all of theirs and with the extras that are asked for, but no others."""
    needed = doctor._needed(["prefect", "psycopg[binary]>=3.3", "no-such-package; sys_platform == 'win32'"])
    assert {"prefect", "sqlalchemy", "greenlet", "psycopg", "psycopg-binary"} <= needed
    assert needed.isdisjoint({"prefect-aws", "psycopg-pool", "no-such-package", "mlflow"})
    assert doctor._needed(["no-such-package"]) == {"no-such-package"}


def test_many_packages_that_differ(monkeypatch):
    """However many packages differ, they take one line."""
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1")
    (line,) = doctor.packages()
    assert line.found.count("0.0.1") == doctor.SHOWN
    assert " more" in line.found
    assert line.remedy == doctor.REINSTALL


def test_server_that_does_not_answer(monkeypatch):
    """A server that is not there is a problem; its line holds no password."""
    for line, variable in zip(asked(monkeypatch, NOBODY), ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"], strict=True):
        assert line.found.startswith("http://127.0.0.1:9")
        assert "does not answer: ConnectError" in line.found
        assert line.remedy == f"infra/bench up; or unset {variable}"


def test_server_that_refuses_our_credentials(monkeypatch, server):
    """A 401 is another problem than no answer, and has another remedy."""
    for line in asked(monkeypatch, server(401)):
        assert line.found.endswith("refuses our credentials: 401")
        assert line.remedy.startswith("set -a; . .initbench/secrets.env")


def test_server_of_another_kind(monkeypatch, server):
    """A server that is neither MLflow's nor Prefect's is a problem of the address."""
    for line in asked(monkeypatch, server(404)):
        assert line.found.endswith("answers 404")
        assert "must name such a server" in line.remedy


def test_prefect_server_of_another_version(monkeypatch, server):
    """A Prefect server has to be of the client's version."""
    with temporary_settings({PREFECT_API_URL: server(200, '"3.0.0"')}):
        line, *_ = doctor.prefect_server()
    assert line.found.endswith(f"version 3.0.0, not {prefect.__version__} as here")
    assert line.remedy.startswith(f"pip install prefect=={prefect.__version__}")


@pytest.mark.parametrize(
    ("status", "found", "problem"),
    [
        ("READY", "at work for the pool initbench", False),
        ("NOT_READY", "none at work for the pool initbench", True),
        ("PAUSED", "none at work for the pool initbench", True),
        (None, "none is needed: there is no work pool initbench", False),
    ],
)
def test_worker(server, status, found, problem):
    """Where there are deployments a worker has to be there; where there are none, runs need none."""
    pool = WorkPool(id=uuid4(), name="initbench", type="process", default_queue_id=uuid4(), status=status)
    answer = (200, pool.model_dump_json()) if status else (404, "{}")
    url = server(200, f'"{prefect.__version__}"', {"/api/work_pools/initbench": answer})
    with temporary_settings({PREFECT_API_URL: f"{url}/api"}):
        healthy, worker = doctor.prefect_server()
    assert healthy == doctor.Line("Prefect server", f"{url}/api, version {prefect.__version__}")
    assert worker.found.startswith(found)
    assert bool(worker.remedy) == problem


def test_store_that_is_not_in_wal_mode(folder):
    """A store in another journal mode is a problem whose remedy, executed, mends it; looking makes no file."""
    file = folder / "it's here" / "mlflow.db"
    file.parent.mkdir()
    url = f"sqlite:///{file}"
    assert doctor.store("store", url).remedy == ""
    assert not file.exists()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE runs (id)")
    line = doctor.store("store", url)
    assert line.found == f"{file} is not in WAL mode"
    subprocess.run(line.remedy, shell=True, check=True)  # noqa: S602  # as a user does, who pastes it
    assert doctor.store("store", url) == doctor.Line("store", f"{file}, in WAL mode")
    assert [*file.parent.iterdir()] == [file]


def test_home_of_prefect(tmp_path):
    """A home that cannot be written to, or with a half-made database, is a problem that a run refuses as well."""
    file = tmp_path / "prefect.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE _alembic_tmp_flow (id)")
    for home, found in ((tmp_path, f"{file} is only half made"), (file, "PREFECT_HOME must be a folder that can be")):
        changes = {PREFECT_HOME: home, PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{file}"}
        with temporary_settings(changes, restore_defaults={PREFECT_API_URL}):
            (line,) = doctor.prefect_database()
            assert line.found.startswith(found)
            assert line.remedy
            with pytest.raises(ServerError, match=found):
                check_home()


def test_postgresql_has_no_wal_mode():
    """A store in PostgreSQL is not asked for a journal mode, and its password is not shown."""
    line = doctor.store("store", "postgresql+psycopg://me:secret@host:5432/initbench")
    assert line == doctor.Line("store", "postgresql+psycopg://host:5432/initbench, which has no WAL mode to be in")


def test_little_disk_space(monkeypatch, tmp_path):
    """Less than 1 GiB is a problem, also where the folder is yet to be made."""
    usage = namedtuple("usage", ["free"])
    for free, problem in [(2**30, False), (2**30 - 1, True)]:
        monkeypatch.setattr(shutil, "disk_usage", {tmp_path: usage(free)}.__getitem__)
        assert bool(doctor.disk("disk", tmp_path / "not" / "yet", "make room").remedy) == problem


def test_gpu_that_a_backend_cannot_use(tmp_path):
    """A GPU that a backend does not see is a problem of that backend, with a way out."""
    line = doctor.trainer("pytorch", Slot(1, gpu=99), tmp_path)
    assert line.found == "GPU 99 is visible but this build of pytorch cannot use it"
    assert "CUDA_VISIBLE_DEVICES=-1" in line.remedy


def test_broken_nvidia_driver(tmp_path, monkeypatch):
    """An nvidia-smi that fails is a problem, where none at all is not."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert doctor._no_gpus().found == "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch"
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert doctor._no_gpus().remedy == ""
