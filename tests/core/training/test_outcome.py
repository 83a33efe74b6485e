import numpy as np

from tasks.core.design.grid import Cell
from tasks.core.training.outcome import Curves, Outcome, Predictions, Trained, epochs_to_target
from tests.shared import samples

CELL = Cell("keras", "zeros", 0)
NOTHING = Predictions(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.float32))


def trained(train_loss, test_loss, signals=samples.signals()):
    accuracy = np.ones(len(train_loss), np.float32)
    curves = Curves(np.array(train_loss, np.float32), np.array(test_loss, np.float32), accuracy, accuracy)
    return Trained(curves, NOTHING, {}, signals, 0.1)


def test_finite_losses_finish():
    """A cell whose losses stay finite has finished, however bad they are."""
    assert Outcome.of(CELL, trained([1, 1e30], [1, 2])).status == "finished"


def test_nan_or_infinite_loss_diverges():
    """NaN or infinity in either loss, even if it passes, is divergence, and the reason says when."""
    for bad in (np.nan, np.inf):
        assert Outcome.of(CELL, trained([1, bad, 1], [1, 1, 1])).reason == "loss was not finite after epoch 1"
        assert Outcome.of(CELL, trained([1, 1, 1], [1, 1, bad])).status == "diverged"


def test_divergence_tells_its_layer():
    """Where a pre-activation was first not finite, the reason names its layer and epoch."""
    signals = samples.signals(finite=[[1, 1, 1], [0.5, 0.4, 0.4]])
    reason = Outcome.of(CELL, trained([1, 1, np.nan], [1, 1, 1], signals)).reason
    assert reason == "loss was not finite after epoch 2; first in the pre-activations of layer 2, in epoch 2"


def test_what_diverged_has_exploded():
    """A loss that is not finite is an explosion, even if no signal of the train rows tells."""
    assert trained([1, 1], [1, np.inf]).health == "exploding"
    assert trained([1, 1], [1, 1]).health == "healthy"


def test_failure_keeps_a_short_reason():
    """A failed cell tells why in one line, though a framework's message may run to pages."""
    reason = Outcome.failure(CELL, RuntimeError("x" * 5000 + "\nmore")).reason
    assert reason.startswith("RuntimeError: xxx")
    assert len(reason) < 400
    assert "more" not in reason


def test_missed_target():
    """A target that is never reached has no epoch."""
    assert epochs_to_target(np.array([0.3, 0.89], np.float32), 0.9) is None


def test_target_survives_float32():
    """27 of 30 reaches a target of 0.9, though in float32 neither is 0.9."""
    assert epochs_to_target(np.array([27 / 30], np.float32), 0.9) == 0
