"""Runs that are written whole are those that MLflow's client writes, all of them or none."""

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from tasks.tracking import runs, store, turns
from tasks.tracking.runs import Run

POINTS = [("loss", 0, 1.5), ("loss", 1, 0.5), ("loss", 2, np.nan), ("rate", 0, np.inf), ("rate", 1, -np.inf)]
RUN = Run("a run", "FINISHED", 1, 2, {"kind": "é"}, {"depth": "3"}, POINTS, {"a.csv": b"x\n", "b/c.txt": b"y"})
OWN = ("run_uuid", "artifact_uri")


def rows(file, table, run_id):
    """Return a run's rows in one of MLflow's tables, but for its id."""
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))  # noqa: S608  # of this module
        return sorted(str([*(dict(row) | dict.fromkeys(OWN)).items()]) for row in found)


def test_the_rows_are_those_of_the_client(stored):
    """Each of MLflow's tables holds what its client would have put there, and the files are in the run's place."""
    client, uri = store.client(store.uri()), store.uri()
    (whole,) = runs.write(uri, "0", [RUN])
    by_client = runs._by_requests(client, "0", RUN)
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        assert rows(stored / "mlflow.db", table, whole) == rows(stored / "mlflow.db", table, by_client) != []
    for run_id in (whole, by_client):
        assert {file.path for file in client.list_artifacts(run_id)} == {"a.csv", "b"}
        assert client.get_run(run_id).info.artifact_uri.endswith(f"/{run_id}/artifacts")
    assert client.get_run(whole).data.metrics["rate"] == client.get_run(by_client).data.metrics["rate"] < 0


def test_what_is_read_is_what_the_client_reads(stored, monkeypatch):
    """Tags, params and metrics of runs, and the runs that a search sees, are the same by tables and by requests."""
    labels = {"initbench.settings": "s", "initbench.cell": "k", "initbench.status": "finished"}
    own = {**labels, "mlflow.parentRunId": "p"}
    ids = runs.write(store.uri(), "0", [replace(RUN, tags=own, started=2), replace(RUN, tags=labels, status="FAILED")])
    ids += runs.write(store.uri(), "0", [RUN])
    client = store.client(store.uri())
    client.delete_run(ids[-1])

    def read():
        held = runs.held(store.uri(), "0", ids)
        texts = sorted(f"{run_id} {sorted(each.about.items())} {each.metrics}" for run_id, each in held.items())
        return texts, [runs.seen(store.uri(), "0", "s", parent) for parent in (None, "p", "q")]  # NaN equals no NaN

    held, seen = read()
    monkeypatch.setattr(runs, "_database", lambda client: None)
    assert [*map(len, (held, *seen))] == [2, 2, 1, 0]
    assert (held, seen) == read()


def test_all_are_written_or_none(stored):
    """A run that the store refuses takes those with it that are written together, so that none is there twice later."""
    bad = Run("bad", "no such status", 1, 2, {}, {}, [])
    with pytest.raises(MlflowException):
        runs.write(store.uri(), "0", [RUN, bad])
    assert store.client(store.uri()).search_runs(["0"]) == []


def test_a_deleted_experiment_takes_no_runs(stored):
    """As with MLflow's client, nothing is written into an experiment that was deleted meanwhile."""
    client = store.client(store.uri())
    experiment = client.create_experiment("other")
    client.delete_experiment(experiment)
    with pytest.raises(MlflowException, match="experiment other must be active; it was deleted"):
        runs.write(store.uri(), experiment, [RUN])


def test_a_busy_store_is_waited_for(stored):
    """While another process writes, a run is not written and nothing fails; it is written as soon as the other ends."""
    uri = store.uri()
    store.client(uri)
    with (
        ThreadPoolExecutor(1) as thread,
        closing(sqlite3.connect(stored / "mlflow.db", isolation_level=None, check_same_thread=False)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        written = thread.submit(runs.write, uri, "0", [RUN])
        assert not threading.Event().wait(0.3)
        assert not written.done()
        other.execute("ROLLBACK")
        assert len(written.result()) == 1


def test_those_who_wait_are_written_together():
    """What comes while a turn is being written is written in one turn after it, and each gets its own result."""
    sizes, first, go = [], threading.Event(), threading.Event()

    def write(asked):
        sizes.append(len(asked))
        first.set()
        go.wait()
        return [10 * each for each in asked]

    turn = turns.Turns(write)
    with ThreadPoolExecutor(5) as threads:
        found = [threads.submit(turn.write, 0)]
        first.wait()
        found += [threads.submit(turn.write, at) for at in range(1, 5)]
        while turn._waiting.qsize() < 4:
            pass
        go.set()
        assert [each.result() for each in found] == [0, 10, 20, 30, 40]
    assert sizes == [1, 4]


def test_everybody_gets_the_error_of_a_turn():
    """A turn that fails fails for all whose turn it was, and the next one is written."""

    def write(asked):
        raise ValueError("full")

    turn = turns.Turns(write)
    for _ in range(2):
        with pytest.raises(ValueError, match="full"):
            turn.write(1)
    turn._write = list
    assert turn.write(2) == 2


def test_an_error_of_one_is_not_that_of_others():
    """What a turn could not write for one of those who waited is told to that one alone."""
    turn = turns.Turns(lambda asked: [ValueError("refused") if each < 0 else each for each in asked])
    with pytest.raises(ValueError, match="refused"):
        turn.write(-1)
    assert turn.write(1) == 1


def test_a_server_needs_no_sql():
    """Whoever records to a server imports nothing that only databases need, which takes as long as MLflow's client."""
    code = "import sys, tasks.tracking.recording; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
