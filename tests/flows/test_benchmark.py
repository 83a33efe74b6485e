"""The flow on a real Prefect server, a real store and real trainers."""

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client

from flows import studies
from flows.benchmark import benchmark
from flows.planning import plan
from flows.result import BenchmarkResult, FailedCellsError, InvalidBenchmarkError, UncrownedError
from tasks import comparison, machine
from tasks.core.design.initializers import BACKENDS
from tasks.core.design.settings import Check, CsvFile, Network, Recipe
from tasks.core.design.study import Study
from tasks.core.statistics import champion as crowned
from tasks.core.training import datasets, parity
from tasks.tracking import reading, registry, store
from tasks.tracking.store import Benchmark, StoreError
from tasks.trainers import pool, process

STUDY = Study(
    name="small",
    initializers=("he_normal", "zeros"),
    seeds=2,
    network=Network(hidden=(8,)),
    recipe=Recipe(epochs=5),  # with fewer, zeros can be the best
    max_tasks=4,
    controls=None,
)


pytestmark = pytest.mark.usefixtures("prefect_server", "trainers")


def task_runs():
    with get_client(sync_client=True) as client:
        return client.read_task_runs()


@dataclass
class Ran:
    """STUDY as it ran once for several tests: the folder that it left, what it returned, its task runs in Prefect."""

    folder: Path
    result: BenchmarkResult
    task_runs: list[Any]


