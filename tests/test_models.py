"""The champion of a backend as a registered model; the model itself is logged by a function that is given."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from tasks import models
from tasks.core.design.settings import CsvFile
from tasks.core.design.study import Study
from tasks.core.statistics.findings import Findings
from tasks.tracking import parts, registry, runs
from tasks.tracking.runs import Run
from tasks.tracking.store import RecordError
from tasks.trainers.process import TrainerError
from tests.shared import samples

STUDY = Study(name="small", initializers=("zeros", "he_normal"), seeds=3)
MEDIAN = 4  # the row of PyTorch's median cell of he_normal among those of `samples.cells`
MODEL = "initbench-small-iris-pytorch"
RUN = Run("a cell", "FINISHED", started=0, ended=0, tags={}, params={}, points=[])


@pytest.fixture
def cells(parent):
    """Return made-up cells in the order of the study's grid, each with a run."""
    frame = samples.cells(STUDY.initializers, seeds=3)
    frame["run_id"] = runs.write(parent.uri, parent.experiment_id, [RUN] * len(frame))
    return frame


@pytest.fixture
def log(client):
    """Return a function that registers a version without a model, and keeps the candidates in its list `asked`."""

    def register(candidate, benchmark):
        register.asked.append(candidate)
        if not client.search_registered_models(f"name = '{candidate.name}'"):
            client.create_registered_model(candidate.name)
        run_id = parts.run_of(candidate.run_id)
        source = client.get_run(run_id).info.artifact_uri
        return str(client.create_model_version(candidate.name, source, run_id).version)

    register.asked = []
    return register


@pytest.fixture
def crown(parent, log):
    """Return a function that registers PyTorch's champion of cells, and returns its version."""
    return lambda cells: models.register(Findings.of(STUDY, cells, samples.NO_CLAIMS), "pytorch", parent, log)


def test_nothing_finished(parent, cells, client):
    """A backend of which no cell finished has no champion, and no model."""
    cells.loc[cells["backend"] == "pytorch", "status"] = "diverged"
    assert models.crown.fn(Findings.of(STUDY, cells, samples.NO_CLAIMS), "pytorch", parent) is None
    assert client.search_registered_models() == []


def test_champion_is_registered(parent, cells, client, log, crown):
    """The median cell is registered, with the accuracy that is expected rather than its own, and with its evidence."""
    assert crown(cells) == "1"
    (candidate,) = log.asked
    assert str(candidate.cell) == "pytorch · he_normal · seed 1"
    assert candidate.settings == STUDY.settings("pytorch", ())
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.run_id == candidate.run_id == cells["run_id"][MEDIAN]
    assert version.description.startswith("pytorch · he_normal · seed 1: the median cell, by test accuracy")
    assert "3 of its 3 cells finished. Expected test accuracy: 0.9600, 95 % interval 0.9" in version.description
    assert float(version.tags["initbench.test_accuracy"]) == pytest.approx(0.96)
    assert version.tags["initbench.finished"] == "3"
    assert version.tags["initbench.benchmark"] == parent.run_id


def test_only_a_trainer_that_died_is_worth_a_retry():
    """If the store failed, a second attempt would log a second model."""
    errors = {TrainerError("it died"): True, RecordError("the disk is full"): False, ValueError("no"): False}
    for error, again in errors.items():
        state = SimpleNamespace(result=lambda raise_on_failure, error=error: error)
        assert models.trainer_died(None, None, state) == again


def test_registered_cell_is_not_logged_again(cells, client, log, crown):
    """A cell that is registered already keeps its version."""
    assert crown(cells) == crown(cells)
    assert len(log.asked) == len(client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_cells_of_one_run_are_told_apart(parent, cells, client, log, crown):
    """Cells without runs of their own share their benchmark's; each is a version of its own, which it keeps."""
    cells["run_id"] = [parts.address(parent.run_id, f"{at:016x}") for at in cells.index]
    first = crown(cells)
    assert crown(cells) == first
    assert client.get_model_version(MODEL, first).tags["initbench.cell_run"] == cells["run_id"][MEDIAN]
    cells.loc[cells["initializer"] == "he_normal", "status"] = "diverged"
    assert crown(cells) != first
    assert len(log.asked) == 2


def test_champion_follows_the_newest_evidence(cells, client, crown):
    """A later benchmark takes the alias over, also with a lower accuracy; the earlier version keeps its evidence."""
    first = crown(cells)
    told = client.get_model_version(MODEL, first).description
    cells.loc[cells["initializer"] == "he_normal", "status"] = "diverged"
    second = crown(cells)
    assert second != first
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == second
    assert client.get_model_version(MODEL, first).description == told
    assert "zeros" in client.get_model_version(MODEL, second).description


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_that_cannot_be_exported_is_kept_in_parts(parent, cells, client, tmp_path, alone):
    """Weights, builder and source are kept in its place, also of a cell without a run, and registry and run say so."""
    if not alone:
        cells["run_id"] = [parts.address(parent.run_id, f"{at:016x}") for at in cells.index]
    files = {"weights.safetensors": save({"w": np.ones(3, np.float32)}), "code/mine.py": b"def build(): ..."}

    def log(candidate, benchmark):
        about = {"builder": "mine:build"}
        kept = {"reason": "TypeError: no", "about": about, "files": files}
        return registry.log_parts(benchmark, candidate.name, candidate.run_id, **kept)

    found = Findings.of(STUDY, cells, samples.NO_CLAIMS)
    version = client.get_model_version(MODEL, models.register(found, "pytorch", parent, log))
    kept = "MLflow cannot load it as a model (TypeError: no): its weights, and the builder's name and source, are kept."
    assert version.description.endswith(kept)
    (folder,) = [each for each in client.list_artifacts(version.run_id) if each.path.startswith("model-")]
    there = Path(client.download_artifacts(version.run_id, folder.path, str(tmp_path)))
    assert version.source.endswith(folder.path)
    assert {name: (there / name).read_bytes() for name in files} == files
    told = json.loads((there / "model.json").read_text())
    assert told == {"builder": "mine:build", "not exported": "TypeError: no"}
    (line,) = models.unexported(parent)
    assert line == f"The champion {MODEL} is registered, but {kept}"
    assert models.unexported(replace(parent, run_id="another")) == []


def test_a_champion_never_stands_for_other_data(cells, client, parent, log, crown, tmp_path):
    """A study that gets other data gets other models, also if the rows of its file change; the alias of each stays."""
    crown(cells)
    wine = STUDY.model_copy(update={"dataset": "wine"})
    models.register(Findings.of(wine, cells, samples.NO_CLAIMS), "pytorch", parent, log)
    assert [each.name for each in log.asked] == [MODEL, "initbench-small-wine-pytorch"]
    for each in log.asked:
        assert client.get_model_version_by_alias(each.name, "champion").version == 1
    file, names = CsvFile(path=str(tmp_path / "a.csv"), target="y"), set()
    for rows in ("1,a\n2,b\n3,a\n4,b", "1,a\n2,b\n3,a\n5,b"):
        (tmp_path / "a.csv").write_text(f"x,y\n{rows}\n")
        names.add(models.model_name("small", file, "keras"))
    assert len(names) == 2
    assert all(re.fullmatch("initbench-small-csv-[0-9a-f]{8}-keras", name) for name in names)
