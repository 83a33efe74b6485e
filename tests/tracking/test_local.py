"""A store that is one SQLite file: made, moved, copied, bereft of its files, and unusable for each reason."""

import os
import shutil
import sqlite3
import tempfile
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.serving import doctor
from tasks import folders
from tasks.core.design import grid
from tasks.core.design.study import Study
from tasks.tracking import benchmarks, local, reading, recording, reuse, store
from tests.shared.keys import HERE
from tests.shared.records import find, outcome, record

STUDY = Study(initializers=("zeros",), seeds=1)
CELLS = grid.cells(STUDY)


@pytest.fixture
def kept(stored, monkeypatch):
    """Return a folder `before` in which a benchmark was recorded, and the run ids of its cells."""
    before = stored / "before"
    before.mkdir()
    shutil.move(stored / "mlflow.db", before)
    monkeypatch.chdir(before)
    with recording.benchmark(STUDY, {}, {}) as parent:
        ids = record(parent, STUDY, map(outcome, CELLS))
    client = MlflowClient(parent.uri)
    client.create_registered_model("model")
    client.create_model_version("model", client.get_run(parent.run_id).info.artifact_uri)
    old = client.create_logged_model("0")  # in MLflow's default experiment, where earlier releases logged models
    Path(old.artifact_location).mkdir(parents=True)
    return before, ids


@pytest.mark.parametrize("moved", [Path.rename, shutil.copytree])
def test_a_moved_or_copied_folder_works_on(kept, monkeypatch, moved):
    """A store finds its files beside it, says so once, and puts new files there, whether the old folder is gone."""
    before, ids = kept
    after = before.with_name("its after %")
    moved(before, after)
    there = {*after.parent.rglob("*")}
    monkeypatch.chdir(after)
    assert store.check(STUDY.name) == (
        f"the files of {before}/mlruns are now in {after}/mlruns; the store has their new paths",
    )
    assert find(STUDY) == ids
    local.followed.cache_clear()
    assert store.check(STUDY.name) == ()
    client = store.client(store.uri())
    with recording.benchmark(STUDY, {}, {}) as parent:
        (new,) = record(parent, STUDY, [outcome(CELLS[0])]).values()
    places = {
        *(client.get_run(run_id).info.artifact_uri for run_id in (*ids.values(), new)),
        client.get_model_version("model", "1").source,
    }
    assert all(place.startswith(f"{(after / 'mlruns').as_uri()}/") for place in places)
    (old,) = client.search_logged_models(["0"])
    assert old.artifact_location.startswith(f"{after}/mlruns/0/models/")
    assert {path for path in after.parent.rglob("*") if path.is_relative_to(before)} <= there


def test_a_store_that_moves_alone(kept, monkeypatch):
    """A store keeps the paths of files that stayed behind; once their disk is gone, new files lie beside the store."""
    before, ids = kept
    after = before.with_name("after")
    after.mkdir()
    for each in before.glob("mlflow.db*"):
        each.rename(after / each.name)
    monkeypatch.chdir(after)
    assert store.check(STUDY.name) == ()
    assert find(STUDY) == ids
    (before / "mlruns").rename(before / "away")
    local.followed.cache_clear()
    assert local.followed(after / "mlflow.db") == ""
    assert find(STUDY) == {}
    place = store.client(store.uri()).get_experiment_by_name("initbench/iris").artifact_location
    assert place == (after / "mlruns").as_uri()
    (before / "away").rename(before / "mlruns")
    assert find(STUDY) == ids


def test_cells_without_files_are_not_reused(kept):
    """A cell that lacks a file is trained anew, unless an older run has its files; its report is refused."""
    before, ids = kept
    (first, *_) = ids.values()
    with recording.benchmark(STUDY, {}, {}) as parent:
        newer = record(parent, STUDY, map(outcome, CELLS))
    (before / "mlruns" / newer[CELLS[0]] / "artifacts" / "layers.csv").unlink()
    assert find(STUDY) == {**newer, CELLS[0]: first}
    rows = reading.read(parent, STUDY, newer)
    assert len(reading.read_files(parent, rows, "layers.csv")[0]) == 3 * len(CELLS)  # from the benchmark's part
    shutil.rmtree(before / "mlruns" / parent.run_id / "artifacts" / "cells")
    with pytest.raises(
        store.StoreError, match=r"1 of 2 cells' files are gone, such as those in .*; run the study again"
    ):
        reading.read_files(parent, rows, "layers.csv")
    shutil.rmtree(before / "mlruns")
    found = reuse.find(STUDY.name, grid.batches(STUDY, HERE))
    assert (found.run_ids, len(found.bare)) == ({}, 2)
    for name in (parent.run_id, "latest"):
        with pytest.raises(store.StoreError, match=f"the files of {parent.run_id} must be in .*; they are gone"):
            benchmarks.opened(name)


