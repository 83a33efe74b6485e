"""The nightly on a real Prefect server, store and trainers, with small studies in place of those that ship."""

import gc
import logging
import weakref
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

from flows import studies
from flows.nightly import ChangedError, FailedStudiesError, Night, nightly
from tasks import comparison, user_code
from tasks.tracking import benchmarks, nights, store
from tasks.tracking.store import NIGHTLY
from tests.shared.inside import called

# Prefect leaves the connection of a subflow's events to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning"),
    # `trainers` is held around the nightly: the pool that it asks for is then this one, whose frameworks are loaded
    pytest.mark.usefixtures("prefect_server", "trainers"),
]

SMALL = """
name: {name}
backends: [pytorch]
initializers: [he_normal, zeros]
seeds: 2
network: {{hidden: [8]}}
recipe: {{epochs: 2}}
controls: null
dataset: {dataset}
"""
TUNES = """
split: {validation_fraction: 0.25}
tune: {recipe.learning_rate: [0.0012345678901234567, 0.1], seeds: 2}
"""
MODEL = """
from torch import nn

def build(width):
    first, last = nn.Linear(16, width), nn.Linear(width, width)
    for layer in (first, last):
        nn.init.{law}_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)
"""
WATCHED = {"build": "watched:build", "options": {"width": 24}, "shape": (16,)}


@pytest.fixture
def night(folder, monkeypatch):
    """Return a function that runs the nightly over studies, of which one works, one tunes and one is broken."""
    shipped = folder / "studies"
    shipped.mkdir()
    (shipped / "fine.yaml").write_text(SMALL.format(name="fine", dataset="iris"))
    (shipped / "tuned.yaml").write_text(SMALL.format(name="tuned", dataset="iris") + TUNES)
    (shipped / "broken.yaml").write_text(SMALL.format(name="broken", dataset="{path: absent.csv, target: a}"))
    monkeypatch.setattr(studies, "FOLDER", shipped)
    (folder / "watched.py").write_text(MODEL.format(law="kaiming_normal"))
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "other.py").write_text(MODEL.format(law="kaiming_normal"))
    monkeypatch.setenv(user_code.FOLDERS, str(folder))
    return lambda *names, **how: nightly(names, **{"as_night": True, **how})


def table():
    artifact = Artifact.get("nightly")
    return [[entry.strip() for entry in row.split("|")[1:-1]] for row in artifact.data.splitlines()], artifact


def test_nights(night, folder):
    """A study or an audit that fails stops no other; each is held against its last night; a link leads to that table.

    Code is imported from folders that are allowed, and from no other.
    """
    with pytest.raises(FailedStudiesError, match=r"1 of 2 studies failed: broken; 1 of 2 audits failed: other:build$"):
        night("broken", "fine", audits=({"build": "other:build"}, WATCHED))
    rows, first = table()
    assert "no module 'other' in the folders of code" in rows[7][1]
    name, outcome, run, last, verdict, findings, changed = rows[8]
    assert (name, outcome, last) == ("watched:build(width=24)", "Completed", "none")
    assert (verdict, findings, changed) == ("Nothing found.", "", "nothing to hold against")
    first_audit = run[run.index("(") + 1 : run.index(")")]
    assert [row[0] for row in rows[2:4]] == ["broken", "fine"]
    assert "absent.csv: No such file" in rows[2][1]
    assert rows[3][1] == "Completed"
    assert rows[3][4] == "nothing to hold against"
    assert "The first night." in first.data

    (folder / "watched.py").write_text(MODEL.format(law="xavier_normal"))
    night("fine", audits=[WATCHED])
    rows, second = table()
    assert rows[6][3] == f"[MLflow]({first_audit})"
    assert rows[6][6].startswith("0.weight: law he_normal, now glorot_normal; ")
    before, tonight = (entry[entry.index("(") : -1] for entry in (rows[2][3], rows[2][2]))
    assert before in first.data
    assert tonight != before
    answer, page = rows[2][4].split(" [Both runs]")
    assert answer == "The answer does not change: every verdict between initializers is the same."
    published, *_ = benchmarks.opened(benchmarks.last_nightly("fine").run_id)
    assert page == f"({published.link}/artifacts/compare/compare.html)"
    stored = store.client(published.uri).list_artifacts(published.run_id, "compare")
    assert {file.path for file in stored} == {
        f"compare/{name}" for name in ("compare.html", "cells.csv", "verdicts.csv")
    }
    assert f"/artifacts/artifact/{first.id})" in second.data
    assert benchmarks.last_nightly("fine").run_id in tonight

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    assert {"2 studies · 2 audits", "1 studies · 1 audits"} <= {run.name.partition(" · ")[2] for run in runs}
    assert sum(run.parent_task_run_id is not None and "fine" in run.name for run in runs) == 2
    assert {NIGHTLY} == {tag for run in runs if run.parent_task_run_id for tag in run.tags}


