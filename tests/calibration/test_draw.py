from dataclasses import replace

import numpy as np
import pytest

from tests.calibration import draw, table


def test_the_command_trains_the_committed_cells(pytorch_set_up):
    """The cells in the files are those that the command trains today: redrawn seeds have the same losses."""
    plan = draw.sets()["iris-null"]
    again = draw.trained(replace(plan, count=2))
    for name, values in again.values.items():
        committed = table.cells("iris", "null").values[name][:, :2]
        assert np.nanmean(np.abs(values - committed)) == pytest.approx(0, abs=0.01), name


@pytest.mark.parametrize("name", draw.sets())
def test_every_set_is_committed(name):
    """Each set has its file, with the rivals and seeds that the command would train."""
    plan, cells = draw.sets()[name], table.cells(*name.split("-"))
    assert cells.rivals == tuple(plan.rivals)
    assert cells.seeds.tolist() == list(plan.seeds)


def test_null_rivals_are_alike():
    """In a null set the rivals' means lie as far apart as chance puts them: chi-square of their paired distances."""
    for dataset in draw.SEEDS:
        loss = np.log(table.values(dataset, "null", "test_loss"))
        own = loss - loss.mean(0)  # of a seed's rivals, which share the split
        n = own.shape[1]
        variance = np.square(own - own.mean(1, keepdims=True)).sum() / (7 * (n - 1))
        assert n * np.square(own.mean(1)).sum() / variance < 24.3  # 0.999 of chi-square with 7 degrees of freedom


def test_holes_are_where_they_should_be():
    """One initializer diverges in every seed or nearly so, one in some, the others in none."""
    for dataset in draw.HOLES:
        share = table.cells(dataset, "holes").diverged.mean(1)
        assert share[-1] >= 0.99
        assert 0.1 < share[-2] < 0.9
        assert not share[:-2].any()
