"""`initbench up`: Prefect's server, MLflow's server and a worker on one machine, under one process manager."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import click
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from supervisor.xmlrpc import SupervisorTransport

from flows.serving import databases, deployments
from flows.serving.server import INFRA, LOOPBACK, START_SECONDS, SUPERVISE, answers, check_free, tuning
from tasks import folders
from tasks.tracking import store

HEALTH = {"prefect": "/api/ready", "mlflow": "/health"}  # by the servers' names in supervisord.conf
POLL_SECONDS = 0.5  # between two looks, while all starts
WATCH_SECONDS = 2.0  # and when all runs; the process manager has started what died again by then
SIGN_IN = "in Prefect with PREFECT_API_AUTH_STRING, in MLflow as admin with MLFLOW_TRACKING_PASSWORD"
TAIL = 5  # last lines of a log to show when its process has failed


class UpError(RuntimeError):
    """A process did not start, or has ended and does not start again."""


@dataclass(frozen=True)
class Options:
    """The options of the command; postgres: the URL of a PostgreSQL server for the data, or None for SQLite."""

    prefect_port: int
    mlflow_port: int
    postgres: str | None
    auth: bool
    timezone: str


def up(options: Options) -> None:
    """Run the servers and a worker until an interrupt; then end the worker first and the servers after it.

    Raises:
        ValueError: if a port is taken, another `up` uses the folder or the PostgreSQL database, or the PostgreSQL
            server cannot be used.
        UpError: if a process does not start, or ends and does not start again.
    """
    ports = {"prefect": options.prefect_port, "mlflow": options.mlflow_port}
    if len({*ports.values()}) < len(ports):
        raise ValueError(f"--prefect-port and --mlflow-port must differ; got {options.prefect_port} for both")
    for name, port in ports.items():
        check_free(f"--{name}-port", port)
    addresses = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
    state = Path.cwd() / ".initbench"
    lease = databases.leased(options.postgres) if options.postgres else nullcontext()
    with lease, _alone(state):  # in this order, so that a wrong URL leaves no folder
        _run(options, addresses, state)


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Make a folder, and claim it for one `up`, because two would overwrite each other's data."""
    state.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(folders.claimed(state))
        except BlockingIOError:
            raise ValueError(f"a folder can be used by one `initbench up` at a time; {state} is in use") from None
        yield


def _run(options: Options, addresses: Mapping[str, str], state: Path) -> None:
    stores = databases.on_postgres(options.postgres) if options.postgres else databases.on_sqlite(state)
    (state / "logs").mkdir(exist_ok=True)
    environment = {
        **tuning(),
        **{name: value for name, value in os.environ.items() if name not in databases.SECRETS},
        **stores,
        "PREFECT_HOME": str(state / "prefect"),
        "MLFLOW_ARTIFACTS_DESTINATION": store.local_artifacts(),
        "MLFLOW_APPLICATION": "--app-name basic-auth" if options.auth else "",
        "MLFLOW_AUTH_CONFIG_PATH": str(INFRA / "mlflow-auth.ini"),
        **(databases.secrets_of(state / "secrets.env") if options.auth else {}),
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
            deployments.register(options.timezone, deployments.HERE)
            deployments.crash_orphans()
            _start_worker(supervisor, state)
            _wait_until_ready(supervisor, state)
            click.echo(_words(options, addresses, state))
            try:
                while True:
                    _check_alive(supervisor, state)
                    time.sleep(WATCH_SECONDS)
            except KeyboardInterrupt:
                click.echo("Stopping: flow runs are being cancelled. Press Ctrl-C again to stop without waiting.")
                deployments.cancel_runs()
                raise


def _words(options: Options, addresses: Mapping[str, str], state: Path) -> str:
    """Return the lines that tell the user where everything is, once it runs."""
    lines = {
        "Prefect": addresses["prefect"],
        "MLflow": addresses["mlflow"],
        **({"Sign in": f"with the secrets in {state / 'secrets.env'}: {SIGN_IN}"} if options.auth else {}),
        "Nightly": deployments.nightly_due(options.timezone),
        "Logs": str(state / "logs"),
        "Terminals": f"export PREFECT_API_URL={addresses['prefect']}/api MLFLOW_TRACKING_URI={addresses['mlflow']}",
    }
    rows = [f"{name:11}{value}" for name, value in lines.items()]
    return "\n".join([*rows, "Ready. Ctrl-C ends everything; the next `up` in this folder finds all data."])


@contextmanager
def _supervised(environment: dict[str, str]) -> Iterator[Any]:
    """Run the process manager and yield its interface; at the end, stop it and all processes that it runs."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="initbench-") as folder:
        path = Path(folder, "supervisor")  # in a short path: that of a socket may have 107 characters
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(INFRA / "supervisord.conf")]
        process = subprocess.Popen(
            ["sh", "-c", SUPERVISE, "sh", *command],
            stdin=subprocess.PIPE,
            env={**environment, "INITBENCH_SOCKET": str(path)},
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others in order
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
    if not answers(url, partial(_check_alive, supervisor, state), POLL_SECONDS):
        raise UpError(_failure(name, f"did not answer within {START_SECONDS} s", state))


def _start_worker(supervisor: Any, state: Path) -> None:
    try:
        supervisor.startProcess("worker")
    except Fault:
        raise UpError(_failure("worker", "does not start", state)) from None


def _wait_until_ready(supervisor: Any, state: Path) -> None:
    started = time.monotonic()
    while not deployments.ready():
        _check_alive(supervisor, state)
        if time.monotonic() - started > START_SECONDS:
            raise UpError(_failure("worker", f"did not ask for work within {START_SECONDS} s", state))
        time.sleep(POLL_SECONDS)


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
