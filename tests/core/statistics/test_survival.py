import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.survfunc import SurvfuncRight

from tasks.core.statistics.survival import log_rank, reaching, survival
from tests.shared.samples import noisy


def test_survival_is_kaplan_and_meiers():
    """The share short of the target is statsmodels', misses censored; where all miss it stays at 1."""
    epochs = np.array([2, 3, 3, np.nan, 5, np.nan, 7.0])
    horizon = np.full(7, 10.0)
    curve = survival(epochs, horizon)
    reference = SurvfuncRight(np.where(np.isnan(epochs), horizon, epochs), (~np.isnan(epochs)).astype(int))
    at = np.searchsorted(curve.epochs, reference.surv_times)
    assert curve.share[at] == pytest.approx(reference.surv_prob)
    assert (curve.low[at] <= curve.share[at]).all()
    assert (curve.share[at] <= curve.high[at]).all()
    assert survival(np.array([np.nan]), np.array([10.0])).share.tolist() == [1.0]


def test_log_rank_is_scipys():
    """Of two groups the p-value is SciPy's; of none, or where nobody reached the target, there is none."""
    epochs = np.array([2, 3, np.nan, 4, 6, 7, 8, np.nan])
    horizon, groups = np.full(8, 10.0), np.array(["a"] * 4 + ["b"] * 4)
    parts = [
        stats.CensoredData(
            uncensored=epochs[(groups == name) & ~np.isnan(epochs)], right=horizon[(groups == name) & np.isnan(epochs)]
        )
        for name in ("a", "b")
    ]
    assert log_rank(epochs, horizon, groups) == pytest.approx(stats.logrank(*parts).pvalue)
    assert np.isnan(log_rank(epochs, horizon, np.full(8, "a")))
    assert np.isnan(log_rank(np.full(8, np.nan), horizon, groups))
    assert log_rank(np.ones(8), horizon, groups) == 1


def test_reaching_counts_every_cell_that_ran():
    """A miss is censored where training ended; a failed cell was never under way."""
    frame = noisy()
    frame.loc[0, "status"] = "failed"
    (first, _) = reaching(frame)
    assert (first.missed, first.cells) == (10, 29)
    assert first.curves["zeros"].share.tolist() == [1.0]
    assert first.p < 0.001
