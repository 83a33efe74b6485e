import resource
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from safetensors.numpy import load_file

from tasks.core.design import grid
from tasks.core.design.grid import ABSENT
from tasks.core.design.settings import Recipe
from tasks.core.design.study import Study
from tasks.core.training.outcome import Described, Outcome
from tasks.tracking import benchmarks, reading, recording, runs, store
from tests.shared.keys import HERE, key
from tests.shared.records import find, outcome, record

STUDY = Study(initializers=("zeros",), seeds=2)
CELLS = grid.cells(STUDY)


def test_store_is_in_wal_mode(stored):
    """The store that is made in the current folder is SQLite in WAL mode, its artifacts beside it."""
    with closing(sqlite3.connect(stored / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with recording.benchmark(STUDY, {"packages": {}}, {}):
        pass
    assert (stored / "mlruns").is_dir()


def test_cell_is_a_finished_nested_run(parent, client):
    """A cell's run has its parent, settings, curves by epoch and files, and has ended."""
    ids = record(parent, STUDY, [outcome(CELLS[0])], {"prefect.task_run_id": "t"})
    run = client.get_run(ids[CELLS[0]])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "pytorch · zeros · seed 0"
    assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert run.data.tags["initbench.cell"] == key(STUDY, CELLS[0], HERE)
    assert run.data.tags["initbench.status"] == "finished"
    assert run.data.tags["prefect.task_run_id"] == "t"
    assert run.data.params["recipe.learning_rate"] == "0.01"
    assert run.data.params["seed"] == "0"
    history = client.get_metric_history(run.info.run_id, "test_accuracy")
    assert {point.step: point.value for point in history} == pytest.approx({0: 0.3, 1: 0.8, 2: 0.95})
    assert run.data.metrics["epochs_to_target"] == 2
    assert not [name for name in run.data.metrics if "/layer_" in name]  # these are in the files
    files = {name: client.download_artifacts(run.info.run_id, name) for name in ("weights.safetensors", "history.csv")}
    np.testing.assert_array_equal(load_file(files["weights.safetensors"])["w"], np.ones((2, 3)))
    history = pd.read_csv(files["history.csv"])
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["gradient_norm/layer_003"].tolist() == pytest.approx([np.nan, 1, 1], nan_ok=True)
    predictions = pd.read_csv(client.download_artifacts(run.info.run_id, "predictions.csv"))
    assert list(predictions) == ["row", "label", "logit_0", "logit_1", "logit_2"]


def test_signals_are_logged(parent, client):
    """A cell's run has its health, what describes it as a whole, and each layer's signals under names that sort."""
    ids = record(parent, STUDY.model_copy(update={"record": "full"}), [outcome(CELLS[0])], {})
    run = client.get_run(ids[CELLS[0]])
    assert run.data.tags["initbench.health"] == "healthy"
    assert run.data.metrics["jacobian_condition"] == 1
    assert run.data.metrics["gradient_variance/layer_003"] == 1
    assert "not_finite_epoch" not in run.data.metrics
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "update_ratio/layer_002")]
    assert steps == [1, 2]
    layers = pd.read_csv(client.download_artifacts(run.info.run_id, "layers.csv"))
    assert layers["layer"].tolist() == [1, 2, 3]
    assert layers["theory_backward"].tolist() == pytest.approx([0.5, 1, np.nan], nan_ok=True)


def test_what_stays_as_built_is_named(parent, client):
    """The run of a cell names the parameters of its network that no initializer decides."""
    own = Described(("a", "b", "c"), ("Linear",) * 3, (4.0,) * 3, (3.0,) * 3, (1.0,) * 3, left=("positions", "scale"))
    found = outcome(CELLS[0])
    ids = record(parent, STUDY, [replace(found, trained=replace(found.trained, described=own))], {})
    assert client.get_run(ids[CELLS[0]]).data.tags["initbench.as_built"] == "positions, scale"


def test_levels_are_columns(parent, client):
    """A cell of a study with factors has their levels among its settings, in its row, and beside its files' rows."""
    study = STUDY.model_copy(update={"factors": {"network.activation": ("relu", "tanh")}})
    ids = record(parent, study, map(outcome, grid.cells(study)), {})
    last = client.get_run(list(ids.values())[-1])
    assert (last.data.params["factor.activation"], last.data.params["network.activation"]) == ("tanh", "tanh")
    rows = reading.read(parent, study, ids)
    assert rows["activation"].tolist() == ["relu", "relu", "tanh", "tanh"] * 2
    assert find(study) == ids
    (history,) = reading.read_files(parent, rows, "history.csv")
    assert len(history) == 3 * len(ids)
    assert history.groupby("activation", sort=False)["backend"].unique().map(list).to_dict() == {
        "relu": ["pytorch", "keras"],
        "tanh": ["pytorch", "keras"],
    }


