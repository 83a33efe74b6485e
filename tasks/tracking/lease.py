"""The lease of a benchmark: tags of its run that tell whether the process which records it is still alive.

A process that is killed leaves runs RUNNING. The next benchmark in the store closes them, if their lease has ended. The
lease names the process and its machine. On the same machine /proc tells at once whether the process is alive. On
another machine the age of the lease decides, which a living process renews.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from tasks.tracking import store

PROCESS = "initbench.process"
RENEWED = "initbench.renewed"
KILLED = "initbench.killed"  # tag that says why a run was closed
RENEWAL_SECONDS = 60
LEASE_SECONDS = 900  # clocks of machines may differ by minutes


def tags() -> dict[str, str]:
    """Return the tags of a new lease, of this process."""
    return {PROCESS: f"{_machine()} {os.getpid()} {_started(os.getpid())}", RENEWED: str(time.time())}


@contextmanager
def renewed(client: MlflowClient, run_id: str, writing: AbstractContextManager[object]) -> Iterator[None]:
    """Renew the lease of a run from time to time, when `writing` lets this thread write."""
    over = Event()

    def renew() -> None:
        while not over.wait(RENEWAL_SECONDS):
            with suppress(MlflowException), writing:
                client.set_tag(run_id, RENEWED, str(time.time()))

    Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def ended(tags: Mapping[str, str]) -> bool:
    """Tell whether the lease of a run has ended; a run without a lease, of an earlier release, never has."""
    if PROCESS not in tags:
        return False
    machine, number, started = tags[PROCESS].split()
    if machine == _machine():
        return _gone(int(number), started)
    return time.time() - float(tags[RENEWED]) > LEASE_SECONDS


@cache
def _machine() -> str:
    """Return what tells this boot of a machine, and this container in it, from all others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # some sandboxes do not tell; the age of the lease then decides
        return str(uuid4())


def _started(number: int) -> str:
    """Return when a process started, in ticks since the boot: numbers of processes are used again."""
    state, *fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    if state in "ZX":  # a zombie
        raise ProcessLookupError(number)
    return fields[18]


def _gone(number: int, started: str) -> bool:
    try:
        return _started(number) != started
    except ProcessLookupError:
        return True
    except FileNotFoundError:  # there is none, or it is hidden because it is another user's
        return not _hidden(number)


def _hidden(number: int) -> bool:
    try:
        os.kill(number, 0)  # only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def close_dead(client: MlflowClient) -> None:
    """End the runs that dead processes left RUNNING: benchmarks whose lease has ended, and their cells."""
    dead: dict[str, bool] = {}  # benchmarks that are not at work any more, by run id

    def over(run_id: str, run: Run | None = None) -> bool:
        if run_id not in dead:
            found = run or client.get_run(run_id)
            dead[run_id] = found.info.status != "RUNNING" or ended(found.data.tags)
        return dead[run_id]

    for run in [*store.search(client, store.experiments(client), "attributes.status = 'RUNNING'")]:
        is_cell = store.KEY in run.data.tags
        with suppress(MlflowException):  # somebody may have deleted the run, or its benchmark
            if over(run.data.tags[store.PARENT]) if is_cell else over(run.info.run_id, run):
                client.set_tag(run.info.run_id, KILLED, "the process that recorded it died")
                client.set_terminated(run.info.run_id, "KILLED")
