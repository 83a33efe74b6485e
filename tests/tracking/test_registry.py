"""How a saved model becomes a version in MLflow's registry, in a store that MLflow would not find by itself."""

import json

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.models import Model

from tasks.core.design.study import Study
from tasks.tracking import recording, registry, runs, store
from tasks.tracking.runs import Run

STEP = 3


@pytest.fixture
def run(folder, monkeypatch):
    """Return a benchmark, and the id of a cell's run, in a folder whose name MLflow's own default address distorts."""
    place = folder / "its results é"
    place.mkdir()
    monkeypatch.chdir(place)
    points = [("test_loss", epoch, 1 / (1 + epoch)) for epoch in range(STEP + 1)]
    cell = Run("a cell", "FINISHED", started=0, ended=0, tags={}, params={"seed": "7"}, points=points)
    with recording.benchmark(Study(seeds=2), {"packages": {}, "planned": "here"}, {}) as benchmark:
        yield benchmark, runs.write(benchmark.uri, benchmark.experiment_id, [cell])[0]


@pytest.fixture
def saved(tmp_path):
    """Return a folder with a model that is only its description."""
    made = tmp_path / "model"
    made.mkdir()
    Model(metadata={"cell": "a cell"}).add_flavor("python_function", loader_module="none").save(str(made / "MLmodel"))
    return made


def test_a_model_is_logged_and_registered(run, saved, tmp_path):
    """MLflow shows the model as ready, with the params of its run, what the last epoch measured, and its version."""
    benchmark, run_id = run
    version = registry.log_model(benchmark, "a-model", run_id, saved, STEP)
    client = MlflowClient(benchmark.uri)
    registered = client.get_model_version("a-model", version)
    (logged,) = client.search_logged_models([benchmark.experiment_id])
    assert (registered.run_id, registered.source, logged.source_run_id) == (run_id, logged.artifact_location, run_id)
    assert (logged.status, logged.params) == ("READY", {"seed": "7"})
    assert [(each.key, each.value, each.step) for each in logged.metrics] == [("test_loss", 0.25, STEP)]
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "a-model", "version": version}]
    outputs = client.get_run(run_id).outputs.model_outputs
    assert [(each.model_id, each.step) for each in outputs] == [(logged.model_id, STEP)]
    files = mlflow.artifacts.download_artifacts(registered.source, dst_path=str(tmp_path), tracking_uri=benchmark.uri)
    told = Model.load(files)
    assert (told.model_id, told.run_id, told.metadata) == (logged.model_id, run_id, {"cell": "a cell"})
    assert registry.log_model(benchmark, "a-model", run_id, saved, STEP) == "2"


def test_a_model_that_cannot_be_stored_is_shown_as_failed(run, saved, monkeypatch):
    """If its files cannot be written, MLflow shows the model as failed, and no version is registered."""
    benchmark, run_id = run

    def full(*_):
        raise OSError(28, "No space left on device")

    client = store.client(benchmark.uri)
    monkeypatch.setattr(client, "log_model_artifacts", full)
    with pytest.raises(OSError, match="No space left"):
        registry.log_model(benchmark, "a-model", run_id, saved, STEP)
    (logged,) = client.search_logged_models([benchmark.experiment_id])
    assert logged.status == "FAILED"
    assert client.search_registered_models() == []
