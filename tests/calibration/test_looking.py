"""Looking again and again at rivals that are alike seldom shows a difference."""

import numpy as np

from tests.calibration import families, looking, table


def test_six_looks_err_as_seldom_as_one():
    """Over six looks, each with the seeds that the last one told, at most 6 % of families see a difference."""
    unpaid, paid = looking.false(np.random.default_rng(0), "iris", "test_loss", 5, 20)
    assert paid <= 0.06
    assert paid < unpaid


def test_later_looks_pay():
    """The same cells have p-values times the price of the look, and are told more seeds the later it is."""
    cells = table.values("iris", "null", "test_loss")[:, :10]
    of = families.measure("iris", "test_loss", cells)
    first, second = families.judged(cells, of), families.judged(cells, of, look=2)
    assert np.allclose(np.minimum(10 * first["p"], 1), second["p"])
    assert set(first["verdict"]) == set(second["verdict"]) == {"undecided"}
    assert (second["more_seeds"] > first["more_seeds"]).all()
