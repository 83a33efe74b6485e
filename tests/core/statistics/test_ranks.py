from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from tasks.core.statistics import ranks
from tests.shared.samples import noisy


def test_ranks_are_friedmans_and_nemenyis():
    """p-values are those of scikit-posthocs, and the critical difference that of Demšar's table (q of 8 is 3.031)."""
    values = np.random.default_rng(0).normal(size=(8, 10)) + np.arange(8)[:, None] / 4
    found = ranks.ranks(values, higher_is_better=False)
    assert found.p == pytest.approx(posthoc_nemenyi_friedman(pd.DataFrame(values.T)).to_numpy(), abs=1e-3)
    assert found.critical == pytest.approx(3.031 * np.sqrt(8 * 9 / (6 * 10)), rel=1e-3)
    assert ranks.ranks(-values, higher_is_better=True).mean == pytest.approx(found.mean)


def test_friedman_is_the_analysis_of_variance_of_ranks():
    """Iman and Davenport's F is that of rivals in a two-way analysis of variance of the ranks, ties included."""
    ranked = stats.rankdata(np.random.default_rng(1).integers(0, 5, (4, 9)) + np.arange(4)[:, None], axis=0)
    rival, block = np.indices(ranked.shape)
    table = pd.DataFrame({"rank": ranked.ravel(), "rival": rival.ravel(), "block": block.ravel()})
    anova = anova_lm(ols("rank ~ C(rival) + C(block)", table).fit())
    assert ranks.friedman(ranked) == pytest.approx(anova.loc["C(rival)", "PR(>F)"])


@pytest.mark.parametrize(("blocks", "rivals"), [(2, 3), (3, 3), (4, 6), (5, 6), (10, 8)])
def test_friedman_calls_few_alike_rivals_different(blocks, rivals):
    """Of alike rivals it finds a difference in at most 8 %, also with so few blocks that F alone would find 19 %."""
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.broadcast_to(np.arange(1.0, rivals + 1)[:, None], (1000, rivals, blocks)), axis=1)
    assert np.mean([ranks.friedman(order) < 0.05 for order in orders]) < 0.08


def test_same_order_in_every_block():
    """Of one order in all blocks the p-value is its share of all orders if blocks are few, and nearly 0 otherwise."""
    ranked = np.broadcast_to(np.arange(1.0, 4)[:, None], (3, 20))
    assert ranks.friedman(ranked[:, :2]) == pytest.approx(1 / 6)
    assert ranks.friedman(ranked) < 1e-6


def test_holes_rank_last():
    """What did not finish is behind everything that did, and ties with its like."""
    values = np.array([[np.nan, 1.0], [0.5, 2.0], [np.nan, 3.0]])
    found = ranks.ranks(values, higher_is_better=False)
    assert found.mean == pytest.approx([(2.5 + 1) / 2, (1 + 2) / 2, (2.5 + 3) / 2])
    assert ranks.ranks(np.full((3, 4), 0.9), higher_is_better=True).friedman == 1
    assert ranks.ranks(values[:2], higher_is_better=True) is None


def test_rankings_are_over_seeds_or_datasets():
    """Seeds of one dataset are the blocks; over several datasets these are, each by its mean over seeds."""
    (first, *_) = ranks.rankings(noisy())
    assert (first.blocks, first.ranks.blocks, len(first.initializers)) == ("seeds", 10, 3)
    assert first.initializers[int(np.argmax(first.ranks.mean))] == "zeros"
    several = pd.concat([noisy(dataset=name) for name in ("iris", "wine", "digits")], ignore_index=True)
    several.loc[several.index[-1], "status"] = "failed"  # keras · digits · zeros, which has a hole and is last
    over = ranks.rankings(several)
    assert [(each.backend, each.blocks, each.ranks.blocks) for each in over] == [
        ("pytorch", "datasets", 3),
        ("pytorch", "datasets", 3),
        ("keras", "datasets", 3),
        ("keras", "datasets", 3),
    ]
    assert over[-1].ranks.mean[over[-1].initializers.index("zeros")] == 3
    assert set(ranks.ranks_table(over)["blocks"]) == {"3 datasets"}


def test_nemenyi_is_read_where_friedman_finds_something():
    """Ranks beyond the critical difference are not told apart unless Friedman's test says that there are any."""
    found = ranks.rankings(noisy())[0].ranks
    assert found.apart.any()
    assert not replace(found, friedman=0.06).apart.any()
