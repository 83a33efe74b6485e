import numpy as np
import pytest

from tasks.core.training import health
from tests.shared.samples import signals as one

RNG = np.random.default_rng(0)


def test_spectrum_of_known_jacobians():
    """Singular values are those of the matrices; rank lost is an infinite condition number; NaN has no spectrum."""
    q, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    found = health.spectrum(2 * q[None, :3])
    assert (found.largest, found.smallest, found.mean_square, found.condition) == pytest.approx((2, 2, 4, 1))
    assert health.spectrum(np.diag([1.0, 0.0])[None]).condition == np.inf
    assert health.spectrum(np.zeros((1, 2, 2))).condition == np.inf
    assert np.isnan(health.spectrum(np.full((1, 2, 2), np.nan)).largest)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "healthy"),
        ({"alike": 1.0}, "symmetric"),
        ({"alike": [0, 1, 1]}, "symmetric"),
        ({"alike": [0, 1, 1], "forward": (1, 0, 0), "dead_first": 1}, "dead"),  # above a dead layer all is zero
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
def test_health(changes, expected):
    """Each word has its sign, and the cause comes before its consequence."""
    assert one(**changes).health == expected


def test_where_it_was_first_not_finite():
    """In the step that first overflows, the layer and those above are not finite; from then on all are."""
    assert one().not_finite_at is None
    assert one(finite=[[1, 1, 1], [0.5, 0.4, 0.4]]).not_finite_at == (2, 2)
    assert one(finite=[[0, 0, 0], [0, 0, 0]]).not_finite_at == (1, 1)
    assert one(forward=(1, np.inf, np.nan), finite=[[0, 0, 0], [0, 0, 0]]).not_finite_at == (0, 2)
    last = one()
    last.state["finite"][-1] = [1, 0, 0]  # the last step of all spoils the weights
    assert last.not_finite_at == (2, 2)
    assert last.health == "exploding"


def test_slopes_go_in_their_direction():
    """A gradient that halves from layer to layer on its way back has a backward slope of ln ½, as theory's has."""
    found = one(forward=(1, 0.25, 1), backward=(0.5, 1, 7)).scalars()
    assert found["forward_slope"] == pytest.approx(np.log(0.25))
    assert found["backward_slope"] == pytest.approx(np.log(0.5))
    assert found["forward_slope_theory"] == found["backward_slope_theory"] == pytest.approx(np.log(0.5))
    assert found["first_loss_ratio"] == pytest.approx(1.1 / np.log(3), rel=1e-6)


def test_names_sort_by_layer():
    """Layer 10 follows layer 9 however a page sorts, and every layer's start and epochs are there."""
    assert sorted(health.named("a", layer) for layer in (10, 9, 101)) == ["a/layer_009", "a/layer_010", "a/layer_101"]
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
    assert len(points) < health.POINTS
    assert points[-1][1] == 1000
    assert long.curves()["gradient_norm"].shape == (1000, 3)
