import numpy as np
import pytest

from tasks.core.training import signals
from tasks.core.training.signals import START
from tests.shared.samples import signals as one

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


def test_spectrum_of_known_jacobians():
    """Singular values are those of the matrices; rank lost is an infinite condition number; NaN has no spectrum."""
    q, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    found = signals.spectrum(2 * q[None, :3])
    assert (found.largest, found.smallest, found.mean_square, found.condition) == pytest.approx((2, 2, 4, 1))
    assert signals.spectrum(np.diag([1.0, 0.0])[None]).condition == np.inf
    assert signals.spectrum(np.zeros((1, 2, 2))).condition == np.inf
    assert np.isnan(signals.spectrum(np.full((1, 2, 2), np.nan)).largest)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "healthy"),
        ({"alike": 1.0}, "symmetric"),
        ({"alike": [0, 1, 1]}, "symmetric"),
        (
            {"alike": [0, 1, 1], "forward": (1, 0, 0), "dead_first": 1},
            "dead",
        ),  # above a dead layer all is zero, and alike
        ({"alike": [0, 1, 1], "forward": (1, 0, 0), "dead": (1, 1)}, "vanishing"),
        ({"alike": [1, 1, 1], "forward": (0, 0, 0), "dead_first": 1}, "symmetric"),  # zeros
        ({"forward": (1, 1e-3, 1e-5)}, "vanishing"),
        ({"backward": (1e-5, 1, 1)}, "vanishing"),
        ({"forward": (1, 1e3, 1e5)}, "exploding"),
        ({"backward": (1e5, 1, 1)}, "exploding"),
        ({"backward": (1, 1, 1e5)}, "healthy"),  # the logits are no hidden layer
        ({"loss": 20.0}, "exploding"),
        ({"finite": [[1, 1, 1], [0.5, 0.4, 0.4]]}, "exploding"),
        ({"dead": (0.95, 0)}, "dead"),
        ({"dead": (0, 0.95)}, "dead"),
        ({"dead": (0.5, 0.5)}, "healthy"),
        ({"forward": (1, 1e-3, 1e-5), "dead": (0, 1)}, "vanishing"),
    ],
)
def test_verdicts(changes, verdict):
    """Each word has its sign, and the cause comes before its consequence."""
    assert one(**changes).verdict == verdict


def test_where_it_was_first_not_finite():
    """In the step that first overflows, the layer and those above are not finite; from then on all are."""
    assert one().not_finite_at is None
    assert one(finite=[[1, 1, 1], [0.5, 0.4, 0.4]]).not_finite_at == (2, 2)
    assert one(finite=[[0, 0, 0], [0, 0, 0]]).not_finite_at == (1, 1)
    assert one(forward=(1, np.inf, np.nan), finite=[[0, 0, 0], [0, 0, 0]]).not_finite_at == (0, 2)
    last = one()
    last.state["finite"][-1] = [1, 0, 0]  # the last step of all spoils the weights
    assert last.not_finite_at == (2, 2)
    assert last.verdict == "exploding"


def test_slopes_go_in_their_direction():
    """A gradient that halves from layer to layer on its way back has a backward slope of ln ½, as theory's has."""
    found = one(forward=(1, 0.25, 1), backward=(0.5, 1, 7)).scalars()
    assert found["forward_slope"] == pytest.approx(np.log(0.25))
    assert found["backward_slope"] == pytest.approx(np.log(0.5))
    assert found["forward_slope_theory"] == found["backward_slope_theory"] == pytest.approx(np.log(0.5))
    assert found["first_loss_ratio"] == pytest.approx(1.1 / np.log(3), rel=1e-6)


def test_names_sort_by_layer():
    """Layer 10 follows layer 9 however a page sorts, and every layer's start and epochs are there."""
    assert sorted(signals.named("a", layer) for layer in (10, 9, 101)) == ["a/layer_009", "a/layer_010", "a/layer_101"]
    found = list(one(dead=(0.5, 0.25)).by_layer())
    assert ("dead/layer_002", 0, 0.5) in found
    assert ("dead/layer_002", 2, 0.25) in found
    assert ("gradient_norm/layer_003", 1, 1.0) in found
    assert ("pre_activation_variance/layer_001", 0, 1.0) in found
    assert len({(name, epoch) for name, epoch, _ in found}) == len(found)


def test_long_curves_are_thinned():
    """A run of many epochs records some of them, the last one always; its curves stay whole."""
    long = one(epochs=1000)
    points = [(name, epoch) for name, epoch, _ in long.by_layer() if name == "gradient_norm/layer_001"]
    assert len(points) < signals.POINTS
    assert points[-1][1] == 1000
    assert long.curves()["gradient_norm"].shape == (1000, 3)
