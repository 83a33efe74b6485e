"""The nightly on a real Prefect server, store and trainers, with small studies in place of those that ship."""

import pytest
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

from flows import studies
from flows.nightly import FailedStudiesError, nightly
from tasks import user_code
from tasks.tracking import benchmarks, store
from tasks.tracking.store import NIGHTLY

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
    """Return a function that runs the nightly over one study that works and, first, one that does not."""
    shipped = folder / "studies"
    shipped.mkdir()
    (shipped / "fine.yaml").write_text(SMALL.format(name="fine", dataset="iris"))
    (shipped / "broken.yaml").write_text(SMALL.format(name="broken", dataset="{path: absent.csv, target: a}"))
    monkeypatch.setattr(studies, "FOLDER", shipped)
    (folder / "watched.py").write_text(MODEL.format(law="kaiming_normal"))
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "other.py").write_text(MODEL.format(law="kaiming_normal"))
    monkeypatch.setenv(user_code.FOLDERS, str(folder))
    return lambda *names, audits=(): nightly(names, audits=audits)


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
