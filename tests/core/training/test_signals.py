import numpy as np
import pytest

from tasks.core.design.columns import START
from tasks.core.training import signals

RNG = np.random.default_rng(0)


def test_std_and_norm_are_numpys():
    """On values of ordinary size the scaled forms are the plain ones."""
    values = RNG.normal(3, 2, (20, 5))
    assert signals.std(np, values) == pytest.approx(values.std())
    assert signals.norm(np, values) == pytest.approx(np.linalg.norm(values))


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_std_and_norm_survive_extreme_sizes(size):
    """In float32, whose squares end at 1e-45 and 3e38, vanished and exploded values still have a size."""
    values = (size * RNG.normal(size=(20, 5))).astype(np.float32)
    assert signals.std(np, values) == pytest.approx(values.astype(np.float64).std(), rel=1e-5)
    assert signals.norm(np, values) == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-5)
    assert signals.std(np, 0 * values) == signals.norm(np, 0 * values) == 0


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")  # it is what is measured
def test_state_by_hand():
    """A unit is dead if zero on every row; a value is saturated if close to a bound, in sigmoid as in tanh."""
    relu = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    tanh = np.array([[0.98, -0.99], [0.5, 0.0]])
    nan = np.nan
    expected = [[1 / 3, 1], [nan, nan], [1, 1]]
    np.testing.assert_allclose(signals.state(np, [relu, relu[:, :1]], [relu, relu], "relu"), expected)
    np.testing.assert_allclose(signals.state(np, [tanh], [tanh], "tanh"), [[0], [0.5], [1]])
    np.testing.assert_allclose(signals.state(np, [(tanh + 1) / 2], [tanh / 0], "sigmoid"), [[0], [0.5], [0]])


def test_finite_by_hand():
    """One NaN or infinity makes a tensor not finite; large values do not."""
    tensors = [np.array([1e38, 3e38], np.float32), np.array([0, np.nan]), np.array([np.inf, 1]), np.array([1, -np.inf])]
    with np.errstate(invalid="ignore"):
        assert signals.finite(np, tensors).tolist() == [1, 0, 0, 0]


def test_update_ratios_by_hand():
    """A kernel of norm 5 that moves by 1 has a ratio of 0.2."""
    assert signals.update_ratios(np, [np.array([[3.0, 4.0]])], [np.array([[3.0, 5.0]])]).tolist() == [0.2]


def test_units_alike_by_hand():
    """Units are alike if they agree on every row, rounding allowed; one unit alone is not alike to anything."""
    same = np.array([[1.0, 1.0, 1.0 + 1e-7], [-2.0, -2.0, -2.0]])
    assert signals.alike(np, same) == 1
    assert signals.alike(np, 0 * same) == 1
    assert signals.alike(np, same + np.array([[0, 0, 0], [0, 0, 0.1]])) == 0
    assert signals.alike(np, same[:, :1]) == 0


def test_largest_class_share_by_hand():
    """Three of four rows go to class 1; logits that are all equal go to one class."""
    logits = np.array([[0, 1], [0, 2], [5, 1], [0, 3]], float)
    assert signals.largest_class_share(np, logits) == 0.75
    assert signals.largest_class_share(np, 0 * logits) == 1


def test_gradient_quotient_of_a_quadratic():
    """Of ½ θᵀAθ with A = diag(a) it is the mean of |a|, up to ε: each g becomes (1 - a) g."""
    a, theta = np.array([0.5, 2.0, -3.0]), np.array([1.0, -2.0, 4.0])
    g = a * theta
    assert signals.gradient_quotient(np, [g], [a * g]) == pytest.approx(np.abs(a).mean(), rel=1e-4)


def test_at_start_by_hand():
    """Means, standard deviations, the norm of the weight gradient and likeness, in the order of START."""
    z, gradient = np.array([[1.0, -1.0], [3.0, 1.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])
    found = dict(zip(START, signals.at_start(np, z, np.maximum(z, 0), gradient, np.array([[3.0, 4.0]])), strict=True))
    assert found == pytest.approx(
        {
            "pre_activation_mean": 1.0,
            "pre_activation_variance": np.sqrt(2.0),
            "activation_mean": 1.25,
            "activation_variance": np.std([1, 0, 3, 1]),
            "gradient_variance": np.sqrt(0.5),
            "weight_gradient_norm": 5.0,
            "units_alike": 0.0,
        }
    )
