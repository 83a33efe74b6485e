from tasks.core.statistics.measures import best
from tests.shared.samples import noisy


def test_best_cell():
    """The best cell finished, has the highest accuracy and, among those, the lowest loss."""
    frame = noisy(seeds=3)
    frame["test_accuracy"], frame["test_loss"] = 0.9, 0.5
    frame.loc[1, "test_loss"] = 0.1
    frame.loc[2, ["test_accuracy", "status"]] = [1.0, "diverged"]
    assert best(frame, "pytorch") == 1
    assert best(frame.assign(status="failed"), "pytorch") is None
