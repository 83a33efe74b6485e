"""What the first pass shows: its health, and the layer where it goes wrong first."""

import numpy as np
import pytest

from tasks.core.audit import flow
from tasks.core.audit.rows import Rows
from tasks.core.design.columns import START
from tests.shared.audited import passed

EVEN = np.ones(6)


@pytest.mark.parametrize(
    ("how", "health", "at"),
    [
        ({"forward": EVEN, "backward": EVEN}, "healthy", ""),
        ({"forward": 10.0 ** np.arange(0, 18, 3)}, "exploding", "l2"),
        ({"forward": 10.0 ** -np.arange(0, 18, 3)}, "vanishing", "l2"),
        ({"forward": EVEN, "backward": 10.0 ** np.arange(0, 18, 3)}, "vanishing", "l2"),
        ({"forward": np.array([1, 1, np.inf, np.nan, np.nan, np.nan])}, "exploding", "l2"),
        ({"forward": EVEN, "dead": [0, 0.2, 0.95, 1, 0, 0]}, "dead", "l2"),
        ({"forward": EVEN, "alike": [0, 1, 0, 0, 0, 0]}, "symmetric", "l1"),
        ({"forward": EVEN, "loss": 256.8}, "exploding", "l5"),
    ],
)
def test_the_first_layer_that_goes_wrong_is_named(how, health, at):
    """Each kind of trouble is named, with the first layer in the direction in which it grows."""
    found = flow.flow(passed(**{"backward": EVEN, **how}))
    assert (found.health, found.wrong_at) == (health, at)
    severity = "doubt" if how.get("backward") is not None else "fault"
    assert [each.severity for each in flow.found(found)] == ([severity] if at else [])


def test_a_high_first_loss_is_a_doubt():
    """A first loss between 1.5 and 10 times that of a guess is told as a doubt, with both numbers."""
    (finding,) = flow.found(flow.flow(passed(EVEN, EVEN, loss=9.2)))
    assert finding.severity == "doubt"
    assert "4 times that of a guess" in finding.evidence
    assert list(flow.found(flow.flow(passed(EVEN, EVEN, loss=2.5)))) == []


def test_slopes_are_those_of_variances():
    """A variance that doubles with each layer has the slope ln 2, forward and backward."""
    found = flow.flow(passed(2.0 ** np.arange(6), 2.0 ** np.arange(6)[::-1]))
    assert (found.forward_slope, found.backward_slope) == pytest.approx((np.log(2), np.log(2)), rel=1e-4)


def test_constant_targets_have_a_guess():
    """Targets that never vary leave a ratio of losses: to 1, as for standardized ones, and no division by zero."""
    rows = Rows("rows of mine", np.ones((4, 2), np.float32), np.ones(4, np.float32))
    assert rows.targets((4, 1)).guess == 1.0
    assert flow.flow(passed(EVEN, EVEN)).model_copy(update={"guess": 0.0}).ratio == np.inf


def alive(forward, backward, **how):
    """Return a first pass in which every kernel has a gradient, that of the last layer too."""
    first = passed(np.asarray(forward, float), np.asarray(backward, float), **how)
    first.start.layers[0, START.index("weight_gradient_norm")] = 1
    return first


@pytest.mark.parametrize(
    ("forward", "backward", "dead"),
    [
        ([1, 1, 0], [0, 0, 1], None),  # a head of zeros lets no gradient back
        ([0], [1], None),
        ([1, 0, 1, 0, 0], [0, 0, 0, 0, 1], [0, 1, 0, 1, 0]),  # as in transformers for diffusion
        ([1, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 1], None),  # branches that end with zeros
        ([1] * 13, [1, *[1e-12] * 12], None),  # branches that are scaled down, after a stem
        ([1, 1, 1, 1, 1], [1, 1, 1, 0, 1], None),  # a branch under a scale of zeros is the last hidden layer
        ([1, 1, 1, 1], [1, 1e-12, 1e-13, 1], None),  # a single branch under a scale of 1e-6, as in ConvNeXt and CaiT
        ([1] * 7, [2, 1e-12, 1e-12, 1, 1e-12, 1e-12, 0.1], None),  # and two, with a layer between them
    ],
)
def test_zeros_that_are_meant_are_healthy(forward, backward, dead):
    """A head, or the end of a branch, may start at zero or be scaled down: the last kernel still has a gradient."""
    found = flow.flow(alive(forward, backward, dead=dead))
    assert (found.health, found.wrong_at, list(flow.found(found))) == ("healthy", "", [])


@pytest.mark.parametrize(
    ("first", "health", "at", "severity"),
    [
        (passed(np.array([1.0, 1, 0, 0]), np.array([0.0, 0, 0, 1])), "vanishing", "l2", "fault"),  # no signal
        (passed(np.array([1.0, 0, 0]), EVEN[:3], dead=[1, 1, 0]), "dead", "l0", "fault"),
        (alive([1, 0, 1e-6], [1, 1, 1]), "vanishing", "l2", "fault"),
        (alive([1, 1, 1], [0, 1, 1]), "vanishing", "l0", "doubt"),  # no gradient reaches the first layer
        (alive([1, 0, 1, 1], [1e-9, 1, 1, 1]), "vanishing", "l0", "doubt"),
        (alive([1] * 9, 10.0 ** np.arange(0, 27, 3)), "vanishing", "l5", "doubt"),
        (alive([1] * 5, [1, 1e-3, 1e-6, 1e-9, 1]), "exploding", "l1", "doubt"),  # step by step: no branch
        (alive([1] * 4, [1, 1, 1e-12, 1e-12]), "exploding", "l1", "doubt"),  # nothing behind it is larger
    ],
)
def test_zeros_that_are_not_meant_are_found(first, health, at, severity):
    """Where no signal comes to the last layer, or no gradient to the first ones, zeros are no excuse."""
    found = flow.flow(first)
    assert (found.health, found.wrong_at, [each.severity for each in flow.found(found)]) == (health, at, [severity])


def test_layers_that_are_never_called_do_not_count():
    """The last layer that is called gives the logits, and slopes and health are of the hidden ones before it."""
    first = alive([1, 2, 64, 0, 8], [4, 2, 1, 1, 1])
    first.start.layers[0, :, 3:] = np.nan
    first.start.state[0, :, 3:] = np.nan
    found = flow.flow(first)
    assert (found.health, len(found.layers)) == ("healthy", 5)
    assert (found.forward_slope, found.backward_slope) == pytest.approx((np.log(2), np.log(2)), rel=1e-4)
    first.start.state[:] = np.nan
    assert flow.flow(first) is None