@pytest.fixture(scope="module")
def once(prefect_server, trainers, empty_store, tmp_path_factory):
    """Run STUDY in a store whose default experiment is deleted, as anybody may who does not use it."""
    folder = tmp_path_factory.mktemp("once")
    shutil.copy(empty_store, folder)
    before = {run.id for run in task_runs()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        MlflowClient(store.uri()).delete_experiment("0")
        result = benchmark(STUDY)
    return Ran(folder, result, [run for run in task_runs() if run.id not in before])


@pytest.fixture
def ran(once, folder):
    """Return what STUDY's run returned, in a current folder that has a copy of the store, which tests may change."""
    shutil.copytree(once.folder, folder, dirs_exist_ok=True)
    store.open_store()  # which has the copy find its own files
    return once.result


def test_benchmark_from_python(ran, folder):
    """Called from Python it returns the comparison; a longer study trains only what is new, and publishes it all."""
    table = ran
    assert table.comparison[["backend", "initializer"]].to_numpy().tolist()[0][1] == "he_normal"
    assert table.comparison["finished"].tolist() == [2, 2, 2, 2]
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    parent = client.get_run(table.run_id)
    assert parent.info.status == "FINISHED"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files == {
        *("study.yaml", "environment.json", "parity.csv", "parity.png"),
        *("report.html", "comparison.md", "comparison.tex", "comparison.csv"),
        *("cells.csv", "pairs.csv", "backends.csv", "ranks.csv", "checks.csv"),
        *("comparison.svg", "pairs.svg", "backends.svg", "reaching.svg"),
        *("curves.svg", "variances.svg", "gradients.svg", "cells"),
    }
    gate = pd.read_csv(client.download_artifacts(parent.info.run_id, "parity.csv"))
    assert len(gate) == 3 + 2 * 3 + 2 * (2 + 1)  # of one level between and within backends, of two laws
    assert (gate["measured"] <= gate["bound"]).all()
    assert parent.data.metrics["keras/he_normal/finished"] == 2
    speeds = {name: value for name, value in parent.data.metrics.items() if name.startswith("speed_")}
    of_backends = (f"speed_train_{unit}_per_cell_{backend}" for unit in ("ms", "references") for backend in BACKENDS)
    assert {*speeds} == {"speed_reference_ms", "speed_cells_per_second", "speed_startup_s", *of_backends}
    assert min(speeds.values()) > 0
    assert speeds["speed_cells_per_second"] < 8 / speeds["speed_startup_s"]  # all 8 come after the first one

    longer = benchmark(STUDY.model_copy(update={"seeds": 3}), parity=False)
    assert longer.comparison["finished"].tolist() == [3, 3, 3, 3]
    runs = client.search_runs([parent.info.experiment_id], "tags.`initbench.cell` LIKE '%'")
    assert len(runs) == 8 + 4
    trained = reading.paced(Benchmark(store.uri(), parent.info.experiment_id, longer.run_id))
    assert sorted(trained["backend"]) == ["keras", "keras", "pytorch", "pytorch"]  # reused cells do not count
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_cells_without_runs_are_compared_alike(stored):
    """Under `record: group` the comparison, its report later, models and reuse are those of cells with runs."""
    found = benchmark(STUDY.model_copy(update={"record": "group"}), parity=False)
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    parent = client.get_run(found.run_id)
    runs = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{found.run_id}'")
    assert len(runs) == 4  # of two backends and two initializers
    peaks = {name: value for name, value in parent.data.metrics.items() if name.startswith("peak_memory_")}
    assert {*peaks} == {"peak_memory_main", "peak_memory_pytorch", "peak_memory_keras"}
    assert min(peaks.values()) > 100
    again = comparison.recall(found.run_id)[1]
    pd.testing.assert_frame_equal(again.comparison, found.comparison)
    champion = client.get_model_version_by_alias("initbench-small-iris-pytorch", "champion")
    assert champion.run_id == found.run_id
    assert champion.tags["initbench.cell_run"].startswith(f"{found.run_id}#")
    later = benchmark(STUDY.model_copy(update={"seeds": 3, "record": "cell"}), parity=False)
    assert later.comparison["finished"].tolist() == [3, 3, 3, 3]
    cells = client.search_runs([parent.info.experiment_id], "tags.`initbench.cell` LIKE '%'")
    assert len(cells) == 4  # of the third seed; those of the others are reused


def test_every_task_run_is_recorded(once):
    """When the flow ends the server has every task run, each in a terminal state."""
    new = once.task_runs
    names = [run.name for run in new]
    assert len([name for name in names if "·" in name]) == 4
    assert "pytorch · 2 cells" in names
    assert len(new) == 4 + 6  # and check_parity, collect, compare, publish, and crown for each backend
    assert all(run.state.is_final() for run in new)


def test_artifacts_in_prefect(once):
    """The comparison is a table, a summary and a link in Prefect."""
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts()
    assert {"comparison", "summary", "mlflow"} <= {artifact.key for artifact in artifacts}
    assert any(once.result.link in artifact.data for artifact in artifacts if artifact.key == "summary")


def test_failed_cells_fail_the_flow_after_publishing(stored, monkeypatch):
    """A cell that cannot be trained is a row with a reason; the others are compared, then the flow fails."""
    train = pool.Pool.trained

    def refuse(held, settings, cells):
        if cells[0].initializer == "zeros" and cells[0].backend == "keras":
            raise process.TrainerError("it died")
        return train(held, settings, cells)

    monkeypatch.setattr(pool.Pool, "trained", refuse)
    with pytest.raises(FailedCellsError, match="2 of 8 cells failed") as error:
        benchmark(STUDY.model_copy(update={"max_tasks": 200}), parity=False)
    table = error.value.result.comparison.set_index(["backend", "initializer"])
    assert table.loc[("keras", "zeros"), "failed"] == 2
    assert table.loc[("keras", "he_normal"), "finished"] == 2
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    assert client.get_run(error.value.result.run_id).info.status == "FAILED"
    cells = pd.read_csv(client.download_artifacts(error.value.result.run_id, "cells.csv"))
    assert cells["reason"].dropna().tolist() == ["TrainerError: it died"] * 2
    assert "8: 2 to train in 2 tasks, 6 reused" in str(plan(STUDY, fresh=False))


def test_parity_gate_fails_the_benchmark(stored, monkeypatch):
    """If a backend does not compute what it should, nothing is compared, and no later benchmark uses the cells."""
    trace = process.Trainer.trace

    def wrong(trainer, level):
        found = trace(trainer, level)
        losses = [value + 0.01 * (trainer.backend == "keras") for value in found.values["losses"]]
        return found.model_copy(update={"values": found.values | {"losses": losses}})

    monkeypatch.setattr(process.Trainer, "trace", wrong)
    with pytest.raises(parity.ParityError, match=r"losses, against each other: 0\.01, at most"):
        benchmark(STUDY)
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("initbench/small").experiment_id
    (run,) = client.search_runs([experiment], "tags.`initbench.benchmark` = 'yes'")
    assert run.info.status == "FAILED"
    assert "cells.csv" not in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert plan(STUDY, fresh=False).own.missing == 8


def champion(client, name, dataset="iris"):
    """Return a champion's version, its accuracy on its own test rows, and that of the run it came from."""
    version = client.get_model_version_by_alias(name, "champion")
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    about, data = model.metadata.metadata, datasets.load(dataset)
    rows = about["test_rows"]
    right = model.predict(data.x[rows]).argmax(1) == data.y[rows]
    return version, right.mean(), client.get_run(version.run_id).data.metrics["test_accuracy"]


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # mlflow.pyfunc, of its own classes
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras, under NumPy 2
def test_champions(ran, folder, monkeypatch):
    """Each backend's champion is a registered model that loads without pickle and is as accurate as was recorded."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    table = ran
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", uri)
    own = client.get_experiment_by_name("initbench/small").experiment_id
    assert len(client.search_logged_models([own])) == 2
    cells = pd.read_csv(client.download_artifacts(table.run_id, "cells.csv"))
    for backend in STUDY.backends:
        version, accuracy, recorded = champion(client, f"initbench-small-iris-{backend}")
        assert np.float32(accuracy) == np.float32(recorded)  # which both frameworks give in single precision
        best = cells[(cells["backend"] == backend) & (cells["initializer"] == "he_normal")]
        assert version.run_id in set(best["run_id"])
        assert recorded == best["test_accuracy"].min()  # the worse one of two in the middle
        expected = crowned.champion(comparison.recall(table.run_id)[1], backend).mean
        assert float(version.tags["initbench.test_accuracy"]) == pytest.approx(expected)
        assert version.tags["initbench.benchmark"] == table.run_id
        found = registry.version_of(Benchmark(uri, "", table.run_id), f"initbench-small-iris-{backend}", version.run_id)
        assert found == str(version.version)  # so that it is not logged again


def test_a_model_that_cannot_be_registered_is_told_last(stored, monkeypatch):
    """If a champion cannot be registered, all is published and returned first, and then the flow fails."""

    def refuse(*_):
        raise RuntimeError("no registry here")

    monkeypatch.setattr(registry, "version_of", refuse)
    with pytest.raises(UncrownedError, match="could not be registered as a model: no registry here") as error:
        benchmark(STUDY.model_copy(update={"backends": ("pytorch",)}), parity=False)
    assert error.value.result.comparison["finished"].tolist() == [2, 2]
    assert comparison.recall("latest")[0].run_id == error.value.result.run_id


def test_report_is_rebuilt_from_mlflow_alone(ran, folder, tmp_path_factory):
    """What `report` writes of a run, or of the latest, is what was published, to the letter."""
    published = ran.run_id
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    for run_id in (published, "latest"):
        out = tmp_path_factory.mktemp("report")
        comparison.rebuild(run_id, out)
        assert {path.name for path in out.iterdir()} >= {
            "report.html",
            "comparison.md",
            "comparison.tex",
            "comparison.csv",
            "cells.csv",
            "pairs.csv",
            "pairs.svg",
        }
        for name in (path.name for path in out.iterdir()):
            assert (out / name).read_text() == Path(client.download_artifacts(published, name)).read_text(), name


def test_runs_side_by_side(ran, monkeypatch):
    """Two runs of one study are paired cell by cell, and what differs between them and their environments is told."""
    first = ran.run_id
    monkeypatch.setattr(machine, "processors", lambda: 64)
    second = benchmark(STUDY.model_copy(update={"seeds": 3}), fresh=True, parity=False).run_id
    beside = comparison.side_by_side(first, "latest")
    text = beside.as_text()
    assert (
        "8 cells are in both runs, 8 of them equal in every digit; 0 only in the first, 4 only in the second." in text
    )
    assert "Study, seeds: 2 before, 3 after" in text
    assert "processors: " in text
    assert "64 after" in text
    assert beside.cells["in"].value_counts().to_dict() == {"both": 8, "second": 4}
    assert beside.cells["seed"].notna().all()
    assert set(beside.verdicts["verdict"]) <= {"equivalent", "undecided"}
    assert "equal, so there is nothing to compare between them" in text
    assert "The answer does not change" in text or "No verdict is reversed" in text
    assert comparison.side_by_side(second, second).changed == []
    changes = {"recipe": Recipe(epochs=1), "backends": ("pytorch",)}
    other = benchmark(STUDY.model_copy(update=changes), parity=False).run_id
    assert "No cell is in both runs, so nothing is paired." in comparison.side_by_side(first, other).as_text()


def test_a_store_without_benchmarks(folder):
    """A store that is not there, and one that is empty, are each told in a line."""
    with pytest.raises(StoreError, match="must hold a benchmark that was compared; it is not there"):
        comparison.recall("latest")
    assert list(folder.iterdir()) == []
    store.open_store()
    with pytest.raises(StoreError, match="must hold a benchmark that was compared; it holds none"):
        comparison.recall("latest")


def test_what_is_no_benchmark_cannot_be_reported(ran, folder):
    """An unknown run, a cell's run, and a benchmark that lacks a cell's run are each told in a line."""
    run_id = ran.run_id
    with pytest.raises(StoreError, match=r"no benchmark in sqlite:.* has a run id that starts with 'abc'"):
        comparison.recall("abc")
    cell = comparison.recall(run_id)[1].cells["run_id"][0]
    with pytest.raises(StoreError, match="must be the run of a benchmark that was compared; it is 'pytorch · "):
        comparison.recall(cell)
    database = sqlite3.connect(folder / "mlflow.db")  # what MLflow's garbage collection leaves of a deleted run
    with closing(database), database:
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", (cell,))
    with pytest.raises(StoreError, match=f"1 of 8 cells' runs must be in .*; gone is {cell}"):
        comparison.recall(run_id)


def controlled(folder, monkeypatch, at_most):
    """Run a study of one backend whose controls claim that zeros reach no more than an accuracy; return all it left."""
    claim = Check(claim="zeros fail", measure="test_accuracy", where={"initializer": "zeros"}, at_most=at_most)
    controls = STUDY.model_copy(update={"name": "controls", "initializers": ("zeros",), "checks": (claim,)})
    monkeypatch.setattr(studies, "load", lambda name: controls)  # as if it shipped under that name
    study = STUDY.model_copy(update={"controls": "controls", "backends": ("pytorch",)})
    try:
        table = benchmark(study, parity=False)
    except InvalidBenchmarkError as error:
        table = error.result
    return table, MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_run(table.run_id)


def test_controls_that_behave(stored, monkeypatch):
    """Controls are trained along, in the study's own backends; the benchmark is valid and says that they behaved."""
    table, run = controlled(stored, monkeypatch, at_most=0.9)
    assert (run.info.status, run.data.tags["initbench.valid"]) == ("FINISHED", "true")
    assert table.details[-1].startswith("Controls behaved. Held: zeros fail (pytorch 0.")
    assert len(table.comparison) == 2
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    cells = client.search_runs([run.info.experiment_id], "tags.`initbench.cell` != ''")
    assert len(cells) == len({cell.data.tags["initbench.cell"] for cell in cells}) == 4  # zeros are controls as well


def test_controls_that_misbehave(stored, monkeypatch):
    """If a control does not do what it must, the benchmark is marked invalid and fails, with everything published."""
    table, run = controlled(stored, monkeypatch, at_most=-1)
    assert (run.info.status, run.data.tags["initbench.valid"]) == ("FAILED", "false")
    assert table.headline[0].startswith("INVALID, because controls misbehaved: zeros fail.")
    files = {file.path for file in MlflowClient(f"sqlite:///{stored / 'mlflow.db'}").list_artifacts(run.info.run_id)}
    assert {"comparison.md", "checks.csv", "variances.svg", "report.html"} <= files
    assert comparison.recall(run.info.run_id)[1].misbehaved == ["zeros fail"]
    assert MlflowClient(f"sqlite:///{stored / 'mlflow.db'}").search_registered_models() == []


def test_unknown_controls_are_refused(folder):
    """Controls that do not ship, or claim nothing, are told before anything runs, and no file is opened for them."""
    for name in ("contrls", "notebook", "/etc/hostname"):
        with pytest.raises(ValueError, match=f"must be a study that has checks: controls, .*; got '{name}'"):
            benchmark(STUDY.model_copy(update={"controls": name}))
    assert list(folder.iterdir()) == []


def test_levels_that_change_nothing_are_trained_once(stored):
    """Cells of one key are trained once, however many levels lead to it, and all of them are reused."""
    factors = {"r": {"a": {"recipe.clip_norm": 1.0}, "b": {"recipe.clip_norm": 1.0}}}
    study = Study.model_validate({**STUDY.model_dump(), "factors": factors, "backends": ["pytorch"]})
    assert sum(len(batch.cells) for batch in plan(study, fresh=False).left_after_tuning) == 4
    table = benchmark(study, parity=False)
    assert table.comparison["r"].tolist() == ["a", "a", "b", "b"]
    assert table.comparison["finished"].tolist() == [2] * 4
    again = plan(study, fresh=False)
    assert again.left_after_tuning == ()
    assert sum(key in again.reused for key in again.own.keys.values()) == 8


def test_each_at_its_best(stored, tmp_path):
    """Initializers pick on seeds and rows of their own, then compare at their picks; all cells are kept and reused."""
    tune = {"recipe.learning_rate": [0.00001, 0.01], "seeds": 2}
    changes = {"backends": ["pytorch"], "split": {"validation_fraction": 0.25}, "tune": tune}
    study = Study.model_validate({**STUDY.model_dump(), **changes})
    found = benchmark(study, parity=False)
    assert found.headline[0].startswith("PyTorch, each at its best learning rate: ")
    assert found.details[0].endswith("Tuning took 8 cells, the comparison 4.")
    picked = found.comparison.set_index("initializer")["picked"]
    assert picked["he_normal"] == 0.01
    assert {*found.tuned.loc[found.tuned["picked"] & (found.tuned["initializer"] == "he_normal"), "edge"]} == {True}
    again = plan(study, fresh=False)
    assert (again.left, len(again.tuning.keys), len(again.own.keys)) == ((), 8, 4)
    assert "tuning cells  8: 0 to train in 0 tasks, 8 reused" in str(again)
    assert "cells         4: 0 to train in 0 tasks, 4 reused" in str(again)

    longer = plan(study.model_copy(update={"seeds": 3}), fresh=False)
    assert (longer.tuning.batches, longer.own.missing) == ((), 2)
    wider = tune | {"recipe.learning_rate": [0.00001, 0.01, 0.02]}
    assert plan(Study.model_validate({**study.model_dump(), "tune": wider}), fresh=False).tuning.missing == 4

    benchmark_run, findings = comparison.rebuild(found.run_id, tmp_path)
    assert findings.picks == {("pytorch", (), name): ("recipe.learning_rate", picked[name]) for name in picked.index}
    client = MlflowClient(f"sqlite:///{stored / 'mlflow.db'}")
    runs = [client.get_run(run_id) for run_id in findings.cells["run_id"]]
    rates = [float(run.data.params["recipe.learning_rate"]) for run in runs]
    assert rates == [picked[name] for name in findings.cells["initializer"]]
    assert "validation_loss" in runs[0].data.metrics
    assert {*pd.read_csv(tmp_path / "tuning.csv")["seed"]} == {1_000_000, 1_000_001}
    assert {*findings.cells["seed"]} == {0, 1}
    for name in ("report.html", "comparison.md", "tuning.csv", "picks.csv", "picks.svg"):
        published = Path(client.download_artifacts(benchmark_run.run_id, name))
        assert (tmp_path / name).read_text() == published.read_text(), name


def test_factors_and_claims(stored):
    """A study with a factor is one table over its levels, and its claims are held against them."""
    claim = {"claim": "zeros are symmetric", "measure": "symmetric", "where": {"initializer": "zeros"}, "at_least": 1}
    study = Study.model_validate(
        {**STUDY.model_dump(), "factors": {"network.activation": ["relu", "tanh"]}, "checks": [claim]}
    )
    table = benchmark(study, parity=False)
    assert table.comparison["activation"].tolist() == ["relu"] * 4 + ["tanh"] * 4
    assert "Held: zeros are symmetric (pytorch 1, keras 1; at least 1)" in table.notes


CLOUDS = "x,kind,y\n" + "".join(
    f"{side + 0.1 * row},{word},{row % 5}\n" for side, word in ((0, "low"), (9, "high")) for row in range(20)
)


def test_csv_file(stored, monkeypatch, tmp_path_factory):
    """A study of a CSV file trains on it if a folder that INITBENCH_DATA lists holds it, and is refused otherwise."""
    path = tmp_path_factory.mktemp("data") / "clouds.csv"
    path.write_text(CLOUDS)
    study = STUDY.model_copy(update={"dataset": CsvFile(path=str(path), target="kind")})
    with pytest.raises(ValueError, match="in a folder that INITBENCH_DATA lists"):
        benchmark(study, parity=False)
    monkeypatch.setenv("INITBENCH_DATA", f"/nowhere:{path.parent}")
    table = benchmark(study, parity=False)
    assert table.comparison["finished"].tolist() == [2] * 4
    assert any("one of 8 test samples" in note for note in table.notes)
    for way in (f"file://{path}", "~/clouds.csv", f"{path.parent}/../clouds.csv"):
        with pytest.raises((ValueError, OSError)):
            plan(study.model_copy(update={"dataset": CsvFile(path=way, target="kind")}), fresh=False)
    assert len(plan(study, fresh=False).reused) == 8
    path.rename(path.with_suffix(".bak"))
    comparison.rebuild("latest", stored / "again")  # from MLflow alone
    path.write_text(CLOUDS.replace("9.1", "9.2"))
    assert plan(study, fresh=False).reused == {}  # other data, other cells
