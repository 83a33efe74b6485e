"""A benchmark's parts hold what the runs and files of its cells hold; under `record: group` they are all there is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tasks.core.design import grid
from tasks.core.design.columns import BITS
from tasks.core.design.study import Study
from tasks.core.training import files
from tasks.core.training.outcome import Outcome
from tasks.tracking import parts, reading, recording, reuse, store
from tests.shared.keys import HERE
from tests.shared.records import find, outcome, record

STUDY = Study(initializers=("zeros", "he_normal"), seeds=2)
GROUP = STUDY.model_copy(update={"record": "group"})
CELLS = grid.cells(STUDY)


def outcomes():
    """Return an outcome of each kind among others: finished, diverged, failed, with more layers than others."""
    first, second, third, *others = CELLS
    found = [outcome(first), outcome(second, loss=np.nan), Outcome.failure(third, RuntimeError("no memory"))]
    return [*found, *map(outcome, others)]


@pytest.fixture
def both(stored):
    """Return a benchmark, and the ids of its cells, of each record: `cell`, then `group`."""
    found = []
    for study in (STUDY, GROUP):
        name = study.model_copy(update={"name": study.record})
        with recording.benchmark(name, {}, {}) as parent:
            found.append((parent, record(parent, study, outcomes())))
    return found


def test_cells_of_a_group_read_as_those_with_runs(both):
    """Rows and the rows of files are equal, but for the id of each cell, whatever the record."""
    (one, ids), (two, addresses) = both
    there, here = (reading.read(*each) for each in ((one, STUDY, ids), (two, GROUP, addresses)))
    pd.testing.assert_frame_equal(there.drop(columns="run_id"), here.drop(columns="run_id"))
    assert here["run_id"].tolist() == list(addresses.values())
    for name in ("history.csv", "layers.csv"):
        (theirs,), (ours,) = reading.read_files(one, there, name), reading.read_files(two, here, name)
        pd.testing.assert_frame_equal(theirs, ours)
        (files,) = [reading._from_files(one, [ids[CELLS[0]]], name).drop(columns="run_id")]
        assert len(files)
        first = ours.groupby(["backend", "initializer", "seed"], sort=False).head(len(files))[: len(files)]
        pd.testing.assert_frame_equal(first[list(files)].reset_index(drop=True), files, check_dtype=False, rtol=1e-6)


@pytest.mark.parametrize("how", ["cell", "full", "group"])
def test_digests_come_back(stored, how):
    """Whatever the record, a trained cell's digests are read back, parameter by parameter, and one of all of them."""
    study = STUDY.model_copy(update={"record": how})
    with recording.benchmark(study, {}, {}) as parent:
        cells = reading.read(parent, study, record(parent, study, outcomes()))
    failed = cells["status"] == "failed"
    assert cells["digest"].str.fullmatch("[0-9a-f]{8}").tolist() == (~failed).tolist()
    assert cells[~failed].groupby("seed")["digest"].unique().map(len).tolist() == [1, 1]
    assert cells[~failed]["digest"].nunique() == 2
    found = reading.read_bits(parent, cells)
    assert found["seed"].tolist() == cells.loc[~failed, "seed"].repeat(2).tolist()
    assert found[found["initializer"] == "zeros"][list(BITS)].to_numpy().tolist()[:4] == [
        ["w", "00000000", "0a0a0a0a", "ffffffff"],
        ["b", "00000000", "", "f0f0f0f0"],
        ["w", "00000001", "0a0a0a0a", "ffffffff"],
        ["b", "00000000", "", "f0f0f0f0"],
    ]


def test_digests_of_cells_that_earlier_benchmarks_recorded(stored, monkeypatch):
    """A reused cell has the digests that it was recorded with; what an earlier release recorded has none."""
    with recording.benchmark(STUDY, {}, {}) as first:
        ids = record(first, STUDY, map(outcome, CELLS[:2]))
    monkeypatch.setattr(files, "bits", lambda found: {})
    with recording.benchmark(STUDY, {}, {}) as second:
        ids |= record(second, STUDY, map(outcome, CELLS[2:]))
        cells = reading.read(second, STUDY, ids)
    assert set(reading.read_bits(second, cells)["initializer"]) == {CELLS[0].initializer}
    assert len(reading.read_bits(second, cells[2:])) == 0
    assert len(reading.read_bits(second, cells[:0])) == 0


def test_another_target_is_read_from_the_curve_of_a_part(both):
    """Epochs to another target than the recorded one are those that a cell with a run has."""
    (one, ids), (two, addresses) = both
    other = {"target": 0.7}
    found = [
        reading.read(benchmark, study.model_copy(update=other), each)["epochs_to_target"]
        for benchmark, study, each in ((one, STUDY, ids), (two, GROUP, addresses))
    ]
    pd.testing.assert_series_equal(*found)
    assert found[1][0] == 1


