"""Everything on one machine: Prefect's server, MLflow's and a worker, under one process manager."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import click
import httpx
import psycopg
from dotenv import dotenv_values
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from supervisor.xmlrpc import SupervisorTransport

from flows import deployments
from flows.server import INFRA, SUPERVISE, tuning
from tasks import tracking

LOOPBACK = "127.0.0.1"
HEALTH = {"prefect": "/api/health", "mlflow": "/health"}  # of the servers, by their names in supervisord.conf
START_SECONDS = 180  # a first start makes both databases, half a minute on two slow cores
POLL_SECONDS = 0.25
TAIL = 5  # lines of a log that are told when its process has failed


class UpError(RuntimeError):
    """A process did not start, or has ended for good."""


@dataclass(frozen=True)
class Options:
    """Where servers listen and keep their data; postgres: the URL of a PostgreSQL server, None for SQLite."""

    prefect_port: int
    mlflow_port: int
    postgres: str | None
    auth: bool
    timezone: str


def up(options: Options) -> None:
    """Run the servers and a worker until an interrupt, and end them in order.

    Raises:
        ValueError: if a port is taken, or the PostgreSQL server cannot be used.
        UpError: if a process does not start, or ends for good.
    """
    ports = {"prefect": options.prefect_port, "mlflow": options.mlflow_port}
    for name, port in ports.items():
        _check_free(name, port)
    addresses = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
    stores = _on_postgres(options.postgres) if options.postgres else _on_sqlite()
    state = Path.cwd() / ".initbench"
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "logs").mkdir(exist_ok=True)
    environment = {
        **os.environ,
        **tuning(),
        **stores,
        "MLFLOW_ARTIFACTS_DESTINATION": (Path.cwd() / "mlruns").as_uri(),
        "MLFLOW_APPLICATION": "--app-name basic-auth" if options.auth else "",
        "MLFLOW_AUTH_CONFIG_PATH": str(INFRA / "mlflow-auth.ini"),
        **(_secrets(state / "secrets.env") if options.auth else {}),
        "PREFECT_SERVER_API_HOST": LOOPBACK,
        "PREFECT_SERVER_API_PORT": str(options.prefect_port),
        "MLFLOW_HOST": LOOPBACK,
        "MLFLOW_PORT": str(options.mlflow_port),
        "PREFECT_API_URL": f"{addresses['prefect']}/api",
        "MLFLOW_TRACKING_URI": addresses["mlflow"],
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "INITBENCH_DATA": os.environ.get("INITBENCH_DATA", str(Path.cwd())),
        "INITBENCH_STATE": str(state),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    with _supervised(environment) as supervisor:
        for name, address in addresses.items():
            _wait_until_healthy(supervisor, name, address + HEALTH[name], state)
        deployments.register(environment, options.timezone)
        supervisor.startProcess("worker")
        secret = f"\nSign in as admin; passwords are in {state / 'secrets.env'}" if options.auth else ""
        click.echo(
            f"Prefect  {addresses['prefect']}\nMLflow   {addresses['mlflow']}{secret}\nLogs     {state / 'logs'}\n"
            "Ready; Ctrl-C ends it, and the next `up` here finds all data."
        )
        while True:
            _check_alive(supervisor, state)
            time.sleep(POLL_SECONDS)


def _check_free(name: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do, after which a port rests
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ValueError(
                f"--{name}-port must be free; {port} on {LOOPBACK}: {error.strerror}. Is initbench up already?"
            ) from None


def _on_sqlite() -> dict[str, str]:
    """Return where the servers keep their data: MLflow in the current folder, Prefect where it does by default."""
    tracking.open_store()  # which puts it in WAL mode
    return {"MLFLOW_BACKEND_STORE_URI": tracking.local_uri()}


def _on_postgres(given: str) -> dict[str, str]:
    """Return where the servers keep their data: databases of a PostgreSQL server, made if they are not there.

    Raises:
        ValueError: if the URL is none, or the server cannot be used.
    """
    example = "postgresql://user:password@host:5432/initbench"
    try:
        url = make_url(given)
    except ArgumentError:
        raise ValueError(f"--postgres must be a URL like {example}") from None
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"--postgres must be a URL like {example}; got one of {url.drivername}")
    names = {each: f"{url.database or 'initbench'}_{each}" for each in HEALTH}
    try:
        with psycopg.connect(_shown(url, "postgresql", "postgres"), autocommit=True, connect_timeout=10) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in sorted({*names.values()} - there):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise ValueError(f"--postgres must be a server whose user may create databases; {url!r} says: {said}") from None
    return {
        "PREFECT_API_DATABASE_CONNECTION_URL": _shown(url, "postgresql+asyncpg", names["prefect"]),
        "MLFLOW_BACKEND_STORE_URI": _shown(url, "postgresql+psycopg", names["mlflow"]),
    }


def _shown(url: URL, driver: str, database: str) -> str:
    return url.set(drivername=driver, database=database).render_as_string(hide_password=False)


def _secrets(file: Path) -> dict[str, str]:
    """Return the secrets that a file keeps for its owner alone, made if it is not there."""
    if not file.exists():
        prefect, mlflow, cookies = (secrets.token_urlsafe(24) for _ in range(3))
        text = (
            "# What clients need: set -a; . .initbench/secrets.env\n"
            f"PREFECT_API_AUTH_STRING=admin:{prefect}\n"
            f"MLFLOW_TRACKING_USERNAME=admin\n"
            f"MLFLOW_TRACKING_PASSWORD={mlflow}\n"
            "# What the servers need\n"
            f"PREFECT_SERVER_API_AUTH_STRING=admin:{prefect}\n"
            f"MLFLOW_AUTH_ADMIN_PASSWORD={mlflow}\n"
            f"MLFLOW_FLASK_SERVER_SECRET_KEY={cookies}\n"
        )
        file.touch(mode=0o600)
        file.write_text(text)
    return {name: value or "" for name, value in dotenv_values(file).items()}


@contextmanager
def _supervised(environment: dict[str, str]) -> Iterator[Any]:
    """Run the process manager; yield its commands, and end it with all that it runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="initbench-") as folder:
        path = Path(folder, "supervisor")  # the path of a socket may have 107 characters
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(INFRA / "supervisord.conf")]
        process = subprocess.Popen(
            ["sh", "-c", f"{SUPERVISE}; wait", "sh", *command],
            stdin=subprocess.PIPE,
            env={**environment, "INITBENCH_SOCKET": str(path)},
            start_new_session=True,  # an interrupt from the keyboard is for us
        )
        try:
            while not path.exists():
                if process.poll() is not None:
                    raise UpError("the process manager did not start")
                time.sleep(POLL_SECONDS)
            transport = SupervisorTransport(serverurl=f"unix://{path}")
            with ServerProxy("http://supervisor", transport) as proxy:
                yield proxy.supervisor
        finally:
            process.communicate()


def _wait_until_healthy(supervisor: Any, name: str, url: str, state: Path) -> None:
    started = time.monotonic()
    while time.monotonic() - started < START_SECONDS:
        _check_alive(supervisor, state)
        try:
            if httpx.get(url, timeout=5).is_success:
                click.echo(f"{name} answers after {time.monotonic() - started:.0f} s")
                return
        except httpx.HTTPError:
            pass
        time.sleep(POLL_SECONDS)
    raise UpError(_failure(name, f"did not answer within {START_SECONDS} s", state))


def _check_alive(supervisor: Any, state: Path) -> None:
    try:
        processes = supervisor.getAllProcessInfo()
    except (OSError, Fault) as error:
        raise UpError(f"the process manager has ended: {error}; see {state / 'logs' / 'supervisor.log'}") from None
    for process in processes:
        if process["statename"] == "FATAL":
            raise UpError(_failure(process["name"], "does not start", state))


def _failure(name: str, what: str, state: Path) -> str:
    log = state / "logs" / f"{name}.log"
    words = log.read_text().splitlines()[-TAIL:] if log.exists() else []
    return "\n".join([f"{name} {what}; the end of {log}:", *words])
