"""Everything on one machine: Prefect's server, MLflow's and a worker, under one process manager."""

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import click
import httpx
import psycopg
from dotenv import dotenv_values
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from supervisor.xmlrpc import SupervisorTransport

from flows.serving import deployments
from flows.serving.server import INFRA, LOOPBACK, SUPERVISE, check_free, tuning
from tasks import tracking

HEALTH = {"prefect": "/api/ready", "mlflow": "/health"}  # of the servers, by their names in supervisord.conf
START_SECONDS = 180  # a first start makes both databases, half a minute on two slow cores
POLL_SECONDS = 0.25
SIGN_IN = "in Prefect with PREFECT_API_AUTH_STRING, in MLflow as admin with MLFLOW_TRACKING_PASSWORD"
SECRETS = (  # what .initbench/secrets.env holds: what a client needs of Prefect, its server, MLflow, and its server
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
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
        ValueError: if a port is taken, or the folder, or the PostgreSQL server cannot be used.
        UpError: if a process does not start, or ends for good.
    """
    ports = {"prefect": options.prefect_port, "mlflow": options.mlflow_port}
    if len({*ports.values()}) < len(ports):
        raise ValueError(f"--prefect-port and --mlflow-port must differ; got {options.prefect_port} for both")
    for name, port in ports.items():
        check_free(f"--{name}-port", port)
    addresses = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
    state = Path.cwd() / ".initbench"
    state.mkdir(mode=0o700, exist_ok=True)
    with _alone(state):
        _run(options, addresses, state)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Keep a folder to one `up`, for two would write over each other."""
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"a folder can be used by one `initbench up` at a time; {state} is in use") from None
        yield


def _run(options: Options, addresses: Mapping[str, str], state: Path) -> None:
    stores = _on_postgres(options.postgres) if options.postgres else _on_sqlite(state)
    (state / "logs").mkdir(exist_ok=True)
    environment = {
        **tuning(),
        **{name: value for name, value in os.environ.items() if name not in SECRETS},
        **stores,
        "PREFECT_HOME": str(state / "prefect"),
        "MLFLOW_ARTIFACTS_DESTINATION": tracking.local_artifacts(),
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
        started = time.monotonic()
        for name, address in addresses.items():
            _wait_until_healthy(supervisor, name, address + HEALTH[name], state)
            click.echo(f"{name} answers after {time.monotonic() - started:.0f} s")
        url, secret = (environment.get(name) for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING"))
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: secret}):
            deployments.register(options.timezone)
            deployments.crash_orphans()
            _start_worker(supervisor, state)
            click.echo(_words(options, addresses, state))
            try:
                while True:
                    _check_alive(supervisor, state)
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                click.echo("Stopping: what runs is cancelled; Ctrl-C again does not wait for it.")
                deployments.cancel_runs()
                raise


def _words(options: Options, addresses: Mapping[str, str], state: Path) -> str:
    """Return what a user is told who may begin."""
    lines = {
        "Prefect": addresses["prefect"],
        "MLflow": addresses["mlflow"],
        **({"Sign in": f"with what {state / 'secrets.env'} holds, {SIGN_IN}"} if options.auth else {}),
        "Nightly": f"02:00 {options.timezone}",
        "Logs": str(state / "logs"),
        "Terminals": f"export PREFECT_API_URL={addresses['prefect']}/api MLFLOW_TRACKING_URI={addresses['mlflow']}",
    }
    rows = [f"{name:11}{value}" for name, value in lines.items()]
    return "\n".join([*rows, "Ready; Ctrl-C ends it, and the next `up` in this folder finds all data."])


def _on_sqlite(state: Path) -> dict[str, str]:
    """Return where the servers keep their data: in the current folder, MLflow as a run without a server keeps it."""
    tracking.open_store(tracking.local_uri())  # which puts it in WAL mode
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{state / 'prefect' / 'prefect.db'}",
        "MLFLOW_BACKEND_STORE_URI": tracking.local_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": tracking.local_artifacts(),
    }


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
        with psycopg.connect(_url(url, "postgresql", "postgres"), autocommit=True, connect_timeout=10) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in sorted({*names.values()} - there):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise ValueError(f"--postgres must be a server whose user may create databases; {url!r} says: {said}") from None
    asynchronous = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}  # asyncpg's word
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": _url(
            url.set(query=asynchronous), "postgresql+asyncpg", names["prefect"]
        ),
        "MLFLOW_BACKEND_STORE_URI": _url(url, "postgresql+psycopg", names["mlflow"]),
    }


def _url(url: URL, driver: str, database: str) -> str:
    return url.set(drivername=driver, database=database).render_as_string(hide_password=False)


def _secrets(file: Path) -> dict[str, str]:
    """Return the secrets that a file keeps for its owner alone, made if it is not there.

    Raises:
        ValueError: if the file lacks one, without which a server would ask for no password.
    """
    if not file.exists():
        prefect, mlflow, cookies = (secrets.token_urlsafe(24) for _ in range(3))
        made = zip(SECRETS, (f"admin:{prefect}", f"admin:{prefect}", "admin", mlflow, mlflow, cookies), strict=True)
        unfinished = file.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text("".join(f"{name}={secret}\n" for name, secret in made))
        unfinished.replace(file)
    kept = {name: value for name, value in dotenv_values(file).items() if value}
    lacking = [name for name in SECRETS if name not in kept]
    if lacking:
        raise ValueError(f"{file} must set {', '.join(SECRETS)}; it lacks {', '.join(lacking)}")
    return kept


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
                return
        except httpx.HTTPError:
            pass
        time.sleep(POLL_SECONDS)
    raise UpError(_failure(name, f"did not answer within {START_SECONDS} s", state))


def _start_worker(supervisor: Any, state: Path) -> None:
    try:
        supervisor.startProcess("worker")
    except Fault:
        raise UpError(_failure("worker", "does not start", state)) from None


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
