"""The task that trains cells, and what becomes of tasks that fail; without flows or a server."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prefect.states import Failed

from tasks import cells, fence
from tasks.core.design import grid
from tasks.core.design.settings import CsvFile, Network, Recipe, source
from tasks.core.design.study import Study
from tasks.core.training import datasets
from tasks.tracking import reading, reuse
from tasks.tracking.store import RecordError
from tasks.trainers import process
from tests.shared.keys import HERE

STUDY = Study(
    backends=("pytorch",),
    initializers=("he_normal", "zeros"),
    seeds=2,
    network=Network(hidden=(8,)),
    recipe=Recipe(epochs=2),
)
FLOW_RUN = "00000000-0000-0000-0000-000000000001"
ROWS = "".join(f"{row},{row % 2}\n" for row in range(20))


@pytest.fixture(autouse=True)
def flow_run(monkeypatch):
    """Let Prefect say that a flow run is the current one, about which it need not be asked again."""
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", FLOW_RUN)
    monkeypatch.setattr(fence, "_asked", {FLOW_RUN: math.inf})


def planned(study):
    """Return the only batch of a study, with the checksum of its data as it is now."""
    data = {source(study.dataset): datasets.load(study.dataset).checksum}
    (batch,) = grid.batches(study, replace(HERE, data=data))
    return batch


def test_cells_are_trained_and_recorded(parent, client, trainers):
    """Every cell has a run of its own, found by the cell's key, with its measures and the Prefect run it is of."""
    batch = planned(STUDY)
    run_ids = cells.train_cells.fn(batch, parent)
    assert {*run_ids} == {*batch.keys.values()}
    assert reuse.find(STUDY.name, [batch]).run_ids == run_ids
    rows = reading.read(parent, STUDY, {cell: run_ids[key] for cell, key in batch.keys.items()})
    assert rows["initializer"].tolist() == ["he_normal", "he_normal", "zeros", "zeros"]
    assert rows["status"].tolist() == ["finished"] * 4
    assert rows["test_accuracy"].between(0, 1).all()
    for run_id in run_ids.values():
        assert client.get_run(run_id).data.tags["prefect.flow_run_id"] == FLOW_RUN


def test_data_that_changed_meanwhile_are_refused(parent, client, trainers, folder):
    """Cells that trained on other data than they were planned for are not recorded under the keys of the planned."""
    file = folder / "rows.csv"
    file.write_text(f"x,y\n{ROWS}")
    batch = planned(STUDY.model_copy(update={"dataset": CsvFile(path=str(file), target="y")}))
    file.write_text(f"x,y\n{ROWS}20,0\n")
    with pytest.raises(ValueError, match="the dataset must stay as it is while cells are trained on it"):
        cells.train_cells.fn(batch, parent)
    assert reuse.find(STUDY.name, [batch]).run_ids == {}
    assert client.search_runs([parent.experiment_id], "tags.`initbench.cell` LIKE '%'") == []


def test_cells_of_a_failed_task_are_recorded_with_the_reason(parent, client):
    """A task that failed leaves a FAILED run for each of its cells; those of other tasks are as these recorded them."""
    failed, fine = planned(STUDY).cut(2)
    known = dict.fromkeys(fine.keys.values(), "a run")
    error = process.TrainerError("it died\nof something")
    futures = [SimpleNamespace(result=lambda raise_on_failure, end=end: end) for end in (error, known)]
    settled = cells.settle([failed, fine], futures, parent)
    assert {*settled} == {*failed.keys.values(), *known}
    assert settled.items() >= known.items()
    run_ids = {cell: settled[key] for cell, key in failed.keys.items()}
    rows = reading.read(parent, STUDY, run_ids)
    assert rows["status"].tolist() == ["failed"] * 2
    assert rows["reason"].tolist() == ["TrainerError: it died"] * 2
    assert rows["test_accuracy"].isna().all()
    assert reuse.find(STUDY.name, [failed]).run_ids == {}  # so that the next benchmark trains them
    for run_id in run_ids.values():
        run = client.get_run(run_id)
        assert run.info.status == "FAILED"
        assert run.data.tags["prefect.flow_run_id"] == FLOW_RUN


def test_cells_that_cannot_be_recorded_are_not_blamed(parent, client):
    """A store that fails is no fault of the cells: none is recorded as failed, and the benchmark ends."""
    batch = planned(STUDY)
    futures = [SimpleNamespace(result=lambda raise_on_failure: RecordError("the disk is full"))]
    with pytest.raises(RecordError, match="the disk is full"):
        cells.settle([batch], futures, parent)
    assert client.search_runs([parent.experiment_id], "tags.`initbench.cell` LIKE '%'") == []


def test_a_fenced_run_records_nothing(parent, client, trainers, monkeypatch):
    """Cells that a flow run trained, and that was ended meanwhile, are recorded neither as trained nor as failed."""
    monkeypatch.setattr(fence, "check", lambda: (_ for _ in ()).throw(fence.FencedError("ended")))
    batch = planned(STUDY)
    with pytest.raises(fence.FencedError):
        cells.train_cells.fn(batch, parent)
    failed = SimpleNamespace(result=lambda raise_on_failure: fence.FencedError("ended"))
    with pytest.raises(fence.FencedError):
        cells.settle([batch], [failed], parent)
    assert client.search_runs([parent.experiment_id], "tags.`initbench.cell` LIKE '%'") == []


def test_what_is_worth_a_retry():
    """A trainer that died is replaced, so it helps to try again; a slot that the backend cannot use stays like that.

    A flow run that was ended stays ended, and cells that were recorded before the store failed would be doubled.
    """
    lost = process.UnusableSlotError("no GPU"), fence.FencedError("ended"), RecordError("the disk is full")
    for error, worth in ((process.TrainerError("it died"), True), *((error, False) for error in lost)):
        assert cells.worth_a_retry(None, None, Failed(data=error)) is worth
