import numpy as np
import pytest
from scipy import stats

from tasks.core.initializers import INITIALIZERS, TRUNCATION, RandomLaw, known

FAN_IN, FAN_OUT = 400, 300  # 120,000 weights


@pytest.mark.parametrize("name", [name for name, entry in INITIALIZERS.items() if isinstance(entry.law, RandomLaw)])
def test_shared_draws_follow_their_law(name):
    """NumPy's draws have the moments, bounds and distribution that the registry states."""
    law = INITIALIZERS[name].law
    weights = law.draw(FAN_IN, FAN_OUT, rng=np.random.default_rng(0)).ravel()
    theory = law.distribution(FAN_IN, FAN_OUT, cut=False)
    assert weights.mean() == pytest.approx(theory.mean(), abs=5 * theory.std() / np.sqrt(weights.size))
    assert weights.var() == pytest.approx(theory.var(), rel=0.03)
    assert theory.support()[0] <= weights.min()
    assert weights.max() <= theory.support()[1]
    assert stats.kstest(weights, theory.cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", sorted(INITIALIZERS))
def test_draws_depend_on_the_generator_alone(name):
    """The same generator state gives the same weights, and another one others wherever there is chance in the law."""
    law = INITIALIZERS[name].law
    one, same, other = (law.draw(6, 5, rng=np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert np.array_equal(one, other) == (not isinstance(law, RandomLaw))


def test_truncation_constant():
    """The constant is the standard deviation of N(0, 1) cut at ±2, as SciPy has it."""
    assert pytest.approx(stats.truncnorm(-2, 2).std(), abs=1e-12) == TRUNCATION


def test_unknown_name_is_told_the_known_ones():
    """A wrong name is answered with what came and what is allowed."""
    with pytest.raises(ValueError, match=r"unknown initializer 'he'; choose one of .*he_normal"):
        known("he")
