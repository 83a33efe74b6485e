from dataclasses import replace

import numpy as np
import pytest

from tasks.core.design import columns
from tasks.core.statistics import family, measures, pairing, table
from tests.shared.samples import noisy


def test_what_holds_for_a_measure_does_not_hang_on_its_name(monkeypatch):
    """A second measure in test rows, of a censored time and of a batch is treated as the first one of its kind."""
    kinds = {"top_accuracy": "test_accuracy", "epochs_to_half": "epochs_to_target", "energy": "train_seconds"}
    frame = noisy()
    frame["train_seconds"] = 0.01 + 0.2 * (frame["seed"] > 4)
    frame = frame.assign(**{copy: frame[name] for copy, name in kinds.items()})
    copies = [replace(columns.MEASURES_BY_NAME[name], name=copy) for copy, name in kinds.items()]
    monkeypatch.setattr(measures, "MEASURES", (*copies, *columns.MEASURES))
    monkeypatch.setattr(measures, "CELLS", (*kinds, *columns.CELLS))
    monkeypatch.setattr(columns, "RANKED", ("top_accuracy", *columns.RANKED))
    pairs = pairing.pairs(frame, {}).set_index("measure")
    for copy, name in kinds.items():
        assert pairs.loc[copy].reset_index(drop=True).equals(pairs.loc[name].reset_index(drop=True))


def test_a_study_sets_the_margin():
    """The margin of a study replaces the measure's own, also that of one test row; a step stays."""
    cells = noisy()
    accuracy = measures.measures(cells, {"test_accuracy": 0.1})[0]
    assert (accuracy.margin, accuracy.step) == (0.1, 1 / 30)


def test_a_margin_of_errors_is_as_sure_as_the_errors():
    """The margin that cells decide has the standard error of the best group's errors; one that is set has none."""
    few, many = (measures.measures(noisy(seeds=seeds))[0] for seeds in (5, 40))
    cells = noisy(seeds=40)
    groups = cells[cells["status"] == "finished"].groupby(["backend", "initializer"])["test_accuracy"]
    errors = 1 - groups.get_group(groups.mean().idxmax())
    assert many.margin == pytest.approx(errors.mean() / 3)
    assert many.margin_error == pytest.approx(max(errors.sem(), np.sqrt(errors.mean() / 30 / 40)) / 3)
    assert few.margin_error > many.margin_error
    assert measures.measures(cells, {"test_accuracy": 0.1})[0].margin_error == 0


def test_a_noisy_margin_takes_more_seeds():
    """What is told to a pair allows for the margin that later seeds may have."""
    values, nothing = np.tile(0.9 + 0.02 * np.eye(2), 10), np.zeros((2, 20), bool)
    grid, known = family.Grid(values, nothing, nothing), columns.MEASURES_BY_NAME["test_accuracy"]
    sure, noisy_one = (
        family.judged(grid, [0], [1], replace(known, margin=0.006, margin_error=error))["more_seeds"].item()
        for error in (0.0, 0.002)
    )
    assert 1 < sure < noisy_one < np.inf


def test_real_targets_have_r2_and_no_brier_score():
    """Of real targets an interval may reach below 0, which that of an accuracy may not; no Brier score is judged."""
    cells = noisy(seeds=3)
    cells["test_accuracy"] = cells["test_accuracy"] - 0.8
    of_classes, of_numbers = (
        cells.assign(test_accuracy=cells["test_accuracy"].abs() / 20),
        cells.assign(brier_score=np.nan),
    )
    assert table.compare(of_numbers)["test_accuracy_low"].min() < 0
    assert table.compare(of_classes)["test_accuracy_low"].min() == 0
    assert "brier_score" in set(pairing.pairs(of_classes, {})["measure"])
    assert "brier_score" not in set(pairing.pairs(of_numbers, {})["measure"])
