import numpy as np
import pandas as pd
import pytest

from tasks.core.design.study import Study
from tasks.core.report import figures, tables
from tasks.core.report.styles import styles
from tasks.core.statistics import table
from tasks.core.statistics.notes import notes
from tests.shared.samples import cells


def test_best_first():
    """The highest mean test accuracy stands first, ties by name."""
    order = table.compare(cells())[["backend", "initializer"]].to_numpy().tolist()
    assert order == [["keras", "he_normal"], ["pytorch", "he_normal"], ["keras", "zeros"], ["pytorch", "zeros"]]


def test_moments_are_numpys():
    """Mean and standard deviation (n - 1) are over the finished cells."""
    row = table.compare(cells()).iloc[0]
    sample = [0.95, 0.96, 0.97]
    assert row["test_accuracy_mean"] == pytest.approx(np.mean(sample))
    assert row["test_accuracy_sd"] == pytest.approx(np.std(sample, ddof=1))
    assert row["test_accuracy_low"] < np.mean(sample) < row["test_accuracy_high"]
    assert row["test_accuracy_iqm"] == pytest.approx(np.mean(sample))
    assert row["brier_score_mean"] == pytest.approx(0.1)


def test_holes_are_counted():
    """Diverged and failed cells stay in the table as counts, and out of its means; a group of them comes last."""
    frame = cells()
    measures = ["test_accuracy", "test_loss", "train_accuracy", "train_loss", "epochs_to_target", "train_seconds"]
    frame.loc[[0, 1], "status"] = "failed"
    frame.loc[2, "status"] = "diverged"
    frame.loc[[0, 1], measures] = np.nan
    frame.loc[[0, 1], "health"] = ""
    last = table.compare(frame).iloc[-1]
    assert (last["backend"], last["finished"], last["diverged"], last["failed"]) == ("pytorch", 0, 1, 2)
    assert np.isnan(last["test_accuracy_mean"])
    text = tables.as_text(table.compare(frame), [], "simple")
    assert "nan" not in text
    assert "0, 1 diverged, 2 failed" in text
    figures.intervals(frame, table.compare(frame), styles(frame["initializer"])).canvas.draw()


def test_nothing_finished():
    """A benchmark of which every cell failed still has its table and its picture."""
    frame = cells()
    frame["status"] = "failed"
    frame[["test_accuracy", "test_loss", "epochs_to_target", "train_seconds"]] = np.nan
    comparison = table.compare(frame)
    assert comparison["failed"].tolist() == [3, 3, 3, 3]
    assert comparison["target_missed"].tolist() == [0, 0, 0, 0]
    assert "nan" not in tables.as_text(comparison, [], "github")
    figures.intervals(frame, comparison, styles(frame["initializer"])).canvas.draw()


def test_a_lucky_cell_is_not_best():
    """A group of which most cells diverged is not first for what its one finished cell reached."""
    frame = cells()
    frame.loc[[4, 5], "status"] = "diverged"
    frame.loc[3, "test_accuracy"] = 1.0
    assert table.compare(frame).iloc[-1][["backend", "initializer"]].tolist() == ["pytorch", "he_normal"]
    assert any("leave out 2 diverged cells" in note for note in notes(Study(), frame))


def test_levels_stand_in_their_order():
    """The table groups by factors, levels in the study's order, the best of each level first."""
    frame = pd.concat([cells().assign(depth=depth) for depth in (10, 2)])
    frame = frame[["study", "backend", "depth", *frame.columns.drop(["study", "backend", "depth"])]]
    comparison = table.compare(frame)
    assert comparison["depth"].tolist() == [10] * 4 + [2] * 4
    assert comparison["initializer"].tolist() == ["he_normal", "he_normal", "zeros", "zeros"] * 2
    assert list(tables.shown(comparison))[:3] == ["backend", "depth", "initializer"]
    assert "keras/10/he_normal/test_accuracy_mean" in table.metrics(comparison)
    figures.intervals(frame, comparison, styles(frame["initializer"])).canvas.draw()


def test_metrics_have_names_that_mlflow_takes():
    """Parameters of initializers are spelled without the signs that MLflow refuses."""
    frame = cells().replace({"initializer": {"zeros": "mean_field(sigma_w=1, sigma_b=0.1)"}})
    names = table.metrics(table.compare(frame))
    assert "keras/mean_field sigma_w 1 sigma_b 0.1/test_accuracy_mean" in names


def test_metrics_are_numbers():
    """Summary metrics leave out what has no number, such as an infinite median."""
    frame = cells()
    frame["epochs_to_target"] = np.nan
    metrics = table.metrics(table.compare(frame))
    assert all(np.isfinite(value) for value in metrics.values())
    assert "keras/zeros/test_accuracy_mean" in metrics
