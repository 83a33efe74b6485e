"""Does what the statistics say of real cells hold? The tables are those of `python -m tests.calibration.claims`."""

import numpy as np
import pytest

from tests.calibration import claims, rejected

RUNS = 150
DATASETS = ("iris", "wine", "digits")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("name", ["test_loss", "loss_area"])
@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_intervals_of_ratios_cover_the_truth(name, seeds, rng):
    """Over real datasets 93 to 97 % of the 95 % intervals of ratios of losses contain the true ratio."""
    found = np.array([claims.covered(rng, each, name, seeds, RUNS) for each in DATASETS])
    assert 0.93 < found.mean() < 0.97
    assert found.mean(1).min() > 0.9


def test_plain_differences_of_losses_are_covered_less(rng):
    """What ratios are for: intervals of plain differences of Iris losses contain the truth in less than 92 % at 5."""
    assert rejected.plainly_covered(rng, "iris", "test_loss", 5, RUNS, ratios=False).mean() < 0.92


@pytest.mark.parametrize("name", claims.RANKED)
def test_intervals_of_groups_cover_their_means(name, rng):
    """Of real accuracies and losses 92 % or more of the intervals of means of groups contain the mean, at 10 seeds."""
    found = np.mean([claims.covered_means(rng, each, name, 10, RUNS) for each in DATASETS])
    assert 0.92 < found < 0.98


@pytest.mark.parametrize("seeds", [5, 10, 30])
def test_a_run_of_equals_makes_few_claims(seeds, rng):
    """Over two backends and both primary measures at most 6 % of runs of equals call one better."""
    assert np.mean([claims.false_claims(rng, each, seeds, RUNS)[1] for each in DATASETS]) <= 0.06


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_holes_make_no_claims(share, rng):
    """Where all diverge alike, at most 6 % of families call one better for its luck."""
    found = [claims.false_with_holes(rng, "iris", seeds, share, RUNS) for seeds in (5, 10, 30)]
    assert np.mean(found) <= 0.06


@pytest.mark.parametrize("name", claims.RANKED)
def test_a_difference_as_large_as_the_margin_is_not_equivalent(name, rng):
    """At most 6 % of pairs, and of families, call a difference equivalent that is as large as the margin."""
    single, family = zip(*(claims.false_equivalence(rng, each, name, 30, RUNS) for each in DATASETS), strict=True)
    assert np.mean(single) <= 0.06
    assert np.mean(family) <= 0.06


def test_past_some_seeds_new_data_teach_more():
    """By loss, samples of rows differ as much as 30 to 150 seeds do, so intervals of 30 seeds cover less."""
    for dataset in claims.SAMPLED:
        found = claims.from_samples(dataset, "test_loss")
        assert 30 < found["seeds worth a sample"] < 150
        assert 0.8 < found["covered, 30 seeds"] < 0.94


def test_real_differences_are_seen(rng):
    """A test that finds nothing makes no false claim either: of 30 seeds a third of Iris losses are told apart."""
    assert claims.decided(rng, "iris", "test_loss", 30, 20)[0] > 0.3
    alike = claims.decided(rng, "digits", "test_accuracy", 30, 20)[1]
    assert alike > 0.8