def test_fresh_stores_are_in_wal_mode(folder, monkeypatch):
    """Any SQLite store that is made is in WAL mode, also one that MLFLOW_TRACKING_URI names; looking makes none."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///deeper/elsewhere.db")
    assert store.check("iris") == ()
    assert find(STUDY) == {}
    assert list(folder.iterdir()) == []
    (folder / "deeper").mkdir()
    (folder / "deeper" / "elsewhere.db-wal").write_bytes(b"the log of a store that was deleted")
    with recording.benchmark(STUDY, {}, {}) as parent:
        record(parent, STUDY, [outcome(CELLS[0])])
    assert {path.name for path in folder.iterdir()} == {"deeper"}
    assert (folder / "deeper" / "mlruns").is_dir()
    assert "in WAL mode" in doctor.store("store", f"sqlite:///{folder}/deeper/elsewhere.db").found


def refused(words):
    """Check that a plan's look at the store, and opening it, are refused in one line at once; doctor must know it."""
    for look in (lambda: store.check("iris"), store.open_store):
        with pytest.raises(store.StoreError, match=f"the store cannot be used: .*{words}") as error:
            look()
        assert "\n" not in str(error.value)
    (line, *_) = doctor.sqlite_store()
    assert line.remedy
    return line


def test_files_that_have_no_place(folder):
    """A file where the folder of files should be is told before anything is made."""
    (folder / "mlruns").touch()
    refused("mlruns cannot be written to: Not a directory")
    assert [path.name for path in folder.iterdir()] == ["mlruns"]


def test_folder_that_cannot_be_written_to(monkeypatch):
    """A folder in which nothing can be made is told, with a store in it or not; root has to become somebody else."""
    with tempfile.TemporaryDirectory() as name:
        monkeypatch.chdir(name)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        Path(name).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            refused("cannot be written to: Permission denied")
        finally:
            if root:
                os.seteuid(0)
            Path(name).chmod(0o755)


def test_full_disk(stored, monkeypatch):
    """A disk with hardly any room is told."""
    usage = namedtuple("usage", ["free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(folders.LEAST - 1))
    refused("is on a disk that is too full: 64 MiB are free, and about 64 MiB are needed")


def test_file_that_is_no_store(folder):
    """A file that is no SQLite database, or a folder, is told at once."""
    (folder / "mlflow.db").write_text("no database" * 100)
    refused("must be an SQLite database; SQLite says: file is not a database")
    (folder / "mlflow.db").unlink()
    (folder / "mlflow.db").mkdir()
    refused("mlflow.db cannot be written to: Is a directory")


def test_half_made_store(folder):
    """A store whose making was broken off is told with its remedy, which deletes it only if it holds no run."""
    file = folder / "mlflow.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE _alembic_tmp_tags (a)")
    remedy = f"unless a process is making it now, delete it: rm '{file}'*"
    assert refused("is only half made, and holds no run").remedy == remedy
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE runs AS SELECT 1")
    assert "DROP TABLE _alembic_tmp_tags" in refused("was being changed by another release").remedy


def test_deleted_experiment(kept):
    """A study whose experiment was deleted in MLflow's page is refused with the remedy; doctor tells of it."""
    client = store.client(store.uri())
    number = client.get_experiment_by_name("initbench/iris").experiment_id
    client.delete_experiment(number)
    with pytest.raises(store.StoreError, match=f"is deleted; restore it with .*--experiment-id {number}`, or give"):
        store.check("iris")
    assert store.check("other") == ()
    *_, line = doctor.sqlite_store()
    assert (line.found, line.remedy) == ("deleted, so that runs of their studies are refused: initbench/iris", "")
    client.restore_experiment(number)
    assert store.check("iris") == ()
