"""What the first pass shows: its health, and the layer where it goes wrong first."""

import numpy as np
import pytest

from tasks.core.audit import flow
from tasks.core.audit.rows import Rows
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
