"""A Prefect server for every flow run: the configured server, or a private one that loses no task run.

If no server is configured, Prefect would start a temporary one, which stops while events of task runs still wait in its
queues: it records only about 470 of 500 quick tasks. The private server of this module records in bulk, and stops only
after this process has sent everything to it.
"""

import atexit
import os
import re
import socket
import subprocess
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import IO, Any, ParamSpec, TypeVar

import httpx
from dotenv import dotenv_values
from prefect import Flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_UI_URL,
    temporary_settings,
)

from flows.serving import proxies
from tasks import folders, postgres, sqlite

P = ParamSpec("P")
R = TypeVar("R")

START_SECONDS = 600  # two first starts together take a minute on two slow cores: one waits until the database is made
ANSWER_SECONDS = 5  # for one answer, while a server starts
RECORD_SECONDS = 120
POLL_SECONDS = 0.1
INFRA = Path(__file__).parents[2] / "infra"
LOOPBACK = "127.0.0.1"
HOME_PORT = 4200  # the default port of `initbench up` and `prefect server start`
# The shell runs the server, and ends with it. It ends the server when its own input closes, which happens whenever this
# process ends, even if it is killed.
SUPERVISE = 'exec 3<&0; "$@" 3<&- & server=$!; (cat <&3; kill $server) >/dev/null 2>&1 & wait $server; kill $! 2>&-'
# A private server registers none of Prefect's types of blocks: nothing here uses them, and of two servers that register
# them at once in a new database one ends. It leaves no note that they are there, so `prefect server start` adds them.
NO_BLOCKS = {
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
CHUNK = 2**12  # bytes of the private server's log
TAIL = 8  # how many such chunks are kept, to tell why it ended
RAISED = re.compile(r"[\w.]+(Error|Exception): ")  # how the last line of a traceback begins


def tuning() -> dict[str, str]:
    """Return the environment variables of infra/servers.env, which tune the servers."""
    return {name: value or "" for name, value in dotenv_values(INFRA / "servers.env").items()}


def check_free(option: str, port: int) -> None:
    """Check that no process listens on a port of the loopback address; `option` names the port in the error.

    Raises:
        ValueError: if a process listens there.
    """
    with socket.socket() as probe:
        # the servers set this option too: a port that was just closed then counts as free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            words = f"{option} must be free; {port} on {LOOPBACK}: {error.strerror}. Is initbench up already?"
            raise ValueError(words) from None


def database() -> Path | None:
    """Return the file of the private server's database, made or not; None if its database is no SQLite file."""
    return sqlite.file_of(str(PREFECT_API_DATABASE_CONNECTION_URL.value()))


def home_fault() -> str:
    """Return in words, with a remedy, why a private server could not keep its data; empty if it can. Make no file."""
    home, file = Path(PREFECT_HOME.value()), database()
    if there := _postgres_fault():
        return there
    if words := folders.fault(home) or (file and file.exists() and sqlite.fault(file)):
        return f"PREFECT_HOME must be a folder that can be written to: {words}"
    if file and file.exists() and sqlite.half_made(file) is not None:
        return (
            f"{file} is only half made; unless a process is making it now, delete it (it holds no result): rm '{file}'*"
        )
    return ""


def _postgres_fault() -> str:
    url = postgres.url_of(str(PREFECT_API_DATABASE_CONNECTION_URL.value()))
    try:
        return postgres.remedy(url) if url and postgres.half_made(url) else ""
    except OSError as error:
        return f"PREFECT_API_DATABASE_CONNECTION_URL must be a database that can be used; {url!r} says: {error}"


def check_home() -> None:
    """Check that a server is configured, or a private one can keep its data.

    Raises:
        ServerError: if neither is so.
    """
    if PREFECT_API_URL.value() is None and (words := home_fault()):
        raise ServerError(words)


def check_servers() -> None:
    """Check that servers are configured which workers on other machines can reach.

    Raises:
        ValueError: if Prefect's or MLflow's server is not configured, or MLflow's does not answer.
    """
    from tasks.tracking import store  # here, because the command starts a server first

    if PREFECT_API_URL.value() is None or not store.served():
        raise ValueError(
            "runner: workers needs servers that the workers reach as well: set PREFECT_API_URL and MLFLOW_TRACKING_URI"
        )
    store.open_store()


class ServerError(ValueError):
    """The configured Prefect server does not answer, or a private one cannot start."""

    @classmethod
    def unanswered(cls, url: str) -> "ServerError":
        """Return the error that names the address at which no server answers."""
        return cls(f"PREFECT_API_URL must be the address of a running Prefect server; {url} is not")

    @classmethod
    def ended(cls, log: str) -> "ServerError":
        """Return the error that tells why a private server has ended as it started: the last error in its log."""
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        (why,) = [line for line in lines if RAISED.match(line)][-1:] or lines[-1:] or ["it has said nothing"]
        file = database()
        delete = f", and if its database is at fault, delete it (it holds no result): rm '{file}'*" if file else ""
        return cls(f"Prefect's server must start, but it ended: {why}; see what `prefect server start` says{delete}")


class ServedFlow(Flow[P, R]):
    """A flow that runs on a private server, if it is called directly and no server is configured."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow.

        Raises:
            ServerError: if the configured server does not answer, or the private one ends as it starts.
            TimeoutError: if the private server does not start.
        """
        url = api_url()
        configured = url == PREFECT_API_URL.value()
        shown = PREFECT_UI_URL.value() if configured else f"http://{LOOPBACK}:{HOME_PORT}"  # a private one ends soon
        with temporary_settings({PREFECT_API_URL: url, PREFECT_UI_URL: shown}):
            return super().__call__(*args, **kwargs)


def served_flow(**options: Any) -> Callable[[Callable[P, R]], ServedFlow[P, R]]:
    """Decorate a function as `prefect.flow` does, with the same options, to be a `ServedFlow`."""
    return lambda function: ServedFlow(function, **options)


def api_url() -> str:
    """Return the address of the configured server or, once it answers, of the private server.

    Raises:
        ServerError: if the configured server does not answer, or the private one ends as it starts.
        TimeoutError: if the private server does not start.
    """
    url = start()
    if url == PREFECT_API_URL.value():
        return url
    if not _start_private().answers():
        raise TimeoutError(f"Prefect's server did not start in {START_SECONDS} s; see what `prefect server start` says")
    return url


def start() -> str:
    """Return the address of the configured server, or start the private server and return its address at once.

    The private server keeps its database where Prefect keeps it by default, so that `prefect server start` shows its
    flow runs later. The private server ends with this process.

    Raises:
        ServerError: if a server is configured and does not answer, or a private one cannot keep its data.
    """
    proxies.bypass()
    check_home()
    configured: str | None = PREFECT_API_URL.value()
    if configured is None:
        return _start_private().url
    with get_client(sync_client=True) as client:
        healthy = client.api_healthcheck() is None
    if not healthy:
        raise ServerError.unanswered(configured)
    return configured


@dataclass(frozen=True)
class Private:
    """The private server: its address, the shell that runs it, the end of its log, and who reads the log."""

    url: str
    process: subprocess.Popen[bytes]
    log: deque[bytes]
    reader: Thread

    def answers(self) -> bool:
        """Wait until the server answers; return False if START_SECONDS pass before.

        Raises:
            ServerError: if the server has ended.
        """
        return answers(f"{self.url}/health", self._check_alive, POLL_SECONDS)

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            self.reader.join()
            raise ServerError.ended(b"".join(self.log).decode(errors="replace"))


def answers(url: str, check: Callable[[], None], pause: float) -> bool:
    """Wait until a server answers; return False if START_SECONDS pass before.

    check: raises an error if the server can no longer start. pause: seconds between two questions.
    """
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=ANSWER_SECONDS) as client:  # one, because making it takes longer than a question
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(url).is_success:
                    return True
            check()
            time.sleep(pause)
    return False


