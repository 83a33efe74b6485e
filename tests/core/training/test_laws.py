"""The gate's tests of laws, on draws that NumPy makes in place of a framework."""

import numpy as np
import pytest
from scipy import stats

from tasks.core.design.initializers import OWN, RandomLaw, VarianceScaling
from tasks.core.design.settings import Network
from tasks.core.design.study import Study
from tasks.core.training import laws

RANDOM = [entry.name for entry in OWN if isinstance(entry.law, RandomLaw)]
WIDE = "weights, against their law (√n D)"
ALIKE = "kernels, against each other (√n |r|)"


class NumPy:
    """A framework whose own initializers are NumPy's."""

    NAME = "pytorch"

    def native(self, law, fan_in, fan_out, seed):
        return law.draw(fan_in, fan_out, rng=np.random.default_rng(seed))


def beyond(framework, label, **network):
    settings = Study(network=Network(**network)).settings("pytorch", ())
    return [each.what for each in laws.judged(framework, settings, label) if not each.held]


@pytest.mark.parametrize("network", [{"hidden": ()}, {"hidden": (3,)}, {"width": 64, "depth": 30}], ids=str)
@pytest.mark.parametrize("label", RANDOM)
def test_right_draws_pass(label, network):
    """Every law passes, in networks without hidden layers, narrow and deep ones."""
    assert beyond(NumPy(), label, **network) == []


class Scaled(NumPy):
    """A framework whose draws are a tenth too wide."""

    def native(self, law, fan_in, fan_out, seed):
        return 1.1 * super().native(law, fan_in, fan_out, seed)


class OneStream(NumPy):
    """A framework whose initializer starts anew for every kernel, so that kernels begin alike."""

    def native(self, law, fan_in, fan_out, seed):
        return super().native(law, fan_in, fan_out, 0)


class Swapped(NumPy):
    """A framework that takes fan_in for fan_out."""

    def native(self, law, fan_in, fan_out, seed):
        return super().native(law, fan_out, fan_in, seed).T


@pytest.mark.parametrize("label", ["he_normal", "lecun_uniform", "orthogonal", "random_uniform", "truncated_normal"])
def test_wrong_draws_are_caught(label):
    """Draws that are too wide, and kernels that begin alike, are caught."""
    assert beyond(Scaled(), label, hidden=(8, 8)) == [WIDE]
    assert ALIKE in beyond(OneStream(), label, hidden=(8, 8))


def test_swapped_fans_are_caught():
    """A law of fan_in that is drawn for fan_out is caught, because layers keep their proportions."""
    assert beyond(Swapped(), "he_normal") == [WIDE]


def test_fixed_kernels_are_compared():
    """A kernel that is not random must be the law's."""
    assert beyond(NumPy(), "identity") == []
    assert beyond(NumPy(), "zeros") == []
    assert beyond(Scaled(), "constant") == ["kernel, against its law"]


def test_the_level_holds():
    """The statistics have their laws: over many seeds, a share of 5 % lies beyond where 5 % should."""
    law, rng, found = VarianceScaling(), np.random.default_rng(0), []
    theory = law.marginal(30, 20)
    for _ in range(400):
        cells = [[theory.cdf(law.draw(30, 20, rng=rng)) for _ in range(3)] for _ in range(2)]
        distance, alike = laws._distributed("", cells), laws._independent("", cells)
        found.append((distance.measured > stats.kstwobign.isf(0.05), alike.measured > stats.norm.isf(0.05 / 20)))
    distributed, independent = np.mean(found, axis=0)
    assert distributed == pytest.approx(0.05, abs=0.03)
    assert independent == pytest.approx(0.05, abs=0.03)
