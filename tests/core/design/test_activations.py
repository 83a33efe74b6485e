import numpy as np
import pytest
from scipy import integrate, stats

from tasks.core.design.activations import ACTIVATIONS, TABLE, expectation, gain

Z = np.concatenate([np.linspace(-6, -0.01, 50), np.linspace(0.01, 6, 50)])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_derivatives(name):
    """Each slope is the central difference of its function."""
    activation, h = TABLE[name], 1e-6
    difference = (activation.function(Z + h) - activation.function(Z - h)) / (2 * h)
    np.testing.assert_allclose(activation.slope(Z), difference, atol=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("variance", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("part", ["function", "slope"])
def test_quadrature_is_the_integral(name, variance, part):
    """Expectations are those of adaptive quadrature, kinks and saturation included."""
    function, std = getattr(TABLE[name], part), variance**0.5
    halves = [
        integrate.quad(lambda z: function(np.array(z)) ** 2 * stats.norm.pdf(z, scale=std), *bounds)[0]
        for bounds in ((-12 * std, 0), (0, 12 * std))
    ]
    assert expectation(lambda z: function(z) ** 2, variance) == pytest.approx(sum(halves), rel=1e-6)


def test_known_moments():
    """E[relu²] is half the variance, E[relu] is √(q / 2π), E[tanh′²] tends to 1 as the variance does to 0."""
    assert expectation(lambda z: np.maximum(z, 0) ** 2, 3.0) == pytest.approx(1.5, rel=1e-12)
    assert expectation(lambda z: np.maximum(z, 0), 3.0) == pytest.approx(np.sqrt(3 / (2 * np.pi)), rel=1e-12)
    assert expectation(lambda z: TABLE["tanh"].slope(z) ** 2, 1e-8) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "linear"])
def test_gains_keep_the_second_moment(name):
    """√2 for ReLU does, elu's and gelu's are defined to, leaky_relu's counts its slope."""
    assert gain(name) ** 2 * expectation(lambda z: TABLE[name].function(z) ** 2, 1.0) == pytest.approx(1)


def test_selu_keeps_its_fixed_point():
    """SELU's constants make mean 0 and variance 1 a fixed point at LeCun's variance (Klambauer et al., 2017)."""
    selu = TABLE["selu"].function
    assert expectation(selu, 1.0) == pytest.approx(0, abs=1e-6)
    assert expectation(lambda z: selu(z) ** 2, 1.0) == pytest.approx(1, abs=1e-6)