@cache
def _start_private() -> Private:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    file = database()
    whole = file is None or file.exists()
    shared = postgres.url_of(str(PREFECT_API_DATABASE_CONNECTION_URL.value()))
    program = ["prefect", "server", "start"] if whole and not shared else ["flows.serving.private"]
    command = [sys.executable, "-m", *program, "--host", LOOPBACK, "--port", str(port)]
    process = subprocess.Popen(
        ["sh", "-c", SUPERVISE, "sh", *command],
        bufsize=0,  # a thread that reads must hold no buffer when Python ends
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**tuning(), **NO_BLOCKS, **os.environ},
        start_new_session=True,  # Ctrl-C must not end the server: the flow still reports to it
    )
    log: deque[bytes] = deque(maxlen=TAIL)
    reader = Thread(target=_read, args=[process.stdout, log], daemon=True)
    reader.start()
    if process.stdin:
        atexit.register(process.stdin.close)
    return Private(f"http://{LOOPBACK}:{port}/api", process, log, reader)


def _read(pipe: IO[bytes], log: deque[bytes]) -> None:
    with pipe:
        while chunk := pipe.read(CHUNK):
            log.append(chunk)


@contextmanager
def recorded() -> Iterator[None]:
    """Wait, at the end of a flow's body, until the server has recorded the last state of every task run.

    Task runs reach the server as events, some time after they end. After an interrupt there is no waiting.
    """
    try:
        yield
    except Exception:
        _wait_until_recorded()
        raise
    _wait_until_recorded()


def _wait_until_recorded() -> None:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("recorded() belongs in the body of a flow")
    expected = sum(int(last) + 1 for last in context.task_run_dynamic_keys.values())
    this = FlowRunFilter(id=FlowRunFilterId(any_=[context.flow_run.id]))
    ended = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=list(TERMINAL_STATES))))
    deadline = time.monotonic() + RECORD_SECONDS
    with get_client(sync_client=True) as client:
        # the run at the last offset exists only if all expected runs do
        while expected and not client.read_task_runs(
            flow_run_filter=this, task_run_filter=ended, limit=1, offset=expected - 1
        ):
            if time.monotonic() > deadline:
                warnings.warn(f"Prefect's server has not yet recorded all {expected} task runs", stacklevel=2)
                return
            time.sleep(POLL_SECONDS)


def end_with_worker() -> None:
    """End this process once the worker that started it has died: the next worker's processes need the GPUs."""
    from tasks.trainers import process  # here, because the command starts a server first

    if runtime.deployment.id:
        process.end_with(os.getppid())
