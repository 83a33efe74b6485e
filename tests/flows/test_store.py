"""The store and Prefect's home when processes start in them together, and when they are killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tasks.tracking import lease, recording, store
from tests.shared.records import TOGETHER, find
from tests.shared.running import INITBENCH, descendants, own_environment

PROCESS = """
import sys, time
from pathlib import Path
from tasks.core.design import grid
from tasks.tracking import lease, recording
from tests.shared.records import TOGETHER, outcome, record

lease.RENEWAL_SECONDS = 0.2
with recording.benchmark(TOGETHER, {}, {}) as parent:
    from flows.serving import private

    private.make(Path("home/prefect.db"))
    record(parent, TOGETHER, [outcome(grid.cells(TOGETHER)[int(sys.argv[1])])])
    print("recorded", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start(folder):
    """Return a function that starts a process which opens a benchmark here, records a cell, and then stays."""
    started = []
    environment = own_environment(folder) | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def run(cell):
        command = [sys.executable, "-c", PROCESS, str(cell)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
        return started[-1]

    yield run
    for each in started:
        each.kill()
        each.communicate()


def states():
    with closing(sqlite3.connect("mlflow.db")) as database:
        return sorted(state for (state,) in database.execute("SELECT status FROM runs"))


def test_first_processes_together(folder, start, eventually):
    """A process is killed while it makes the store, two others wait for each other, and one of these is killed, too.

    Nothing is half made or doubled. Whoever comes next closes the benchmark of the dead one and leaves the other one.
    """
    killed = start(0)
    eventually((folder / "mlflow.db.part").exists)
    time.sleep(0.1)  # so that some tables are made
    killed.kill()
    killed.wait()
    assert not (folder / "mlflow.db").exists()
    first, second = start(0), start(1)
    for each in (first, second):
        assert each.stdout.readline() == "recorded\n", each.communicate()[1]
    assert not list(folder.rglob("*.part*"))
    for file in (folder / "mlflow.db", folder / "home" / "prefect.db"):
        with closing(sqlite3.connect(file)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
            assert len(database.execute("SELECT * FROM alembic_version").fetchall()) == 1
    assert states() == ["FINISHED", "FINISHED", "RUNNING", "RUNNING"]
    assert len(find(TOGETHER)) == 2
    first.send_signal(signal.SIGKILL)
    first.wait()
    with recording.benchmark(TOGETHER, {}, {}):
        assert states() == ["FINISHED", "FINISHED", "KILLED", "RUNNING", "RUNNING"]
    client = store.client(store.uri())
    (living,) = client.search_runs(store.experiments(client), "attributes.status = 'RUNNING'")
    assert lease.KILLED not in living.data.tags
    assert living.data.tags[lease.PROCESS].split()[1] == str(second.pid)


RUN = ("run", "--no-parity", "--set=controls=null", "--set=backends=[pytorch]", "--set=initializers=[he_normal, zeros]")
SHORT = (*RUN, "--set=seeds=2", "--set=recipe.epochs=1", "--set=network.hidden=[4]")
LONG = (*RUN, "--set=seeds=2", "--set=recipe.epochs=10000", "--set=recipe.batch_size=1")


def test_commands_together(folder, eventually):
    """Two first runs start in one empty folder and home of Prefect's, in a shell whose proxies lead nowhere.

    One ends as if it were alone. The other is killed while it trains, and takes all its processes along. A store that
    cannot be used is told in a line; once it can be, the next benchmark closes what the dead one left.
    """
    environment = own_environment(folder)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def start(*arguments):
        return subprocess.Popen([INITBENCH, *arguments], cwd=folder, env=environment, **pipes)

    long, short = start(*LONG), start(*SHORT)
    said = short.communicate()
    assert short.returncode == 0, said
    eventually(lambda: states().count("RUNNING") == 1)
    processes = descendants(long.pid)  # its server and its trainer, and what watches over them
    assert len(processes) > 2
    long.kill()
    long.communicate()
    eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in processes), 30)
    kept = states()
    assert (kept.count("RUNNING"), kept.count("FINISHED")) == (1, 5)
    with closing(sqlite3.connect(folder / "prefect" / "prefect.db")) as database:  # of two that add some, one ends
        assert database.execute("SELECT * FROM block_type").fetchall() == []
    assert not (folder / "prefect" / "memo_store.toml").exists()

    (folder / "mlruns").rename(folder / "away")
    (folder / "mlruns").touch()
    refused = start(*SHORT, "--dry-run")
    output, errors = refused.communicate()
    assert (refused.returncode, output) == (2, "")
    (line,) = errors.splitlines()
    assert line.endswith("mlruns cannot be written to: Not a directory")
    (folder / "mlruns").unlink()
    (folder / "away").rename(folder / "mlruns")
    with recording.benchmark(TOGETHER, {}, {}):
        assert states() == ["FINISHED"] * 5 + ["KILLED", "RUNNING"]
