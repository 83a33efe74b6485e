import numpy as np

from tests.shared.reports import findings
from tests.shared.samples import noisy


def test_one_seed():
    """A single seed gives a table and words, and no verdict but that more seeds are needed."""
    found = findings(noisy(seeds=1))
    assert set(found.pairs["verdict"]) == {"undecided"}
    assert np.isnan(found.comparison["test_loss_low"]).all()