def test_failed_cells_have_no_files(parent):
    """Where no cell was trained there are no rows of files, and none are looked for."""
    ids = record(parent, STUDY, [Outcome.failure(CELLS[0], RuntimeError("no memory"))], {})
    (history,) = reading.read_files(parent, reading.read(parent, STUDY, ids), "history.csv")
    assert history.empty


def test_failed_cells_are_rows_too(parent, client):
    """A failed cell is a FAILED run with its reason, and a row without measures."""
    ids = record(parent, STUDY, [Outcome.failure(CELLS[0], RuntimeError("no memory"))], {})
    assert client.get_run(ids[CELLS[0]]).info.status == "FAILED"
    (row,) = reading.read(parent, STUDY, ids).to_dict("records")
    assert (row["status"], row["reason"]) == ("failed", "RuntimeError: no memory")
    assert np.isnan(row["test_accuracy"])


def test_rows_come_back_in_order(parent, monkeypatch):
    """Reading gives the rows asked for in the order asked for, however many a filter takes."""
    monkeypatch.setattr(runs, "IDS", 3)
    ids = record(parent, STUDY, map(outcome, CELLS), {})
    ids = {cell: ids[cell] for cell in reversed(CELLS)}
    rows = reading.read(parent, STUDY, ids)
    assert rows["run_id"].tolist() == list(ids.values())
    assert rows["test_accuracy"].tolist() == pytest.approx([0.95] * len(ids))


def test_diverged_measures_survive(parent):
    """A loss of NaN or infinity is recorded as such and read back as not finite."""
    for bad in (np.nan, np.inf):
        ids = record(parent, STUDY, [outcome(CELLS[0], loss=bad)], {})
        (row,) = reading.read(parent, STUDY, ids).to_dict("records")
        assert row["status"] == "diverged"
        assert not row["train_loss"] < 1e300


def test_find_reuses_what_has_an_outcome(parent):
    """Finished and diverged cells are found again, failed ones are not, the newest of several is taken."""
    first, second, third, _ = CELLS
    record(parent, STUDY, [outcome(first)], {})
    time.sleep(0.01)
    newest = record(parent, STUDY, [outcome(first), outcome(second, loss=np.nan)], {})
    record(parent, STUDY, [Outcome.failure(third, RuntimeError())], {})
    assert find(STUDY) == newest


def test_find_knows_other_settings_apart(parent):
    """Cells of another recipe or platform are not reused; those of a longer or reordered grid are."""
    from dataclasses import replace

    record(parent, STUDY, map(outcome, CELLS), {})
    assert len(find(STUDY.model_copy(update={"seeds": (5, 1, 0), "backends": ("keras", "pytorch")}))) == 4
    assert find(STUDY.model_copy(update={"recipe": Recipe(epochs=3)})) == {}
    assert find(STUDY, replace(HERE, device="NVIDIA H200")) == {}


def test_find_makes_no_store(folder):
    """Looking for cells where there is no store leaves none behind."""
    assert find(STUDY) == {}
    assert list(folder.iterdir()) == []


def test_other_target_is_read_from_the_curve(parent):
    """Epochs to another target than the recorded one come from the recorded curve."""
    ids = record(parent, STUDY, [outcome(CELLS[0])], {})
    asked = {target: STUDY.model_copy(update={"target": target}) for target in (0.9, 0.7, 0.99)}
    found = {target: reading.read(parent, study, ids)["epochs_to_target"][0] for target, study in asked.items()}
    assert (found[0.9], found[0.7]) == (2, 1)
    assert np.isnan(found[0.99])


