"""The best cell of a backend as a registered model; the model itself is logged by a function that is given."""

import pytest

from tasks import models
from tasks.core.design.study import Study
from tests.shared import samples

STUDY = Study(name="small", initializers=("zeros", "he_normal"), seeds=2)
BEST = 3  # the row of PyTorch's best cell among those of `samples.cells`
MODEL = "initbench-small-pytorch"


@pytest.fixture
def cells(parent, client):
    """Return made-up cells in the order of the study's grid, each with a run that has its accuracy and loss."""
    frame = samples.cells(STUDY.initializers, seeds=2)
    frame["run_id"] = [client.create_run(parent.experiment_id).info.run_id for _ in frame.index]
    for row in frame.to_dict("records"):
        for measure in ("test_accuracy", "test_loss"):
            client.log_metric(row["run_id"], measure, row[measure])
    return frame


@pytest.fixture
def log(client):
    """Return a function that registers a version without a model, and keeps the candidates in its list `asked`."""

    def register(candidate, benchmark):
        register.asked.append(candidate)
        if not client.search_registered_models(f"name = '{candidate.name}'"):
            client.create_registered_model(candidate.name)
        source = client.get_run(candidate.run_id).info.artifact_uri
        return str(client.create_model_version(candidate.name, source, candidate.run_id).version)

    register.asked = []
    return register


def test_nothing_finished(parent, cells, client):
    """A backend of which no cell finished has no best cell, and no model."""
    cells.loc[cells["backend"] == "pytorch", "status"] = "diverged"
    assert models.crown.fn(STUDY, "pytorch", cells, parent) is None
    assert client.search_registered_models() == []


def test_best_cell_is_registered(parent, cells, client, log):
    """The cell with the highest test accuracy is the champion; its description says that it was chosen by it."""
    assert models.register(STUDY, "pytorch", cells, parent, log) == "1"
    (candidate,) = log.asked
    assert str(candidate.cell) == "pytorch · he_normal · seed 1"
    assert candidate.settings == STUDY.settings("pytorch", ())
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.run_id == candidate.run_id == cells["run_id"][BEST]
    assert version.description.startswith(
        "pytorch · he_normal · seed 1: test accuracy 0.9600, the best of 4 cells. This accuracy is optimistic, "
    )


def test_registered_cell_is_not_logged_again(parent, cells, client, log):
    """A cell that is registered already keeps its version."""
    first = models.register(STUDY, "pytorch", cells, parent, log)
    assert models.register(STUDY, "pytorch", cells, parent, log) == first
    assert len(log.asked) == len(client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_champion_is_the_better_version(parent, cells, client, log):
    """A worse cell is a version without the alias `champion`; a cell that is as good takes the alias over."""
    first = models.register(STUDY, "pytorch", cells, parent, log)
    cells.loc[BEST, "status"] = "failed"
    worse = models.register(STUDY, "pytorch", cells, parent, log)
    assert worse != first
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 2
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == first
    client.log_metric(cells["run_id"][BEST - 1], "test_accuracy", cells["test_accuracy"][BEST])
    again = models.register(STUDY, "pytorch", cells, parent, log)
    assert again == worse
    assert str(client.get_model_version_by_alias(MODEL, "champion").version) == worse
