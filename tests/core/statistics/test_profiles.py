import numpy as np
import pandas as pd
import pytest

from tasks.core.statistics.profiles import profile, profiles
from tests.shared.samples import noisy


def test_profile_is_the_mean_of_datasets():
    """The share at a target is the mean over datasets of the empirical distribution; holes reach nothing."""
    scores = np.array([[0.9, 0.7, 0.8], [0.5, np.nan, 0.6]])
    targets = np.array([0.0, 0.6, 0.75, 0.95])
    found = profile(scores, targets, seed=0)
    by_hand = [(np.mean(np.nan_to_num(scores, nan=-1) >= target, axis=1)).mean() for target in targets]
    assert found.share == pytest.approx(by_hand)
    assert (np.diff(found.share) <= 0).all()


def test_band_is_of_seeds_within_datasets():
    """Resamples vary as seeds do within datasets: two datasets that never vary have no band, however far apart."""
    apart = np.array([[0.9] * 6, [0.3] * 6])
    found = profile(apart, np.array([0.5]), seed=0)
    assert [*found.low, *found.share, *found.high] == pytest.approx([0.5] * 3)
    scores, target = (np.random.default_rng(0).random((3, 40)) < 0.5).astype(float), np.array([1.0])
    found = profile(scores, target, seed=0)
    share = scores.mean(1)
    sd = np.sqrt((share * (1 - share) / 40).sum()) / 3
    assert found.high - found.low == pytest.approx(2 * 1.96 * sd, rel=0.1)


def test_draws_are_those_of_their_seed():
    """The same seed gives the same band, and another seed another one."""
    scores, targets = np.random.default_rng(0).random((3, 10)), np.linspace(0, 1, 50)
    bands = [profile(scores, targets, seed=seed).low for seed in (0, 0, 1)]
    assert (bands[0] == bands[1]).all()
    assert (bands[0] != bands[2]).any()


def test_profiles_are_over_datasets():
    """Each backend has a profile of every initializer where datasets vary, and none where there is one dataset."""
    assert profiles(noisy()) == []
    frame = pd.concat([noisy(dataset=name) for name in ("iris", "wine")], ignore_index=True)
    frame.loc[frame["initializer"] == "glorot_uniform", "status"] = "diverged"
    pytorch, keras = profiles(frame)
    assert (pytorch.title, keras.title, pytorch.datasets) == ("pytorch", "keras", 2)
    assert pytorch.curves["glorot_uniform"].share.max() == 0
    assert pytorch.curves["he_normal"].share[0] == 1
    assert (pytorch.curves["zeros"].share <= pytorch.curves["he_normal"].share).all()
    assert profiles(frame.assign(status="failed"))[0].curves["zeros"].share.max() == 0
