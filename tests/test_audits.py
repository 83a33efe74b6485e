"""What a nightly keeps of the audits of a model, and against what it holds them; no trainer looks."""

import pytest

from tasks import audits
from tasks.core.audit.sample import look
from tasks.core.design.own import Watched
from tasks.tracking import audits as kept
from tasks.tracking import benchmarks, store
from tests.shared import audited


@pytest.fixture
def night(stored, monkeypatch):
    """Return a function that audits a model of NumPy alone, whose kernels one initializer draws."""
    monkeypatch.setattr(audits.drawing, "of_audit", lambda found: [])  # pictures take long

    def run(name, label):
        monkeypatch.setattr(audits, "looked", lambda target, slots: look(audited.Model(*audited.plain(label=label)), 2))
        return audits.audit_again.fn(Watched(build=name), {"prefect.flow_run_id": "f", store.NIGHTLY: "yes"})

    return run


def test_each_night_is_held_against_the_last_one(night):
    """The first has nothing to be held against; later ones tell what changed since the last one of the same model."""
    first = night("mine:build", "he_normal")
    assert (first.before, first.changes) == (None, "")
    second = night("mine:build", "he_normal")
    assert (second.before, second.changes) == (first.run, "Nothing changed.")
    assert night("theirs:build", "he_normal").before is None
    third = night("mine:build", "glorot_uniform")
    assert third.before == second.run
    assert third.changes.startswith("l0.weight: law he_normal, now ")


def test_a_night_keeps_all_there_is(night):
    """A run has the snapshot, the page, what changed, the counts as metrics, and the tags of its flow run."""
    night("mine:build", "he_normal")
    again = night("mine:build", "glorot_uniform")
    client = store.client(store.uri())
    run = client.get_run(again.run.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "initbench/audit/mine:build"
    assert {file.path for file in client.list_artifacts(again.run.run_id)} == {
        "audit.json",
        "audit.html",
        "changes.txt",
    }
    assert benchmarks.text(client, again.run.run_id, "audit.json") == again.found.to_json()
    assert "tonight against last night" in benchmarks.text(client, again.run.run_id, "changes.txt")
    assert run.data.metrics == {"faults": 0, "doubts": 0, "notes": 0, "parameters": len(again.found.rows)}
    assert run.data.tags[store.NIGHTLY] == "yes"
    assert run.data.tags["prefect.flow_run_id"] == "f"


def test_a_snapshot_of_another_release_stops_no_night(night, monkeypatch):
    """If the last snapshot cannot be read, the night says so and keeps its own."""
    first = night("mine:build", "he_normal")
    with monkeypatch.context() as patch:
        patch.setattr(kept.benchmarks, "text", lambda *_: "{}")
        again = night("mine:build", "he_normal")
    assert again.before == first.run
    assert again.changes.startswith("cannot be told: last night's must be a snapshot")
    assert night("mine:build", "he_normal").changes == "Nothing changed."
