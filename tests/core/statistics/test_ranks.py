from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from tasks.core.statistics import ranks
from tasks.core.statistics.pairing import pairs
from tests.shared.samples import THREE, noisy


def test_signed_ranks_are_wilcoxons():
    """p-values are SciPy's of the paired values, after Holm over all pairs, zeros and ties included."""
    values = np.random.default_rng(0).integers(0, 9, (4, 9)) + 3.0 * np.arange(4)[:, None]
    pairs = np.triu_indices(4, 1)
    own = np.array([stats.wilcoxon(values[left], values[right]).pvalue for left, right in zip(*pairs, strict=True)])
    found = ranks.signed_ranks(values)
    assert found[pairs] == pytest.approx(multipletests(own, method="holm")[1])
    assert np.array_equal(found, found.T)
    assert ranks.signed_ranks(values, families=2)[0, 3] == pytest.approx(2 * found[0, 3])


def test_signed_ranks_are_exact():
    """Of few blocks p is the share of all signs whose sum of ranks is as far from zero, ties and zeros included."""
    apart = np.array([3.0, -1.0, 2.0, 2.0, 0.0, 5.0, 4.0, -1.0])
    ranked = stats.rankdata(np.abs(apart[apart != 0]))
    signs = np.array([*product([-1, 1], repeat=len(ranked))])
    expected = np.mean(np.abs(signs @ ranked) >= abs(np.sign(apart[apart != 0]) @ ranked))
    assert ranks.signed_ranks(np.array([apart, 0 * apart]))[0, 1] == pytest.approx(expected)


def test_signed_ranks_survive_holes():
    """A hole is worse than any number, two holes are equal, and rivals that are equal everywhere are not apart."""
    costs = np.array([[1.0, 2, 3, 4, 5, 6, np.inf], [np.inf] * 7, [np.inf] * 7])
    assert ranks.signed_ranks(costs[:2])[0, 1] == pytest.approx(2 / 2**6)
    assert ranks.signed_ranks(costs[1:])[0, 1] == 1


@pytest.mark.parametrize(("rivals", "families"), [(2, 1), (3, 4), (6, 4), (8, 4)])
def test_least_blocks(rivals, families):
    """With so many blocks the same order everywhere tells rivals apart; with one block less no order does."""
    least = ranks.least_blocks(rivals, families)
    order = np.arange(rivals)[:, None] + np.arange(least) / 100 * np.arange(rivals)[:, None]
    assert ranks.signed_ranks(order, families).min() < 0.05
    assert ranks.signed_ranks(order[:, 1:], families).min() >= 0.05


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
    found = ranks.ranked(ranks.costs(values, higher_is_better=False), np.ones((3, 3)))
    assert found.mean == pytest.approx([(2.5 + 1) / 2, (1 + 2) / 2, (2.5 + 3) / 2])
    assert ranks.ranked(np.full((3, 4), 0.9), np.ones((3, 3))).friedman == 1


def rankings(frame):
    return ranks.rankings(frame, pairs(frame, {}))


def test_rankings_are_over_seeds_or_datasets():
    """Seeds of one dataset are the blocks; over several datasets these are, each by its mean over seeds."""
    (first, *_) = rankings(noisy())
    assert (first.blocks, first.ranks.blocks, len(first.initializers)) == ("seeds", 10, 3)
    assert first.initializers[int(np.argmax(first.ranks.mean))] == "zeros"
    assert rankings(noisy(initializers=THREE[:2])) == []
    several = pd.concat([noisy(dataset=name) for name in ("iris", "wine", "digits")], ignore_index=True)
    several.loc[several.index[-1], "status"] = "failed"  # keras · digits · zeros, which has a hole and is last
    over = rankings(several)
    assert [(each.backend, each.blocks, each.ranks.blocks) for each in over] == [
        ("pytorch", "datasets", 3),
        ("pytorch", "datasets", 3),
        ("keras", "datasets", 3),
        ("keras", "datasets", 3),
    ]
    assert over[-1].ranks.mean[over[-1].initializers.index("zeros")] == 3
    assert set(ranks.ranks_table(over)["blocks"]) == {"3 datasets"}
    assert not over[0].ranks.apart.any()  # three datasets are too few, whatever they say


def test_ranks_over_seeds_agree_with_the_pairs():
    """Over the seeds of one dataset two initializers are apart where the pairs say so, and nowhere else."""
    frame = noisy()
    own = pairs(frame, {})
    for each in ranks.rankings(frame, own):
        rows = own[(own["backend"] == each.backend) & (own["measure"] == each.measure)]
        told = {frozenset(pair) for pair in rows.loc[rows["p"] < 0.05, ["left", "right"]].itertuples(index=False)}
        names = np.array(each.initializers)
        assert {frozenset(names[list(at)]) for at in np.argwhere(each.ranks.apart)} == told
        assert told