def test_what_a_study_leaves_is_freed(monkeypatch):
    """The night, whose process looks for garbage seldom, frees what a study has left that refers to itself."""
    module, left = import_module("flows.nightly"), []  # the module has the name of the flow

    class Figure:
        def __init__(self):
            self.own = self

    def trained(study, runner):
        figure = Figure()
        left.append(weakref.ref(figure))
        return Night(study, "Completed", "", "")

    monkeypatch.setattr(module, "_trained", trained)
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("night"))
    gc.disable()
    try:
        module._night("fine", "local")
    finally:
        gc.enable()
    assert left[0]() is None


def worse(trained):
    """Return a function that trains as another does, but for one initializer's accuracies and final weights."""

    @contextmanager
    def changed(*asked):
        with trained(*asked) as outcomes:
            yield [each if each.cell.initializer == "zeros" else _worse(each) for each in outcomes]

    return changed


def _worse(outcome):
    found = outcome.trained
    curves = replace(found.curves, test_loss=found.curves.test_loss * np.float32(4))
    ends = dict.fromkeys(found.bits.end, "00000000")
    return replace(outcome, trained=replace(found, curves=curves, bits=replace(found.bits, end=ends)))


def test_the_watch(night, trainers, monkeypatch, folder, capsys):
    """The first night holds nothing against anything; a night of equal bits is quiet; a change is told, and may fail.

    A run by hand is no night. A night that is accepted becomes the baseline. Of old quiet nights the files of cells are
    deleted, and what was found stays.
    """
    night("fine")
    night("fine")
    night("fine", as_night=False)
    told, history = nights.book()
    assert [each.verdict for each in told] == ["first night", "quiet"]
    assert told[0].name < told[1].name
    assert set(history["measure"]) >= {"test_accuracy", "test_loss", "training a cell", "start-up"}

    monkeypatch.setattr(trainers, "trained", worse(trainers.trained))
    with pytest.raises(ChangedError, match="Tonight the same seeds did not give the same bits on fine"):
        night("fine", on_change="fail")
    told, _ = nights.book()
    (fine,) = told[-1].watched
    assert fine.verdict == "not deterministic"
    assert [flag.group for flag in fine.flags if flag.level == "bits"] == ["pytorch · he_normal"]
    artifact = Artifact.get("watch")
    assert artifact.data.startswith(f"## {told[-1].name}: not deterministic")

    kept = nights.nights()
    assert [each.name for each in kept] == [each.name for each in reversed(told)]
    client = store.client(store.uri())
    page = benchmarks.text(client, kept[0].recorded.run_id, nights.PAGE)
    assert "not deterministic" in page
    status, said = called(("accept", "latest", "--why", "the new loss is right"), monkeypatch, capsys)
    assert (status, said.out) == (0, f"{told[-1].name} is the baseline of fine: the new loss is right\n")
    night("fine")
    assert nights.book()[0][-1].verdict == "quiet"
    assert nights.nights()[1].accepted == {"fine": "the new loss is right"}
    night_two, night_one = kept[1:]  # neither is the baseline any more
    command = ("prune", "--keep", "1", "--dry-run")
    status, said = called(command, monkeypatch, capsys)
    assert status == 0
    assert [line.partition("  ")[0] for line in said.out.splitlines()[:2]] == [night_one.name, night_two.name]
    assert said.out.endswith(" MiB of 2 nights\n")
    benchmark, _ = benchmarks.opened(night_two.studies["fine"].run_id)
    before = benchmarks.table(benchmark, "cells.csv")
    called(command[:-1], monkeypatch, capsys)
    left = {file.path for file in client.list_artifacts(benchmark.run_id)}
    assert {"report.html", "cells.csv", "comparison.csv"} <= left
    assert "cells" in left
    assert "models" not in left
    assert benchmarks.table(benchmark, "cells.csv").equals(before)
    _, findings = comparison.recall(benchmark.run_id)
    assert list(findings.cells["test_loss"]) == list(before["test_loss"])
    assert called(command, monkeypatch, capsys)[1].out == "Would free 0.0 MiB of 0 nights\n"
    status, said = called(("accept", "yesterday", "--why", "x"), monkeypatch, capsys)
    assert status == 2
    assert said.err.startswith("error: a night is the name of one on record, or `latest`; the newest are ")


def test_cells_that_pick_are_watched(night, trainers, monkeypatch):
    """Of a study that tunes, the cells by which initializers pick are held against the night before as well."""
    night("tuned")
    night("tuned")
    monkeypatch.setattr(trainers, "trained", worse(trainers.trained))
    night("tuned")
    _, quiet, (tuned,) = (each.watched for each in nights.book()[0])
    assert [(each.verdict, each.differing, each.picked) for each in quiet] == [("quiet", (), ())]
    changed = {flag.group for flag in tuned.flags if flag.level == "bits"}
    picking = {f"pytorch · while picking · learning_rate {rate} · he_normal" for rate in (0.0012345678901234567, 0.1)}
    assert (tuned.verdict, changed) == ("not deterministic", {"pytorch · he_normal", *picking})
