"""Which runs a dead process left behind, and which are alive."""

import os
import subprocess
import threading
import time

import pytest

from tasks.core.design.study import Study
from tasks.tracking import lease, recording, store

STUDY = Study(initializers=("zeros",), seeds=1)


@pytest.fixture(scope="module")
def dead():
    """Return the lease of a process that has ended, but of which its parent has not taken notice yet."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    started = lease._started(process.pid)
    process.stdin.close()
    while not lease._gone(process.pid, started):
        time.sleep(0.01)
    yield lease.tags() | {lease.PROCESS: f"{lease._machine()} {process.pid} {started}"}
    process.wait()


def elsewhere(age):
    """Return a lease of another machine, renewed so many seconds ago."""
    return {lease.PROCESS: "elsewhere/pid:[1] 1 1", lease.RENEWED: str(time.time() - age)}


def test_leases(dead):
    """A process of this machine is alive if it is there and is the same; one of another machine if it renews."""
    assert lease.ended(dead)
    here = lease.tags()
    assert not lease.ended(here | {lease.RENEWED: "0"})  # this process is alive, however long it slept
    assert lease.ended(here | {lease.PROCESS: f"{lease._machine()} {os.getpid()} 1"})  # its number was used again
    assert not lease.ended(elsewhere(lease.LEASE_SECONDS - 60))
    assert lease.ended(elsewhere(lease.LEASE_SECONDS + 1))
    assert not lease.ended({})  # of an earlier release


def test_process_of_another_user(monkeypatch):
    """A process that /proc hides is alive as long as the system knows its number."""
    monkeypatch.setattr(lease, "_started", lambda number: open("/absent"))  # noqa: PTH123, SIM115  # raises
    assert not lease._gone(os.getpid(), "1")
    assert lease._gone(2**22 + 1, "1")  # above the highest number


def test_dead_runs_are_closed(parent, client, dead):
    """A new benchmark ends the runs of dead processes, cells too, and leaves the living and other people's alone."""

    def run(tags, status=None):
        made = client.create_run(parent.experiment_id, tags=tags).info.run_id
        if status:
            client.set_terminated(made, status)
        return made

    left, living, unknown, renewing = (run(tags) for tags in (dead, lease.tags(), {}, elsewhere(0)))
    interrupted = run(lease.tags(), "KILLED")
    cells = {
        of: run({"mlflow.parentRunId": of, "initbench.cell": "key"}) for of in (left, living, interrupted, "deleted")
    }
    others = run({"mlflow.parentRunId": left})
    with recording.benchmark(STUDY.model_copy(update={"name": "other"}), {}, {}):
        pass
    closed = {left, cells[left], cells[interrupted]}
    for each in {left, living, unknown, renewing, others, *cells.values()}:
        found = client.get_run(each)
        assert found.info.status == ("KILLED" if each in closed else "RUNNING")
        assert found.data.tags.get(lease.KILLED) == ("the process that recorded it died" if each in closed else None)
    assert client.get_run(parent.run_id).info.status == "RUNNING"


def test_a_lease_is_renewed(parent, client, monkeypatch, eventually):
    """While a benchmark is at work its lease is renewed."""
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 0.01)
    first = client.get_run(parent.run_id).data.tags[lease.RENEWED]
    with lease.renewed(store.client(parent.uri), parent.run_id, threading.Lock()):
        eventually(lambda: client.get_run(parent.run_id).data.tags[lease.RENEWED] > first, 30)
