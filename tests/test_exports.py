"""A cell's model as files."""

import sys
from types import SimpleNamespace

import numpy as np

from tasks import exports, user_code
from tasks.core.design import grid
from tasks.core.design.layers import Layers
from tasks.core.design.study import Study
from tasks.core.training import datasets


def test_what_is_kept_in_parts_says_how_rows_are_scaled(monkeypatch, tmp_path):
    """The file beside the weights has the builder, the scaling of train rows, and what no initializer decided."""
    (tmp_path / "mine.py").write_text("def build(shape, outputs): ...")
    monkeypatch.setenv(user_code.FOLDERS, str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    network = {"build": {"pytorch": "mine:build"}}
    study = Study(name="sugar", backends=("pytorch",), network=network, dataset="diabetes", controls=None)
    settings, data = study.settings("pytorch", ()), datasets.load("diabetes")
    fold = datasets.divide(data, settings.split, 0)

    def no_export(*_):
        raise TypeError("data decide\nwhere")

    program = SimpleNamespace(build=lambda *_: None, layers=Layers((), left=("shift",)))
    framework = SimpleNamespace(own=lambda *_: program, deployed_own=no_export)
    monkeypatch.setattr(exports, "framework", lambda _: framework)
    weights = {"w": np.ones(3, np.float32)}
    kept = exports.save(settings, grid.cells(study)[0], weights, [], tmp_path / "model")
    about = kept.about
    assert (kept.reason, about["builder"], about["as_built"]) == ("TypeError: data decide", "mine:build", ["shift"])
    assert {*kept.files} == {"code/mine.py", "weights.safetensors"}
    rows = (data.x[about["test_rows"]] - np.array(about["mean"])) / np.array(about["scale"])
    np.testing.assert_allclose(rows, fold.x_test, rtol=1e-5, atol=1e-6)
    targets = (data.y[about["test_rows"]] - np.array(about["y_mean"])) / np.array(about["y_scale"])
    np.testing.assert_allclose(targets, fold.y_test, rtol=1e-5, atol=1e-6)
