"""A real Prefect server for every run: the configured one, or a private one that loses no task run.

Prefect's own temporary server stops with its queues: of 500 quick tasks it records some 470. This one is tuned to
record in bulk and stops only when this process has sent all it had to say.
"""

import atexit
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import httpx
from dotenv import dotenv_values
from prefect import Flow
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
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

P = ParamSpec("P")
R = TypeVar("R")

START_SECONDS = 90  # a first start migrates an empty database, 15 s on two slow cores
RECORD_SECONDS = 120
POLL_SECONDS = 0.1
INFRA = Path(__file__).parents[2] / "infra"
LOOPBACK = "127.0.0.1"
HOME_PORT = 4200  # where `initbench up` and `prefect server start` serve, unless told otherwise
# The shell ends the server when its own input closes, which it does however this process ends.
SUPERVISE = '"$@" & cat >/dev/null; kill $!'


def tuning() -> dict[str, str]:
    """Return how servers are tuned, as environment variables."""
    return {name: value or "" for name, value in dotenv_values(INFRA / "servers.env").items()}


def check_free(option: str, port: int) -> None:
    """Refuse a port of the loopback address that somebody listens on.

    Raises:
        ValueError: if one does.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do, after which a port rests
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            words = f"{option} must be free; {port} on {LOOPBACK}: {error.strerror}. Is initbench up already?"
            raise ValueError(words) from None


class ServerError(ValueError):
    """The configured Prefect server does not answer."""


class ServedFlow(Flow[P, R]):
    """A flow that runs on a private server when it is called where none is configured."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow.

        Raises:
            ServerError: if the configured server does not answer.
            TimeoutError: if a private one does not start.
        """
        url = api_url()
        configured = url == PREFECT_API_URL.value()
        shown = PREFECT_UI_URL.value() if configured else f"http://{LOOPBACK}:{HOME_PORT}"  # a private one ends with us
        with temporary_settings({PREFECT_API_URL: url, PREFECT_UI_URL: shown}):
            return super().__call__(*args, **kwargs)


def served_flow(**options: Any) -> Callable[[Callable[P, R]], ServedFlow[P, R]]:
    """Decorate a function as `prefect.flow` does, with the same options, to be a `ServedFlow`."""
    return lambda function: ServedFlow(function, **options)


def api_url() -> str:
    """Return the address of the configured server, or of the private one once it answers.

    Raises:
        ServerError: if the configured one does not.
        TimeoutError: if the private one does not.
    """
    url = start()
    if url == PREFECT_API_URL.value():
        return url
    if not _answers(url):
        raise TimeoutError(f"Prefect's server did not start in {START_SECONDS} s; see what `prefect server start` says")
    return url


def start() -> str:
    """Return the address of the configured server, or of a private one that begins to start.

    A private one keeps its database where Prefect keeps it by default, so that `prefect server start` shows its runs
    later; it ends with this process.

    Raises:
        ServerError: if one is configured and does not answer.
    """
    configured: str | None = PREFECT_API_URL.value()
    if configured is None:
        return _start_private()
    with get_client(sync_client=True) as client:
        healthy = client.api_healthcheck() is None
    if not healthy:
        raise ServerError(f"PREFECT_API_URL must be the address of a running Prefect server; {configured} is not")
    return configured


@cache
def _start_private() -> str:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", LOOPBACK, "--port", str(port)]
    process = subprocess.Popen(
        ["sh", "-c", SUPERVISE, "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**tuning(), **os.environ},
        start_new_session=True,  # an interrupt from the keyboard is for the flow, which has yet to tell the server
    )
    atexit.register(process.communicate)
    return f"http://{LOOPBACK}:{port}/api"


def _answers(url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client() as client:
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if client.get(f"{url}/health").is_success:
                    return True
            time.sleep(POLL_SECONDS)
    return False


@contextmanager
def recorded() -> Iterator[None]:
    """Leave the body of a flow only when the server has recorded every task run started in it, each in its last state.

    Task runs reach the server as events, some time after their end. An interrupt does not wait for them.
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
        # the last of the expected runs is there when all are
        while expected and not client.read_task_runs(
            flow_run_filter=this, task_run_filter=ended, limit=1, offset=expected - 1
        ):
            if time.monotonic() > deadline:
                warnings.warn(f"Prefect's server has yet to record all {expected} task runs", stacklevel=2)
                return
            time.sleep(POLL_SECONDS)