@contextmanager
def no_room(folder):
    """Let no file of this process become larger than a kilobyte, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_folder(folder):
    """Let the folder of files be gone, and a file be in its place."""
    (folder / "mlruns").rename(folder / "away")
    (folder / "mlruns").touch()
    try:
        yield
    finally:
        (folder / "mlruns").unlink()
        (folder / "away").rename(folder / "mlruns")


@pytest.mark.parametrize("failing", [no_room, no_folder])
def test_a_store_that_fails_meanwhile(stored, failing):
    """A disk that is full, or files that have no place, are an error in one line, and what is recorded is reused.

    A cell that was half recorded is trained anew, and the next benchmark closes its run.
    """

    def interrupted():
        with recording.benchmark(STUDY, {}, {}) as parent:
            record(parent, STUDY, [outcome(CELLS[0])])
            with failing(stored):
                record(parent, STUDY, [outcome(CELLS[1])])

    with pytest.raises(store.RecordError, match="the record cannot be kept; the cells that it holds will be") as error:
        interrupted()
    assert "\n" not in str(error.value)
    assert [*find(STUDY)] == [CELLS[0]]
    with recording.benchmark(STUDY, {}, {}) as parent:
        record(parent, STUDY, [outcome(CELLS[1])])
    assert {*find(STUDY)} == {*CELLS[:2]}
    client = MlflowClient(store.uri())
    states = [run.info.status for run in store.search(client, store.experiments(client), "")]
    assert (states.count("FINISHED"), states.count("RUNNING")) == (3, 0)


def test_interrupted_benchmark_ends(stored):
    """Whatever ends a benchmark, its run does not stay RUNNING."""
    for error, status in ((KeyboardInterrupt, "KILLED"), (RuntimeError, "FAILED")):
        with pytest.raises(error), recording.benchmark(STUDY, {}, {}) as run:
            raise error
        assert MlflowClient(run.uri).get_run(run.run_id).info.status == status


def test_benchmark_records_what_it_is(parent, client):
    """The parent run holds the study, the environment, the Prefect run and the data with its digest."""
    run = client.get_run(parent.run_id)
    assert {file.path for file in client.list_artifacts(parent.run_id)} >= {"study.yaml", "environment.json"}
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, len(data.dataset.digest)) == ("iris", 16)
    assert run.data.tags["prefect.flow_run_id"] == "f"


def test_the_machines_of_workers_are_joined(parent):
    """Where workers have trained, the environment is that of their machines, and the rest is the planning machine's."""
    for machine in ({"packages": {"torch": "2.13", "keras": ABSENT}}, {"packages": {"torch": ABSENT, "keras": "3.15"}}):
        for _ in range(2):  # two workers of one kind are told once
            recording.tell_machine(parent, "pytorch", {**machine, "gpus": [{"name": "H200"}]})
    joined = {"packages": {"torch": "2.13", "keras": "3.15"}, "gpus": [{"name": "H200"}] * 2}
    assert benchmarks.environment(parent) == {"planned": "here", **joined, "mixed": ["pytorch"]}


def test_a_benchmark_is_opened_by_the_start_of_its_id(parent, client):
    """The start of an id is enough if it is that of one benchmark; else one line tells which there are, or none."""
    client.log_text(parent.run_id, "", store.CELLS)
    record(parent, STUDY, [outcome(cell) for cell in CELLS])  # the runs of cells do not count, however their ids start
    for start in (parent.run_id, parent.run_id[:8], "latest"):
        assert benchmarks.opened(start)[0].run_id == parent.run_id
    ids = [parent.run_id]
    while sum(each[0] == ids[-1][0] for each in ids) < 2:
        ids.append(client.create_run(parent.experiment_id, tags={store.BENCHMARK: "yes"}).info.run_id)
    known = {each[:2] for each in ids}
    unknown = next(f"{at:02x}" for at in range(256) if f"{at:02x}" not in known)
    for start, words in ((ids[-1][0], f"'{ids[-1][0]}' is the start of 2: "), (unknown, f"starts with '{unknown}'")):
        with pytest.raises(store.StoreError, match=words) as error:
            benchmarks.opened(start)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "nonsense://x", "sqlite:///", "sqlite:///:memory:"])
def test_unusable_store_is_one_line(folder, monkeypatch, uri):
    """A store that cannot be used is told in one line, at once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(store.StoreError, match=f"MLFLOW_TRACKING_URI .*{uri}") as error:
        store.open_store()
    assert "\n" not in str(error.value)


def looked(**changes):
    with recording.benchmark(Study(**changes), {}, {}) as benchmark:
        pass
    return benchmarks.look(benchmark), benchmark


def test_each_number_of_seeds_is_a_look(stored):
    """Other seeds are one more look at the same question; the same seeds are the same look, also when read again."""
    first, benchmark = looked(seeds=2)
    assert first == 1
    assert looked(seeds=5)[0] == 2
    assert looked(seeds=(0, 1))[0] == 1
    assert looked(seeds=9, margins={"test_loss": 0.5}, record="full")[0] == 3
    assert benchmarks.look(benchmark) == 1


def test_looks_are_counted_in_the_studys_experiment(stored):
    """Looks are counted in whichever experiment is the study's, also where its id has several digits."""
    client = store.client(store.uri())
    while int(client.create_experiment(f"other-{time.time_ns()}")) < 10:
        pass
    assert looked(seeds=2)[0] == 1
    assert looked(seeds=5)[0] == 2


def test_another_question_is_a_first_look(stored):
    """A study of other cells, under the same name, was not looked at before; a benchmark that failed is no look."""
    looked(seeds=2)
    assert looked(seeds=3, recipe=Recipe(epochs=3))[0] == 1
    with pytest.raises(RuntimeError), recording.benchmark(Study(seeds=4), {}, {}):
        raise RuntimeError
    assert looked(seeds=5)[0] == 2
