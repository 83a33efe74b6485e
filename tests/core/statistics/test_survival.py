import numpy as np
import pytest
from scipy import stats
from statsmodels.duration.hazard_regression import PHReg
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
    """Of two groups in one seed the p-value is SciPy's; of none, or where nobody reached the target, there is none."""
    epochs = np.array([2, 3, np.nan, 4, 6, 7, 8, np.nan])
    horizon, groups, seed = np.full(8, 10.0), np.array(["a"] * 4 + ["b"] * 4), np.zeros(8, np.int64)
    parts = [
        stats.CensoredData(
            uncensored=epochs[(groups == name) & ~np.isnan(epochs)], right=horizon[(groups == name) & np.isnan(epochs)]
        )
        for name in ("a", "b")
    ]
    assert log_rank(epochs, horizon, groups, seed) == pytest.approx(stats.logrank(*parts).pvalue)
    assert np.isnan(log_rank(epochs, horizon, np.full(8, "a"), seed))
    assert np.isnan(log_rank(np.full(8, np.nan), horizon, groups, seed))
    assert log_rank(np.ones(8), horizon, groups, seed) == 1


def grid(rng, rivals, seeds, spread):
    """Return epochs, horizon, groups and seeds of the cells of alike rivals, whose seeds differ by a spread."""
    epochs = 20 + spread * rng.standard_normal(seeds) + rng.standard_normal((rivals, seeds))
    epochs = np.where(epochs > 24, np.nan, epochs).ravel()
    horizon, groups = np.full(epochs.size, 24.0), np.repeat(np.arange(rivals), seeds).astype(str)
    return epochs, horizon, groups, np.tile(np.arange(seeds), rivals)


def test_log_rank_is_stratified():
    """Several seeds are the strata of Cox's model, whose score test at no effect the log-rank test is."""
    epochs, horizon, groups, seeds = grid(np.random.default_rng(0), 3, 8, 2.0)
    others = np.stack([groups == name for name in ("1", "2")], 1).astype(float)
    reached = np.isfinite(epochs)
    model = PHReg(np.where(reached, epochs, horizon), others, reached.astype(int), strata=seeds)
    score, information = model.score(np.zeros(2)), -model.hessian(np.zeros(2))
    p = stats.chi2.sf(score @ np.linalg.solve(information, score), 2)
    assert log_rank(epochs, horizon, groups, seeds) == pytest.approx(p)


def test_seeds_do_not_hide_what_happens_within_them():
    """Where seeds differ much, alike rivals differ in about 5 % of grids, and one that is later by little is seen."""
    rng = np.random.default_rng(0)
    alike = [grid(rng, 4, 10, 3.0) for _ in range(200)]
    assert 0.01 < np.mean([log_rank(*each) < 0.05 for each in alike]) < 0.09
    later = [(epochs + 2 * (groups == "3"), horizon + 2, groups, seeds) for epochs, horizon, groups, seeds in alike]
    assert np.mean([log_rank(*each) < 0.05 for each in later[:50]]) > 0.7


def test_reaching_counts_every_cell_that_ran():
    """A miss is censored where training ended; a failed cell was never under way."""
    frame = noisy()
    frame.loc[0, "status"] = "failed"
    (first, _) = reaching(frame)
    assert (first.missed, first.cells) == (10, 29)
    assert first.curves["zeros"].share.tolist() == [1.0]
    assert first.p < 0.001
