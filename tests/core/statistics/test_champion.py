import numpy as np
import pandas as pd
import pytest

from tasks.core.design.grid import cells as grid_cells
from tasks.core.statistics.champion import champion, unseen
from tests.calibration import table
from tests.shared.reports import findings
from tests.shared.samples import cells, noisy

PAIR = ("zeros", "he_normal")


def found(frame, **study):
    return champion(findings(frame, initializers=tuple(frame["initializer"].unique()), **study), "keras")


def test_median_cell_of_the_best_mean():
    """The group with the best mean is chosen, not the best cell; of two in the middle the worse one is taken."""
    frame = cells(PAIR, seeds=4)
    frame.loc[frame["initializer"] == "zeros", "test_accuracy"] = [1.0, 0.2, 0.2, 0.2] * 2
    crowned = found(frame)
    assert (frame.loc[crowned.row, "backend"], frame.loc[crowned.row, "initializer"]) == ("keras", "he_normal")
    assert frame.loc[crowned.row, "seed"] == 1
    assert (crowned.finished, crowned.cells) == (4, 4)


def test_equal_accuracies_are_told_by_the_loss():
    """Groups of equal accuracy are told by the loss, and so are the cells of a group, the worse ones first."""
    frame = cells(PAIR, seeds=3).assign(test_accuracy=0.9)
    frame.loc[frame["initializer"] == "zeros", "test_loss"] = [0.3, 0.1, 0.15] * 2
    crowned = found(frame)
    assert frame.loc[crowned.row, ["initializer", "seed"]].tolist() == ["zeros", 2]


def test_half_has_to_finish():
    """An initializer of which less than half of the cells finished is not chosen, whatever its mean."""
    frame = cells(PAIR, seeds=4)
    for seed, chosen in enumerate(["he_normal", "he_normal", "zeros"]):
        frame.loc[(frame["initializer"] == "he_normal") & (frame["seed"] == seed), "status"] = "diverged"
        assert frame.loc[found(frame).row, "initializer"] == chosen
    assert found(frame.assign(status="diverged")) is None


def test_worse_for_its_holes():
    """An initializer that diverges where the split is hard has the best mean, but is worse than its rival."""
    frame = cells(PAIR, seeds=24)
    best = frame["initializer"] == "he_normal"
    frame.loc[best, "test_accuracy"] = frame.loc[~best, "test_accuracy"].to_numpy()
    frame.loc[best & (frame["seed"] < 11), "status"] = "diverged"
    assert frame.loc[found(frame).row, "initializer"] == "zeros"


def test_levels_are_chosen_from_but_not_datasets():
    """The best level of a factor is chosen along with the initializer; of several datasets none is the best."""
    frame = pd.concat([cells(PAIR, depth=depth) for depth in (2, 3)], ignore_index=True)
    frame.loc[frame["depth"] == 3, "test_accuracy"] += 0.01
    study = {"factors": {"network.depth": (2, 3)}, "network": {"width": 8, "depth": 2}}
    assert frame.loc[found(frame, **study).row, ["depth", "initializer"]].tolist() == [3, "he_normal"]
    several = pd.concat([noisy(dataset=name) for name in ("iris", "wine")], ignore_index=True)
    assert found(several, factors={"dataset": ("iris", "wine")}) is None


def test_one_seed_expects_nothing():
    """The accuracy of a single seed chose the initializer, so there is none to expect, and the words say so."""
    frame = cells(PAIR, seeds=1)
    crowned = found(frame)
    assert np.isnan([crowned.mean, crowned.low, crowned.high]).all()
    study = findings(frame, initializers=PAIR, seeds=1).study
    words = crowned.describe(grid_cells(study)[crowned.row], study)
    assert "too few seeds to say which test accuracy to expect" in words


def test_one_split_is_told():
    """Where all seeds share their test rows the words say that other rows give another number."""
    study = findings(cells(PAIR), initializers=PAIR, seeds=3, split={"seed": 0}).study
    assert "the same test rows" in found(cells(PAIR)).describe(grid_cells(study)[0], study)


@pytest.mark.parametrize(
    ("dataset", "seeds"), [("iris", 5), ("iris", 10), ("iris", 30), ("wine", 10), ("breast_cancer", 10), ("digits", 10)]
)
def test_what_is_expected_is_unbiased(dataset, seeds):
    """Of real cells the expected accuracy is the true mean, where the best mean and the best cell are above it.

    The cells are of one initializer under eight streams of weights, so nothing is to choose between the streams; sets
    of seeds are drawn from all that are committed. The tolerance is three standard errors.
    """
    rng, accuracy = np.random.default_rng(seeds), table.values(dataset, "null", "test_accuracy")
    draws = [accuracy[:, rng.choice(accuracy.shape[1], seeds, replace=False)] for _ in range(400)]
    excess = np.array([unseen([-draw], seed=0).mean() for draw in draws]) * -1 - accuracy.mean()
    error = 3 * excess.std() / np.sqrt(len(draws))
    assert abs(excess.mean()) < error
    best_mean, best_cell = (np.mean([draw.max() for draw in each]) for each in ([d.mean(1) for d in draws], draws))
    assert best_cell - accuracy.mean() > 10 * error
    assert best_mean - accuracy.mean() > 1.5 * error


def test_halves_are_those_of_their_seed():
    """The same seed holds out the same halves, and another seed other ones."""
    costs = [np.random.default_rng(0).normal(size=(4, 9))]
    assert (unseen(costs, seed=0) == unseen(costs, seed=0)).all()
    assert (unseen(costs, seed=0) != unseen(costs, seed=1)).any()


def test_holes_are_not_expected():
    """A seed in which every chosen group has a hole gives no value; the others give theirs."""
    costs = [np.array([[0.1, np.nan, 0.1, 0.1], [0.9, np.nan, 0.9, 0.9]])]
    assert unseen(costs, seed=0) == pytest.approx([0.1, np.nan, 0.1, 0.1], nan_ok=True)
