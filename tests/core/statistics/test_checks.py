import numpy as np
import pandas as pd
import pytest

from tasks.core.design.settings import Check
from tasks.core.design.study import Study
from tasks.core.statistics import checks


def cells():
    """Return twelve cells: he trains, zeros do not, and at depth 9 half of he's cells diverge."""
    rows = [
        {
            "backend": backend,
            "depth": depth,
            "initializer": initializer,
            "seed": seed,
            "status": "diverged" if depth == 9 and initializer == "he_normal" and seed else "finished",
            "health": "healthy" if initializer == "he_normal" else "symmetric",
            "test_accuracy": (0.9 if initializer == "he_normal" else 0.3) + 0.01 * seed,
            "forward_slope": np.nan if initializer == "zeros" else -0.7,
        }
        for backend in ("pytorch", "keras")
        for depth in (2, 9)
        for initializer in ("he_normal", "zeros")
        for seed in range(2)
    ]
    return pd.DataFrame(rows)


def judged(**check):
    return checks.judge([Check(claim="a claim", **check)], cells()).set_index("backend")


@pytest.mark.parametrize(
    ("check", "measured", "result"),
    [
        ({"measure": "test_accuracy", "where": {"initializer": "he_normal"}, "at_least": 0.9}, 0.905, "held"),
        ({"measure": "test_accuracy", "where": {"initializer": "he_normal"}, "at_least": 0.91}, 0.905, "not held"),
        ({"measure": "test_accuracy", "where": {"initializer": "zeros", "depth": 2}, "at_most": 0.4}, 0.305, "held"),
        ({"measure": "symmetric", "where": {"initializer": "zeros"}, "at_least": 1}, 1.0, "held"),
        ({"measure": "symmetric", "at_least": 0.4, "at_most": 0.6}, 0.5, "held"),
        ({"measure": "diverged", "where": {"depth": 9, "initializer": "he_normal"}, "at_most": 0}, 0.5, "not held"),
        (
            {
                "measure": "test_accuracy",
                "where": {"initializer": "he_normal"},
                "against": {"initializer": "zeros"},
                "at_least": 2,
            },
            0.905 / 0.305,
            "held",
        ),
    ],
)
def test_claims_are_held_against_the_cells(check, measured, result):
    """The median, share or ratio of the cells that are meant is within the bounds, or not, in each backend."""
    found = judged(**check)
    assert found["measured"].tolist() == pytest.approx([measured] * 2)
    assert found["result"].tolist() == [result] * 2


def test_nan_is_no_proof():
    """A measure that is not there holds no claim, on either side."""
    for bound in ({"at_least": -1}, {"at_most": 1}):
        assert (
            judged(measure="forward_slope", where={"initializer": "zeros"}, **bound)["result"].tolist()
            == ["not held"] * 2
        )


def test_cells_that_are_not_there_test_nothing():
    """A claim about levels that a changed study has left out is neither held nor not."""
    assert set(judged(measure="test_accuracy", where={"depth": 3}, at_least=0)["result"]) == {"not tested"}
    assert set(judged(measure="test_accuracy", against={"depth": 3}, at_least=0)["result"]) == {"not tested"}


def test_a_line_tells_the_numbers():
    """Each claim is a line with its result, the worse one of both backends, what was measured and what is allowed."""
    frame = cells()
    frame.loc[frame["backend"] == "keras", "test_accuracy"] = 0.1
    check = Check(claim="it trains", measure="test_accuracy", at_least=0.5)
    (line,) = checks.lines(checks.judge([check], frame))
    assert line == "Not held: it trains (pytorch 0.605, keras 0.1; at least 0.5)"


def test_initializers_in_checks_have_one_spelling():
    """A check finds the cells of an initializer however its parameters are written."""
    check = Check(claim="x", measure="test_loss", where={"initializer": "mean_field(sigma_w=1.0)"}, at_most=1)
    assert check.where == {"initializer": "mean_field(sigma_w=1)"}
    assert Study(checks=[check]).checks == (check,)