def test_cells_of_a_group_are_found(stored):
    """Later benchmarks reuse cells by key, the newest; failed ones and those whose gate failed they train anew."""
    with recording.benchmark(GROUP, {}, {}) as first:
        record(first, GROUP, outcomes())
    with recording.benchmark(GROUP, {}, {}) as second:
        newer = record(second, GROUP, [outcome(CELLS[0])])
    found = find(GROUP)
    assert len(found) == len(CELLS) - 1
    assert found[CELLS[0]] == newer[CELLS[0]]
    assert find(STUDY) == found  # how they are recorded is no part of a key
    own = reuse.find(STUDY.name, grid.batches(STUDY, HERE), first.run_id).run_ids.values()
    assert {parts.run_of(each) for each in own} == {first.run_id}
    recording.revoke(first, "the gate failed")
    assert find(GROUP) == newer


def test_a_group_has_one_run(both):
    """MLflow's page has a run for each backend and initializer, with the seed as step, and none for a cell."""
    benchmark, _ = both[1]
    recording.groups(benchmark, GROUP)
    client = store.client(benchmark.uri)
    runs = client.search_runs([benchmark.experiment_id], f"tags.`mlflow.parentRunId` = '{benchmark.run_id}'")
    assert {run.info.run_name for run in runs} == {
        f"{backend} · {initializer}" for backend in STUDY.backends for initializer in STUDY.initializers
    }
    (run,) = (run for run in runs if run.info.run_name == "keras · he_normal")
    points = client.get_metric_history(run.info.run_id, "test_accuracy")
    assert {point.step: point.value for point in points} == pytest.approx({0: 0.95, 1: 0.95})
    assert (run.info.status, run.data.params["initializer"]) == ("FINISHED", "he_normal")
    assert "seed" not in run.data.params
    (bad,) = (run for run in runs if run.info.run_name == "pytorch · zeros")
    assert np.isnan(client.get_metric_history(bad.info.run_id, "train_loss")[-1].value)


def test_weights_of_a_cell_in_a_part(both):
    """The weights of one cell come back by its address; a cell that is not there is told."""
    benchmark, addresses = both[1]
    np.testing.assert_array_equal(reading.weights(benchmark, addresses[CELLS[0]])["w"], np.ones((2, 3)))
    with pytest.raises(store.StoreError, match="they are gone"):
        reading.weights(benchmark, parts.address(benchmark.run_id, "none"))


def test_parts_of_earlier_benchmarks_are_read_once(stored, monkeypatch):
    """Of cells that an earlier benchmark recorded, the rows come from its parts, and from no cell's own file."""
    with recording.benchmark(STUDY, {}, {}) as first:
        ids = record(first, STUDY, map(outcome, CELLS))
    with recording.benchmark(STUDY, {}, {}) as second:
        pass
    monkeypatch.setattr(reading, "_csv", lambda *_: pytest.fail("a cell's own file was read"))
    (history,) = reading.read_files(second, reading.read(second, STUDY, ids), "history.csv")
    assert len(history) == 3 * len(CELLS)


def test_a_cell_that_is_recorded_twice_is_there_once(stored):
    """A task that is run again can record a cell anew; the newest counts, in rows and in the rows of files."""
    with recording.benchmark(GROUP, {}, {}) as parent:
        record(parent, GROUP, [outcome(CELLS[0])])
        ids = record(parent, GROUP, [outcome(CELLS[0], accuracies=(0.1, 0.2, 0.3))])
    rows = reading.read(parent, GROUP, ids)
    assert rows["test_accuracy"].tolist() == pytest.approx([0.3])
    (history,) = reading.read_files(parent, rows, "history.csv")
    assert history["test_accuracy"].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_levels_of_different_depth_share_a_part(stored):
    """Where networks have different numbers of layers, a cell has no column for layers that it has not."""
    trained = outcome(CELLS[0]).trained
    deeper = replace(
        trained, signals=replace(trained.signals, flow={k: np.c_[v, v] for k, v in trained.signals.flow.items()})
    )
    cells = [outcome(CELLS[0]), replace(outcome(CELLS[1]), trained=deeper)]
    with recording.benchmark(GROUP, {}, {}) as parent:
        ids = record(parent, GROUP, cells)
    (history,) = reading.read_files(parent, reading.read(parent, GROUP, ids), "history.csv")
    more = history["gradient_norm/layer_006"]
    assert more.isna().tolist() == [True] * 3 + [True, False, False]
