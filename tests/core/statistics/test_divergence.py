"""Which of two finishes more often: against SciPy's exact test, and what is told without a test."""

import numpy as np
import pytest
from scipy import stats

from tasks.core.design.study import Study
from tasks.core.statistics import pairing
from tasks.core.statistics.divergence import Finished
from tasks.core.statistics.table import compare
from tests.shared.samples import THREE, noisy


def diverged(seeds, zeros, others=0):
    """Return cells of three initializers, of which zeros, and he_normal, diverge in their first seeds."""
    frame = noisy(seeds=seeds)
    for name, count in {"zeros": zeros, "he_normal": others}.items():
        frame.loc[(frame["initializer"] == name) & (frame["seed"] < count), "status"] = "diverged"
    return frame


def of(frame, measure, right="zeros"):
    pairs = pairing.pairs(frame, {})
    meant = (pairs["measure"] == measure) & (pairs["left"] == "he_normal") & (pairs["right"] == right)
    return pairs[meant & (pairs["backend"] == "pytorch")].iloc[0]


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_always_against_never_is_never_undecided(seeds):
    """At any number of seeds: one that never finishes is told so, by every measure that needs a finished cell."""
    frame = diverged(seeds, seeds)
    for measure in ("finished", "test_accuracy", "test_loss", "brier_score", "loss_area"):
        assert of(frame, measure)["verdict"] == "always finishes"
    table = pairing.against_best(compare(frame), pairing.pairs(frame, {})).set_index(["backend", "initializer"])
    assert table.loc[("pytorch", "zeros"), "test_loss_against_best"] == f"never finishes (0 of {seeds})"


def test_one_that_never_finishes_is_in_no_family():
    """The others are judged as if it had not been there."""
    frame = diverged(10, 10)
    family = pairing.pairs(frame, {}).query("measure == 'test_loss'")
    two = pairing.pairs(frame[frame["initializer"] != "zeros"], {}).query("measure == 'test_loss'")
    both = family.merge(two, on=["backend", "left", "right"])
    assert len(both) == 2
    assert both["p_x"].tolist() == both["p_y"].tolist()
    assert both["p_equivalent_x"].tolist() == both["p_equivalent_y"].tolist()
    assert set(family.loc[family["right"] == "zeros", "p"]) == {1.0}


def test_counts_are_tested_exactly():
    """Of 10 seeds against 2 of 10 that finish, p is Boschloo's after Holm over the pairs; both shares are told."""
    row = of(diverged(10, 8), "finished")
    (exact,) = {stats.boschloo_exact([[10, 2], [0, 8]]).pvalue}
    assert row["p"] == pytest.approx(3 * exact)
    assert (row["verdict"], row["n"]) == ("better", 10)
    assert row["difference"] == pytest.approx(0.8)
    assert row["low"] < 0.8 < row["high"]


@pytest.mark.parametrize("counts", [(6, 6, 1, 6), (7, 8, 2, 8), (5, 9, 4, 5)])
def test_p_is_boschloos_by_hand(counts):
    """It is twice the largest chance, over what either may finish, of tables whose one-sided Fisher p is no larger."""
    one, of_one, other, of_other = counts
    a, b = np.meshgrid(np.arange(of_one + 1), np.arange(of_other + 1), indexing="ij")
    share = np.linspace(0, 1, 2001)[:, None, None]
    chance = stats.binom.pmf(a, of_one, share) * stats.binom.pmf(b, of_other, share)
    hypergeometric = of_one + of_other, a + b, of_one
    fishers = stats.hypergeom.cdf(a, *hypergeometric), stats.hypergeom.sf(a - 1, *hypergeometric)
    sides = [(chance * (each <= each[one, other] * (1 + 1e-9))).sum((1, 2)).max() for each in fishers]
    found = Finished(*(np.array([count]) for count in counts))
    assert found.p() == pytest.approx(min(2 * min(sides), 1), rel=1e-3)


def test_the_ends_are_newcombes():
    """By hand, from SciPy's Wilson intervals of the two shares."""
    one, other = (stats.binomtest(finished, 10) for finished in (9, 4))
    first, second = (each.proportion_ci(method="wilson") for each in (one, other))
    low = 0.5 - np.hypot(0.9 - first.low, second.high - 0.4)
    high = 0.5 + np.hypot(first.high - 0.9, 0.4 - second.low)
    ten = np.array([10])
    assert np.ravel(Finished(np.array([9]), ten, np.array([4]), ten).ends()) == pytest.approx([low, high])


def test_few_holes_decide_nothing():
    """One cell of ten that diverges is no difference; where no cell does there is no row."""
    assert of(diverged(10, 1), "finished")["verdict"] == "undecided"
    assert "finished" not in set(pairing.pairs(noisy(), {})["measure"])
    assert not set(pairing.pairs(diverged(10, 1), {}).query("measure == 'finished'")["right"]) - {"zeros"}


def test_nobody_is_told_from_nobody():
    """Two that never finish, and one without cells, are not told apart."""
    none = np.array([0, 0, 3])
    found = Finished(none, np.array([3, 0, 3]), np.array([0, 3, 0]), np.array([3, 3, 0]))
    assert not found.always.any()
    assert not found.never.any()
    assert found.p().tolist() == [1, 1, 1]
    assert np.isnan(found.ends()[0]).tolist() == [False, True, True]


def test_backends_are_told_apart_by_what_finishes():
    """An initializer that never finishes in one backend and always in the other one is told, too."""
    frame = noisy()
    frame.loc[(frame["initializer"] == "zeros") & (frame["backend"] == "keras"), "status"] = "diverged"
    rows = pairing.backends(Study(initializers=THREE), frame).set_index(["measure", "initializer"])
    assert rows.loc[("finished", "zeros"), "verdict"] == "always finishes"
    assert rows.loc[("test_loss", "zeros"), "verdict"] == "always finishes"
